"""One connection to a Redis, in RESP2: what is asked goes out in one piece, and the replies come back in its order.

It stands in the path of every call, so there is nothing between the socket and hiredis.
"""

import asyncio
from ssl import SSLContext
from typing import Any, Final, cast

import hiredis
from msgspec import Struct

from dialgate.primitives import wired

_TURN: Final = 0.001  # seconds
_MORE: Final = object()  # the reply has not come whole yet


class Address(Struct, frozen=True, kw_only=True):
    """Of a server: a `path` (a socket), or `host` and `port`. `tls`: how, where it is to be; `user` needs a `password`."""

    host: str = ""
    port: int = 0
    path: str = ""
    tls: SSLContext | None = None
    user: str = ""
    password: str = ""
    db: int = 0


class Refusal(Exception):
    """The server answered a command with an error. `code`: its first word, as `READONLY`."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.code = told.partition(" ")[0]


class Gone(Exception):
    """The connection ended, or could not be made: what was asked may have been done or not."""


class Line(asyncio.Protocol):
    """Asked by one at a time. Once anything went wrong with it, or whoever asked did not wait, it is of no more use."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._replies: list[Any] = []
        self._wanted = 0
        self._answer: asyncio.Future[list[Any]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = self._rings = 0.0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, question: bytes, count: int, until: float) -> list[Any]:
        """`count` commands; their replies, errors among them. `until`: on the event loop's clock. Raises `Gone`,
        `TimeoutError`."""
        if self.lost:
            raise Gone("the connection was closed")
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        self._answer = answer
        self._replies, self._wanted = [], count
        self._until = until
        if self._timer is None or until < self._rings:
            self._ring(until)
        self._transport.write(question)
        try:
            return await answer
        finally:
            if not answer.done() or answer.cancelled():
                self.close()
            self._answer = None

    def data_received(self, data: bytes) -> None:
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while len(replies) < self._wanted and (reply := reader.gets()) is not _MORE:
                replies.append(reply)
        except hiredis.HiredisError as error:
            self._fail(Gone(f"an answer that is none of Redis's: {error}"))
            return
        if len(replies) == self._wanted and self._answer is not None and not self._answer.done():
            self._answer.set_result(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Gone(str(exc) if exc else "the server closed the connection"))

    def _ring(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings, self._timer = at, self._loop.call_at(at, self._late)

    def _late(self) -> None:
        """What came while this process was busy with other things has not been read yet: it is given a turn. The time may be of
        a question that has been answered: each would else cost a timer of its own."""
        self._timer = None
        if self._answer is None or self.lost:
            return
        if self._loop.time() < self._until:
            self._ring(self._until)
        else:
            self._loop.call_later(_TURN, self._too_late, self._answer)

    def _too_late(self, answer: asyncio.Future[list[Any]] | None) -> None:
        if answer is not None and answer is self._answer:
            self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def close(self) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()


async def connect(address: Address, until: float) -> Line:
    """Raises `Gone`, `Refusal`, `TimeoutError`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            if address.path:
                _, line = await loop.create_unix_connection(Line, address.path)
            else:
                _, line = await loop.create_connection(Line, address.host, address.port, ssl=address.tls)
    except TimeoutError:  # an OSError too
        raise
    except OSError as error:
        raise Gone(str(error)) from error
    greeting: list[tuple[Any, ...]] = []
    if address.password:
        user = (address.user,) if address.user else ()
        greeting.append(("AUTH", *user, address.password))
    if address.db:
        greeting.append(("SELECT", address.db))
    if greeting:
        try:
            checked(await line.ask(wired(greeting), len(greeting), until))
        except Refusal:
            line.close()
            raise
    return line


def checked(replies: list[Any]) -> list[Any]:
    """Raises `Refusal`, of the first that is an error."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise Refusal(str(reply))
    return replies
