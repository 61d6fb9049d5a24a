"""Round trips to the shared store's Redis server: standalone, behind Sentinel, or one slot of a Cluster.

    redis://USER:PASSWORD@HOST:PORT/DB      rediss:// with TLS      unix:///SOCKET
    redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE?sentinel_username=…&sentinel_password=…
    redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT/        (rediss+…:// with TLS; `?ssl_ca_certs=FILE` for a private CA)

All keys of a store are in one slot, so there is one master at a time. The master is looked up again when a
connection fails or when a server replies that it is not the master. A request that may have been executed
is never repeated: the caller gets an error.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import hiredis
from redis.asyncio import Connection, Redis, Sentinel, SSLConnection
from redis.asyncio.connection import AbstractConnection, RedisSSLContext, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeout

from dialgate.store import StoreUnavailable

_ADVICE = "check that it is running, can be reached, and is set up as docs/how-to/several-nodes.md says"
_PROBE_SECONDS = 0.05
# The server is not the master now and has executed nothing. `ClusterDownError` includes MASTERDOWN.
_NOT_MASTER: Final = (MovedError, ReadOnlyError, ClusterDownError, BusyLoadingError)
_Node: TypeAlias = dict[str, Any]  # keyword arguments of a connection: host and port, or path


class MasterLookup(ABC):
    """A lookup of the master and its replicas. Raises `RedisError`."""

    @abstractmethod
    async def master(self) -> _Node: ...

    async def replicas(self) -> int:
        return 0

    async def close(self) -> None:  # noqa: B027 - only Sentinel's lookup keeps connections
        pass


class _Standalone(MasterLookup):
    def __init__(self, node: _Node) -> None:
        self._node = node

    async def master(self) -> _Node:
        return self._node


class _BehindSentinel(MasterLookup):
    def __init__(self, split: SplitResult, options: dict[str, Any]) -> None:
        self._service = unquote(split.path.strip("/")) or "mymaster"
        query = parse_qs(split.query)
        own = {
            name: query[f"sentinel_{name}"][0]
            for name in ("username", "password")
            if f"sentinel_{name}" in query
        }
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            _addresses(split, 26379), sentinel_kwargs={**options, **own}
        )

    async def master(self) -> _Node:
        try:
            host, port = await self._sentinel.discover_master(self._service)
        except RedisError as error:
            # redis-py puts each Sentinel's connection arguments before the reason.
            reason = str(error).rpartition(" - ")[2]
            raise RedisError(f"no Sentinel reports a master for `{self._service}`: {reason}") from error
        return {"host": host, "port": int(port)}

    async def replicas(self) -> int:
        for sentinel in self._sentinel.sentinels:
            with suppress(RedisError):
                return len(await sentinel.sentinel_slaves(self._service))
        raise RedisError(f"no Sentinel lists the replicas of `{self._service}`")

    async def close(self) -> None:
        await self._sentinel.aclose()


class _InCluster(MasterLookup):
    """A lookup of the cluster nodes that serve the slot of `tag`."""

    def __init__(self, split: SplitResult, options: dict[str, Any], tag: bytes) -> None:
        self._seeds = _addresses(split, 6379)
        self._options, self._slot = options, key_slot(tag)
        self._known: list[tuple[str, int]] = []

    async def master(self) -> _Node:
        (host, port), *_ = await self._nodes()
        return {"host": host, "port": port}

    async def replicas(self) -> int:
        return len(await self._nodes()) - 1

    async def _nodes(self) -> list[tuple[str, int]]:
        """Return the master and its replicas, as reported by the first node that answers.

        The nodes that the last lookup returned are tried first.
        """
        problem = RedisError("no node of the cluster answers")
        for host, port in dict.fromkeys([*self._known, *self._seeds]):
            try:
                async with Redis(host=host, port=port, **self._options) as client:
                    ranges = await client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except RedisError as error:
                problem = error
                continue
            for first, last, *nodes in ranges:
                if first <= self._slot <= last:
                    addresses = [((node[0] or b"").decode() or host, int(node[1])) for node in nodes]
                    self._known = [*addresses[1:], addresses[0]]  # a replica learns of its promotion first
                    return addresses
            problem = RedisError(f"no node serves slot {self._slot}")
        raise problem


def _addresses(split: SplitResult, port: int) -> list[tuple[str, int]]:
    """Parse the hosts and ports of a URL. Raises `ValueError`."""
    parts = [urlsplit(f"//{address}") for address in split.netloc.rpartition("@")[2].split(",")]
    return [(part.hostname or "", part.port or port) for part in parts]


class _Connections:
    """A pool of idle connections to one server.

    redis-py's `ConnectionPool` costs 9 us more per round trip (`docs/decisions/0007`).
    """

    def __init__(self, create: Callable[[], AbstractConnection]) -> None:
        self._create = create
        self._idle: list[AbstractConnection] = []
        self._closed = False

    async def take(self) -> AbstractConnection:
        """Return the most recently used idle connection without unread data, or a new connection."""
        while True:
            connection = self._idle.pop() if self._idle else self._create()
            usable = False
            try:
                if not connection.is_connected:
                    await connection.connect()  # type: ignore[no-untyped-call]
                usable = not await connection.can_read()
                if usable:
                    return connection
            finally:
                if not usable:  # closed by the server, a reply is unread, or the time to connect is over
                    await connection.disconnect(nowait=True)

    async def put_back(self, connection: AbstractConnection, *, reusable: bool) -> None:
        """Keep a connection if every reply was read (`reusable`). Otherwise close it."""
        if reusable and not self._closed:
            self._idle.append(connection)
        else:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close idle connections now, and busy ones when they are put back."""
        self._closed = True
        await asyncio.gather(*(connection.disconnect() for connection in self._idle), return_exceptions=True)


class Server:
    """The shared store's Redis server.

    `tag` selects the slot in a Cluster. `patience` limits a round trip in seconds, including the search for
    the master. While the server does not respond at all, requests fail at once, and only a probe is sent to
    it.
    """

    def __init__(self, url: str, patience: float, tag: bytes) -> None:
        """Parse the URL without connecting. Raises `ValueError`."""
        self._patience = patience
        self._create, self._lookup = _parse(url, patience, tag)
        self._master: _Connections | None = None
        self._turn = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    async def execute(self, commands: list[tuple[Any, ...]], *, slack: float = 0) -> list[Any]:
        """Execute commands in one round trip, on one connection.

        `slack` extends the timeout by this many seconds, for commands that wait on the server. Raises
        `NoScriptError` and `StoreUnavailable`. After `StoreUnavailable`, the commands may or may not have
        been executed.
        """
        if self._closed:
            raise StoreUnavailable("the store has been closed")
        if self._probing is not None:
            raise StoreUnavailable(f"Redis does not answer; {_ADVICE}")
        seconds = self._patience + slack
        try:
            async with asyncio.timeout(seconds):
                return await self._ask_with_retry(_encode_commands(commands), len(commands))
        except NoScriptError:
            raise
        except (TimeoutError, RedisTimeout) as late:
            self._forget()
            if self._probing is None:
                self._probing = asyncio.create_task(self._probe())
            raise StoreUnavailable(f"Redis did not answer within {seconds:g} s; {_ADVICE}") from late
        except RedisError as fault:
            if not isinstance(fault, ResponseError):
                self._forget()
            raise StoreUnavailable(f"Redis: {_describe(fault)}; {_ADVICE}") from fault

    async def replicas(self) -> int:
        """Return the number of replicas that could replace the master. Raises `StoreUnavailable`."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._lookup.replicas()
        except (RedisError, TimeoutError) as fault:
            raise StoreUnavailable(f"Redis: {_describe(fault)}") from fault

    async def _ask_with_retry(self, request: bytes, count: int) -> list[Any]:
        try:
            return await self._ask_once(request, count)
        except _NOT_MASTER:
            self._forget()
        return await self._ask_once(request, count)

    async def _ask_once(self, request: bytes, count: int) -> list[Any]:
        master = self._master or await self._find_master()
        connection = await master.take()
        replies: list[Any] = []
        try:
            await connection.send_packed_command(request, check_health=False)
            while len(replies) < count:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:  # the replies after an error must be read too
                    replies.append(error)
        finally:
            await master.put_back(connection, reusable=len(replies) == count)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def _find_master(self) -> "_Connections":
        async with self._turn:
            if self._master is None:
                self._master = _Connections(partial(self._create, **await self._lookup.master()))
        return self._master

    def _forget(self) -> None:
        """Discard the known master, so that the next request looks it up again.

        Connections are closed in a separate task, because a hanging server delays the closing of a TLS
        connection.
        """
        master, self._master = self._master, None
        if master is not None:
            closing = asyncio.create_task(master.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _probe(self) -> None:
        """Wait until the server responds or refuses connections. Until then, requests fail at once."""
        while not self._closed:
            try:
                async with asyncio.timeout(self._patience):
                    await self._ask_once(_encode_commands([("PING",)]), 1)
                break
            except (TimeoutError, RedisTimeout):
                self._forget()
                await asyncio.sleep(_PROBE_SECONDS)
            except RedisError:
                break
        self._probing = None

    async def close(self) -> None:
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing
        self._forget()
        await asyncio.gather(*self._closing)
        await self._lookup.close()


def _encode_commands(commands: list[tuple[Any, ...]]) -> bytes:
    """Encode commands with hiredis, in C. redis-py's own asyncio connections would encode them in Python."""
    return b"".join(map(hiredis.pack_command, commands))


def _describe(fault: Exception) -> str:
    code = getattr(fault, "status_code", None)
    return f"{code} {fault}" if code else str(fault)


def _parse(url: str, patience: float, tag: bytes) -> tuple[Callable[..., AbstractConnection], MasterLookup]:
    """Parse a store URL. Return a factory for connections to a node, and the lookup of the master.

    Raises `ValueError`.
    """
    split = urlsplit(url)
    scheme, _, kind = split.scheme.partition("+")
    if not kind:
        database = split.path.strip("/")
        if scheme != "unix" and database and not database.isdecimal():  # redis-py would use database 0
            raise ValueError(f"`{database}` is not a database number")
        parsed: dict[str, Any] = {**parse_url(url)}
    elif scheme in {"redis", "rediss"} and kind in {"sentinel", "cluster"}:
        _addresses(split, 1)
        parsed = {**parse_url(f"{scheme}://{split.netloc.split(',')[0]}/0?{split.query}")}
    else:
        raise ValueError(
            f"unknown URL scheme `{split.scheme}`; use redis, rediss or unix, or add +sentinel or +cluster"
        )
    user = {name: parsed.get(name) for name in ("username", "password")}
    # A retry could repeat executed commands. RESP3 and a driver's name need rights that docs/how-to/several-nodes.md does not list.
    common: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2, "driver_info": None}
    connection_class: type[AbstractConnection] = parsed.get("connection_class", Connection)
    options = {
        **common,
        **user,
        "socket_timeout": None,  # `ask` sets a timeout for the whole round trip
        "socket_connect_timeout": patience,
    }
    lookup = {**common, "socket_timeout": patience / 2, "socket_connect_timeout": patience / 2}
    if connection_class is SSLConnection:
        tls = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
        connection_class, options["context"] = _SharedTls, _tls_context(tls)
        lookup |= {"ssl": True, **tls}
    create = partial(connection_class, **options)
    if kind == "sentinel":
        return create, _BehindSentinel(split, lookup)
    if kind == "cluster":
        return create, _InCluster(split, {**lookup, **user}, tag)
    return create, _Standalone(
        {name: parsed[name] for name in ("host", "port", "path", "db") if name in parsed}
    )


class _SharedTls(SSLConnection):
    """A TLS connection with a shared context.

    Creating a context loads the system's certificate authorities, which takes at least 20 ms.
    """

    def __init__(self, *, context: RedisSSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context = context


def _tls_context(options: dict[str, Any]) -> RedisSSLContext:
    try:
        context = SSLConnection(**options).ssl_context
        context.get()
    except (OSError, RedisError, TypeError) as error:
        raise ValueError(f"TLS options are invalid (use absolute paths for files): {error}") from error
    return context
