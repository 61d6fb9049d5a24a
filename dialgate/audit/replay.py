"""Replay of recorded decisions, under the law that applied to the call or under a draft law or configuration.

A replay uses only the recorded facts, which include the holidays. What a draft configuration changes in them is in
`dialgate.audit.draft_configuration`. Under the law that applied to the call, the result
must equal the recorded decision. If a draft law requires a registry that was not consulted for the call, the result is
a denial.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct, field

from dialgate.config import content_store
from dialgate.core.decision import decide
from dialgate.core.decision_ids import log_of
from dialgate.core.law import Law
from dialgate.core.model import Decision, Deny, Facts, Known, Outcome, OutcomeRecord, Pass
from dialgate.decision_log.records import Record

_CACHED = 4_096
_EXAMPLES = 100
_EXAMPLES_EACH = 3


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


# What a record does not tell, although a draft asks for it. "" if nothing.
Doubt: TypeAlias = Literal[
    "",
    "campaign",
    "dial_region",
    "address",
    "call_type",
    "prefix",
    "caller_id",
    "registry",
    "counts",
    "attempts",
]
Verdict: TypeAlias = Literal["allow", "deny", "unknown"]


class Direction(NamedTuple):
    """The calls of a campaign whose decision changes in the same way. With a doubt, `becomes` is "unknown"."""

    campaign: str
    was: Verdict
    becomes: Verdict
    doubt: Doubt


class ChangedCalls(Struct):
    records: int = 0
    changes: Counter[Change] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)  # ids of the first decisions


class Replay(Struct):
    records: int = 0
    beside: int = 0  # records for countries other than the draft's
    changed: dict[Direction, ChangedCalls] = field(default_factory=lambda: defaultdict(ChangedCalls))
    examples: list[Difference] = field(default_factory=list)  # first hundred differences

    @property
    def different(self) -> int:
        return sum(calls.records for calls in self.changed.values())

    @property
    def verdicts(self) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for direction, calls in self.changed.items():
            found[direction.was, direction.becomes] += calls.records
        return found

    @property
    def rows(self) -> Counter[ReplayRow]:
        found: Counter[ReplayRow] = Counter()
        for direction, calls in self.changed.items():
            found.update({ReplayRow(direction.campaign, *change): n for change, n in calls.changes.items()})
        return found


class Retrial(Struct, frozen=True, kw_only=True):
    """The facts and the law with which a recorded call is decided again.

    The facts may lack something. With a `doubt`, nothing can be said of the call. With `unless_denied`, only a denial is certain.
    `others` are facts that are possible, too: the call is judged only if they lead to the same verdict.
    """

    facts: Facts
    law: Law
    doubt: Doubt = ""
    unless_denied: Doubt = ""
    others: tuple[tuple[Doubt, Facts], ...] = ()

    def doubt_about(self, decision: Decision) -> Doubt:
        if self.doubt or (decision.allow and self.unless_denied):
            return self.doubt or self.unless_denied
        verdicts = ((doubt, decide(facts, self.law).allow) for doubt, facts in self.others)
        return next((doubt for doubt, allow in verdicts if allow != decision.allow), "")


LawOf: TypeAlias = Callable[[Record], Law]
RetrialOf: TypeAlias = Callable[[Record], Retrial | None]
_Judgement: TypeAlias = tuple[bool, Doubt, tuple[Change, ...]]
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


def as_recorded(*folders: Path) -> RetrialOf:
    """Return a function that returns a record's own facts, under the law from one of the archives `folders`."""
    law_of = read_kept_laws(*folders)
    return lambda record: Retrial(facts=record.facts, law=law_of(record))


def draft(law: Law) -> RetrialOf:
    return lambda record: Retrial(facts=record.facts, law=law) if record.country == law.country else None


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


def in_reasons(before: Decision, after: Decision) -> tuple[Change, ...]:
    """Return the rules that deny in one of the decisions, and do not, or for another reason, in the other."""
    denials = (item for decision in (before, after) for item in decision.outcomes.items())
    names = dict.fromkeys(name for name, outcome in denials if type(outcome) is Deny)
    pairs = ((name, _gist(before.outcomes.get(name)), _gist(after.outcomes.get(name))) for name in names)
    return tuple(Change(name, old, new) for name, old, new in pairs if old != new)


def replay(entries: Iterable[Record | OutcomeRecord], retrial_of: RetrialOf, compare: _Compare) -> Replay:
    """Decide each record again as `retrial_of` says, and compare the result with the recorded decision.

    Memory use does not grow with the log. Raises the same errors as `retrial_of`.
    """
    report = Replay()
    rejudge = _Rejudge(retrial_of, compare)
    for record in entries:
        if isinstance(record, OutcomeRecord):
            continue
        report.records += 1
        judgement = rejudge(record)
        if judgement is None:
            report.beside += 1
        elif judgement[1] or judgement[2]:
            _count(report, record, judgement)
    return report


class _Rejudge:
    """A function that decides one record again.

    In a batch, many decisions have the same time and refer to the same grounds entry, so their result is cached. Different
    logs use the same sequence numbers, so the log is part of the cache key. So is what is stored about the number.
    """

    def __init__(self, retrial_of: RetrialOf, compare: _Compare) -> None:
        self._retrial_of, self._compare = retrial_of, compare
        self._cache: dict[tuple[str, str, int, int, Known], _Judgement | None] = {}

    def __call__(self, record: Record) -> _Judgement | None:
        """Return the new verdict, the doubt about it and the differences, or None if the law is for another country."""
        key = (log_of(record.id), record.client, record.grounds, record.at, record.facts.known)
        if key not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[key] = self._decide(record)
        return self._cache[key]

    def _decide(self, record: Record) -> _Judgement | None:
        retrial = self._retrial_of(record)
        if retrial is None:
            return None
        decision = decide(retrial.facts, retrial.law)
        return decision.allow, retrial.doubt_about(decision), self._compare(record.decision, decision)


def _count(report: Replay, record: Record, judgement: _Judgement) -> None:
    campaign = record.facts.campaign
    # Clients may send any name for an unknown campaign, so unknown campaigns are counted as one.
    name = campaign.id if campaign.known else "(unknown)"
    allow, doubt, changes = judgement
    was, becomes = _verdict(record.decision.allow), "unknown" if doubt else _verdict(allow)
    calls = report.changed[Direction(name, was, becomes, doubt)]
    calls.records += 1
    calls.changes.update(() if doubt else changes)
    if len(calls.examples) < _EXAMPLES_EACH:
        calls.examples.append(record.id)
    if len(report.examples) < _EXAMPLES:
        report.examples.append(Difference(record.id, record.at, name, was, becomes, changes))


def _verdict(allow: bool) -> Verdict:  # noqa: FBT001 - the name says what the flag means
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
