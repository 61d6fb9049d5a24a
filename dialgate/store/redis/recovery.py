"""Recovery from commits whose outcome is unknown, for example after a timeout.

The decisions of such a commit are never written to the log, so the attempts and answers in the commit are
removed from the store. If the commit reaches Redis late, a fence rejects it.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from dialgate.store import Position, StoreUnavailable
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import recalled
from dialgate.store.redis.commands import Options, RedisCommands, pairs
from dialgate.store.redis.commit import Commit, pack

_AT_ONCE: Final = 512
OLDER_COPY: Final = "Redis: this is an older copy of the store, which lacks attempts or results. Each gate adds those in its log"
TOP, RESULTS, FENCE = b" top", b" results", b" fence"
_FENCED: Final = -2


def top_of(log: str) -> bytes:
    """Return the hash field that contains a log's highest sequence number.

    The value stays the same when decisions are removed from the store.
    """
    return log.encode() + TOP


def is_counter(field: bytes) -> bool:
    """Return whether the value of this field in the hash of positions never decreases."""
    return field.endswith((TOP, RESULTS, FENCE))


def lost_counters(before: Mapping[bytes, int], positions: Mapping[bytes, bytes]) -> set[bytes]:
    """Return the counters that have a lower value in `positions` than in `before`.

    Copy `before` before reading `positions`: otherwise a concurrent commit looks like a lost write.
    """
    return {field for field, count in before.items() if int(positions.get(field, 0)) < count}


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
        # The highest value of each counter in the hash of positions that this gate has read or written. The counters are
        # the highest sequence of each log (`LOG top`), the number of results of its attempts (`LOG results`), and its fence.
        self._seen: dict[bytes, int] = {}
        self.is_older = False
        self.lacking: frozenset[str] = frozenset()

    def _index_prefix(self, kind: str, log: str) -> bytes:
        """Return the key prefix of a log's index. `kind` is `a:` for attempts and `g:` for answers."""
        return self.key(kind, log.encode() + b":")

    def _refuse_if_older(self) -> None:
        if self.is_older:
            raise StoreUnavailable(OLDER_COPY)

    def _saw(self, field: bytes, count: int) -> None:
        self._seen[field] = max(count, self._seen.get(field, 0))

    async def _note(self, position: Position, committed: int) -> None:
        """Store the position of a log. Crash recovery starts at this position.

        Raises `StoreUnavailable` if the log's highest sequence number on the server is below `committed`, or if the
        log's fence on the server is not this gate's fence. A lower value shows that the server has an older copy of
        the store. Recovery from the new position would skip the attempts that the older copy lacks.
        """
        log, seq = position.log, position.seq
        commit = Commit(
            log=log,
            position=seq,
            highest=seq,
            fence=self._fences.get(log, 0),
            committed=committed,
            attempts_kept=self.attempts_kept,
            answers_kept=self.remembers,
        )
        command = self._script_call("commit", [self._of_positions, self._of_recorded], [pack(commit)])
        if await self._run_commit(log, command):
            raise StoreUnavailable(OLDER_COPY)

    async def _run_commit(self, log: str, command: tuple[Any, ...]) -> list[int]:
        outcome: list[int] = (await self._run_replicated([command]))[0]
        if outcome[:1] == [_FENCED]:
            self._refuse_if_overtaken(log, outcome[1])
            raise StoreUnavailable("Redis: a commit arrived too late and was refused")
        return outcome

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
        """Replace values and clear index hashes in one step. Return False and write nothing if a value has changed.

        Each swap is a tuple of key, old value and new value. `names` maps the key of an index chunk to the sequence
        numbers of the decisions whose hashes are cleared.
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
        """Remove the attempts and answers of a log, starting with sequence number `lowest`.

        Return the log's highest sequence number, which a removal does not change.
        """
        top = int(await self.run("HGET", self._of_positions, top_of(log)) or 0)
        for start in range(lowest, top + 1, _AT_ONCE):
            await self._remove_decisions(log, range(start, min(start + _AT_ONCE, top + 1)))
        return top

    def _mark_commit_unknown(self, position: Position) -> None:
        """Remember that the outcome of a commit is unknown.

        The decisions in the commit will not be written to the log, and the decision ids will be reused.
        """
        first = position.first or position.seq + 1
        self._unknown_commits[position.log] = min(first, self._unknown_commits.get(position.log, first))

    async def _undo_unknown_commits(self) -> None:
        """Undo commits with an unknown outcome. Call this before any read.

        Otherwise a repeated request could get a response that was never recorded.
        """
        async with self._settling:
            if self._unknown_commits:  # only the server that received the commit can be corrected
                before = self._seen.copy()
                reads = [("GET", self._of_keys), ("HGETALL", self._of_positions)]
                mark, positions = await self.together(reads)
                self._refuse_unless_claimed(mark)
                if lost_counters(before, pairs(positions)):
                    self.is_older = True
                    raise StoreUnavailable(OLDER_COPY)
            for log, lowest in list(self._unknown_commits.items()):
                await self._fence(log)
                await self._drop(log, lowest)
                await self._note(Position(log, lowest - 1), self._seen.get(top_of(log), 0))
                del self._unknown_commits[log]

    async def _fence(self, log: str) -> None:
        """Raise the fence of a log, so that the server refuses earlier commits that arrive late."""
        key, field = self._of_positions, log.encode() + FENCE
        held = int(await self.run("HGET", key, field) or 0)
        self._refuse_if_overtaken(log, held)
        if log in self._ceilings:
            self._ceilings[log] += 1
        # An older copy of the store may have a lower fence than a commit that is still to arrive.
        step = 1 + max(self._fences.get(log, 0) - held, 0)
        raised = int((await self._run_replicated([("HINCRBY", key, field, step)]))[0])
        self._refuse_if_overtaken(log, raised)
        self._fences[log] = raised
        self._saw(field, raised)
        self._ceilings.setdefault(log, raised)

    def _refuse_if_overtaken(self, log: str, fence: int) -> None:
        """Raise `StoreUnavailable` if another gate has raised the fence since this gate opened the log.

        Two gates with the same log would undo each other's attempts. Therefore the gate that opened the log earlier
        can no longer commit until it is restarted.
        """
        if fence > self._ceilings.get(log, fence):
            self._overtaken = log
        self._refuse_if_log_is_shared()

    def _refuse_if_log_is_shared(self) -> None:
        if self._overtaken:
            raise StoreUnavailable(
                f"another gate is writing a log with the same name, {self._overtaken}: one gate's data folder is a copy of the other gate's. Stop both gates."
                " Give one of them a new data folder that contains only a copy of `keys.json`, without the fields `log` and `months`"
            )
