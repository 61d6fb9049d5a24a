"""The verdict on a number in a copy of a call list (scrubbing)."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from dialgate.core.model import Facts, Instant, Pass
from dialgate.core.responses import when
from dialgate.ledger.timelines import Moment

Word: TypeAlias = Literal["allow", "later", "deny"]


class ScrubVerdict(Struct, frozen=True):
    """The verdict on a number.

    `code` is the first reason for a denial. A permitted call is lawful until `valid_until`. If `word` is `later`,
    a call becomes lawful at `not_before`. Each of the two times is 0 if it is unknown or does not apply.
    """

    word: Word
    code: str
    valid_until: Instant
    not_before: Instant

    def cells(self) -> tuple[str, str, str, str]:
        return self.word, self.code, when(self.valid_until), when(self.not_before)


def verdict_now(_: Facts, moments: Sequence[Moment]) -> ScrubVerdict:
    """Return the verdict on a call at the first moment. A denial that ends without a new ledger entry is `later`."""
    decision = moments[0].decision
    if decision.allow:
        return ScrubVerdict("allow", "", decision.valid_until, decision.not_before)
    word: Word = "later" if decision.not_before > 0 else "deny"
    return ScrubVerdict(word, decision.reasons[0].code, decision.valid_until, decision.not_before)


class CountedVerdict(Struct, frozen=True):
    """A verdict without its end, and when the registries' answers about the number end: 0 if they do not permit a call.

    Numbers with equal ones are counted together.
    """

    word: Word
    code: str
    not_before: Instant
    answers_end: Instant


def counted_verdict(facts: Facts, moments: Sequence[Moment]) -> CountedVerdict:
    verdict, answers = verdict_now(facts, moments), moments[0].decision.outcomes.get("registry_clear")
    ends = answers.until if isinstance(answers, Pass) else 0
    return CountedVerdict(verdict.word, verdict.code, verdict.not_before, ends)
