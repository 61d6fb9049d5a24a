"""Call-list scrubbing: deciding for each number whether a call at a given time would be permitted.

Nothing is reserved or recorded, so each call still needs a check. All decisions assume the same time and the
campaign's first caller ID. A denial is reported as `later` if it will end without a new ledger entry. Facts are
gathered in the same way as for a call. Numbers without ledger entries share a cached decision if their facts are
equal.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.decision import decide
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_state import merge
from dialgate.core.model import Call, Decision, Instant, Known
from dialgate.core.responses import when
from dialgate.crypto.keys import Keys
from dialgate.gate.facts import Gatherer
from dialgate.gate.question import Question
from dialgate.lists import void_consultations
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import Snapshot, SnapshotMissing
from dialgate.store import CallList, CampaignCounts, Documents, SubjectStates

# Numbers in one part. In a larger part, neighbours are closer together in the store's index, so reads are faster.
AT_ONCE = 32_768
_READ_AT_ONCE = 8_192  # subjects in one read, which delays a shared store's other clients
_REMEMBERED = 5_000  # decisions

Word: TypeAlias = Literal["allow", "later", "deny"]


class ScrubVerdict(Struct, frozen=True):
    """The verdict on a number.

    `code` is the first reason for a denial. A permitted call is lawful until `valid_until`. If `word` is `later`,
    a call becomes lawful at `not_before`. Each of the two times is 0 if it is unknown or does not apply.
    """

    word: Word
    code: str
    text: str
    valid_until: Instant
    not_before: Instant

    def cells(self) -> tuple[str, str, str, str]:
        return self.word, self.code, when(self.valid_until), when(self.not_before)


class AnswersUnusable(Unavailable):
    """Raised if registry answers or call lists cannot be read. The message says why."""

    component = "snapshot"


class ScrubStore(SubjectStates, Documents, CampaignCounts, Protocol):
    """The parts of the store that a scrub reads."""


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
        self._judged: dict[tuple[object, ...], tuple[ScrubVerdict, object]] = {}
        self._snapshot: Snapshot | None = None

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

    async def judge(self, numbers: Sequence[str]) -> list[ScrubVerdict]:
        """Return the verdict on each number. Raises `StoreUnavailable`."""
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
        """Sort the subjects as the store's index does, then read their states.

        Without the sorting, nearly every subject would load a different page of the index.
        """
        subjects.sort()
        known: dict[bytes, Known] = {}
        for start in range(0, len(subjects), _READ_AT_ONCE):
            part = subjects[start : start + _READ_AT_ONCE]
            known.update(zip(part, (await self._store.read(part)).known, strict=True))
        return known

    def _verdict(self, question: Question, known: Known) -> ScrubVerdict:
        if known != Known(seq=known.seq):
            return self._decide(question, known)
        key = (question.number.problem or id(question.number), question.zones, id(question.files))
        if key not in self._judged:
            if len(self._judged) >= _REMEMBERED:
                self._judged.clear()
            references = (
                question.number,
                question.files,
            )  # so that no other object gets an id that is in the key
            self._judged[key] = self._decide(question, _NOTHING), references
        return self._judged[key][0]

    def _decide(self, question: Question, known: Known) -> ScrubVerdict:
        facts = self._gatherer.terms.facts(question, known, self.at)
        return _verdict_of(decide(facts, self._config.laws[question.country]))


_NOTHING = Known()


def _verdict_of(decision: Decision) -> ScrubVerdict:
    if decision.allow:
        return ScrubVerdict("allow", "", "", decision.valid_until, decision.not_before)
    word: Word = "later" if decision.not_before > 0 else "deny"
    reason = decision.reasons[0]
    return ScrubVerdict(word, reason.code, reason.text, decision.valid_until, decision.not_before)


def numbers_of(call_list: CallList, folder: Path) -> Iterator[list[str]]:
    """Yield the numbers of a loaded list in parts. Raises `AnswersUnusable`."""
    try:
        with closing(NumberSet.open(folder / call_list.file)) as number_set:
            numbers = number_set.arrays()[0]
    except (DamagedFile, OSError) as error:
        raise AnswersUnusable(str(error)) from error
    for start in range(0, len(numbers), AT_ONCE):
        yield [f"+{number}" for number in numbers[start : start + AT_ONCE].tolist()]
