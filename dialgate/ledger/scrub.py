"""A list held against everything that is known: of each number, what would be decided if it were called now.

Nothing is reserved and no decision is recorded: to call, ask. All rows are judged at one instant, with the campaign's own
caller ID. What time alone will lift is told as `later`. Facts are looked up as for a call, and a decision is made once
for all rows that rest on equal facts.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct, structs

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.decision import attempts_forbid_nothing, decide
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import merge
from dialgate.core.model import Call, Decision, Facts, Instant, Known
from dialgate.core.responses import when
from dialgate.crypto.keys import Keys
from dialgate.gate.facts import Gatherer, Question
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import Snapshot, SnapshotMissing
from dialgate.store import CallList, CallLists, SubjectStates

# Numbers: the more, the nearer to each other in the store's index are those that are asked about.
AT_ONCE = 32_768
_READ_AT_ONCE = 8_192  # subjects: a shared store serves nobody else meanwhile
_REMEMBERED = 5_000  # decisions

Word: TypeAlias = Literal["allow", "later", "deny"]


class Verdict(Struct, frozen=True):
    """`code`: the first reason of a deny; `valid_until` of an allow (its end by law) and `not_before` of what is later are instants, 0 where
    there is none.
    """

    word: Word
    code: str
    text: str
    valid_until: Instant
    not_before: Instant

    def told(self) -> tuple[str, str, str, str]:
        """As it is written beside a row."""
        return self.word, self.code, when(self.valid_until), when(self.not_before)


class AnswersUnusable(Unavailable):
    """The registry's answers, or a call list, cannot be read. The text says why."""

    component = "snapshot"


class _Judged(Struct, frozen=True):
    """`named` keeps alive what the key names by identity."""

    verdict: Verdict
    facts: Facts
    named: tuple[object, ...]


class ScrubStore(SubjectStates, CallLists, Protocol):
    """The parts of the store that a scrub reads."""


class Judge:
    """Beside a gate or in its absence: it only reads."""

    def __init__(self, config: Config, store: ScrubStore, keys: Keys, campaign: str, at: Instant) -> None:
        self.at = at
        self._config, self._store = config, store
        self._line = config.lines[campaign]
        self._client = Client(name="scrub", controllers=(self._line.controller.id,), scopes=())
        self._from = next(iter(self._line.caller_ids))
        self._gatherer = Gatherer(config, keys)
        self._judged: dict[tuple[object, ...], _Judged] = {}
        self._snapshot: Snapshot | None = None

    async def open(self) -> None:
        """Loads what a gate would have loaded. Raises `StoreUnavailable`, `AnswersUnusable`."""
        gatherer, data = self._gatherer, self._config.data
        gatherer.prepare(self.at)
        gatherer.use_lists(gatherer.open_lists(await self._store.lists(), data / "lists"))
        gatherer.load_proofs(await self._store.proofs())
        try:
            self._snapshot = Snapshot.open(data / "snapshots")
            self._snapshot.verify()
        except SnapshotMissing:
            return  # then every number is unknown to the registry, and says so
        except (DamagedFile, OSError) as error:
            raise AnswersUnusable(str(error)) from error
        gatherer.snapshot = self._snapshot

    def close(self) -> None:
        """No verdict after this."""
        if self._snapshot is not None:
            self._snapshot.close()

    async def judge(self, numbers: Sequence[str]) -> list[Verdict]:
        """Of each number, as it was written. Raises `StoreUnavailable`."""
        read, client, campaign, shown = self._gatherer.read, self._client, self._line.campaign.id, self._from
        questions = [read(Call(to=number, from_=shown, campaign=campaign), client) for number in numbers]
        known = await self._known([subject for question in questions for subject in question.subjects])
        return [
            self._verdict(
                question, merge(*map(known.__getitem__, question.subjects)) if question.subjects else _NOTHING
            )
            for question in questions
        ]

    async def _known(self, subjects: list[bytes]) -> dict[bytes, Known]:
        """In the order of the store's index: in a list's own, each look-up reads a page of its own."""
        subjects.sort()
        known: dict[bytes, Known] = {}
        for start in range(0, len(subjects), _READ_AT_ONCE):
            some = subjects[start : start + _READ_AT_ONCE]
            known.update(zip(some, (await self._store.read(some)).known, strict=True))
        return known

    def _verdict(self, question: Question, known: Known) -> Verdict:
        unknown = self._unknown(question)
        if known == Known(seq=known.seq):
            return unknown.verdict
        facts, law = structs.replace(unknown.facts, known=known), self._config.laws[question.country]
        # Of most that is known of the numbers of a list: that they were called. It hardly ever comes again alike.
        only_called = known == Known(seq=known.seq, attempts=known.attempts)
        if only_called and attempts_forbid_nothing(facts, law):
            return unknown.verdict
        return _verdict_of(decide(facts, law))

    def _unknown(self, question: Question) -> _Judged:
        """As it is judged where nothing is known of the number."""
        found = self._gatherer.files(question)
        key = (question.number.problem or id(question.number), question.zones, id(found))
        judged = self._judged.get(key)
        if judged is None:
            if len(self._judged) >= _REMEMBERED:
                self._judged.clear()
            shown = self._gatherer.presentation(question)
            facts = self._gatherer.facts(question, shown.fact, _NOTHING, found, self.at)
            verdict = _verdict_of(decide(facts, self._config.laws[question.country]))
            judged = self._judged[key] = _Judged(verdict, facts, (question.number, found))
        return judged


_NOTHING = Known()


def _verdict_of(decision: Decision) -> Verdict:
    reason = None if decision.allow else decision.reasons[0]
    return Verdict(
        _word(allow=decision.allow, later=decision.not_before > 0),
        reason.code if reason else "",
        reason.text if reason else "",
        decision.valid_until,
        decision.not_before,
    )


def _word(*, allow: bool, later: bool) -> Word:
    if allow:
        return "allow"
    return "later" if later else "deny"


def numbers_of(call_list: CallList, folder: Path) -> Iterator[list[str]]:
    """Every number of a loaded list, some at a time. Raises `AnswersUnusable`."""
    try:
        with closing(NumberSet.open(folder / call_list.file)) as opened:
            numbers = opened.arrays()[0]
    except (DamagedFile, OSError) as error:
        raise AnswersUnusable(str(error)) from error
    for start in range(0, len(numbers), AT_ONCE):
        yield [f"+{number}" for number in numbers[start : start + AT_ONCE].tolist()]
