"""Commands and scripts for the shared store, with checks of the replies."""

from collections.abc import AsyncIterator, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from redis.exceptions import NoScriptError

from dialgate.core.model import DAY, Instant
from dialgate.store import StoreUnavailable
from dialgate.store.redis import subject_codec
from dialgate.store.redis.server import Server

_SYNC_SECONDS: Final = 2.0  # a server that syncs every second has synced within this time
_READS: Final = frozenset({"GET", "MGET", "GETRANGE", "HGET", "HGETALL", "HMGET", "SCAN"})
# Redis removes an attempt after this time, or after the longest limit that counts it, if the daily removal has not.
ATTEMPTS_KEPT: Final = 400 * DAY
_LUA: Final = Path(__file__).parent / "lua"

encoded: Final = msgspec.json.Encoder().encode


class Options(Struct, frozen=True, kw_only=True):
    """The connection settings and limits of a Redis store, as `RedisStore` describes them."""

    url: str
    name: str
    patience: float
    replicas: int
    remember: Instant


class RedisCommands:
    """A client that builds the keys of one store and sends its commands to the server."""

    def __init__(self, options: Options) -> None:
        self._name = f"{{{options.name}}}:".encode()
        self._of_subject, self._of_answer = self.key("s:"), self.key("q:")
        self._of_ledger, self._of_keys = self.key("seq"), self.key("keys")
        self._of_positions, self.of_layout = self.key("positions"), self.key("layout")
        self._of_recorded = self.key("recorded")
        self.of_counts, self.of_changes = self.key("counts"), self.key("counts:changes")
        self._never_set = self.key("none")
        self._patience, self.remembers = options.patience, options.remember
        self.attempts_kept = ATTEMPTS_KEPT
        self._required_replicas = options.replicas
        self._replicas = options.replicas  # number of replicas to wait for, at least the required number
        self._disk = options.patience + _SYNC_SECONDS
        self._server = Server(options.url, options.patience, self._name)
        self._durable = 0  # the ledger sequence up to which no entry can be lost
        self._mark: bytes | None = None  # fingerprint of this gate's keys, after it has claimed the store
        sources = {path.stem: path.read_bytes() for path in _LUA.glob("*.lua")}
        self._scripts = {name: (source, sha1(source).hexdigest()) for name, source in sources.items()}  # noqa: S324 - Redis names scripts so

    def key(self, kind: str, of: bytes = b"") -> bytes:
        return self._name + kind.encode() + of

    def _subject(self, subject: bytes) -> bytes:
        return self._of_subject + subject

    def keep_attempts(self, span: Instant) -> None:
        self.attempts_kept = max(ATTEMPTS_KEPT, span)

    def lifetime(self, value: bytes) -> Instant:
        """Return the time in milliseconds until a subject's value expires, or 0 if it never does."""
        return self.attempts_kept if value and subject_codec.may_expire(value) else 0

    async def script(self, name: str, keys: Sequence[bytes], values: Sequence[Any]) -> Any:
        """Run a script in one round trip, and return when its writes are on disk."""
        return (await self._run_durably([self._script_call(name, keys, values)]))[0]

    def _script_call(self, name: str, keys: Sequence[bytes], values: Sequence[Any]) -> tuple[Any, ...]:
        return ("EVALSHA", self._scripts[name][1], len(keys), *keys, *values)

    async def together(self, commands: list[tuple[Any, ...]], *, waits: float = 0) -> list[Any]:
        """Run commands on the master in one round trip, on one connection.

        Put commands that write before commands that read. The server may spend `waits` additional seconds
        waiting for its disk or replicas.
        """
        if commands[0][0] not in _READS:
            return await self._send(commands, waits)
        # This DEL deletes nothing, but only a master accepts it. A replica could return stale values.
        return (await self._send([*commands, ("DEL", self._never_set)], waits))[:-1]

    async def _send(self, commands: list[tuple[Any, ...]], slack: float) -> list[Any]:
        try:
            return await self._server.ask(commands, slack=slack)
        except NoScriptError:  # the server was restarted or replaced
            await self._server.ask([("SCRIPT", "LOAD", source) for source, _ in self._scripts.values()])
        try:
            return await self._server.ask(commands, slack=slack)
        except NoScriptError as fault:
            raise StoreUnavailable(f"Redis: {fault}") from fault

    async def _run_durably(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands and wait until the writes are on the disks of the master and of every required replica."""
        wait = ("WAITAOF", 1, self._replicas, int(self._disk * 1000))
        *answers, (here, replicas) = await self.together([*commands, wait], waits=self._disk)
        if here < 1 or replicas < self._replicas:
            raise StoreUnavailable(
                f"Redis: the write took effect, but did not reach all disks in time (master: {here} of 1, replicas: {replicas} of {self._replicas})."
                " Check the disks and the replicas"
            )
        return answers

    async def _run_replicated(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands and wait until every required replica has the writes.

        The writes then survive if a replica becomes master. The wait also detects a former master, because a
        former master has no replicas.
        """
        if not self._replicas:
            return await self.together(commands)
        wait = ("WAIT", self._replicas, int(self._patience * 1000))
        answers = await self.together([*commands, wait], waits=self._patience)
        if answers[-1] < self._replicas:
            raise StoreUnavailable(
                f"Redis: {answers[-1]} of {self._replicas} replicas confirmed the write; this server may no longer be the master"
            )
        return answers[:-1]

    async def run(self, *command: Any) -> Any:
        return (await self.together([command]))[0]

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

    def _ping(self) -> tuple[Any, ...]:
        return ("SET", self.key("ping"), b"")

    async def _values(self, subjects: Sequence[bytes]) -> list[bytes]:
        if not subjects:
            return []
        return [value or b"" for value in await self.run("MGET", *map(self._subject, subjects))]

    def _refuse_unless_claimed(self, mark: bytes | None) -> None:
        if self._mark is not None and mark != self._mark:
            raise StoreUnavailable(
                "Redis: the store was emptied or replaced after the gate opened it."
                " Restore its data, or correct `store` and restart the gate"
            )


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def texts(flat: Sequence[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in pairs(flat).items()}
