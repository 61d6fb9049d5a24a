"""The gates that share a Redis store."""

from collections.abc import Sequence
from typing import Any

import msgspec

from dialgate.core.model import SECOND, Instant
from dialgate.store import Members, Presence
from dialgate.store.membership import SILENT
from dialgate.store.redis.commands import RedisCommands, encoded, pairs, texts
from dialgate.store.redis.generations import Generations, parse

_SHARED_SECONDS = 400 * SECOND  # longer than a board shows
_presence = msgspec.json.Decoder(Presence)


class RedisMembership:
    """The part of the store that records the gates and the leader for each task."""

    def __init__(self, commands: RedisCommands, generations: Generations) -> None:
        self._commands, self._generations = commands, generations

    async def members(self, presence: Presence | None = None) -> Members:
        nodes, seen = self._commands.key("nodes"), self._commands.key("seen")
        commands: list[tuple[Any, ...]] = []
        if presence is not None:
            commands = [
                ("HSETNX", seen, f"config:{presence.config}", presence.at),
                ("HSETNX", seen, f"version:{presence.version}", presence.at),
                ("HSETNX", seen, f"node:{presence.gate}", presence.at),
                ("HSET", nodes, presence.node, encoded(presence)),
            ]
        generation = ("GET", self._commands.of_generation)
        commands += [("HGETALL", nodes), ("HGETALL", seen), generation, ("TIME",)]
        *_, present, instants, stored, (seconds, micros) = await self._commands.together(commands)
        presences = [_presence.decode(body) for body in pairs(present).values()]
        if presence is not None:
            self._generations.note_members({one.log: presence.at - one.at < SILENT for one in presences})
        return Members(
            sorted(presences, key=lambda presence: presence.node),
            {name: int(at) for name, at in texts(instants).items()},
            int(seconds) * SECOND + int(micros) // 1000,
            parse(stored).waiting,
        )

    async def dismiss(self, node: str) -> None:
        await self._commands.run("HDEL", self._commands.key("nodes"), node)

    async def forget(self, gate: str) -> None:
        present = [presence for presence in (await self.members()).present if presence.gate == gate]
        for presence in present:
            await self.dismiss(presence.node)
        for log in {gate, *(presence.log for presence in present)}:
            await self._generations.acknowledge(log)
        await self._commands.run("HDEL", self._commands.key("seen"), f"node:{gate}")

    async def lead(self, task: str, node: str, span: Instant) -> bool:
        key = self._commands.key("lead:", task.encode())
        _, holder = await self._commands.together([("SET", key, node, "NX", "PX", span), ("GET", key)])
        if holder is None or holder.decode() != node:
            return False
        return bool(await self._commands.run("PEXPIRE", key, span))

    async def share_second(self, second: Instant, node: str, figures: bytes) -> None:
        key = self._commands.key("board:", b"%d" % second)
        await self._commands.together([("HSET", key, node, figures), ("PEXPIRE", key, _SHARED_SECONDS)])

    async def shared_seconds(self, seconds: Sequence[Instant]) -> list[dict[str, bytes]]:
        keys = [self._commands.key("board:", b"%d" % second) for second in seconds]
        replies = await self._commands.together([("HGETALL", key) for key in keys])
        return [{node.decode(): figures for node, figures in pairs(reply).items()} for reply in replies]
