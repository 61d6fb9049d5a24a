"""Replay of recorded decisions, under the law that applied to the call or under a draft law.

A replay uses only the recorded facts, which include the holidays. Under the law that applied to the call, the result
must equal the recorded decision. If a draft law requires a registry that was not consulted for the call, the result is
a denial.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from msgspec import Struct, field

from dialgate.config import content_store
from dialgate.core.decision import decide
from dialgate.core.decision_ids import log_of
from dialgate.core.law import Law
from dialgate.core.model import Decision, Deny, Known, Outcome, OutcomeRecord, Pass
from dialgate.decision_log.records import Record

_CACHED = 4_096
_EXAMPLES = 100


class Change(NamedTuple):
    """One rule with a different outcome. `rule` is "" if only the decision as a whole differs."""

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


class ReplayRow(NamedTuple):
    """A change in a campaign's decisions. Identical changes are counted together."""

    campaign: str
    rule: str
    was: str
    becomes: str


class Replay(Struct):
    records: int = 0
    different: int = 0  # number of records that differ, counted by kind in `verdicts` and `rows`
    beside: int = 0  # records for countries other than the draft's
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: Counter[ReplayRow] = field(default_factory=Counter)
    examples: list[Difference] = field(default_factory=list)  # first hundred differences


LawOf: TypeAlias = Callable[[Record], Law | None]
_Judgement: TypeAlias = tuple[bool, tuple[Change, ...]]
_Compare: TypeAlias = Callable[[Decision, Decision], tuple[Change, ...]]


def read_kept_laws(*folders: Path) -> LawOf:
    """Return a function that returns the law under which a record was decided.

    The law is in one of the archives `folders`. The function raises `NotKept` if it is missing or modified.
    """

    @lru_cache(64)
    def read(digest: str) -> Law:
        folder = next((folder for folder in folders if (folder / digest).exists()), folders[0])
        return content_store.law(folder, digest)

    return lambda record: read(record.law)


def draft(law: Law) -> LawOf:
    return lambda record: law if record.country == law.country else None


def exact(before: Decision, after: Decision) -> tuple[Change, ...]:
    """Return every difference between two decisions, including those in wording and validity."""
    if before == after:
        return ()
    names = dict.fromkeys((*before.outcomes, *after.outcomes))
    pairs = ((name, before.outcomes.get(name), after.outcomes.get(name)) for name in names)
    changes = tuple(Change(name, _whole(old), _whole(new)) for name, old, new in pairs if old != new)
    return changes or (Change("", _conclusion(before), _conclusion(after)),)


def in_effect(before: Decision, after: Decision) -> tuple[Change, ...]:
    """Return the differences that affect a call: rule results, and the reason codes for denials."""
    names = dict.fromkeys((*before.outcomes, *after.outcomes))
    pairs = ((name, _gist(before.outcomes.get(name)), _gist(after.outcomes.get(name))) for name in names)
    return tuple(Change(name, old, new) for name, old, new in pairs if old != new)


def replay(entries: Iterable[Record | OutcomeRecord], law_of: LawOf, compare: _Compare) -> Replay:
    """Decide each record again under the law from `law_of`, and compare the result with the recorded decision.

    Memory use does not grow with the log. Raises the same errors as `law_of`.
    """
    report = Replay()
    rejudge = _Rejudge(law_of, compare)
    for record in entries:
        if isinstance(record, OutcomeRecord):
            continue
        report.records += 1
        judgement = rejudge(record)
        if judgement is None:
            report.beside += 1
        elif judgement[1]:
            _count(report, record, judgement)
    return report


class _Rejudge:
    """A function that decides one record again.

    In a batch, many decisions have the same time and refer to the same grounds entry, so their result is cached. Different
    logs use the same sequence numbers, so the log is part of the cache key. So is what is stored about the number.
    """

    def __init__(self, law_of: LawOf, compare: _Compare) -> None:
        self._law_of, self._compare = law_of, compare
        self._cache: dict[tuple[str, int, int, Known], _Judgement | None] = {}

    def __call__(self, record: Record) -> _Judgement | None:
        """Return the new verdict and the differences, or None if the law is for another country."""
        key = (log_of(record.id), record.grounds, record.at, record.facts.known)
        if key not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[key] = self._decide(record)
        return self._cache[key]

    def _decide(self, record: Record) -> _Judgement | None:
        law = self._law_of(record)
        if law is None:
            return None
        decision = decide(record.facts, law)
        return decision.allow, self._compare(record.decision, decision)


def _count(report: Replay, record: Record, judgement: _Judgement) -> None:
    campaign = record.facts.campaign
    # Clients may send any name for an unknown campaign, so unknown campaigns are counted as one.
    name = campaign.id if campaign.known else "(unknown)"
    was, becomes = _verdict(record.decision.allow), _verdict(judgement[0])
    report.different += 1
    report.verdicts[was, becomes] += 1
    report.rows.update(ReplayRow(name, *change) for change in judgement[1])
    if len(report.examples) < _EXAMPLES:
        report.examples.append(Difference(record.id, record.at, name, was, becomes, judgement[1]))


def _verdict(allow: bool) -> str:  # noqa: FBT001 - the name says what the flag means
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
