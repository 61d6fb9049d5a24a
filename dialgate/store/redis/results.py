"""Results of attempts, deletion of old attempts, and crash recovery. No call waits for these operations."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final

from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.model import Attempt, Instant, Result
from dialgate.store import AttemptPosition, CountedAttempt, Remembered, Reservation, StoreUnavailable
from dialgate.store.campaign_counts import count_of
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.attempts import RedisAttempts
from dialgate.store.redis.campaign_counts import CHANGES_KEPT, field_of
from dialgate.store.redis.commands import RedisCommands
from dialgate.store.redis.generations import RESULTS, Generations, top_of
from dialgate.store.redis.terms import AttemptTerms
from dialgate.store.redis.undo import Undo

_AT_ONCE: Final = 512


class RedisResults:
    def __init__(
        self,
        commands: RedisCommands,
        generations: Generations,
        terms: AttemptTerms,
        undo: Undo,
        attempts: RedisAttempts,
    ) -> None:
        self._commands, self._generations, self._terms = commands, generations, terms
        self._undo, self._attempts = undo, attempts

    async def attempt(self, decision: str, *, recovering: bool = False) -> tuple[bytes, Attempt] | None:
        together = self._commands.together if recovering else self._generations.run_checked
        if not (subject := await self._subject(decision, together)):
            return None
        (value,) = await self._commands.values([subject])
        counted = subject_codec.attempts(value, await self._terms.of([value]))
        return next(((subject, attempt) for attempt, _ in counted if attempt.decision == decision), None)

    async def _subject(
        self, decision: str, together: Callable[[list[tuple[Any, ...]]], Awaitable[list[Any]]]
    ) -> bytes:
        """Return the subject of a decision's attempt from the index, or b"" if it has none."""
        seq = seq_of(decision)
        chunk, begins = (
            self._undo.index("a:", log_of(decision), sequence_index.chunk(seq)),
            sequence_index.place(seq),
        )
        subject: bytes = (await together([("GETRANGE", chunk, begins, begins + sequence_index.BYTES - 1)]))[0]
        return subject if subject.strip(b"\0") else b""

    async def counted_attempts(self) -> AsyncGenerator[list[CountedAttempt]]:
        prefix = len(self._commands.of_subject)
        async for keys in self._commands.scan("s:", _AT_ONCE):
            values = await self._commands.run("MGET", *keys)
            terms = await self._terms.of(filter(None, values))
            yield [
                CountedAttempt(key[prefix:], attempt, at)
                for key, value in zip(keys, values, strict=True)
                if value
                for attempt, at in subject_codec.attempts(value, terms)
            ]

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Count the attempts older than `before`, and delete them if `drop` is set.

        Redis expires those of subjects without ledger entries that are not called again. The subjects of deleted attempts
        stay in the index until its chunk expires.
        """
        counts: dict[bytes, int] = {}  # a scan may return a key twice
        async for scanned in self._commands.scan("s:", _AT_ONCE):
            keys = scanned
            while keys:
                values = zip(keys, await self._commands.run("MGET", *keys), strict=True)
                old = {
                    key: (value, *subject_codec.without_old(value, before)) for key, value in values if value
                }
                old = {key: swap for key, swap in old.items() if swap[2]}
                swaps = [self._undo.swap_command([(key, *swap[:2])], {}) for key, swap in old.items()]
                done = await self._commands.together(swaps) if drop and swaps else [1] * len(old)
                for (key, (_, _, count)), swapped in zip(old.items(), done, strict=True):
                    counts[key] = counts.get(key, 0) * drop + count * swapped
                # Values that have changed are read again.
                keys = [key for key, swapped in zip(old, done, strict=True) if not swapped]
        return sum(counts.values())

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        log, keys = log_of(decision), self._commands
        field = log.encode() + RESULTS
        while subject := await self._subject(decision, keys.together):
            (value,) = await keys.values([subject])
            terms = await self._terms.of([value])
            changed = subject_codec.with_result(value, decision, result, at, terms)
            if changed is None:
                return False
            new, before, after = changed
            count, former = (count_of(each.campaign, each.at, each.result) for each in (after, before))
            more = count.answered - former.answered, count.abandoned - former.abandoned
            words = [value, new, keys.lifetime(new), field_of(count), *more, CHANGES_KEPT, field]
            names = [keys.of_subject + subject, keys.of_counts, keys.of_changes, keys.of_positions]
            if results := int(await keys.script("result", names, words)):
                self._generations.saw(field, results)
                return True
        return False

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
            # A restored log may end before the recorded sequence.
            await self._attempts.note_durable(log, head)
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
