"""Where the shared store's Redis is, and one round trip to it: standalone, behind Sentinel, or one slot of a Cluster.

    redis://USER:PASSWORD@HOST:PORT/DB      rediss:// with TLS      unix:///SOCKET
    redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE?sentinel_username=…&sentinel_password=…
    redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT/        (rediss+…:// with TLS; `?ssl_ca_certs=FILE` with a CA of one's own)

All keys of a store lie in one slot, so there is one master at a time in all three. It is looked up when a connection fails or
the server says that it is no longer the one. Nothing is repeated that might have been done: whoever asks is told.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from msgspec import structs
from redis.asyncio import Sentinel, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from dialgate.primitives import wired
from dialgate.store import StoreUnavailable
from dialgate.store.redis_line import Address, Gone, Line, Refusal, checked, connect

_ADVICE = "see that it runs, can be reached, and is written as the README says"
_PROBE_SECONDS = 0.05
# It is not the master any more, or not yet, and has done nothing: look again.
_ELSEWHERE: Final = frozenset({"MOVED", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "LOADING"})


class Place(Protocol):
    async def master(self, until: float) -> Address:
        """Whoever is the master now. `until`: on the event loop's clock. Raises `Gone`, `Refusal`, `TimeoutError`."""

    async def replicas(self, until: float) -> int:
        """How many could take its place, as far as that is known. Raises as `master`."""

    async def close(self) -> None: ...


class _Alone:
    def __init__(self, address: Address) -> None:
        self._address = address

    async def master(self, until: float) -> Address:  # noqa: ARG002 - others have to look for it
        return self._address

    async def replicas(self, until: float) -> int:  # noqa: ARG002 - as above
        return 0

    async def close(self) -> None:
        """Nothing is held."""


class _Watched:
    """By Sentinels, which tell who is the master of `service`."""

    def __init__(self, split: SplitResult, address: Address, tls: dict[str, Any], patience: float) -> None:
        self._service = unquote(split.path.strip("/")) or "mymaster"
        self._address = address
        told = {name: values[0] for name, values in parse_qs(split.query).items()}
        own: dict[str, Any] = {
            name: told[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in told
        }
        limits = {
            "socket_timeout": patience / 2,
            "socket_connect_timeout": patience / 2,
            "retry": Retry(NoBackoff(), 0),
        }
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # the library says no more
            _addresses(split, 26379), sentinel_kwargs={**limits, **tls, **own}
        )

    async def master(self, until: float) -> Address:
        try:
            async with asyncio.timeout_at(until):
                host, port = await self._sentinel.discover_master(self._service)
        except (RedisError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            # The library tells each Sentinel's whole connection before what was wrong with it.
            told = str(error).rpartition(" - ")[2]
            raise Gone(f"no Sentinel names a master of `{self._service}`: {told}") from error
        return structs.replace(self._address, host=host, port=int(port))

    async def replicas(self, until: float) -> int:
        async with asyncio.timeout_at(until):
            for sentinel in self._sentinel.sentinels:
                with suppress(RedisError, OSError):
                    return len(await sentinel.sentinel_slaves(self._service))
        raise Gone(f"no Sentinel says which replicas `{self._service}` has")

    async def close(self) -> None:
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class _Slot:
    """Of a cluster, the slot where all keys of the store lie."""

    def __init__(self, split: SplitResult, address: Address, tag: bytes) -> None:
        self._seeds = _addresses(split, 6379)
        self._address, self._slot = address, key_slot(tag)
        self._known: list[tuple[str, int]] = []

    async def master(self, until: float) -> Address:
        (host, port), *_ = await self._nodes(until)
        return structs.replace(self._address, host=host, port=port)

    async def replicas(self, until: float) -> int:
        return len(await self._nodes(until)) - 1

    async def close(self) -> None:
        """Nothing is held."""

    async def _nodes(self, until: float) -> list[tuple[str, int]]:
        """The master of the slot and its replicas, as the first node says that answers; the newest known are asked first."""
        problem: Exception = Gone("no node of the cluster answers")
        for seed in dict.fromkeys([*self._known, *self._seeds]):
            try:
                found = await self._told_by(seed, until)
            except (Gone, Refusal) as error:
                problem = error
                continue
            self._known = [*found[1:], found[0]]  # a replica knows of its promotion first
            return found
        raise problem

    async def _told_by(self, seed: tuple[str, int], until: float) -> list[tuple[str, int]]:
        """By a share of the time: the next must have its own."""
        loop = asyncio.get_running_loop()
        share = loop.time() + (until - loop.time()) / 2
        try:
            line = await connect(structs.replace(self._address, host=seed[0], port=seed[1]), share)
            try:
                (ranges,) = checked(await line.ask(wired([("CLUSTER", "SLOTS")]), 1, share))
            finally:
                line.close()
        except TimeoutError:
            raise Gone(f"{seed[0]}:{seed[1]} does not answer") from None
        return self._own(ranges, seed[0])

    def _own(self, ranges: Sequence[Any], asked: str) -> list[tuple[str, int]]:
        for first, last, *nodes in ranges:
            if first <= self._slot <= last:
                return [(_text(node[0]) or asked, int(node[1])) for node in nodes]
        raise Refusal(f"CLUSTERDOWN nobody serves slot {self._slot}")


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def _addresses(split: SplitResult, usual: int) -> list[tuple[str, int]]:
    """Raises `ValueError`."""
    found = []
    for each in split.netloc.rpartition("@")[2].split(","):
        host, _, port = each.rpartition(":") if not each.endswith("]") and ":" in each else (each, "", "")
        found.append((host.strip("[]"), int(port or usual)))
    return found


def place(url: str, patience: float, tag: bytes) -> Place:
    """Raises `ValueError`."""
    split = urlsplit(url)
    scheme, _, kind = split.scheme.partition("+")
    if not kind:
        database = split.path.strip("/")
        if scheme != "unix" and database and not database.isdecimal():  # the library takes that for the first
            raise ValueError(f"`{database}` is no number of a database")
        return _Alone(_address(parse_url(url))[0])
    if scheme not in {"redis", "rediss"} or kind not in {"sentinel", "cluster"}:
        raise ValueError(f"no such kind of URL: {split.scheme}")
    _addresses(split, 1)
    address, tls = _address(parse_url(f"{scheme}://{split.netloc.split(',')[0]}/0?{split.query}"))
    return _Watched(split, address, tls, patience) if kind == "sentinel" else _Slot(split, address, tag)


def _address(told: Any) -> tuple[Address, dict[str, Any]]:
    """What the library read in a URL, and its options for TLS. Raises `ValueError`."""
    tls = {name: value for name, value in told.items() if name.startswith("ssl_")}
    secured = told.get("connection_class") is SSLConnection
    try:
        context = SSLConnection(**tls).ssl_context.get() if secured else None
    except (OSError, RedisError, TypeError) as error:
        raise ValueError(f"its TLS, with files named from the root: {error}") from error
    address = Address(
        host=told.get("host", "localhost"),
        port=told.get("port", 6379),
        path=told.get("path", ""),
        tls=context,
        user=told.get("username") or "",
        password=told.get("password") or "",
        db=told.get("db", 0),
    )
    return address, {"ssl": True, **tls} if secured else {}


class Server:
    """`patience`: seconds for a round trip, the search for the master included. While a server does not answer at all, every
    question but a probe's is refused at once."""

    def __init__(self, where: Place, patience: float) -> None:
        self.where = where
        self._patience = patience
        self._home: Address | None = None  # of the master, once it has been found
        self._idle: list[Line] = []
        self._turn = asyncio.Lock()
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, commands: list[tuple[Any, ...]], *, slack: float = 0) -> list[Any]:
        """In one round trip, on one connection. `slack`: seconds that the server itself may wait. Raises
        `StoreUnavailable`: then it may have been done or not. Raises `Refusal` where that says `NOSCRIPT`."""
        if self._closed:
            raise StoreUnavailable("the store has been closed")
        if self._probing is not None:
            raise StoreUnavailable(f"Redis does not answer; {_ADVICE}")
        seconds = self._patience + slack
        try:
            return await self._asked(
                wired(commands), len(commands), asyncio.get_running_loop().time() + seconds
            )
        except Refusal as fault:
            if fault.code == "NOSCRIPT":
                raise
            raise StoreUnavailable(f"Redis: {fault}; {_ADVICE}") from fault
        except TimeoutError as late:
            self._forget()
            if self._probing is None:
                self._probing = asyncio.create_task(self._probe())
            raise StoreUnavailable(f"Redis did not answer within {seconds:g} s; {_ADVICE}") from late
        except Gone as fault:
            self._forget()
            raise StoreUnavailable(f"Redis: {fault}; {_ADVICE}") from fault

    async def _asked(self, question: bytes, count: int, until: float) -> list[Any]:
        """Where the server says that another is the master it has done nothing, so that may be asked instead."""
        try:
            return await self._once(question, count, until)
        except Refusal as fault:
            if fault.code not in _ELSEWHERE:
                raise
        self._forget()
        return await self._once(question, count, until)

    async def _once(self, question: bytes, count: int, until: float) -> list[Any]:
        home = self._home
        line = self._idle.pop() if self._idle else None
        if home is None or line is None or line.lost:
            home = await self._master(until)
            line = await connect(home, until)
        replies = await line.ask(question, count, until)
        if home is self._home and not self._closed:
            self._idle.append(line)
        else:
            line.close()
        return checked(replies)

    async def _master(self, until: float) -> Address:
        if self._home is None:
            async with self._turn:
                if self._home is None:
                    self._home = await self.where.master(until)
        return self._home

    def _forget(self) -> None:
        self._home = None
        lines, self._idle = self._idle, []
        for line in lines:
            line.close()

    async def _probe(self) -> None:
        """Until it answers, or can be seen to be gone: then a question costs no time."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            until = loop.time() + self._patience
            try:
                line = await connect(await self.where.master(until), until)
                try:
                    await line.ask(wired([("PING",)]), 1, until)
                finally:
                    line.close()
                break
            except TimeoutError:
                await asyncio.sleep(_PROBE_SECONDS)
            except (Gone, Refusal):
                break
        self._probing = None

    async def close(self) -> None:
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing
        self._forget()
        await self.where.close()
