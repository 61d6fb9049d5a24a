"""The gates that share a Redis store."""

from collections.abc import Sequence
from typing import Any

import msgspec

from dialgate.core.model import SECOND, Instant
from dialgate.store import Members, Presence
from dialgate.store.redis.commands import RedisCommands, encoded, pairs, texts

_SHARED_SECONDS = 400 * SECOND  # longer than a board shows
_presence = msgspec.json.Decoder(Presence)


class RedisMembership(RedisCommands):
    """The part of the store that records the gates, the fingerprint of the keys, and the leader for each task."""

    async def members(self, presence: Presence | None = None) -> Members:
        nodes, seen = self.key("nodes"), self.key("seen")
        commands: list[tuple[Any, ...]] = []
        if presence is not None:
            commands = [
                ("HSETNX", seen, f"config:{presence.config}", presence.at),
                ("HSETNX", seen, f"version:{presence.version}", presence.at),
                ("HSETNX", seen, f"node:{presence.gate}", presence.at),
                ("HSET", nodes, presence.node, encoded(presence)),
            ]
        commands += [("HGETALL", nodes), ("HGETALL", seen), ("TIME",)]
        *_, present, instants, (seconds, micros) = await self.together(commands)
        presences = [_presence.decode(body) for body in pairs(present).values()]
        return Members(
            sorted(presences, key=lambda presence: presence.node),
            {name: int(at) for name, at in texts(instants).items()},
            int(seconds) * SECOND + int(micros) // 1000,
        )

    async def dismiss(self, node: str) -> None:
        await self.run("HDEL", self.key("nodes"), node)

    async def forget(self, gate: str) -> None:
        present = (presence.node for presence in (await self.members()).present if presence.gate == gate)
        for node in present:
            await self.dismiss(node)
        await self.run("HDEL", self.key("seen"), f"node:{gate}")

    async def claim(self, mark: str) -> bool:
        _, owner = await self._run_durably([("SET", self._of_keys, mark, "NX"), ("GET", self._of_keys)])
        if owner != mark.encode():
            return False
        self._mark = owner
        return True

    async def lead(self, task: str, node: str, span: Instant) -> bool:
        key = self.key("lead:", task.encode())
        _, holder = await self.together([("SET", key, node, "NX", "PX", span), ("GET", key)])
        if holder is None or holder.decode() != node:
            return False
        return bool(await self.run("PEXPIRE", key, span))

    async def share_second(self, second: Instant, node: str, figures: bytes) -> None:
        key = self.key("board:", b"%d" % second)
        await self.together([("HSET", key, node, figures), ("PEXPIRE", key, _SHARED_SECONDS)])

    async def shared_seconds(self, seconds: Sequence[Instant]) -> list[dict[str, bytes]]:
        keys = [self.key("board:", b"%d" % second) for second in seconds]
        replies = await self.together([("HGETALL", key) for key in keys])
        return [{node.decode(): figures for node, figures in pairs(reply).items()} for reply in replies]
