"""Recovery from commits whose outcome is unknown, for example after a timeout.

The decisions of such a commit are never written to the log, so its attempts and answers are removed from the
store. If the commit reaches Redis late, a fence rejects it.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from dialgate.store import Position, StoreUnavailable
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import recalled
from dialgate.store.redis.commands import Options, RedisCommands

_AT_ONCE: Final = 512
OLDER_COPY: Final = (
    "Redis: this is an older copy of the store, which lacks attempts that this gate has counted. The gate adds them from"
    " its log"
)


class RedisRecovery(RedisCommands):
    """Recovery from commits with an unknown outcome. Every read first undoes such commits."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._settling = asyncio.Lock()
        # By log, the lowest sequence of a commit with an unknown outcome.
        self._unknown_commits: dict[str, int] = {}
        self._fences: dict[str, int] = {}
        # By log, the highest fence that this gate can have set. A higher one was set by another gate.
        self._ceilings: dict[str, int] = {}
        self._overtaken = ""  # a log that another gate also writes
        self._committed: dict[str, int] = {}  # by log, the highest sequence that this gate has committed
        self.is_older = False

    def _index_prefix(self, kind: str, log: str) -> bytes:
        """Return the key prefix of a log's index. `kind` is `a:` for attempts and `g:` for answers."""
        return self.key(kind, log.encode() + b":")

    def refuse_if_older(self) -> None:
        if self.is_older:
            raise StoreUnavailable(OLDER_COPY)

    async def _lacks_commits(self) -> bool:
        """Return whether commits of this gate are missing because Redis was restored from an older copy."""
        logs = list(self._committed)
        if not logs:
            return False
        tops = await self.run("HMGET", self._of_positions, *[f"{log} top" for log in logs])
        return any(int(top or 0) < self._committed[log] for log, top in zip(logs, tops, strict=True))

    async def _note(self, position: Position) -> None:
        """Store the position of a log, where crash recovery starts.

        Raises `StoreUnavailable` if the server lacks commits of this gate. Otherwise recovery would skip their
        attempts.
        """
        if await self._lacks_commits():
            raise StoreUnavailable(OLDER_COPY)
        await self._run_replicated([("HSET", self._of_positions, position.log, position.seq)])

    async def _remove_decisions(self, log: str, seqs: Iterable[int]) -> None:
        for chunk, some in sequence_index.chunks(seqs).items():
            names, keys = self._index_prefix("a:", log) + chunk, self._index_prefix("g:", log) + chunk
            subjects, answers = await self.together([("GET", names), ("GET", keys)])
            dropped = {f"{log}-{seq}" for seq in some}
            while not await self._swap_if_unchanged(
                {self._of_subject + subject for subject in sequence_index.read(subjects, some)},
                {self._of_answer + key for key in sequence_index.read(answers, some)},
                dropped,
                {names: some, keys: some},
            ):
                pass

    async def _swap_if_unchanged(
        self,
        subjects: Collection[bytes],
        answers: Collection[bytes],
        dropped: Collection[str],
        names: Mapping[bytes, Sequence[int]],
    ) -> bool:
        """Remove decisions from the values of the Redis keys `subjects` and `answers`.

        Return False if a value has changed in the meantime.
        """
        keys = [*subjects, *answers]
        values = (await self.run("MGET", *keys)) if keys else []
        swaps: list[tuple[bytes, bytes, bytes]] = []
        for key, value in zip(keys, values, strict=True):
            if value is None:
                continue
            if key in subjects:
                swaps.append((key, value, subject_codec.without_attempts(value, dropped)))
            elif recalled(key, value).decision in dropped:
                swaps.append((key, value, b""))
        return await self.swap(swaps, names)

    async def swap(
        self, swaps: Sequence[tuple[bytes, bytes, bytes]], names: Mapping[bytes, Sequence[int]] = {}
    ) -> bool:
        """Replace values and clear names in one step. Return False and write nothing if a value has changed.

        Each swap is a tuple of key, old value and new value. `names` maps the key of an index chunk to the
        sequences whose names are cleared.
        """
        return bool((await self._run_replicated([self._swap_command(swaps, names)]))[0])

    def _swap_command(
        self, swaps: Sequence[tuple[bytes, bytes, bytes]], names: Mapping[bytes, Sequence[int]]
    ) -> tuple[Any, ...]:
        words: list[Any] = [len(swaps)]
        for _, old, new in swaps:
            words += (old, new, self.lifetime(new))
        for seqs in names.values():
            words += (len(seqs), *map(sequence_index.place, seqs))
        return self._script_call("swap", [*(key for key, _, _ in swaps), *names], words)

    async def _drop(self, log: str, lowest: int) -> int:
        """Remove a log's attempts and answers from sequence `lowest` on. Return the highest sequence ever stored."""
        top = int(await self.run("HGET", self._of_positions, f"{log} top") or 0)
        for start in range(lowest, top + 1, _AT_ONCE):
            await self._remove_decisions(log, range(start, min(start + _AT_ONCE, top + 1)))
        return top

    def _mark_commit_unknown(self, position: Position) -> None:
        """Remember that the outcome of a commit is unknown.

        Its decisions will not be written to the log, and their ids will be reused.
        """
        first = position.first or position.seq + 1
        self._unknown_commits[position.log] = min(first, self._unknown_commits.get(position.log, first))

    async def _undo_unknown_commits(self) -> None:
        """Undo commits with an unknown outcome. Call this before any read.

        Otherwise a repeated request could get a response that was never recorded.
        """
        async with self._settling:
            if self._unknown_commits:  # only the server that received the commit can be corrected
                self._refuse_unless_claimed(await self.run("GET", self._of_keys))
            for log, lowest in list(self._unknown_commits.items()):
                await self._fence(log)
                await self._drop(log, lowest)
                await self._note(Position(log, lowest - 1))
                del self._unknown_commits[log]

    async def _fence(self, log: str) -> None:
        """Raise the fence of a log, so that the server refuses earlier commits that arrive late."""
        key, field = self._of_positions, f"{log} fence"
        held = int(await self.run("HGET", key, field) or 0)
        self._refuse_if_overtaken(log, held)
        if log in self._ceilings:
            self._ceilings[log] += 1
        # An older copy of the store may have a lower fence than a commit that is still to arrive.
        step = 1 + max(self._fences.get(log, 0) - held, 0)
        raised = int((await self._run_replicated([("HINCRBY", key, field, step)]))[0])
        self._refuse_if_overtaken(log, raised)
        self._fences[log] = raised
        self._ceilings.setdefault(log, raised)

    def _refuse_if_overtaken(self, log: str, fence: int) -> None:
        """Raise `StoreUnavailable` if another gate raised the fence since this gate opened the log.

        Two gates with the same log would undo each other's attempts. The gate that opened the log first stops
        until it is restarted.
        """
        if fence > self._ceilings.get(log, fence):
            self._overtaken = log
        self._refuse_if_log_is_shared()

    def _refuse_if_log_is_shared(self) -> None:
        if self._overtaken:
            raise StoreUnavailable(
                f"another gate is writing a log with the same name, {self._overtaken}: one data folder was copied from the other. Stop both."
                " Start one with an empty folder that contains a copy of `keys.json` without `log` and `months`"
            )
