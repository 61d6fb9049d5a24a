"""The fast path for `POST /v1/check`, which dialers send for every call.

For each request, aiohttp creates a request object and a task, and takes four turns of the event loop. This costs several
times as much as the decision. A lane is the fast path for one connection: it reads and answers checks without aiohttp.

A lane accepts only unambiguous requests: this path, HTTP/1.1, one length, a key, and no header that changes the meaning
of a request. At the first request that the lane does not accept, aiohttp takes over the connection permanently,
beginning with all unread bytes. Both paths give the same response; tests/interfaces/http/test_check_fast_path.py compares
them.
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

_REQUEST_LINE: Final = b"POST /v1/check HTTP/1.1\r\n"
_MOST_BYTES: Final = 16 << 10
_MOST_HEAD_BYTES: Final = 4 << 10
_MOST_UNREAD: Final = 64 << 10
_HEADS: Final = 8  # heads that are cached per connection
_END: Final = b"\r\n\r\n"
# Headers that the lane ignores, and headers that it reads, each at most once. aiohttp serves requests with other headers.
_HARMLESS: Final = frozenset({b"accept", b"accept-encoding", b"content-type", b"user-agent"})
_MEANT: Final = frozenset({b"authorization", b"connection", b"content-length", b"host"})
_DIGITS: Final = 8
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Lane:
    """The fast path for one connection.

    - `submit`: called with the value of the Authorization header, the body and the lane. It must return the client's
      name and later pass the answer to the lane's `set_result`, or raise one of `FAILURES`
    - `hand_over`: called once, with all unread bytes, beginning with the first request that aiohttp must serve
    - `watch`: called with True when part of a request has arrived, and with False when the request is complete
    - `awaited`: whether a response is due
    - `unread`: bytes from the next requests
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        submit: Callable[[bytes, bytes, "Lane"], str],
        encode: Callable[[Answer], Reply],
        hand_over: Callable[[bytes], None],
        watch: Callable[[bool], None],
    ) -> None:
        self.awaited = False
        self.client = ""  # name of the client of the last request
        self.unread = b""
        self._finished: asyncio.Future[None] | None = None
        self._heads: dict[bytes, tuple[bytes, int]] = {}
        self._watched = True  # the timeout starts when the connection opens
        self._transport, self._submit, self._encode = transport, submit, encode
        self._hand_over, self._watch = hand_over, watch

    def feed(self, data: bytes) -> None:
        if self.awaited:  # a pipelined request, which is read after the response
            self.unread += data
            self._transport.pause_reading()
        else:
            self._take(self.unread + data if self.unread else data)

    def _take(self, data: bytes) -> None:
        begin = data.find(_END) + len(_END)
        if begin < len(_END):
            self._wait(data, plain=data.startswith(_REQUEST_LINE) or _REQUEST_LINE.startswith(data))
            return
        head = self._read(data[:begin])
        if head is None or len(data) < begin + head[1]:
            self._wait(data, plain=head is not None)
            return
        key, length = head
        if self._watched:
            self._watched = False
            self._watch(False)  # noqa: FBT003 - its only argument
        body, self.unread = data[begin : begin + length], data[begin + length :]
        self.awaited = True
        try:
            self.client = self._submit(key, body, self)
        except FAILURES as failure:
            self.awaited = False
            fault = fault_of(failure)
            self._answer(fault.status, encoded(fault.problem), fault.headers)
            if self.unread:
                asyncio.get_running_loop().call_soon(self._read_next)

    def done(self) -> bool:
        return not self.awaited

    def set_result(self, answer: Answer) -> None:
        """Send the response. Call this once for each `submit`, from the event loop and not within `submit`."""
        self.awaited = False
        self._answer(*self._encode(answer))
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)
        if self.unread:
            self._read_next()

    def rest(self) -> asyncio.Future[None]:
        """Return a future that completes when the pending response has been written."""
        self._finished = asyncio.get_running_loop().create_future()
        return self._finished

    def _read_next(self) -> None:
        if self.unread and not self.awaited and not self._transport.is_closing():
            self._transport.resume_reading()
            self._take(self.unread)

    def _wait(self, data: bytes, *, plain: bool) -> None:
        """Wait for the rest of a request, or hand over to aiohttp if the request is too long or not `plain`.

        A request is `plain` if the fast path supports the part that has arrived.
        """
        if plain and len(data) <= _MOST_BYTES:
            self.unread, self._watched = data, True
            self._watch(True)  # noqa: FBT003 - its only argument
        else:
            self.unread = b""
            self._hand_over(data)

    def _read(self, head: bytes) -> tuple[bytes, int] | None:
        """Return the result of `_read_head`, from a cache if possible.

        The heads of one client's requests usually differ only in the value of Content-Length.
        """
        parsed = self._heads.get(head)
        if parsed is None and len(head) <= _MOST_HEAD_BYTES and head.startswith(_REQUEST_LINE):
            parsed = _read_head(head)
            if parsed is not None:
                if len(self._heads) >= _HEADS:
                    self._heads.clear()
                self._heads[head] = parsed
        return parsed

    def _answer(self, status: int, body: bytes, more: Mapping[str, str]) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > _MOST_UNREAD:
            transport.abort()  # the client sends requests without reading responses
            return
        head = "".join(f"{name}: {value}\r\n" for name, value in more.items()).encode() if more else b""
        transport.write(
            b"%b%bContent-Length: %d\r\n\r\n%b"
            % (_first(status, wall_clock() // 1000), head, len(body), body)
        )


@lru_cache(maxsize=8)
def _first(status: int, second: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nDate: %b\r\n" % (
        status,
        _PHRASES[status],
        formatdate(second, usegmt=True).encode(),
    )


class _Fields(list[tuple[bytes, bytes]]):
    def on_header(self, name: bytes, value: bytes) -> None:
        self.append((name.lower(), value.strip(b" \t")))


def _read_head(head: bytes) -> tuple[bytes, int] | None:
    """Return the key and the body length, or None if the fast path does not support the request.

    `head` holds the bytes from the request line to the empty line. Headers that span several lines are not supported,
    nor are line breaks other than CR LF, because parsers disagree about them.
    """
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    names = [name for name, _ in fields if name not in _HARMLESS]
    headers = dict(fields)
    key, length = headers.get(b"authorization", b""), headers.get(b"content-length", b"")
    plain = (
        len(fields) + 2 == head.count(b"\n") == head.count(b"\r")
        and len(names) == len(set(names)) and set(names) <= _MEANT
        and b"host" in headers
        and headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    )  # fmt: skip
    return (key, int(length)) if plain and key and length.isdigit() and len(length) < _DIGITS else None
