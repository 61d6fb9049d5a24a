"""The shared store in Redis, and the checks before a gate uses it."""

from typing import Final

from dialgate.core.model import DAY, Instant
from dialgate.store import StoreUnavailable, refuse_if_short
from dialgate.store.campaign_counts import oldest_hour
from dialgate.store.redis.call_lists import RedisCallLists
from dialgate.store.redis.campaign_counts import RedisCampaignCounts
from dialgate.store.redis.commands import Options, pairs, texts
from dialgate.store.redis.ledger import RedisLedger
from dialgate.store.redis.membership import RedisMembership
from dialgate.store.redis.recovery import FENCE, TOP, is_counter, lost_counters
from dialgate.store.redis.results import RedisResults

LAYOUT: Final = b"2"
_COUNTS_DROPPED_EVERY: Final = 24  # hours, because it reads all counts


class RedisStore(RedisResults, RedisLedger, RedisCallLists, RedisCampaignCounts, RedisMembership):
    """A store in Redis that several gates share.

    `patience` limits one round trip, in seconds. A ledger entry is acknowledged once it is on the disks of
    `replicas` replicas. Answers are remembered for `remember` milliseconds.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "dialgate",
        patience: float = 1.0,
        replicas: int = 0,
        remember: Instant = DAY,
    ) -> None:
        """Parse the options without connecting. Raises `ValueError`."""
        super().__init__(Options(url=url, name=name, patience=patience, replicas=replicas, remember=remember))
        self._counts_from = 0  # the hour before which counts were last deleted

    async def refuse_unless_safe(self) -> None:
        """Raise `StoreUnavailable` if the server could lose acknowledged writes.

        The message says what to change.
        """
        required = {
            "appendonly": ("yes",),
            "appendfsync": ("everysec", "always"),
            "maxmemory-policy": ("noeviction",),
        }
        settings = texts(await self.run("CONFIG", "GET", *required))
        for name, good in required.items():
            if settings.get(name) not in good:
                raise StoreUnavailable(
                    f"Redis: `{name}` is {settings.get(name)!r}; set it to {' or '.join(f'`{value}`' for value in good)}"
                )
        if await self.run("GET", self.key("copying")) is not None:
            raise StoreUnavailable("Redis: the store is an incomplete copy: run `dialgate store copy` again")
        await self._refuse_another_layout()
        if await self.surplus_replicas():
            raise StoreUnavailable(
                "Redis: `replicas` is lower than the number of replicas that can become master, so an"
                f" acknowledged entry could be lost: set `replicas` to {self._replicas}"
            )
        try:
            await self.append([])
        except StoreUnavailable as fault:
            if "unknown command" not in str(fault):
                raise
            raise StoreUnavailable(
                "Redis: this server has no WAITAOF: use Redis 7.2 or newer, or Valkey"
            ) from fault

    async def _refuse_another_layout(self) -> None:
        """Raise `StoreUnavailable` if the keys have another version's layout.

        With another layout, this version would not find the stored subjects and could not remove stored attempts.
        """
        layout = await self.run("GET", self.of_layout)
        if layout is None and not await self._is_early():
            await self.run("SET", self.of_layout, LAYOUT, "NX")
        elif layout != LAYOUT:
            raise StoreUnavailable(
                "Redis: another version of dialgate wrote this store. With that version, run `dialgate store copy` to copy it to `sqlite://…`. With this"
                " version, copy the SQLite file to a Redis store that has a different `name`"
            )

    async def _is_early(self) -> bool:
        try:
            await self.run("GET", self.key("ledger"))
        except StoreUnavailable as fault:
            if "WRONGTYPE" not in str(fault):
                raise
            return True
        return bool(await self.positions())

    async def surplus_replicas(self) -> int:
        self._replicas = max(await self._server.replicas(), self._required_replicas)
        return self._replicas - self._required_replicas

    async def ping(self) -> int:
        """Test a write and a read, and wait for as many replicas as a commit does.

        This detects a missing replica before a call is denied because of it.
        """
        self._refuse_if_log_is_shared()
        durable = self._durable  # as in `read`
        before = self._seen.copy()
        reads = [("MGET", self._of_ledger, self._of_keys), ("HGETALL", self._of_positions)]
        # The first write shows that this is the master. After the last one, the replicas have everything that was read.
        _, (seq, mark), flat, _ = await self._run_replicated([self._ping(), *reads, self._ping()])
        self._refuse_unless_claimed(mark)
        newest = int(seq or 0)
        refuse_if_short(newest, durable)  # first, because a log does not have all entries of the ledger
        positions = pairs(flat)
        lost = lost_counters(before, positions)
        self.lacking = frozenset(field[: -len(TOP)].decode() for field in lost if field.endswith(TOP))
        self.is_older = self.is_older or bool(lost)
        self._refuse_if_older()
        for field in filter(is_counter, positions):
            self._saw(field, int(positions[field]))
        return newest

    def accept_restored(self) -> None:
        own = {log.encode() + kind for log in self._own for kind in (TOP, FENCE)}
        self._seen = {field: count for field, count in self._seen.items() if field in own}
        self.is_older = False

    async def maintain(self, before: Instant) -> None:
        await super().maintain(before)
        if oldest_hour(before) >= self._counts_from + _COUNTS_DROPPED_EVERY:
            self._counts_from = oldest_hour(before)
            await self.drop_counts(self._counts_from)

    async def close(self) -> None:
        await self._server.close()
