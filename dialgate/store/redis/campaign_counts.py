"""Campaign counts in Redis.

The script `result` writes the counts and their changes. Only the newest changes are kept.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Final

from dialgate.store.campaign_counts import HourCount
from dialgate.store.redis.commands import RedisCommands, pairs

CHANGES_KEPT: Final = 2_000  # a gate that is further behind reads all counts


class RedisCampaignCounts:
    def __init__(self, commands: RedisCommands) -> None:
        self._commands = commands

    async def counts(self, after: int = 0) -> tuple[list[HourCount], int]:
        keys = [self._commands.of_counts, self._commands.of_changes]
        read = self._commands.script_call("counts", keys, [after, CHANGES_KEPT - 1])
        # Only a master accepts a DEL. A replica could return stale counts.
        (newest, changed), _ = await self._commands.together([read, self._commands.require_master()])
        return [_count(field, value) for field, value in pairs(changed).items()], int(newest)

    async def drop_counts(self, before: int) -> None:
        counts, _ = await self.counts()
        if old := [field_of(count) for count in counts if count.hour < before]:
            await self._commands.run("HDEL", self._commands.of_counts, *old)

    async def put_counts(self, counts: Sequence[HourCount]) -> None:
        values = [(field_of(count), f"{count.answered} {count.abandoned}") for count in counts]
        if values:
            await self._commands.run("HSET", self._commands.of_counts, *chain.from_iterable(values))


def field_of(count: HourCount) -> str:
    return f"{count.hour} {count.campaign}"


def _count(field: bytes, value: bytes) -> HourCount:
    hour, campaign = field.decode().split(" ", 1)
    answered, abandoned = value.split()
    return HourCount(int(hour), campaign, int(answered), int(abandoned))
