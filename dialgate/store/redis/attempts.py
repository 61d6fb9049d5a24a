"""Counted attempts and remembered answers in Redis. Both are read and written for every call."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, zip_longest
from typing import Any, Final

from msgspec import structs

from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.model import Instant, Known
from dialgate.store import (
    AttemptPosition,
    Reading,
    Remembered,
    Reservation,
    StoreUnavailable,
    refuse_if_short,
)
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import decision_of, recalled
from dialgate.store.redis.answers import stored as encode
from dialgate.store.redis.commands import RedisCommands, pairs
from dialgate.store.redis.commit import Commit
from dialgate.store.redis.generations import OLDER_COPY, Generations, top_of
from dialgate.store.redis.terms import AttemptTerms
from dialgate.store.redis.undo import Undo

_PAGE_KEYS: Final = 1_000
_ID_IN_USE: Final = [-1]
_IS_OLDER: Final = [-4]
_FIRST: Final = 3  # the place of the first subject in a reading
_RECORDING_WAITS: Final = (0.002, 0.004, 0.008, 0.016, 0.032)  # seconds


class AttemptsSeen(Reading, frozen=True, gc=False, kw_only=True):
    """A reading with the values that a commit compares with Redis.

    `values` maps each subject to its stored value, and `stored` each key in `keys` to its stored answer. `expiring` are the
    subjects whose values Redis may expire. `end` is the newest sequence in the ledger, and `generation` the store's
    generation, as stored; None if any will do.
    """

    values: Mapping[bytes, bytes]
    expiring: AbstractSet[bytes] = frozenset()
    end: bytes
    keys: Sequence[bytes]
    stored: Mapping[bytes, bytes]
    generation: bytes | None

    @property
    def seq(self) -> int:
        return int(self.end or 0)


_UNREAD: Final = AttemptsSeen((), (), (), values={}, end=b"", keys=(), stored={}, generation=None)


class RedisAttempts:
    def __init__(
        self, commands: RedisCommands, generations: Generations, terms: AttemptTerms, undo: Undo
    ) -> None:
        self._commands, self._generations, self._terms, self._undo = commands, generations, terms, undo
        self._since: Instant = 0
        # The ledger's newest sequence as last read, and the state of unknown subjects, reused while it is unchanged.
        self._end, self._nothing = b"", Known()
        self._reads_of_unknown = 0  # in a row
        # A wrong assumption costs a round trip. After four such reads it is rarely wrong.
        self.reads_before_assuming = 4
        self.own: set[str] = set()  # the logs that this process writes

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        if self._undo.unknown:
            await self._undo.undo_unknown()
        return await self.read_any(subjects, keys, since, recovering=False)

    async def read_any(
        self,
        subjects: Sequence[bytes],
        keys: Sequence[bytes] = (),
        since: Instant = 0,
        *,
        recovering: bool = True,
    ) -> Reading:
        """Read as `read` does. With `recovering`, also read from an older copy."""
        # Taken before the read, which may lack entries acknowledged during it.
        durable = self._commands.durable
        distinct = list(dict.fromkeys(subjects))
        request = (
            "MGET",
            self._commands.of_ledger,
            self._commands.of_keys,
            self._commands.of_generation,
            *[self._commands.of_subject + subject for subject in distinct],
            *[self._commands.of_answer + key for key in keys],
        )
        values_read = await self._commands.run(*request)
        durable_logs: dict[str, int] = {}
        if any(value is not None for value in values_read[_FIRST + len(distinct) :]):
            values_read, durable_logs = await self._read_again(request, values_read, _FIRST + len(distinct))
        arguments = subjects, distinct, keys, max(since, self._since), values_read, durable_logs
        try:
            reading = self._reading(*arguments)
        except subject_codec.UnknownTerm:
            await self._terms.of(filter(None, values_read[_FIRST : _FIRST + len(distinct)]))
            reading = self._reading(*arguments)
        self._commands.refuse_unless_claimed(values_read[1])
        if not recovering:
            self._generations.check(values_read[2])
        refuse_if_short(reading.seq, durable)
        return reading

    async def subjects(self) -> AsyncGenerator[tuple[bool, list[bytes]]]:
        start = len(self._commands.of_subject)
        async for keys in self._commands.scan("s:", _PAGE_KEYS):
            # Only the values would tell whom their entries bind, and they are many more bytes.
            yield True, [key[start:] for key in keys]

    def assume(self, subjects: Sequence[bytes], keys: Sequence[bytes] = ()) -> AttemptsSeen | None:
        if (
            self._reads_of_unknown < self.reads_before_assuming
            or self._generations.stored is None
            or self._undo.unknown
            or self._nothing.seq < self._commands.durable
        ):
            return None
        return self._without_known(subjects, keys, self._generations.stored, assumed=True)

    def _without_known(
        self, subjects: Sequence[bytes], keys: Sequence[bytes], generation: bytes | None, *, assumed: bool
    ) -> AttemptsSeen:
        return AttemptsSeen(
            subjects=subjects,
            known=[self._nothing] * len(subjects),
            answers=[None] * len(keys),
            assumed=assumed,
            values=dict.fromkeys(subjects, b""),
            end=self._end,
            keys=keys,
            stored={},
            generation=generation,
        )

    async def _read_again(
        self, request: tuple[Any, ...], values_read: Sequence[bytes | None], answers: int
    ) -> tuple[Sequence[bytes | None], dict[str, int]]:
        """Repeat a read of remembered answers until it is clear whether the answers were recorded.

        In `values_read`, the remembered answers begin at the index `answers`. Return the values of the last read, and
        the durable number of each log that another gate writes. The durable number of a log is the sequence number of
        its last entry on disk.

        A gate removes unrecorded answers before it reuses their sequence numbers, and the durable numbers are read
        before the answers. An answer is therefore recorded if its sequence number is at most the durable number of its
        log. If its sequence number is higher, another gate is deciding the same call at this moment. This gate waits
        for that decision, so that the call is not decided and counted twice. The wait is short, because the other gate
        might have stopped.
        """
        logs = sorted(
            {log_of(decision_of(value)) for value in values_read[answers:] if value is not None} - self.own
        )
        durable_logs: dict[str, int] = {}
        if not logs:
            return values_read, durable_logs
        durable = ("HMGET", self._commands.of_recorded, *logs)
        for wait in (*_RECORDING_WAITS, 0):
            bounds, values_read = await self._commands.together([durable, request])
            durable_logs = {log: int(seq or 0) for log, seq in zip(logs, bounds, strict=True)}
            decisions = [decision_of(value) for value in values_read[answers:] if value is not None]
            if all(self._is_recorded(decision, durable_logs) for decision in decisions):
                break
            await asyncio.sleep(wait)
        return values_read, durable_logs

    def _reading(
        self,
        subjects: Sequence[bytes],
        distinct: Sequence[bytes],
        keys: Sequence[bytes],
        since: Instant,
        values_read: Sequence[bytes | None],
        durable_logs: Mapping[str, int],
    ) -> AttemptsSeen:
        generation = values_read[2] or b""
        end = values_read[0] or b""
        if self._end != end:
            self._end, self._nothing = end, Known(seq=int(end or 0))
        if not any(values_read[_FIRST:]):  # the usual case
            self._reads_of_unknown += any(subjects)
            return self._without_known(subjects, keys, generation, assumed=False)
        self._reads_of_unknown = 0
        values: dict[bytes, bytes] = {}
        expiring: set[bytes] = set()
        known = dict.fromkeys(distinct, self._nothing)
        for subject, value in zip(distinct, values_read[_FIRST:], strict=False):
            if value is None:
                values[subject] = b""
            else:
                values[subject] = value
                known[subject], expires = subject_codec.known(value, self._nothing.seq, self._terms.known)
                if expires:
                    expiring.add(subject)
        answers: list[Remembered | None] = [None] * len(keys)
        stored: dict[bytes, bytes] = {}
        for at, value in enumerate(values_read[_FIRST + len(distinct) :]):
            if value is not None:
                stored[keys[at]], answer = value, recalled(keys[at], value)
                if answer.at >= since and self._is_recorded(answer.decision, durable_logs):
                    answers[at] = answer
        return AttemptsSeen(
            subjects=subjects,
            known=[known[subject] for subject in subjects],
            answers=answers,
            values=values,
            expiring=expiring,
            end=end,
            keys=keys,
            stored=stored,
            generation=generation,
        )

    def _is_recorded(self, decision: str, durable_logs: Mapping[str, int]) -> bool:
        """Return whether a remembered decision is in its log.

        Return True for a log of this process, because unrecorded answers were removed from the store before this read.
        """
        log = log_of(decision)
        return log in self.own or seq_of(decision) <= durable_logs.get(log, 0)

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: AttemptPosition,
        *,
        recovering: bool = False,
    ) -> bool:
        """Write attempts and answers. Return False if a value in `reading` has changed since it was read.

        Raises `StoreUnavailable` if the log's highest sequence in the store is lower than this gate has committed. The
        store is then an older copy.
        """
        seen = reading if isinstance(reading, AttemptsSeen) else _UNREAD
        log, top = position.log, top_of(position.log)
        self.own.add(log)
        if self._undo.unknown and not recovering:
            return False  # the reading may contain a commit that is undone before the next read
        if recovering:
            seen = structs.replace(seen, generation=None)
        committed = 0 if recovering else self._generations.seen(top)
        keys, commit, values = self._arguments(seen, reservations, remembered, position, committed)
        try:
            outcome = await self._undo.run_commit(log, keys, commit, *values)
            while outcome == _ID_IN_USE:  # a decision that was never recorded uses the id
                names = [each.attempt.decision for each in reservations] + [
                    each.decision for each in remembered
                ]
                await self._undo.remove(log, map(seq_of, names))
                outcome = await self._undo.run_commit(log, keys, commit, *values)
        except StoreUnavailable:
            if not recovering:  # recovery commits what the log has already, and repeats it
                self._undo.mark_unknown(position)
            raise
        if outcome == _IS_OLDER:
            raise StoreUnavailable(OLDER_COPY)
        if outcome:
            self._reads_of_unknown = 0
            return False
        self._generations.saw(top, position.seq)
        if self._commands.replicas:
            self._commands.require_seq(seen.seq)
        return True

    def _arguments(
        self,
        seen: AttemptsSeen,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: AttemptPosition,
        committed: int,
    ) -> tuple[list[bytes], Commit, list[bytes]]:
        """Return the keys and the arguments of the script `commit`."""
        log, values, of_answer = position.log, seen.values, self._commands.of_answer
        (counted, terms), answers = _encode_attempts(values, reservations), _newest_by_key(remembered)
        expected = self._expected(seen, counted)
        expected |= {of_answer + key: seen.stored.get(key, b"") for key in seen.keys if key not in answers}
        # The answers that are replaced are compared too. Their keys follow.
        keys_read = set(seen.keys)
        replaced = [key for key in answers if key in keys_read]
        answers = {key: answers[key] for key in chain(replaced, answers)}
        compared = [*expected.values(), *(seen.stored.get(key, b"") for key in replaced)]
        reserved = [(seq_of(each.attempt.decision), each.subject) for each in reservations]
        answered = [(seq_of(answer.decision), answer.key) for answer in remembered]
        attempt_runs, answer_runs = sequence_index.runs(reserved), sequence_index.runs(answered)
        keys = [
            self._commands.of_positions,
            self._commands.of_recorded,
            self._commands.of_terms,
            *expected,
            *[of_answer + key for key in answers],
            *[self._undo.index("a:", log, run.chunk) for run in attempt_runs],
            *[self._undo.index("g:", log, run.chunk) for run in answer_runs],
        ]
        seqs = [seq for seq, _ in reserved]
        commit = Commit(
            log=log,
            position=position.first - 1 if position.first else position.seq,
            lowest=min(seqs, default=0),
            highest=max([*seqs, *[seq for seq, _ in answered], position.seq]),
            fence=self._undo.fence(log),
            durable=position.durable,
            committed=committed,
            attempts_kept=self._commands.attempts_kept,
            answers_kept=self._undo.remembers,
            watched=len(compared),
            known=[  # the subjects that get attempts come first
                (place, subject in seen.expiring)
                for place, (value, subject) in enumerate(zip_longest(compared, counted), 1)
                if value
            ],
            subjects=len(counted),
            answers=len(answers),
            attempt_runs=[run.begins for run in attempt_runs],
            answer_runs=[run.begins for run in answer_runs],
        )
        names = [run.names for run in (*attempt_runs, *answer_runs)]
        known = filter(None, compared)
        return keys, commit, [*names, *map(encode, answers.values()), *known, *counted.values(), *terms]

    def _expected(self, seen: AttemptsSeen, first: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values of a reading but its answers, by key. The subjects in `first` come first."""
        commands = self._commands
        expected = {
            commands.of_subject + subject: seen.values[subject] for subject in chain(first, seen.values)
        }
        if seen.generation is not None:
            expected[commands.of_generation] = seen.generation
        if seen.assumed:
            expected |= {commands.of_keys: commands.mark or b"", commands.of_ledger: seen.end}
        return expected

    async def note_durable(self, log: str, seq: int) -> None:
        await self._commands.run("HSET", self._commands.of_recorded, log, seq)

    async def recorded(self, log: str) -> int:
        return int(await self._commands.run("HGET", self._commands.of_recorded, log) or 0)

    async def positions(self) -> dict[str, int]:
        positions = pairs(await self._commands.run("HGETALL", self._commands.of_positions))
        return {log.decode(): int(seq) for log, seq in positions.items() if b" " not in log}

    async def remembered_answers(self) -> AsyncGenerator[list[Remembered]]:
        prefix = len(self._commands.key("q:"))
        async for keys in self._commands.scan("q:", _PAGE_KEYS):
            values = await self._commands.run("MGET", *keys)
            yield [recalled(key[prefix:], value) for key, value in zip(keys, values, strict=True) if value]

    def forget_answers(self, before: Instant) -> None:
        """Stop returning answers older than `before`. Redis deletes them a little later, when they expire."""
        self._since = before


def _newest_by_key(remembered: Sequence[Remembered]) -> dict[bytes, Remembered]:
    newest: dict[bytes, Remembered] = {}
    for answer in remembered:
        earlier = newest.get(answer.key)
        if earlier is None or earlier.at <= answer.at:
            newest[answer.key] = answer
    return newest


def _encode_attempts(
    values: Mapping[bytes, bytes], reservations: Sequence[Reservation]
) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Return the attempts to add to each subject, without those that are already counted, and their terms."""
    counted: dict[bytes, bytes] = {}
    terms: set[bytes] = set()
    for reservation in reservations:
        subject, (record, term) = reservation.subject, subject_codec.encode_attempt(reservation.attempt)
        if not subject_codec.contains(values[subject], record):
            counted[subject] = counted.get(subject, b"") + record
            terms.add(term)
    return counted, terms
