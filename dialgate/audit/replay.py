"""Whether what was decided would be decided again: on a record's facts, under the law of its day, or under a draft.

For any record, for ever: `decide(record.facts, law of that day) == record.decision`. A draft is asked of the facts that
were gathered then: a registry that only the draft names was not consulted, which denies; holidays are those of the law.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from msgspec import Struct, field

from dialgate.config import content_store
from dialgate.core.decision import decide
from dialgate.core.law import Law
from dialgate.core.model import Decision, Deny, Outcome, OutcomeRecord, Pass
from dialgate.decision_log.records import Record

_REMEMBERED = 4_096
_EXAMPLES = 100


class Change(NamedTuple):
    """One rule that says something else. `rule` is empty where every rule says the same and the decision does not."""

    rule: str
    was: str
    becomes: str


class Difference(Struct, frozen=True):
    decision: str
    at: int
    campaign: str
    was: str
    becomes: str
    changes: tuple[Change, ...]


class Row(NamedTuple):
    """What is counted together."""

    campaign: str
    rule: str
    was: str
    becomes: str


class Replay(Struct):
    """What came of it. `beside`: records that the draft says nothing about, being of another country. `verdicts` and
    `rows` count records; `examples` are the first hundred that differ."""

    records: int = 0
    different: int = 0
    beside: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: Counter[Row] = field(default_factory=Counter)
    examples: list[Difference] = field(default_factory=list)


LawOf: TypeAlias = Callable[[Record], Law | None]
_Judged: TypeAlias = tuple[bool, tuple[Change, ...]]
_Compare: TypeAlias = Callable[[Decision, Decision], tuple[Change, ...]]


def of_its_day(folder: Path) -> LawOf:
    """`folder`: where `kept` keeps. Raises `NotKept` when asked for what is not there."""
    read = lru_cache(64)(content_store.law)
    return lambda record: read(folder, record.law)


def draft(law: Law) -> LawOf:
    return lambda record: law if record.country == law.country else None


def exact(before: Decision, after: Decision) -> tuple[Change, ...]:
    """Every difference, down to the wording and the instant until which it holds."""
    if before == after:
        return ()
    names = dict.fromkeys((*before.outcomes, *after.outcomes))
    pairs = ((name, before.outcomes.get(name), after.outcomes.get(name)) for name in names)
    changes = tuple(Change(name, _whole(old), _whole(new)) for name, old, new in pairs if old != new)
    return changes or (Change("", _conclusion(before), _conclusion(after)),)


def in_effect(before: Decision, after: Decision) -> tuple[Change, ...]:
    """What matters to a call: pass, skip, or the code of a deny."""
    names = dict.fromkeys((*before.outcomes, *after.outcomes))
    pairs = ((name, _gist(before.outcomes.get(name)), _gist(after.outcomes.get(name))) for name in names)
    return tuple(Change(name, old, new) for name, old, new in pairs if old != new)


def replay(entries: Iterable[Record | OutcomeRecord], law_of: LawOf, compare: _Compare) -> Replay:
    """In memory that does not grow with the log. Raises what `law_of` raises."""
    report = Replay()
    judge = _Judge(law_of, compare)
    for record in entries:
        if isinstance(record, OutcomeRecord):
            continue
        report.records += 1
        judged = judge(record)
        if judged is None:
            report.beside += 1
        elif judged[1]:
            _note(report, record, judged)
    return report


class _Judge:
    """Records that rest on the same grounds at the same instant are one question: those of a batch, mostly."""

    def __init__(self, law_of: LawOf, compare: _Compare) -> None:
        self._law_of, self._compare = law_of, compare
        self._judged: dict[tuple[int, int], _Judged | None] = {}

    def __call__(self, record: Record) -> _Judged | None:
        """Whether it is allowed now, and what is another; None where the law is of another country."""
        key = (record.grounds, record.at)
        if key not in self._judged:
            if len(self._judged) >= _REMEMBERED:
                self._judged.clear()
            self._judged[key] = self._anew(record)
        return self._judged[key]

    def _anew(self, record: Record) -> _Judged | None:
        law = self._law_of(record)
        if law is None:
            return None
        decision = decide(record.facts, law)
        return decision.allow, self._compare(record.decision, decision)


def _note(report: Replay, record: Record, judged: _Judged) -> None:
    campaign = record.facts.campaign
    # The name of an unknown campaign is whatever a client sent: they are counted together.
    name = campaign.id if campaign.known else "(unknown)"
    was, becomes = _verdict(record.decision.allow), _verdict(judged[0])
    report.different += 1
    report.verdicts[was, becomes] += 1
    report.rows.update(Row(name, *change) for change in judged[1])
    if len(report.examples) < _EXAMPLES:
        report.examples.append(Difference(record.id, record.at, name, was, becomes, judged[1]))


def _verdict(allow: bool) -> str:  # noqa: FBT001 - it is asked one thing
    return "allow" if allow else "deny"


def _gist(outcome: Outcome | None) -> str:
    match outcome:
        case None:
            return "not asked"
        case Deny(code=code):
            return code
        case Pass():
            return "pass"
    return "skip"


def _whole(outcome: Outcome | None) -> str:
    match outcome:
        case Deny(code=code, text=text, law=law, not_before=not_before):
            return f"{code}: {text} ({law}; {not_before})"
        case Pass(why=why, until=until):
            return f"pass: {why} ({until})"
        case None:
            return "not asked"
    return f"skip: {outcome.why}"


def _conclusion(decision: Decision) -> str:
    times = f"valid until {decision.valid_until}, not before {decision.not_before}"
    return f"{_verdict(decision.allow)}: {decision.basis} ({times})"
