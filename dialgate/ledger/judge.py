"""Call-list scrubbing: deciding for each number whether a call at a given time would be permitted.

Nothing is reserved or recorded, so each call still needs a check. All decisions assume the same time and the
campaign's first caller ID. A denial is reported as `later` if it will end without a new ledger entry.

Numbers are judged in columns: they are sorted and merged with the call lists and the registries' answers. One number of each
group with equal facts is decided, as for a call. A number that the store may know is decided with the facts of its group and
its own state.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.decision import decide
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_state import merge
from dialgate.core.model import Call, Decision, Facts, Instant, Known
from dialgate.core.responses import when
from dialgate.crypto.keys import KeyedHash, Keys
from dialgate.gate.facts import Gatherer
from dialgate.gate.question import Question
from dialgate.lists import void_consultations
from dialgate.lists.manifest import SnapshotMissing
from dialgate.lists.number_set import DamagedFile, Numbers, NumberSet
from dialgate.lists.snapshot import Snapshot
from dialgate.store import CallList, CampaignCounts, Documents, KnownSubjects, SubjectStates

# Numbers in one part. A larger part takes more memory; in a smaller one, fewer numbers share what is read from the files.
_AT_ONCE = 1 << 20
_SINGLY_AT_ONCE = 8_192  # numbers in one read of the store, which delays its other clients
_REMEMBERED = 5_000  # decisions

Indexes: TypeAlias = NDArray[np.int32]
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


class AnswersUnusable(Unavailable):
    """Raised if registry answers or call lists cannot be read. The message says why."""

    component = "snapshot"


class ScrubStore(SubjectStates, KnownSubjects, Documents, CampaignCounts, Protocol):
    """The parts of the store that a scrub reads."""


class _Stranger(Struct, frozen=True):
    """The decision on a number if nothing is stored about it."""

    facts: Facts
    decision: Decision
    verdict: ScrubVerdict


class Judge:
    """An evaluator of numbers for one campaign.

    It only reads the store, so no gate has to be running.
    """

    def __init__(self, config: Config, store: ScrubStore, keys: Keys, campaign: str, at: Instant) -> None:
        self.at = at
        self._config, self._store = config, store
        self._line = config.lines[campaign]
        self._client = Client(name="scrub", controllers=(self._line.controller.id,), scopes=())
        self._from = next(iter(self._line.caller_ids))
        self._gatherer = Gatherer(config, keys)
        self._strangers: dict[tuple[object, ...], _Stranger] = {}
        self._stopped: dict[tuple[object, ...], ScrubVerdict] = {}  # on numbers with nothing but stops
        self._snapshot: Snapshot | None = None
        self._hashes = keys.keyed(self._line.controller.id), keys.keyed("*")
        self._known: list[_Subjects] = []  # in the order of `Question.subjects`
        self.verdicts: list[ScrubVerdict] = []  # the different ones so far
        self._indexes: dict[ScrubVerdict, int] = {}

    async def open(self) -> None:
        """Load lists, proofs, campaign counts and the snapshot, as a gate does.

        Raises `StoreUnavailable` and `AnswersUnusable`.
        """
        gatherer, data = self._gatherer, self._config.data
        gatherer.terms.prepare(self.at)
        gatherer.use_lists(gatherer.open_lists(await self._store.lists(), data / "lists"))
        gatherer.load_proofs(await self._store.proofs())
        await gatherer.counted.stored.read(self._store)
        gatherer.counted.update(self.at)
        parts = [(for_all, b"".join(subjects)) async for for_all, subjects in self._store.subjects()]
        of_all = [part for for_all, part in parts if for_all]
        self._known = [
            _Subjects(hashes, subjects)
            for hashes, subjects in zip(self._hashes, ([part for _, part in parts], of_all), strict=True)
        ]
        try:
            self._snapshot = Snapshot.open(data / "snapshots", void=void_consultations.read(data))
            self._snapshot.verify()
        except SnapshotMissing:
            return  # every verdict is then `registry.unknown`
        except (DamagedFile, OSError) as error:
            raise AnswersUnusable(str(error)) from error
        gatherer.use_snapshot(self._snapshot)

    def close(self) -> None:
        """Close the snapshot. Do not call `judge` after this."""
        if self._snapshot is not None:
            self._snapshot.close()

    async def judge(self, numbers: Numbers) -> Indexes:
        """Return the verdict on each number (the digits of E.164), as an index of `verdicts`, but none on 0.

        Raises `StoreUnavailable`.
        """
        order = np.argsort(numbers)
        result = np.empty(len(numbers), np.int32)
        for start in range(len(numbers) - np.count_nonzero(numbers), len(numbers), _AT_ONCE):
            part = order[start : start + _AT_ONCE]
            result[part] = await self._judge_sorted(numbers[part])
        return result

    async def _judge_sorted(self, numbers: Numbers) -> Indexes:
        groups, examples = self._group(numbers)
        questions = [self._question(f"+{number}") for number in numbers[examples].tolist()]
        decided = [self._index_of(self._verdict(question, _NOTHING)) for question in questions]
        judged = np.array([*decided, -1], np.int32)[groups]
        invalid = np.flatnonzero(groups < 0)
        judged[invalid] = await self.judge_singly([f"+{number}" for number in numbers[invalid].tolist()])
        texts = [b"+%d" % number for number in numbers.tolist()]
        found = [subjects.find(texts) for subjects in self._known]
        rows = np.flatnonzero((groups >= 0) & (found[0][1] | found[1][1]))
        # Sorted as the store's index: otherwise nearly every subject would load a different page.
        rows = rows[np.argsort(np.frombuffer(found[0][0], ">u8")[::2][rows])]
        for start in range(0, len(rows), _SINGLY_AT_ONCE):
            part = rows[start : start + _SINGLY_AT_ONCE]
            pairs = [
                [of[16 * row : 16 * row + 16] if is_known[row] else b"" for of, is_known in found]
                for row in part.tolist()
            ]
            known = zip([questions[group] for group in groups[part].tolist()], pairs, strict=True)
            judged[part] = await self._judge_known(list(known))
        return judged

    async def judge_singly(self, numbers: Sequence[str]) -> Indexes:
        """Return the verdicts on numbers in any form, or on texts that are not numbers, as `judge` does."""
        judged = list[int]()
        for start in range(0, len(numbers), _SINGLY_AT_ONCE):
            questions = [self._question(number) for number in numbers[start : start + _SINGLY_AT_ONCE]]
            judged += await self._judge_known([(question, question.subjects) for question in questions])
        return np.array(judged, np.int32)

    async def _judge_known(self, cases: Sequence[tuple[Question, Sequence[bytes]]]) -> list[int]:
        """Return the verdict on each question with the states of its number's subjects, as in `Question.subjects`.

        Nothing is stored about the subject b"".
        """
        subjects = sorted(filter(None, chain.from_iterable(pair for _, pair in cases)))
        known = dict(zip(subjects, (await self._store.read(subjects)).known, strict=True))
        known[b""] = _NOTHING
        return [
            self._index_of(self._verdict(question, merge(*(known[of] for of in pair)) if pair else _NOTHING))
            for question, pair in cases
        ]

    def counts(self, judged: Indexes) -> Counter[ScrubVerdict]:
        rows = np.bincount(judged, minlength=len(self.verdicts)).tolist()
        return Counter({verdict: count for verdict, count in zip(self.verdicts, rows, strict=True) if count})

    def _question(self, number: str) -> Question:
        return self._gatherer.read(
            Call(to=number, from_=self._from, campaign=self._line.campaign.id), self._client
        )

    def _index_of(self, verdict: ScrubVerdict) -> int:
        index = self._indexes.setdefault(verdict, len(self.verdicts))
        if index == len(self.verdicts):
            self.verdicts.append(verdict)
        return index

    def _group(self, numbers: Numbers) -> tuple[NDArray[np.int64], list[int]]:
        """Return the group of each of the sorted numbers, and the position of one number of each group.

        The facts of the numbers in a group differ only in what the store has. Invalid numbers are in group -1.
        """
        kinds, questions = self._parse(numbers)
        groups, examples = np.full(len(numbers), -1), list[int]()
        for country in {question.country for question in questions}:
            of_country = [at for at, question in enumerate(questions) if question.country == country]
            rows = np.flatnonzero(np.isin(kinds, of_country))
            keys = kinds[rows]
            for column in self._gatherer.columns(questions[of_country[0]], numbers[rows]):
                keys = _distinct(keys * (int(column.max()) + 2) + column + 1)[1]
            firsts, keys = _distinct(keys)
            groups[rows] = keys + len(examples)
            examples += rows[firsts].tolist()
        return groups, examples

    def _parse(self, numbers: Numbers) -> tuple[NDArray[np.int64], list[Question]]:
        """Return which of the questions is about a number that is parsed like each of the sorted numbers, or -1."""
        kinds, questions = np.full(len(numbers), -1), list[Question]()
        indexes = dict[tuple[object, ...], int]()
        at = 0
        while at < len(numbers):
            number, end = f"+{numbers[at]}", at + 1
            with suppress(phone.NotANumber):
                _, last, like = phone.find_range(number)
                end = at + int(np.searchsorted(numbers[at:], last, "right"))
                if like is not None:
                    kind = (like.kind, like.region, like.zones, like.places)
                    if kind not in indexes:
                        indexes[kind] = len(questions)
                        questions.append(self._question(number))
                    kinds[at:end] = indexes[kind]
            at = end
        return kinds, questions

    def _verdict(self, question: Question, known: Known) -> ScrubVerdict:
        stranger = self._stranger(question)
        if known.is_empty:
            return stranger.verdict
        if known != Known(seq=known.seq, revocations=known.revocations):
            return self._amend(stranger, question, known)
        # Only stops: many were imported at the same time. Their sequence numbers are in the text of a denial, not in its verdict.
        key = (id(stranger), tuple(structs.replace(stop, seq=0) for stop in known.revocations))
        if key not in self._stopped:
            if len(self._stopped) >= _REMEMBERED:
                self._stopped.clear()
            self._stopped[key] = self._amend(stranger, question, known)
        return self._stopped[key]

    def _amend(self, stranger: _Stranger, question: Question, known: Known) -> ScrubVerdict:
        facts = self._gatherer.terms.facts(question, known, self.at)
        # An address on file changes where the person may be.
        is_alike = (facts.number, facts.places) == (stranger.facts.number, stranger.facts.places)
        law = self._config.laws[question.country]
        decision = decide(facts, law, stranger.decision if is_alike else None)
        return stranger.verdict if decision is stranger.decision else _verdict_of(decision)

    def _stranger(self, question: Question) -> _Stranger:
        # The gatherer keeps the objects with these ids: an object of a valid number, and that of its files.
        key = (question.number.problem or id(question.number), question.zones, id(question.files))
        stranger = self._strangers.get(key)
        if stranger is None:
            if len(self._strangers) >= _REMEMBERED:
                self._strangers.clear()
                self._stopped.clear()
            facts = self._gatherer.terms.facts(question, _NOTHING, self.at)
            decision = decide(facts, self._config.laws[question.country])
            stranger = _Stranger(facts, decision, _verdict_of(decision))
            self._strangers[key] = stranger
        return stranger


_NOTHING = Known()


_REST = np.uint64(40)  # bits of a beginning that are not in `_short`


class _Subjects:
    """Subjects in the store, with their hash. Only the first eight of their bytes are kept and compared."""

    def __init__(self, hashes: KeyedHash, parts: Sequence[bytes]) -> None:
        self._hashes = hashes
        self._sorted = np.sort(_beginnings(b"".join(parts)))
        self._short = np.zeros(1 << 24, np.bool_)  # a search in `_sorted` takes eight times longer
        self._short[self._sorted >> _REST] = True

    def find(self, texts: Sequence[bytes]) -> tuple[bytes, NDArray[np.bool_]]:
        """Return the subjects of numbers, concatenated, and which of them may be in the store."""
        if not len(self._sorted):
            return b"", np.zeros(len(texts), np.bool_)
        beginnings = _beginnings(subjects := self._hashes.digests(texts))
        found: NDArray[np.bool_] = self._short[beginnings >> _REST]
        rows = np.flatnonzero(found)
        at = np.searchsorted(self._sorted, beginnings[rows])
        found[rows] = self._sorted[np.minimum(at, len(self._sorted) - 1)] == beginnings[rows]
        return subjects, found


def _beginnings(subjects: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(subjects, np.uint64)[::2]


def _distinct(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the position of one of each key, and each key's index among them.

    `np.unique` would sort the keys.
    """
    most = int(keys.max(initial=0)) + 1
    if most > max(1 << 20, 4 * len(keys)):
        _, places, indexes = np.unique(keys, return_index=True, return_inverse=True)
        return places, indexes
    table = np.full(most, -1)
    table[keys] = np.arange(len(keys))
    places = table[table >= 0]
    table[keys[places]] = np.arange(len(places))
    return places, table[keys]


def _verdict_of(decision: Decision) -> ScrubVerdict:
    if decision.allow:
        return ScrubVerdict("allow", "", decision.valid_until, decision.not_before)
    word: Word = "later" if decision.not_before > 0 else "deny"
    return ScrubVerdict(word, decision.reasons[0].code, decision.valid_until, decision.not_before)


def numbers_of(call_list: CallList, folder: Path) -> Numbers:
    """Return the numbers of a loaded list. Raises `AnswersUnusable`."""
    try:
        with closing(NumberSet.open(folder / call_list.file)) as number_set:
            return number_set.arrays()[0]
    except (DamagedFile, OSError) as error:
        raise AnswersUnusable(str(error)) from error
