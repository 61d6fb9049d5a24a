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
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import Redis, Sentinel, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisGone,
)
from redis.exceptions import (
    TimeoutError as RedisLate,
)

from dialgate.store import StoreUnavailable

_ADVICE = "see that it runs, can be reached, and is written as the README says"
_PROBE_SECONDS = 0.05
# It is not the master any more, or not yet: look again.
_ELSEWHERE = (MovedError, ReadOnlyError, ClusterDownError, MasterDownError, BusyLoadingError)


class Place(Protocol):
    async def master(self) -> Redis:
        """A client of whoever is the master now. Raises `RedisError`, `OSError`."""

    async def replicas(self) -> int:
        """How many could take its place, as far as that is known."""

    async def close(self) -> None: ...


class _Alone:
    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url, self._options = url, options

    async def master(self) -> Redis:
        return Redis.from_url(self._url, **self._options)

    async def replicas(self) -> int:
        return 0

    async def close(self) -> None:
        """Nothing is held."""


class _Watched:
    """By Sentinels, which tell who is the master of `service`."""

    def __init__(self, split: SplitResult, options: dict[str, Any], patience: float) -> None:
        self._service = unquote(split.path.strip("/")) or "mymaster"
        self._options = options
        told = {name: values[0] for name, values in parse_qs(split.query).items()}
        own: dict[str, Any] = {
            name: told[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in told
        }
        tls = {name: value for name, value in options.items() if name.startswith("ssl")}
        limits = {"socket_timeout": patience / 2, "socket_connect_timeout": patience / 2, "retry": _once()}
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # the library says no more
            _addresses(split, 26379), sentinel_kwargs={**limits, **tls, **own}
        )

    async def master(self) -> Redis:
        host, port = await self._sentinel.discover_master(self._service)
        return Redis(host=host, port=port, **self._options)

    async def replicas(self) -> int:
        for sentinel in self._sentinel.sentinels:
            with suppress(RedisError, OSError):
                return len(await sentinel.sentinel_slaves(self._service))
        return 0

    async def close(self) -> None:
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class _Slot:
    """Of a cluster, the slot where all keys of the store lie."""

    def __init__(self, split: SplitResult, options: dict[str, Any], tag: bytes) -> None:
        self._seeds = _addresses(split, 6379)
        self._options, self._slot = options, key_slot(tag)
        self._known: list[tuple[str, int]] = []

    async def master(self) -> Redis:
        (host, port), *_ = await self._nodes()
        return Redis(host=host, port=port, **self._options)

    async def replicas(self) -> int:
        return len(await self._nodes()) - 1

    async def close(self) -> None:
        """Nothing is held."""

    async def _nodes(self) -> list[tuple[str, int]]:
        """The master of the slot and its replicas, as the first node says that answers; the newest known are asked first."""
        problem: Exception = RedisGone("no node of the cluster answers")
        for seed in dict.fromkeys([*self._known, *self._seeds]):
            client = Redis(host=seed[0], port=seed[1], **self._options)
            try:
                found = self._own(await client.execute_command("CLUSTER SLOTS"), seed[0])  # type: ignore[no-untyped-call]  # as above
            except (RedisError, OSError) as error:
                problem = error
                continue
            finally:
                await client.aclose()
            self._known = [*found[1:], found[0]]  # a replica knows of its promotion first
            return found
        raise problem

    def _own(self, ranges: Sequence[Any], asked: str) -> list[tuple[str, int]]:
        for first, last, *nodes in _ranges(ranges):
            if first <= self._slot <= last:
                return [(host or asked, int(port)) for host, port in nodes]
        raise ClusterDownError(f"nobody serves slot {self._slot}")


def _ranges(told: Any) -> list[list[Any]]:
    """`[first, last, (host, port), …]` of each; the library has parsed the answer, or has not."""
    if isinstance(told, dict):
        return [
            [*span, tuple(each["primary"][:2]), *(tuple(node[:2]) for node in each["replicas"])]
            for span, each in told.items()
        ]
    return [[first, last, *((_text(node[0]), node[1]) for node in nodes)] for first, last, *nodes in told]


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _addresses(split: SplitResult, usual: int) -> list[tuple[str, int]]:
    """Raises `ValueError`."""
    found = []
    for each in split.netloc.rpartition("@")[2].split(","):
        host, _, port = each.rpartition(":") if not each.endswith("]") and ":" in each else (each, "", "")
        found.append((host.strip("[]"), int(port or usual)))
    return found


def _once() -> Retry:
    return Retry(NoBackoff(), 0)


def place(url: str, patience: float, tag: bytes) -> Place:
    """Raises `ValueError`."""
    limits: dict[str, Any] = {
        "socket_timeout": 4 * patience,  # ours is the limit; the server may wait itself
        "socket_connect_timeout": patience,
        "retry": _once(),
    }
    split = urlsplit(url)
    scheme, _, kind = split.scheme.partition("+")
    if not kind:
        parse_url(url)
        return _Alone(url, limits)
    if scheme not in {"redis", "rediss"} or kind not in {"sentinel", "cluster"}:
        raise ValueError(f"no such kind of URL: {split.scheme}")
    _addresses(split, 1)
    one = parse_url(f"{scheme}://{split.netloc.split(',')[0]}/0?{split.query}")
    options = limits | {
        name: value
        for name, value in one.items()
        if name not in {"host", "port", "db", "connection_class"} and not name.startswith("sentinel_")
    }
    if one.get("connection_class") is SSLConnection:
        options["ssl"] = True
    return _Watched(split, options, patience) if kind == "sentinel" else _Slot(split, options, tag)


class Server:
    """`patience`: seconds for a round trip, the search for the master included. While a server does not answer at all, every
    question but a probe's is refused at once."""

    def __init__(self, where: Place, patience: float) -> None:
        self.where = where
        self._patience = patience
        self._client: Redis | None = None
        self._turn = asyncio.Lock()
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, commands: Sequence[tuple[Any, ...]], *, slack: float = 0) -> list[Any]:
        """In one round trip, on one connection. `slack`: seconds that the server itself may wait. Raises
        `StoreUnavailable`: then it may have been done or not. Raises `NoScriptError`."""
        if self._closed:
            raise StoreUnavailable("the store has been closed")
        if self._probing is not None:
            raise StoreUnavailable(f"Redis does not answer; {_ADVICE}")
        try:
            async with asyncio.timeout(self._patience + slack):
                return await self._asked(commands)
        except NoScriptError:
            raise
        except (RedisLate, TimeoutError) as late:
            await self._forget()
            self._probing = asyncio.create_task(self._probe())
            raise StoreUnavailable(
                f"Redis did not answer within {self._patience + slack:g} s; {_ADVICE}"
            ) from late
        except (RedisError, OSError) as fault:
            await self._forget()
            raise StoreUnavailable(f"Redis: {_words(fault)}; {_ADVICE}") from fault

    async def _asked(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Where the server says that another is the master it has done nothing, so that may be asked instead."""
        try:
            return await _answers(await self._found(), commands)
        except _ELSEWHERE:
            await self._forget()
            return await _answers(await self._found(), commands)

    async def _found(self) -> Redis:
        if self._client is None:
            async with self._turn:
                if self._client is None:
                    self._client = await self.where.master()
        return self._client

    async def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(RedisError, OSError):
                await client.aclose()

    async def _probe(self) -> None:
        """Until it answers, or can be seen to be gone: then a question costs no time."""
        while not self._closed:
            client: Redis | None = None
            try:
                async with asyncio.timeout(self._patience):
                    client = await self.where.master()
                    await _answers(client, [("PING",)])
                break
            except (RedisLate, TimeoutError):
                await asyncio.sleep(_PROBE_SECONDS)
            except (RedisError, OSError):
                break
            finally:
                if client is not None:
                    with suppress(RedisError, OSError):
                        await client.aclose()
        self._probing = None

    async def close(self) -> None:
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing
        await self._forget()
        await self.where.close()


def _words(fault: Exception) -> str:
    """What the server said, without the command that the library puts before it: that is data."""
    return str(fault).rpartition(" of pipeline caused error: ")[2]


async def _answers(client: Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    async with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await pipe.execute()
    return answers
