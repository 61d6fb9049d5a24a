"""Checks of a case: the decision is the one that the case expects, and a replay gives the same decision."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from dialgate.core.decision import decide
from dialgate.core.law import Law
from dialgate.core.model import Decision, Facts
from dialgate.tools.policy.case_file import PolicyCase
from dialgate.tools.policy.checking import differences
from tests.support.casebook import case_law, facts_of


def name_of(case: PolicyCase) -> str:
    return f"{case.file}: {case.about} at {case.at}"


@contextmanager
def naming(case: PolicyCase) -> Iterator[None]:
    """Add the case to the error if a check in the block fails."""
    try:
        yield
    except AssertionError as error:
        error.add_note(name_of(case))
        raise


def wrong(case: PolicyCase) -> list[str]:
    """Return the differences between the decision and what the case demands."""
    return differences(case.want, decide(facts_of(case), case_law(case)))


def is_replayed(facts: Facts, law: Law) -> bool:
    """Return whether the facts and the decision are the same after a JSON round trip and a replay."""
    decision = decide(facts, law)
    stored = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)
    restored = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    return stored == facts and decide(stored, law) == restored == decision
