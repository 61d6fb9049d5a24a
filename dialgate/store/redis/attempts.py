"""Counted attempts and remembered answers in Redis. Both are read and written for every call."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from dialgate.core.decision_ids import log_of
from dialgate.core.model import Instant, Known
from dialgate.store import Position, Reading, Remembered, Reservation, StoreUnavailable, refuse_if_short
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import by_log, decision_of, recalled, seq_of, stored
from dialgate.store.redis.commands import Options, pairs
from dialgate.store.redis.commit import Commit, pack
from dialgate.store.redis.recovery import OLDER_COPY, RedisRecovery, top_of

_ID_IN_USE: Final = [-1]
_IS_OLDER: Final = [-4]
_RECORDING_WAITS: Final = (0.002, 0.004, 0.008, 0.016, 0.032)  # seconds


class Seen(Reading, frozen=True, gc=False, kw_only=True):
    """A reading with the values that a commit compares with Redis.

    `values` maps each subject to its stored value. `end` is the newest sequence in the ledger, as stored.
    """

    values: Mapping[bytes, bytes]
    end: bytes
    keys: Sequence[bytes]

    @property
    def seq(self) -> int:
        return int(self.end or 0)


_UNREAD: Final = Seen((), (), (), values={}, end=b"", keys=())


class RedisAttempts(RedisRecovery):
    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._since: Instant = 0
        # The ledger's newest sequence as last read, and the state of unknown subjects, reused while it is unchanged.
        self._end, self._nothing = b"", Known()
        self._reads_of_unknown = 0  # in a row
        # A wrong assumption costs a round trip. After four such reads it is rarely wrong.
        self.reads_before_assuming = 4
        self._own: set[str] = set()  # the logs that this process writes

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        self._refuse_if_older()
        if self._unknown_commits:
            await self._undo_unknown_commits()
        return await self._read(subjects, keys, since)

    async def _read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        durable = self._durable  # taken before the read, which may lack entries acknowledged during it
        distinct = list(dict.fromkeys(subjects))
        request = (
            "MGET",
            self._of_ledger,
            self._of_keys,
            *[self._of_subject + subject for subject in distinct],
            *[self._of_answer + key for key in keys],
        )
        values_read = await self.run(*request)
        durable_logs: dict[str, int] = {}
        if any(value is not None for value in values_read[2 + len(distinct) :]):
            values_read, durable_logs = await self._read_again(request, values_read, 2 + len(distinct))
        reading = self._reading(subjects, distinct, keys, max(since, self._since), values_read, durable_logs)
        self._refuse_unless_claimed(values_read[1])
        refuse_if_short(reading.seq, durable)
        return reading

    def assume(self, subjects: Sequence[bytes], keys: Sequence[bytes] = ()) -> Seen | None:
        if (
            self._reads_of_unknown < self.reads_before_assuming
            or self.is_older
            or self._unknown_commits
            or self._nothing.seq < self._durable
        ):
            return None
        return self._without_known(subjects, keys, assumed=True)

    def _without_known(self, subjects: Sequence[bytes], keys: Sequence[bytes], *, assumed: bool) -> Seen:
        return Seen(
            subjects=subjects,
            known=[self._nothing] * len(subjects),
            answers=[None] * len(keys),
            assumed=assumed,
            values=dict.fromkeys(subjects, b""),
            end=self._end,
            keys=keys,
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
            {log_of(decision_of(value)) for value in values_read[answers:] if value is not None} - self._own
        )
        commands: list[tuple[Any, ...]] = [request]
        if logs:
            commands.insert(0, ("HMGET", self._of_recorded, *logs))
        if self._replicas:
            # A repeated answer needs no commit, which would show whether this server is still the master.
            commands.insert(0, self._ping())
        if len(commands) == 1:
            return values_read, {}
        for wait in (*_RECORDING_WAITS, 0):
            replies = await self._run_replicated(commands)
            bounds = replies[-2] if logs else ()
            durable_logs = {log: int(seq or 0) for log, seq in zip(logs, bounds, strict=True)}
            decisions = [decision_of(value) for value in replies[-1][answers:] if value is not None]
            if all(self._is_recorded(decision, durable_logs) for decision in decisions):
                break
            await asyncio.sleep(wait)
        return replies[-1], durable_logs

    def _reading(
        self,
        subjects: Sequence[bytes],
        distinct: Sequence[bytes],
        keys: Sequence[bytes],
        since: Instant,
        values_read: Sequence[bytes | None],
        durable_logs: Mapping[str, int],
    ) -> Seen:
        end = values_read[0] or b""
        if self._end != end:
            self._end, self._nothing = end, Known(seq=int(end or 0))
        if not any(values_read[2:]):  # the usual case
            self._reads_of_unknown += any(subjects)
            return self._without_known(subjects, keys, assumed=False)
        self._reads_of_unknown = 0
        values: dict[bytes, bytes] = {}
        known = dict.fromkeys(distinct, self._nothing)
        for subject, value in zip(distinct, values_read[2:], strict=False):
            if value is None:
                values[subject] = b""
            else:
                values[subject] = value
                known[subject] = subject_codec.known(value, self._nothing.seq)
        answers: list[Remembered | None] = [None] * len(keys)
        for at, value in enumerate(values_read[2 + len(distinct) :]):
            if value is not None:
                answer = recalled(keys[at], value)
                if answer.at >= since and self._is_recorded(answer.decision, durable_logs):
                    answers[at] = answer
        return Seen(
            subjects=subjects,
            known=[known[subject] for subject in subjects],
            answers=answers,
            values=values,
            end=end,
            keys=keys,
        )

    def _is_recorded(self, decision: str, durable_logs: Mapping[str, int]) -> bool:
        """Return whether a remembered decision is in its log.

        Return True for a log of this process, because unrecorded answers were removed from the store before this read.
        """
        log = log_of(decision)
        return log in self._own or seq_of(decision) <= durable_logs.get(log, 0)

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> bool:
        self._refuse_if_older()  # `reading` may be from before this was noticed
        committed = self._seen.get(top_of(position.log), 0)
        return await self._commit(reading, reservations, remembered, position, committed)

    async def _commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
        committed: int = 0,
    ) -> bool:
        """Write attempts and answers. Return False if a value in `reading` has changed since it was read.

        Raises `StoreUnavailable` if the log's highest sequence in the store is lower than `committed`. The store is
        then an older copy.
        """
        seen = reading if isinstance(reading, Seen) else _UNREAD
        self._own.add(position.log)
        command = self._commit_command(seen, reservations, remembered, position, committed)
        try:
            outcome = await self._run_commit(position.log, command)
            while outcome == _ID_IN_USE:  # a decision that was never recorded uses the id
                names = [reservation.attempt.decision for reservation in reservations] + [
                    answer.decision for answer in remembered
                ]
                await self._remove_decisions(position.log, map(seq_of, names))
                outcome = await self._run_commit(position.log, command)
        except StoreUnavailable:
            self._mark_commit_unknown(position)
            raise
        if outcome == _IS_OLDER:
            raise StoreUnavailable(OLDER_COPY)
        if outcome:
            self._reads_of_unknown = 0
            return False
        self._saw(top_of(position.log), position.seq)
        if self._replicas:
            self._durable = max(self._durable, seen.seq)
        return True

    def _commit_command(
        self,
        seen: Seen,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
        committed: int,
    ) -> tuple[Any, ...]:
        log, values = position.log, seen.values
        lines = _lines(values, reservations)
        # An assumption about any number in the batch may be wrong. Otherwise only the state of allowed numbers matters.
        watch = values if seen.assumed else chain.from_iterable([each.watch for each in reservations])
        expected = {self._of_subject + subject: values[subject] for subject in chain(lines, watch)}
        answers = _newest_by_key(remembered)
        if seen.assumed:
            expected |= {self._of_keys: self._mark or b"", self._of_ledger: seen.end}
            expected |= {self._of_answer + key: b"" for key in set(seen.keys) - answers.keys()}
        counted = [(seq_of(each.attempt.decision), each.subject) for each in reservations]
        answered = [(seq_of(answer.decision), answer.key) for answer in remembered]
        attempt_runs, answer_runs = sequence_index.runs(counted), sequence_index.runs(answered)
        attempt_names, answer_names = self._index_prefix("a:", log), self._index_prefix("g:", log)
        keys = [
            self._of_positions,
            self._of_recorded,
            *expected,
            *[self._of_answer + key for key in answers],
            *[attempt_names + run.chunk for run in attempt_runs],
            *[answer_names + run.chunk for run in answer_runs],
        ]
        seqs = [seq for seq, _ in counted]
        commit = Commit(
            log=log,
            position=position.first - 1 if position.first else position.seq,
            lowest=min(seqs, default=0),
            highest=max([*seqs, *[seq for seq, _ in answered], position.seq]),
            fence=self._fences.get(log, 0),
            durable=position.durable,
            committed=committed,
            attempts_kept=self.attempts_kept,
            answers_kept=self.remembers,
            watched=len(expected) + (len(answers) if seen.assumed else 0),
            known=[  # the subjects that get lines come first
                (place, value.decode(), place <= len(lines) and subject_codec.may_expire(value))
                for place, value in enumerate(expected.values(), 1)
                if value
            ],
            lines=[line.decode() for line in lines.values()],
            answers=len(answers),
            attempt_runs=[run.begins for run in attempt_runs],
            answer_runs=[run.begins for run in answer_runs],
        )
        names = [run.names for run in (*attempt_runs, *answer_runs)]
        return self._script_call("commit", keys, [pack(commit), *names, *map(stored, answers.values())])

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        try:
            for log, seqs in by_log(decisions).items():
                await self._remove_decisions(log, seqs)
            await self._note(position, self._seen.get(top_of(position.log), 0))
        except StoreUnavailable:
            self._mark_commit_unknown(position)
            raise

    async def note_durable(self, log: str, seq: int) -> None:
        await self.run("HSET", self._of_recorded, log, seq)

    async def recorded(self, log: str) -> int:
        return int(await self.run("HGET", self._of_recorded, log) or 0)

    async def positions(self) -> dict[str, int]:
        positions = pairs(await self.run("HGETALL", self._of_positions))
        return {log.decode(): int(seq) for log, seq in positions.items() if b" " not in log}

    async def maintain(self, before: Instant) -> None:
        """Stop returning answers older than `before`. Redis deletes them a little later, when they expire."""
        self._since = before


def _newest_by_key(remembered: Sequence[Remembered]) -> dict[bytes, Remembered]:
    newest: dict[bytes, Remembered] = {}
    for answer in remembered:
        earlier = newest.get(answer.key)
        if earlier is None or earlier.at <= answer.at:
            newest[answer.key] = answer
    return newest


def _lines(values: Mapping[bytes, bytes], reservations: Sequence[Reservation]) -> dict[bytes, bytes]:
    """Return the lines to append to each subject, without attempts that are already counted."""
    lines: dict[bytes, bytes] = {}
    for reservation in reservations:
        subject, line = reservation.subject, subject_codec.attempt_line(reservation.attempt)
        if line not in values[subject]:
            lines[subject] = lines.get(subject, b"") + line
    return lines
