"""Decisions on calls to many numbers, at one time or at all times in a period.

Nothing is reserved or recorded, so each call still needs a check. All decisions assume what is stored now, and a caller ID of the
campaign that fits the call, if there is one: one that the gate would choose.

Numbers are judged in columns: they are sorted and merged with the call lists and the registries' answers. One number of each
group with equal facts is decided, as for a call. A number that the store may know is decided with the facts of its group and
its own state. In a period, each is decided at every instant at which the decision may change (`core.decision.turning_points`).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_state import merge
from dialgate.core.model import AUTO, Call, Decision, Facts, Instant, Known
from dialgate.crypto.keys import KeyedHash, Keys
from dialgate.gate.facts import Gatherer
from dialgate.gate.question import CallTerms, Question
from dialgate.ledger.timelines import Limited, Moment, Stretch, decide_stretch, denials, essence, limited
from dialgate.lists import void_consultations
from dialgate.lists.manifest import SnapshotMissing
from dialgate.lists.number_set import DamagedFile, Numbers, NumberSet
from dialgate.lists.snapshot import Snapshot
from dialgate.store import CallList, CampaignCounts, CampaignPauses, KnownSubjects, SubjectStates

# Numbers in one part. A larger part takes more memory; in a smaller one, fewer numbers share what is read from the files.
_AT_ONCE = 1 << 20
_SINGLY_AT_ONCE = 8_192  # numbers in one read of the store, which delays its other clients
_REMEMBERED = 5_000  # decisions

Indexes: TypeAlias = NDArray[np.int32]
V = TypeVar("V", bound=Hashable)


class AnswersUnusable(Unavailable):
    """Raised if registry answers or call lists cannot be read. The message says why."""

    component = "snapshot"


class JudgeStore(SubjectStates, KnownSubjects, CampaignPauses, CampaignCounts, Protocol):
    """The parts of the store that a judge reads."""


# Returns the verdict on a number from the facts of a call to it and its moments.
Summary: TypeAlias = Callable[[Facts, Sequence[Moment]], V]


class _Stranger(Struct, Generic[V], frozen=True):
    """The decisions on a number if nothing is stored about it.

    `limited` are the facts and sections of those stretches that differ in when a limit on calls ends.
    """

    stretches: tuple[Stretch, ...]
    limited: tuple[Limited, ...]
    verdict: V


class Judge(Generic[V]):
    """An evaluator of calls to numbers for one campaign, from `at` until before `until`.

    It only reads the store, so no gate has to be running.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a decision depends on
        self,
        config: Config,
        store: JudgeStore,
        keys: Keys,
        campaign: str,
        at: Instant,
        until: Instant,
        summary: Summary[V],
    ) -> None:
        self.at, self.until = at, until
        self._summary = summary
        self._config, self._store = config, store
        self._line = config.lines[campaign]
        self._client = Client(name="judge", controllers=(self._line.controller.id,), scopes=())
        self._gatherer = Gatherer(config, keys)
        self._terms = {at: self._gatherer.terms}  # by the beginning of a stretch
        self._strangers: dict[tuple[object, ...], _Stranger[V]] = {}
        self._amended: dict[tuple[object, ...], V] = {}
        self._snapshot: Snapshot | None = None
        self._hashes = keys.keyed(self._line.controller.id), keys.keyed("*")
        self._known: list[_Subjects] = []  # in the order of `Question.subjects`
        self.verdicts: list[V] = []  # the different ones so far
        self._indexes: dict[V, int] = {}

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

    def forget_verdicts(self) -> None:
        """Drop the verdicts so far. Their indexes are then invalid."""
        self.verdicts, self._indexes = [], {}

    def counts(self, judged: Indexes) -> Counter[V]:
        rows = np.bincount(judged, minlength=len(self.verdicts)).tolist()
        return Counter({verdict: count for verdict, count in zip(self.verdicts, rows, strict=True) if count})

    def _question(self, number: str) -> Question:
        return self._gatherer.read(Call(to=number, from_=AUTO, campaign=self._line.campaign.id), self._client)

    def _index_of(self, verdict: V) -> int:
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

    def _verdict(self, question: Question, known: Known) -> V:
        stranger = self._stranger(question)
        if known.is_empty:
            return stranger.verdict
        key = (id(stranger), *essence(known, stranger.limited))
        verdict = self._amended.get(key)
        if verdict is None:
            if len(self._amended) >= _REMEMBERED:
                self._amended.clear()
            verdict = self._amended[key] = self._amend(stranger, question, known)
        return verdict

    def _amend(self, stranger: _Stranger[V], question: Question, known: Known) -> V:
        law, shared = self._config.laws[question.country], stranger.stretches[0].facts
        own = shared
        if known.has_entries:
            own = self._gatherer.terms.facts(question, known, self.at)
            if (own.number, own.places) != (shared.number, shared.places):
                # An address on file changes where the person may be.
                return self._conclude(self._stretches(question, known))
        names = {"former_campaigns": own.former_campaigns, "former_goods": own.former_goods}
        stretches = []
        for stretch in stranger.stretches:
            facts = structs.replace(stretch.facts, known=known, **names)
            stretches.append(decide_stretch(facts, law, stretch.end, stretch))
        return self._conclude(stretches)

    def _stranger(self, question: Question) -> _Stranger[V]:
        # The gatherer keeps the objects with these ids: an object of a valid number, and that of its files.
        key = (question.number.problem or id(question.number), question.zones, id(question.files))
        stranger = self._strangers.get(key)
        if stranger is None:
            if len(self._strangers) >= _REMEMBERED:
                self._strangers.clear()
                self._amended.clear()
            stretches = self._stretches(question, _NOTHING)
            law = self._config.laws[question.country]
            stranger = _Stranger(stretches, limited(stretches, law), self._conclude(stretches))
            self._strangers[key] = stranger
        return stranger

    def _stretches(self, question: Question, known: Known) -> tuple[Stretch, ...]:
        law, stretches, at = self._config.laws[question.country], list[Stretch](), self.at
        alike = dict[tuple[tuple[str, str], ...], Decision]()  # one object for all nights takes less memory
        while at < self.until:
            terms = self._terms.setdefault(at, CallTerms(self._config))
            # All that fit a call lead to the same verdict, so it does not matter which of them this person would see.
            pool = self._gatherer.judge_pool(question, at, terms)
            facts = structs.replace(terms.facts(question, known, at), caller_id=pool.candidates[0])
            end = min(terms.same_until(facts, law), pool.until, self.until)
            stretch = decide_stretch(facts, law, end)
            moments = [
                Moment(moment.at, alike.setdefault(denials(moment.decision), moment.decision))
                for moment in stretch.moments
            ]
            stretches.append(structs.replace(stretch, moments=tuple(moments)))
            at = end
        return tuple(stretches)

    def _conclude(self, stretches: Sequence[Stretch]) -> V:
        moments = list(chain.from_iterable(stretch.moments for stretch in stretches))
        return self._summary(stretches[0].facts, moments)


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


def numbers_of(call_list: CallList, folder: Path) -> Numbers:
    """Return the numbers of a loaded list. Raises `AnswersUnusable`."""
    try:
        with closing(NumberSet.open(folder / call_list.file)) as number_set:
            return number_set.arrays()[0]
    except (DamagedFile, OSError) as error:
        raise AnswersUnusable(str(error)) from error
