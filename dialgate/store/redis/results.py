"""Results of attempts, deletion of old attempts, and crash recovery. No call waits for these operations."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from dialgate.core.abandonment import ANSWERED
from dialgate.core.decision_ids import log_of
from dialgate.core.model import Attempt, Instant, Result
from dialgate.store import Position, Remembered, Reservation, StoreUnavailable
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import by_log, seq_of
from dialgate.store.redis.attempts import RedisAttempts
from dialgate.store.redis.campaign_counts import CHANGES_KEPT
from dialgate.store.redis.commands import encoded, pairs
from dialgate.store.redis.recovery import OLDER_COPY, RESULTS, lost_counters, top_of

_AT_ONCE: Final = 512
_ANSWERED: Final = encoded(sorted(ANSWERED))


class RedisResults(RedisAttempts):
    async def attempt(self, decision: str, *, recovering: bool = False) -> tuple[bytes, Attempt] | None:
        log, seq = log_of(decision), seq_of(decision)
        begins, before = sequence_index.place(seq), self._seen.copy()
        place = ("GETRANGE", self.of_attempt(log, seq), begins, begins + sequence_index.BYTES - 1)
        subject, positions = await self.together([place, ("HGETALL", self._of_positions)])
        if not recovering and (self.is_older or lost_counters(before, pairs(positions))):
            raise StoreUnavailable(OLDER_COPY)
        if not subject.strip(b"\0"):
            return None
        (value,) = await self._values([subject])
        counted = {attempt.decision: attempt for attempt, _ in subject_codec.attempts(value)}
        return (subject, counted[decision]) if decision in counted else None

    def of_attempt(self, log: str, seq: int) -> bytes:
        """Return the key of the index chunk that contains this attempt's subject."""
        return self._index_prefix("a:", log) + sequence_index.chunk(seq)

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Count the attempts older than `before`, and delete them if `drop` is set.

        Redis never expires the attempts of a subject with ledger entries.
        """
        counts: dict[bytes, int] = {}  # a scan may return a key twice
        async for keys in self.scan("s:", _AT_ONCE):
            left = keys
            while left:
                values = await self.run("MGET", *left)
                old = {
                    key: (value, names)
                    for key, value in zip(left, values, strict=True)
                    if value and (names := subject_codec.old_decisions(value, before))
                }
                for key, (_, names) in old.items():
                    counts[key] = counts.get(key, 0) + len(names) if drop else len(names)
                left = await self._drop_from_subjects(old) if drop and old else []
                for key in left:
                    counts[key] -= len(old[key][1])
        return sum(counts.values())

    async def _drop_from_subjects(self, old: Mapping[bytes, tuple[bytes, list[str]]]) -> list[bytes]:
        """Remove old attempts. Return the keys that were skipped because their value has changed."""
        swaps = []
        for key, (value, decisions) in old.items():
            names = {
                self._index_prefix("a:", log) + chunk: some
                for log, seqs in by_log(decisions).items()
                for chunk, some in sequence_index.chunks(seqs).items()
            }
            swaps.append(
                self._swap_command([(key, value, subject_codec.without_attempts(value, decisions))], names)
            )
        done = await self.together(swaps)
        return [key for key, swapped in zip(old, done, strict=True) if not swapped]

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        log, seq = log_of(decision), seq_of(decision)
        values = [
            sequence_index.place(seq),
            self._of_subject,
            subject_codec.attempt_prefix(decision),
            subject_codec.result_prefix(decision),
            subject_codec.result_line(decision, result, at),
            _ANSWERED,
            CHANGES_KEPT,
        ]
        field = log.encode() + RESULTS
        keys = [self.of_attempt(log, seq), self.of_counts, self.of_changes, self._of_positions]
        results = int(await self.script("result", keys, [*values, field]))
        if results:
            self._saw(field, results)
        return results > 0

    async def settle(
        self,
        log: str,
        head: int,
        attempts: Sequence[tuple[bytes, Attempt]],
        answers: Sequence[Remembered],
        complete: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        async with self._settling:  # an undo of unknown commits would store the log's position too early
            await self._fence(log)
            self._own.add(log)
            await self.note_durable(log, head)  # a restored log may end before the recorded sequence
            top = await self._drop(log, head + 1)
            self._unknown_commits.pop(log, None)
            were_missing = await self._add_missing(log, attempts, answers)
            if complete is not None:
                await complete()
            await self._note(Position(log, head), committed=0)
            self._seen[top_of(log)] = max(top, head)
        return were_missing

    async def _add_missing(
        self, log: str, attempts: Sequence[tuple[bytes, Attempt]], answers: Sequence[Remembered]
    ) -> bool:
        """Add attempts and answers that the store lacks. Return whether attempts were missing.

        The log's position is not advanced, so that an interrupted recovery starts again from the same position.
        """
        position, were_missing = Position(log, (await self.positions()).get(log, 0)), False
        for start in range(0, max(len(attempts), len(answers)), _AT_ONCE):
            batch = attempts[start : start + _AT_ONCE]
            reading = await self._read([subject for subject, _ in batch])
            counted = {attempt.decision for known in reading.known for attempt in known.attempts}
            missing = [
                Reservation(subject, attempt, (subject,))
                for subject, attempt in batch
                if attempt.decision not in counted
            ]
            if not await self._commit(reading, missing, answers[start : start + _AT_ONCE], position):
                raise StoreUnavailable("Redis: too many concurrent updates for one number during recovery")
            were_missing |= bool(missing)
        return were_missing
