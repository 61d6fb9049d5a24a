"""Generations of the shared store: the agreement of all gates that an older copy is complete again.

Redis may return older than it was, after a failover that lost its last writes or after a backup was restored. A gate
detects this by counters in the store that never decrease: it compares them with the highest values that it has seen. It
then begins a new generation. From then on all gates deny calls, until each gate has added to the store what its log
contains and the store lacks (`dialgate.gate.recovery`), and has acknowledged the generation.

The key `{NAME}:generation` contains the generation's number, and the logs that have not acknowledged it.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import msgspec

from dialgate.store import Generation, Presence, StoreUnavailable, refuse_if_short
from dialgate.store.redis.commands import RedisCommands, pairs

OLDER_COPY: Final = "Redis: this is an older copy of the store, which lacks attempts or results. Each gate adds those in its log"
TOP, RESULTS, FENCE = b" top", b" results", b" fence"
_presence = msgspec.json.Decoder(Presence)


def top_of(log: str) -> bytes:
    """Return the hash field that contains a log's highest sequence number.

    The value stays the same when decisions are removed from the store.
    """
    return log.encode() + TOP


def _lost(before: Mapping[bytes, int], positions: Mapping[bytes, bytes]) -> bool:
    """Return whether a counter has a lower value in `positions` than in `before`.

    Copy `before` before reading `positions`: otherwise a concurrent commit looks like a lost write.
    """
    return any(int(positions.get(field, 0)) < count for field, count in before.items())


def parse(stored: bytes | None) -> Generation:
    number, *waiting = (stored or b"0").split()
    return Generation(int(number), frozenset(log.decode() for log in waiting))


class Generations:
    """One gate's view of the generations. `current` is the last one that it has read."""

    def __init__(self, commands: RedisCommands) -> None:
        self._commands = commands
        # The highest value of each counter in the hash of positions that this gate has read or written. The counters are
        # the highest sequence of each log (`LOG top`), the number of results of its attempts (`LOG results`), and its fence.
        self._seen: dict[bytes, int] = {}
        self._running: dict[str, bool] = {}  # by log, as of the last heartbeat
        self.current = Generation(0, frozenset())
        self.stored: bytes | None = b""  # `current` as stored; None while it waits for a log

    def saw(self, field: bytes, count: int) -> None:
        """Note a value of a counter that no failover can lose."""
        self._seen[field] = max(count, self.seen(field))

    def seen(self, field: bytes) -> int:
        return self._seen.get(field, 0)

    def note_members(self, running: dict[str, bool]) -> None:
        """Note by log which gates run. A generation also waits for gates of which this is not known."""
        self._running = running

    def adopt(self, stored: bytes | None) -> None:
        """Take over the generation in the store. Raises `StoreUnavailable` if it is an earlier one."""
        generation = parse(stored)
        if generation.number < self.current.number:
            raise StoreUnavailable(OLDER_COPY)
        self.current = generation
        self.stored = None if generation.waiting else stored or b""

    def check(self, stored: bytes | None) -> None:
        """Raise `StoreUnavailable` if the store is an older copy, or if a gate has not completed it yet."""
        if (stored or b"") != self.stored:
            self.adopt(stored)
            self.refuse_if_waiting()

    def refuse_if_waiting(self) -> None:
        if self.current.waiting:
            raise StoreUnavailable(
                f"{OLDER_COPY}. These logs have not been added yet: {', '.join(sorted(self.current.waiting))}. Start their"
                " gates. If a gate is gone for good, run `dialgate nodes --forget` with its name or its log"
            )

    async def run_checked(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Read from the store. Raises `StoreUnavailable` if it was emptied, or like `check`."""
        keys, before = self._commands, self._seen.copy()
        checks = [("GET", keys.of_keys), ("GET", keys.of_generation), ("HGETALL", keys.of_positions)]
        *replies, mark, generation, positions = await keys.together([*commands, *checks])
        keys.refuse_unless_claimed(mark)
        self.check(generation)
        if _lost(before, pairs(positions)):
            raise StoreUnavailable(OLDER_COPY)
        return replies

    async def ping(self) -> int:
        """Test a write and a read, and wait for as many replicas as a commit does. Begin a generation if needed.

        This detects a missing replica before a call is denied because of it.
        """
        keys, before, durable = self._commands, self._seen.copy(), self._commands.durable
        reads = [("MGET", keys.of_ledger, keys.of_keys, keys.of_generation), ("HGETALL", keys.of_positions)]
        # The first write shows that this is the master. After the last one, the replicas have everything that was read.
        _, (seq, mark, stored), flat, _ = await keys.run_replicated([keys.ping(), *reads, keys.ping()])
        keys.refuse_unless_claimed(mark)
        newest, positions = int(seq or 0), pairs(flat)
        refuse_if_short(newest, durable)  # first, because a log does not have all entries of the ledger
        if _lost(before, positions) or parse(stored).number < self.current.number:
            await self.begin()
        else:
            self.adopt(stored)
            for field in positions:
                if field.endswith((TOP, RESULTS, FENCE)):
                    self.saw(field, int(positions[field]))
        return newest

    async def begin(self, lost: str = "") -> None:
        """Begin a generation if a counter in the store is too low, or if the store lacks attempts of the log `lost`."""
        keys = self._commands
        presences = pairs(await keys.run("HGETALL", keys.key("nodes"))).values()
        running = dict.fromkeys((_presence.decode(body).log for body in presences), True) | self._running
        waiting = [log for log, runs in running.items() if log and runs]
        logs = " ".join([*waiting, lost])
        arguments = [self.current.number, lost, logs, *chain.from_iterable(self._seen.items())]
        self.adopt(await keys.script("begin", [keys.of_generation, keys.of_positions], arguments))

    async def acknowledge(self, log: str, number: int | None = None) -> None:
        """Acknowledge generation `number` for a log, if its fence is still the last one that this gate has set.

        Without `number`, acknowledge any generation, for a gate that was removed.
        """
        keys = self._commands
        known = ["", ""] if number is None else [number, self.seen(log.encode() + FENCE)]
        self.adopt(await keys.script("acknowledge", [keys.of_generation, keys.of_positions], [log, *known]))
