"""Results of attempts, deletion of old attempts, and crash recovery. No call waits for these operations."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Final

from dialgate.core.abandonment import ANSWERED
from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.model import Attempt, Instant, Result
from dialgate.store import AttemptPosition, CountedAttempt, Remembered, Reservation, StoreUnavailable
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import by_log
from dialgate.store.redis.attempts import RedisAttempts
from dialgate.store.redis.campaign_counts import CHANGES_KEPT
from dialgate.store.redis.commands import RedisCommands, encoded
from dialgate.store.redis.generations import RESULTS, Generations, top_of
from dialgate.store.redis.undo import Undo

_AT_ONCE: Final = 512
_ANSWERED: Final = encoded(sorted(ANSWERED))


class RedisResults:
    def __init__(
        self, commands: RedisCommands, generations: Generations, undo: Undo, attempts: RedisAttempts
    ) -> None:
        self._commands, self._generations = commands, generations
        self._undo, self._attempts = undo, attempts

    async def attempt(self, decision: str, *, recovering: bool = False) -> tuple[bytes, Attempt] | None:
        log, seq = log_of(decision), seq_of(decision)
        begins = sequence_index.place(seq)
        place = ("GETRANGE", self.of_attempt(log, seq), begins, begins + sequence_index.BYTES - 1)
        together = self._commands.together if recovering else self._generations.run_checked
        (subject,) = await together([place])
        if not subject.strip(b"\0"):
            return None
        (value,) = await self._commands.values([subject])
        counted = {attempt.decision: attempt for attempt, _ in subject_codec.attempts(value)}
        return (subject, counted[decision]) if decision in counted else None

    def of_attempt(self, log: str, seq: int) -> bytes:
        """Return the key of the index chunk that contains this attempt's subject."""
        return self._undo.index("a:", log, sequence_index.chunk(seq))

    async def counted_attempts(self) -> AsyncGenerator[list[CountedAttempt]]:
        prefix = len(self._commands.of_subject)
        async for keys in self._commands.scan("s:", _AT_ONCE):
            values = await self._commands.run("MGET", *keys)
            yield [
                CountedAttempt(key[prefix:], attempt, at)
                for key, value in zip(keys, values, strict=True)
                if value
                for attempt, at in subject_codec.attempts(value)
            ]

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Count the attempts older than `before`, and delete them if `drop` is set.

        Redis never expires the attempts of a subject with ledger entries.
        """
        counts: dict[bytes, int] = {}  # a scan may return a key twice
        async for keys in self._commands.scan("s:", _AT_ONCE):
            left = keys
            while left:
                values = await self._commands.run("MGET", *left)
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
                self._undo.index("a:", log, chunk): some
                for log, seqs in by_log(decisions).items()
                for chunk, some in sequence_index.chunks(seqs).items()
            }
            swaps.append(
                self._undo.swap_command(
                    [(key, value, subject_codec.without_attempts(value, decisions))], names
                )
            )
        done = await self._commands.together(swaps)
        return [key for key, swapped in zip(old, done, strict=True) if not swapped]

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        log, seq = log_of(decision), seq_of(decision)
        values = [
            sequence_index.place(seq),
            self._commands.of_subject,
            subject_codec.attempt_prefix(decision),
            subject_codec.result_prefix(decision),
            subject_codec.result_line(decision, result, at),
            _ANSWERED,
            CHANGES_KEPT,
        ]
        field = log.encode() + RESULTS
        keys = self._commands
        names = [self.of_attempt(log, seq), keys.of_counts, keys.of_changes, keys.of_positions]
        results = int(await keys.script("result", names, [*values, field]))
        if results:
            self._generations.saw(field, results)
        return results > 0

    async def settle(
        self,
        log: str,
        head: int,
        attempts: Sequence[tuple[bytes, Attempt]],
        answers: Sequence[Remembered],
        complete: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        async with self._undo.turn:  # an undo of unknown commits would store the log's position too early
            self._generations.adopt(await self._commands.run("GET", self._commands.of_generation))
            await self._undo.raise_fence(log)
            self._attempts.own.add(log)
            await self._attempts.note_durable(
                log, head
            )  # a restored log may end before the recorded sequence
            await self._undo.drop(log, head + 1)
            self._undo.unknown.pop(log, None)
            await self._add_missing(log, attempts, answers)
            if complete is not None:
                await complete()
            await self._undo.note(AttemptPosition(log, head), committed=0)
            self._generations.saw(top_of(log), head)

    async def _add_missing(
        self, log: str, attempts: Sequence[tuple[bytes, Attempt]], answers: Sequence[Remembered]
    ) -> None:
        """Add attempts and answers that the store lacks. If it lacks attempts, all gates must look for theirs.

        The log's position is not advanced, so that an interrupted recovery starts again from the same position.
        """
        position = AttemptPosition(log, (await self._attempts.positions()).get(log, 0))
        for start in range(0, max(len(attempts), len(answers)), _AT_ONCE):
            batch = attempts[start : start + _AT_ONCE]
            reading = await self._attempts.read_any([subject for subject, _ in batch])
            counted = {attempt.decision for known in reading.known for attempt in known.attempts}
            missing = [
                Reservation(subject, attempt, (subject,))
                for subject, attempt in batch
                if attempt.decision not in counted
            ]
            if missing and log not in self._generations.current.waiting:
                await self._generations.begin(log)
            added = answers[start : start + _AT_ONCE]
            if not await self._attempts.commit(reading, missing, added, position, recovering=True):
                raise StoreUnavailable("Redis: too many concurrent updates for one number during recovery")
