"""A lane of its own for the one request that comes with every call: `POST /v1/check`.

aiohttp gives each request a parsed head, an object with everything a web page may need, a task, and four turns of the
event loop: several times the price of the decision itself. A connection that asks this and nothing else is served here
instead: the request is read and answered in place.

The lane takes a request only when it is beyond doubt: this path, HTTP/1.1, whole, one length, a key, none of the headers
that change what a request is. At the first that is not, the connection is handed to aiohttp, with every byte that was
not taken, and stays there. What is told is the same on both ways; tests/interfaces/http/test_http_lane.py asks on both.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final, TypeAlias

from aiohttp.helpers import rfc822_formatted_time

from dialgate.core.responses import Answer
from dialgate.interfaces.http.errors import FAILURES, encoded, fault_of

# Status, body, and the headers besides the usual.
Reply: TypeAlias = tuple[int, bytes, Mapping[str, str]]

_MOST_BYTES: Final = 16 << 10
_MOST_UNREAD: Final = 256 << 10
_HEADS: Final = 8  # that are remembered, of a connection
_END: Final = b"\r\n\r\n"
# What they say of this request is no matter here; any other name sends it the ordinary way.
_HARMLESS: Final = frozenset({b"accept", b"accept-encoding", b"content-type", b"host", b"user-agent"})
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Lane:
    """Of one connection. `ask` is given the value of the Authorization header, the body, and whom to tell the answer: the
    lane itself; it raises one of `FAILURES`. `hand_over` is given what goes the ordinary way, for good; `watch` is told
    whether a request has begun that is not whole; `last` says whether the connection is to end with the next answer.
    `awaited`: an answer is on its way."""

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
        # The beginning of the last request, up to its body, and what it says.
        self._same, self._said = b"", (b"", 0)
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
        request = self._read(data)
        if request is None:
            self.held = b""
            if self._may_become_one(data):
                self.held = data
                self._watch(True)  # noqa: FBT003 - it is asked one thing
            else:
                self._hand_over(data)
            return
        key, begin, end = request
        self._watch(False)  # noqa: FBT003 - as above
        self.held = data[end:]
        self.awaited = True
        try:
            self._ask(key, data[begin:end], self)
        except FAILURES as failure:
            self.awaited = False
            fault = fault_of(failure)
            self._answer(fault.status, encoded(fault.problem), fault.headers)
            if self.held:
                asyncio.get_running_loop().call_soon(self._go_on)

    def done(self) -> bool:
        return not self.awaited

    def set_result(self, answer: Answer) -> None:
        """Asked once for each question, and not at once, but from the event loop."""
        self.awaited = False
        self._answer(*self._tell(answer))
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)
        if self.held:
            self._go_on()

    def rest(self) -> asyncio.Future[None]:
        """Done when the answer on its way has left."""
        self._resting = asyncio.get_running_loop().create_future()
        return self._resting

    def _go_on(self) -> None:
        if self.held and not self.awaited and not self._transport.is_closing():
            self._transport.resume_reading()
            self._take(self.held)

    def _may_become_one(self, data: bytes) -> bool:
        """Its end has not come yet, and nothing so far speaks against it."""
        if not (data.startswith(self._begins) or self._begins.startswith(data)) or len(data) > _MOST_BYTES:
            return False
        head, found, body = data.partition(_END)
        if not found:
            return True
        read = _headers(head[len(self._begins) :])
        return read is not None and len(body) < read[1]

    def _read(self, data: bytes) -> tuple[bytes, int, int] | None:
        """The key, and where the body begins and ends, of a whole request."""
        if not (self._same and data.startswith(self._same)) and not self._read_head(data):
            return None
        key, length = self._said
        begin = len(self._same)
        return (key, begin, begin + length) if len(data) >= begin + length else None

    def _read_head(self, data: bytes) -> bool:
        end = data.find(_END)
        if end < 0 or not data.startswith(self._begins):
            return False
        head = data[len(self._begins) : end]
        read = self._heads.get(head) or self._headers(head)
        if read is not None:
            self._same, self._said = data[: end + len(_END)], read
        return read is not None

    def _headers(self, head: bytes) -> tuple[bytes, int] | None:
        """A client says the same each time, but for the length."""
        read = _headers(head)
        if read is not None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[head] = read
        return read

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
            % (_first(status, rfc822_formatted_time()), head, len(body), body)
        )
        if last:
            transport.close()


@lru_cache(maxsize=8)
def _first(status: int, date: str) -> bytes:
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nDate: %b\r\n" % (
        status,
        _PHRASES[status],
        date.encode(),
    )


def _headers(lines: bytes) -> tuple[bytes, int] | None:
    """The key and the body's length, if nothing else is said that matters."""
    key = length = b""
    hosts = 0
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not colon or b"\n" in value or b"\r" in value or b"\0" in value:
            return None
        if name == b"authorization" and not key:
            key = value
        elif name == b"content-length" and not length and value.isdigit():
            length = value
        elif name == b"host":
            hosts += 1
        elif name not in _HARMLESS and not (name == b"connection" and value.lower() == b"keep-alive"):
            return None
    return (key, int(length)) if key and length and hosts == 1 and len(length) < 8 else None  # noqa: PLR2004 - digits
