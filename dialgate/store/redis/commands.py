"""Commands and scripts for the shared store, with checks of the replies."""

from collections.abc import AsyncIterator, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.exceptions import NoScriptError

from dialgate.core.model import DAY, Instant
from dialgate.store import StoreUnavailable
from dialgate.store.redis import subject_codec
from dialgate.store.redis.server import Server

_SYNC_SECONDS: Final = 2.0  # a server that syncs every second has synced within this time
_READS: Final = frozenset({"GET", "MGET", "GETRANGE", "HGET", "HGETALL", "HMGET", "SCAN"})
ATTEMPTS_KEPT: Final = 400 * DAY  # until `keep_attempts` sets another time
_LUA: Final = Path(__file__).parent / "lua"

encoded: Final = msgspec.json.Encoder().encode


class RedisCommands:
    """The keys of one store and its server. Each part of the store gets this object.

    `durable` is the ledger sequence up to which no entry can be lost. `mark` is the fingerprint of this gate's keys, once
    it has claimed the store. `replicas` is the number of replicas to wait for.
    """

    def __init__(self, url: str, *, name: str, patience: float, replicas: int) -> None:
        """Parse the options, as `RedisStore` describes them, without connecting. Raises `ValueError`."""
        self._name = f"{{{name}}}:".encode()
        self.of_subject, self.of_answer = self.key("s:"), self.key("q:")
        self.of_ledger, self.of_keys, self.of_terms = self.key("seq"), self.key("keys"), self.key("terms")
        self.of_positions, self.of_recorded = self.key("positions"), self.key("recorded")
        self.of_generation, self.of_layout = self.key("generation"), self.key("layout")
        self.of_counts, self.of_changes = self.key("counts"), self.key("counts:changes")
        self._never_set = self.key("none")
        self._patience, self._disk = patience, patience + _SYNC_SECONDS
        self.attempts_kept = ATTEMPTS_KEPT
        self._required_replicas = self.replicas = replicas
        self.server = Server(url, patience, self._name)
        self.durable = 0
        self.mark: bytes | None = None
        sources = {path.stem: path.read_bytes() for path in _LUA.glob("*.lua")}
        self.scripts = {name: (source, sha1(source).hexdigest()) for name, source in sources.items()}  # noqa: S324 - Redis names scripts so

    def key(self, kind: str, of: bytes = b"") -> bytes:
        return self._name + kind.encode() + of

    def keep_attempts(self, span: Instant) -> None:
        self.attempts_kept = span

    def lifetime(self, value: bytes) -> Instant:
        """Return the time in milliseconds until a subject's value expires, or 0 if it never does."""
        return self.attempts_kept if value and subject_codec.may_expire(value) else 0

    # ---- round trips -------------------------------------------------------------------------------------------------

    async def run(self, *command: Any) -> Any:
        return (await self.together([command]))[0]

    async def together(self, commands: list[tuple[Any, ...]], *, waits: float = 0) -> list[Any]:
        """Run commands on the master in one round trip, on one connection.

        Put commands that write before commands that read. The server may spend `waits` additional seconds
        waiting for its disk or replicas.
        """
        if commands[0][0] not in _READS:
            return await self._send(commands, waits)
        # This DEL deletes nothing, but only a master accepts it. A replica could return stale values.
        return (await self._send([*commands, self.require_master()], waits))[:-1]

    async def _send(self, commands: list[tuple[Any, ...]], slack: float) -> list[Any]:
        try:
            return await self.server.execute(commands, slack=slack)
        except NoScriptError:  # the server was restarted or replaced
            await self.server.execute([("SCRIPT", "LOAD", source) for source, _ in self.scripts.values()])
        try:
            return await self.server.execute(commands, slack=slack)
        except NoScriptError as fault:
            raise StoreUnavailable(f"Redis: {fault}") from fault

    async def script(self, name: str, keys: Sequence[bytes], values: Sequence[Any]) -> Any:
        """Run a script in one round trip, and return when its writes are on disk."""
        return (await self.run_durably([self.script_call(name, keys, values)]))[0]

    def script_call(self, name: str, keys: Sequence[bytes], values: Sequence[Any]) -> tuple[Any, ...]:
        return ("EVALSHA", self.scripts[name][1], len(keys), *keys, *values)

    async def run_durably(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands and wait until the writes are on the disks of the master and of every required replica."""
        wait = ("WAITAOF", 1, self.replicas, int(self._disk * 1000))
        *answers, (here, replicas) = await self.together([*commands, wait], waits=self._disk)
        if here < 1 or replicas < self.replicas:
            raise StoreUnavailable(
                f"Redis: the write took effect, but did not reach all disks in time (master: {here} of 1, replicas: {replicas} of {self.replicas})."
                " Check the disks and the replicas"
            )
        return answers

    async def run_replicated(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands and wait until every required replica has the writes.

        The writes then survive if a replica becomes master. The wait also detects a former master, because a
        former master has no replicas.
        """
        if not self.replicas:
            return await self.together(commands)
        wait = ("WAIT", self.replicas, int(self._patience * 1000))
        answers = await self.together([*commands, wait], waits=self._patience)
        if answers[-1] < self.replicas:
            raise StoreUnavailable(
                f"Redis: {answers[-1]} of {self.replicas} replicas confirmed the write; this server may no longer be the master"
            )
        return answers[:-1]

    def ping(self) -> tuple[Any, ...]:
        return ("SET", self.key("ping"), b"")

    def require_master(self) -> tuple[Any, ...]:
        return ("DEL", self._never_set)

    async def values(self, subjects: Sequence[bytes]) -> list[bytes]:
        if not subjects:
            return []
        return [value or b"" for value in await self.run("MGET", *(self.of_subject + of for of in subjects))]

    async def scan(self, kind: str, at_once: int) -> AsyncIterator[list[bytes]]:
        """Yield all keys of a kind, about `at_once` in a batch. A key may be repeated."""
        cursor = 0
        while True:
            scanned = await self.run("SCAN", cursor, "MATCH", self.key(kind, b"*"), "COUNT", at_once)
            cursor = int(scanned[0])
            if scanned[1]:
                yield list(scanned[1])
            if not cursor:
                return

    # ---- the server is the right one ---------------------------------------------------------------------------------

    async def claim(self, mark: str) -> bool:
        _, owner = await self.run_durably([("SET", self.of_keys, mark, "NX"), ("GET", self.of_keys)])
        if owner != mark.encode():
            return False
        self.mark = owner
        return True

    def refuse_unless_claimed(self, mark: bytes | None) -> None:
        if self.mark is not None and mark != self.mark:
            raise StoreUnavailable(
                "Redis: the store was emptied or replaced after the gate opened it."
                " Restore its data, or correct `store` and restart the gate"
            )

    def require_seq(self, seq: int) -> None:
        self.durable = max(self.durable, seq)

    async def surplus_replicas(self) -> int:
        self.replicas = max(await self.server.replicas(), self._required_replicas)
        return self.replicas - self._required_replicas


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def texts(flat: Sequence[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in pairs(flat).items()}
