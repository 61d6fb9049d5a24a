"""Campaign counts and lifted pauses in Redis.

The script `result` writes the counts and their changes. Only the newest changes are kept.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Final

import msgspec

from dialgate.store.campaign_counts import HourCount, PauseLift
from dialgate.store.redis.commands import RedisCommands, encoded, pairs

CHANGES_KEPT: Final = 2_000  # a gate that is further behind reads all counts
_LIFTS: Final = "lifts"
_lift = msgspec.json.Decoder(PauseLift)


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
        if old := [_field(count) for count in counts if count.hour < before]:
            await self._commands.run("HDEL", self._commands.of_counts, *old)

    async def put_counts(self, counts: Sequence[HourCount]) -> None:
        values = [(_field(count), f"{count.answered} {count.abandoned}") for count in counts]
        if values:
            await self._commands.run("HSET", self._commands.of_counts, *chain.from_iterable(values))

    async def lifts_version(self) -> int:
        return int(await self._commands.run("HGET", self._commands.of_changes, _LIFTS) or 0)

    async def pause_lifts(self) -> list[PauseLift]:
        bodies = pairs(await self._commands.run("HGETALL", self._commands.key("lifts")))
        return sorted(map(_lift.decode, bodies.values()), key=lambda lift: (lift.at, lift.campaign))

    async def lift_pause(self, lift: PauseLift) -> None:
        store = ("HSET", self._commands.key("lifts"), f"{lift.campaign}\0{lift.at}", encoded(lift))
        mark = ("HINCRBY", self._commands.of_changes, _LIFTS, 1)
        await self._commands.run_durably([store, mark])


def _field(count: HourCount) -> str:
    return f"{count.hour} {count.campaign}"


def _count(field: bytes, value: bytes) -> HourCount:
    hour, campaign = field.decode().split(" ", 1)
    answered, abandoned = value.split()
    return HourCount(int(hour), campaign, int(answered), int(abandoned))
