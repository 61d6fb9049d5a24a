"""The fast path of `POST /v1/check`, the one request that comes with every call.

aiohttp makes a request object and a task for each request, and takes four turns of the event loop: several times the price
of the decision itself. A connection that asks this and nothing else is served here: the request is read and answered in place.

The lane takes a request only if nothing about it is in doubt: this path, HTTP/1.1, one length, a key, and none of the
headers that change what a request is. At the first other request the connection is handed to aiohttp for good, with every
byte that was not taken. Both ways give the same response; tests/interfaces/http/test_http_lane.py compares them.
"""

import asyncio
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final, TypeAlias

import httptools

from dialgate.core.responses import Answer
from dialgate.interfaces.http.errors import FAILURES, encoded, fault_of
from dialgate.runtime.clock import wall_clock

# Status, body, and additional headers.
Reply: TypeAlias = tuple[int, bytes, Mapping[str, str]]

_MOST_BYTES: Final = 16 << 10
_MOST_HEAD_BYTES: Final = 4 << 10
_MOST_UNREAD: Final = 256 << 10
_HEADS: Final = 8  # that are remembered, of a connection
_END: Final = b"\r\n\r\n"
# Headers that the lane ignores, and headers that it reads, each at most once. With any other the request is for aiohttp.
_HARMLESS: Final = frozenset({b"accept", b"accept-encoding", b"content-type", b"user-agent"})
_MEANT: Final = frozenset({b"authorization", b"connection", b"content-length", b"host"})
_DIGITS: Final = 8
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Lane:
    """The checks of one connection.

    `ask` is called with the value of the Authorization header, the body, and the lane, whose `set_result` is to be called
    with the answer; it raises one of `FAILURES`. `hand_over` is called once, with all bytes from the first request for aiohttp
    on. `watch` is called with True when a part of a request has arrived, and with False when it is complete. `last` returns
    whether the connection is to end with the next response. `awaited`: a response is due."""

    def __init__(
        self,
        path: str,
        transport: asyncio.Transport,
        ask: Callable[[bytes, bytes, "Lane"], None],
        tell: Callable[[Answer], Reply],
        hand_over: Callable[[bytes], None],
        watch: Callable[[bool], None],
    ) -> None:
        self.awaited = False
        self.held = b""
        self.last: Callable[[], bool] = bool
        self._resting: asyncio.Future[None] | None = None
        self._heads: dict[bytes, tuple[bytes, int]] = {}
        self._watched = True  # from the opening of the connection on
        self._begins = f"POST {path} HTTP/1.1\r\n".encode()
        self._transport, self._ask, self._tell = transport, ask, tell
        self._hand_over, self._watch = hand_over, watch

    def feed(self, data: bytes) -> None:
        if self.awaited:  # sent ahead: to be taken when the answer has left
            self.held += data
            self._transport.pause_reading()
        else:
            self._take(self.held + data if self.held else data)

    def _take(self, data: bytes) -> None:
        begin = data.find(_END) + len(_END)
        if begin < len(_END):
            self._wait(data, plain=data.startswith(self._begins) or self._begins.startswith(data))
            return
        said = self._read(data[:begin])
        if said is None or len(data) < begin + said[1]:
            self._wait(data, plain=said is not None)
            return
        key, length = said
        if self._watched:
            self._watched = False
            self._watch(False)  # noqa: FBT003 - its only argument
        body, self.held = data[begin : begin + length], data[begin + length :]
        self.awaited = True
        try:
            self._ask(key, body, self)
        except FAILURES as failure:
            self.awaited = False
            fault = fault_of(failure)
            self._answer(fault.status, encoded(fault.problem), fault.headers)
            if self.held:
                asyncio.get_running_loop().call_soon(self._go_on)

    def done(self) -> bool:
        return not self.awaited

    def set_result(self, answer: Answer) -> None:
        """Called once for each `ask`, from the event loop and not within `ask`."""
        self.awaited = False
        self._answer(*self._tell(answer))
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)
        if self.held:
            self._go_on()

    def rest(self) -> asyncio.Future[None]:
        """Return a future that is done when the response that is due was written."""
        self._resting = asyncio.get_running_loop().create_future()
        return self._resting

    def _go_on(self) -> None:
        if self.held and not self.awaited and not self._transport.is_closing():
            self._transport.resume_reading()
            self._take(self.held)

    def _wait(self, data: bytes, *, plain: bool) -> None:
        """Wait for the rest of a request, if all so far is plain."""
        if plain and len(data) <= _MOST_BYTES:
            self.held, self._watched = data, True
            self._watch(True)  # noqa: FBT003 - its only argument
        else:
            self.held = b""
            self._hand_over(data)

    def _read(self, head: bytes) -> tuple[bytes, int] | None:
        """Read a head as `_read_head` does. A client sends the same each time, except for the length."""
        said = self._heads.get(head)
        if said is None and len(head) <= _MOST_HEAD_BYTES and head.startswith(self._begins):
            said = _read_head(head)
            if said is not None:
                if len(self._heads) >= _HEADS:
                    self._heads.clear()
                self._heads[head] = said
        return said

    def _answer(self, status: int, body: bytes, more: Mapping[str, str]) -> None:
        transport = self._transport
        last = not self.held and self.last()
        if last:
            more = {**more, "Connection": "close"}
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > _MOST_UNREAD:
            transport.abort()  # it asks and does not listen
            return
        head = "".join(f"{name}: {value}\r\n" for name, value in more.items()).encode() if more else b""
        transport.write(
            b"%b%bContent-Length: %d\r\n\r\n%b"
            % (_first(status, wall_clock() // 1000), head, len(body), body)
        )
        if last:
            transport.close()


@lru_cache(maxsize=8)
def _first(status: int, second: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nDate: %b\r\n" % (
        status,
        _PHRASES[status],
        formatdate(second, usegmt=True).encode(),
    )


class _Fields(list[tuple[bytes, bytes]]):
    """The headers of a request, as httptools reports them."""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.append((name.lower(), value.strip(b" \t")))


def _read_head(head: bytes) -> tuple[bytes, int] | None:
    """Return the key and the length of the body, or None if the head says anything else that matters.

    `head`: from the request line to the empty line. A header that takes more than one line, or a line break other than
    CR LF, is for aiohttp: readers differ about both."""
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    names = [name for name, _ in fields if name not in _HARMLESS]
    given = dict(fields)
    key, length = given.get(b"authorization", b""), given.get(b"content-length", b"")
    plain = (
        len(fields) + 2 == head.count(b"\n") == head.count(b"\r")
        and len(names) == len(set(names)) and set(names) <= _MEANT
        and b"host" in given
        and given.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    )  # fmt: skip
    return (key, int(length)) if plain and key and length.isdigit() and len(length) < _DIGITS else None
