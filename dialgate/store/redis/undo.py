"""Removal of decisions from the shared store that are not in the log, and the fences that keep late commits out.

If the outcome of a commit is unknown, for example after a timeout, its decisions are never written to the log. So its
attempts and answers are removed from the store. If the commit reaches Redis late, a fence rejects it.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from dialgate.core.model import Instant
from dialgate.store import AttemptPosition, StoreUnavailable
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import recalled
from dialgate.store.redis.commands import RedisCommands
from dialgate.store.redis.commit import Commit, pack
from dialgate.store.redis.generations import FENCE, OLDER_COPY, Generations, top_of
from dialgate.store.redis.terms import AttemptTerms

_AT_ONCE: Final = 512
_FENCED: Final = -2


class Undo:
    """The removal of decisions. Every read first undoes the commits whose outcome is unknown."""

    def __init__(
        self, commands: RedisCommands, generations: Generations, terms: AttemptTerms, remembers: Instant
    ) -> None:
        self._commands, self._generations, self._terms = commands, generations, terms
        self.remembers = remembers
        self.turn = asyncio.Lock()
        # By log, the lowest sequence of a commit with an unknown outcome.
        self.unknown: dict[str, int] = {}
        self._fences: dict[str, int] = {}
        # By log, the highest fence that this gate can have set. A higher one was set by another gate.
        self._ceilings: dict[str, int] = {}
        self._overtaken = ""  # a log that another gate also writes

    def index(self, kind: str, log: str, chunk: bytes = b"") -> bytes:
        """Return the key of a chunk of a log's index. `kind` is `a:` for attempts and `g:` for answers."""
        return self._commands.key(kind, log.encode() + b":" + chunk)

    # ---- commits -----------------------------------------------------------------------------------------------------

    def fence(self, log: str) -> int:
        """Return the fence that this gate has set, or 0."""
        return self._fences.get(log, 0)

    async def run_commit(self, log: str, keys: Sequence[bytes], commit: Commit, *values: bytes) -> list[int]:
        call = self._commands.script_call("commit", keys, [pack(commit), *values])
        outcome: list[int] = (await self._commands.run_replicated([call]))[0]
        if outcome[:1] == [_FENCED]:
            self._refuse_if_overtaken(log, outcome[1])
            raise StoreUnavailable("Redis: a commit arrived too late and was refused")
        return outcome

    async def note(self, position: AttemptPosition, committed: int) -> None:
        """Store the position of a log. Crash recovery starts at this position.

        Raises `StoreUnavailable` if the log's highest sequence number on the server is below `committed`, or if the
        log's fence on the server is not this gate's fence. A lower value shows that the server has an older copy of
        the store. Recovery from the new position would skip the attempts that the older copy lacks.
        """
        log, seq = position.log, position.seq
        commit = Commit(
            log=log,
            position=seq,
            highest=max(seq, self._generations.seen(top_of(log))),
            fence=self.fence(log),
            committed=committed,
            attempts_kept=self._commands.attempts_kept,
            answers_kept=self.remembers,
        )
        keys = self._commands
        if await self.run_commit(log, [keys.of_positions, keys.of_recorded, keys.of_terms], commit):
            raise StoreUnavailable(OLDER_COPY)

    async def release(self, position: AttemptPosition) -> None:
        self.mark_unknown(AttemptPosition(position.log, position.seq))
        await self.undo_unknown()

    def mark_unknown(self, position: AttemptPosition) -> None:
        """Note that the outcome of a commit is unknown. Its decision ids will be used again."""
        first = position.first or position.seq + 1
        self.unknown[position.log] = min(first, self.unknown.get(position.log, first))

    async def undo_unknown(self) -> None:
        """Undo the commits with an unknown outcome. Call this before any read.

        Otherwise a repeated request could get a response that was never recorded.
        """
        async with self.turn:
            if self.unknown:  # only the server that received the commit can be corrected
                await self._generations.run_checked([])
            for log, lowest in list(self.unknown.items()):
                await self.raise_fence(log)
                await self.drop(log, lowest)
                await self.note(AttemptPosition(log, lowest - 1), self._generations.seen(top_of(log)))
                del self.unknown[log]

    # ---- fences ------------------------------------------------------------------------------------------------------

    async def raise_fence(self, log: str) -> None:
        """Raise the fence of a log, so that the server refuses earlier commits that arrive late."""
        positions, field = self._commands.of_positions, log.encode() + FENCE
        held = int(await self._commands.run("HGET", positions, field) or 0)
        self._refuse_if_overtaken(log, held)
        if log in self._ceilings:
            self._ceilings[log] += 1
        # An older copy of the store may have a lower fence than a commit that is still to arrive.
        step = 1 + max(self.fence(log) - held, 0)
        raised = int((await self._commands.run_replicated([("HINCRBY", positions, field, step)]))[0])
        self._refuse_if_overtaken(log, raised)
        self._fences[log] = raised
        self._generations.saw(field, raised)
        self._ceilings.setdefault(log, raised)

    def _refuse_if_overtaken(self, log: str, fence: int) -> None:
        """Raise `StoreUnavailable` if another gate has raised the fence since this gate opened the log.

        Two gates with the same log would undo each other's attempts. Therefore the gate that opened the log earlier
        can no longer commit until it is restarted.
        """
        if fence > self._ceilings.get(log, fence):
            self._overtaken = log
        self.refuse_if_log_is_shared()

    def refuse_if_log_is_shared(self) -> None:
        if self._overtaken:
            raise StoreUnavailable(
                f"another gate is writing a log with the same name, {self._overtaken}: one gate's data folder is a copy of the other gate's. Stop both gates."
                " Give one of them a new data folder that contains only a copy of `keys.json`, without the fields `log` and `months`"
            )

    # ---- removal -----------------------------------------------------------------------------------------------------

    async def drop(self, log: str, lowest: int) -> None:
        """Remove the attempts and answers of a log, starting with sequence number `lowest`."""
        top = int(await self._commands.run("HGET", self._commands.of_positions, top_of(log)) or 0)
        for start in range(lowest, top + 1, _AT_ONCE):
            await self.remove(log, range(start, min(start + _AT_ONCE, top + 1)))

    async def remove(self, log: str, seqs: Iterable[int]) -> None:
        keys = self._commands
        for chunk, some in sequence_index.chunks(seqs).items():
            indexes = self.index("a:", log, chunk), self.index("g:", log, chunk)
            subjects, answers = await keys.together([("GET", index) for index in indexes])
            dropped = {f"{log}-{seq}" for seq in some}
            while not await self._swap_if_unchanged(
                {keys.of_subject + subject for subject in sequence_index.read(subjects, some)},
                {keys.of_answer + key for key in sequence_index.read(answers, some)},
                dropped,
                dict.fromkeys(indexes, some),
            ):
                pass

    async def _swap_if_unchanged(
        self,
        subjects: Collection[bytes],
        answers: Collection[bytes],
        dropped: AbstractSet[str],
        names: Mapping[bytes, Sequence[int]],
    ) -> bool:
        """Remove decisions from the values of the Redis keys `subjects` and `answers`.

        Return False if a value has changed in the meantime.
        """
        keys = [*subjects, *answers]
        values = (await self._commands.run("MGET", *keys)) if keys else []
        terms = await self._terms.of(
            value for key, value in zip(keys, values, strict=True) if value and key in subjects
        )
        swaps: list[tuple[bytes, bytes, bytes]] = []
        for key, value in zip(keys, values, strict=True):
            if value is None:
                continue
            if key in subjects:
                swaps.append((key, value, subject_codec.without_attempts(value, dropped, terms)))
            elif recalled(key, value).decision in dropped:
                swaps.append((key, value, b""))
        return await self.swap(swaps, names)

    async def swap(
        self, swaps: Sequence[tuple[bytes, bytes, bytes]], names: Mapping[bytes, Sequence[int]] = {}
    ) -> bool:
        """Replace values and clear index hashes in one step. Return False and write nothing if a value has changed.

        Each swap is a tuple of key, old value and new value. `names` maps the key of an index chunk to the sequence
        numbers of the decisions whose hashes are cleared.
        """
        return bool((await self._commands.run_replicated([self.swap_command(swaps, names)]))[0])

    def swap_command(
        self, swaps: Sequence[tuple[bytes, bytes, bytes]], names: Mapping[bytes, Sequence[int]]
    ) -> tuple[Any, ...]:
        words: list[Any] = [len(swaps)]
        for _, old, new in swaps:
            words += (old, new, self._commands.lifetime(new))
        for seqs in names.values():
            words += (len(seqs), *map(sequence_index.place, seqs))
        return self._commands.script_call("swap", [*(key for key, _, _ in swaps), *names], words)
