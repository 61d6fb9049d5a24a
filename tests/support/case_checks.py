"""Checks of a case: the decision is the one that the case expects, and a replay gives the same decision."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from dialgate.core.decision import decide
from dialgate.core.law import Law
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Decision, Facts
from tests.support.casebook import Case, Wanted, case_law, facts_of, instant
from tests.support.citations import matches


def name_of(case: Case) -> str:
    return f"{case.file}: {case.about} at {case.at}"


@contextmanager
def naming(case: Case) -> Iterator[None]:
    """Add the case to the error if a check in the block fails."""
    try:
        yield
    except AssertionError as error:
        error.add_note(name_of(case))
        raise


def wrong(case: Case) -> list[str]:
    """Return the differences between the decision and what the case demands."""
    return differences(case.want, decide(facts_of(case), case_law(case)))


def differences(want: Wanted, decision: Decision) -> list[str]:
    kinds = {name: type(outcome).__name__.lower() for name, outcome in decision.outcomes.items()}
    compared = (
        ("decision", want.decision, "allow" if decision.allow else "deny"),
        ("reasons", want.reasons, [reason.code for reason in decision.reasons]),
        ("outcomes", want.outcomes, {name: kinds[name] for name in want.outcomes}),
        ("basis", want.basis, decision.basis),
        ("valid_until", _instant(want.valid_until), decision.valid_until),
        ("not_before", _instant(want.not_before), decision.not_before),
    )
    found = [
        f"{key}: {rfc3339(given) if type(given) is int else given}, not {getattr(want, key)}"
        for key, wanted, given in compared
        if wanted is not None and wanted != given
    ]
    cited = {reason.code: f"{reason.severity} {reason.law}".rstrip() for reason in decision.reasons}
    return found + [
        f"cites: {cited.get(code)}, not {named}"
        for code, named in want.cites.items()
        if not matches(cited.get(code, ""), named)
    ]


def _instant(text: str | None) -> int | None:
    """Convert an expected instant to milliseconds. An empty string becomes 0, as in a decision without that instant."""
    return instant(text) if text else None if text is None else 0


def is_replayed(facts: Facts, law: Law) -> bool:
    """Return whether the facts and the decision are the same after a JSON round trip and a replay."""
    decision = decide(facts, law)
    stored = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)
    restored = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    return stored == facts and decide(stored, law) == restored == decision
