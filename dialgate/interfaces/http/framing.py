"""The boundaries between the requests on a connection.

aiohttp limits each header, but not their sum, and parses requests before their turn. So it gets one request at a time, and
no head over the limit.
"""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from aiohttp import web

_END: Final = b"\r\n\r\n"
_CRLF: Final = 2
_LONGEST_LINE: Final = 64  # of a chunk's size, in the parts that are kept


class HeadTooLarge(Exception):
    """Raised if the request line and headers of a request are longer than the limit."""


class _Stage(Enum):
    HEAD = auto()
    COMPLETE = auto()  # a head, from which aiohttp will make a request
    BODY = auto()
    RESPONSE = auto()
    CLOSED = auto()


class Framing:
    """A splitter that passes the bytes of one request to `feed`, and keeps those of the next until the response is sent.

    `most` is the maximum length of a head, in bytes.
    """

    def __init__(self, feed: Callable[[bytes], None], most: int) -> None:
        self._feed, self._most = feed, most
        self._stage = _Stage.HEAD
        self._unread = b""
        self._taken, self._tail = 0, b""  # of the current head: its length so far, and its last bytes
        self._chunks: _Chunks | None = None
        self._left = 0  # bytes of the current body, if it is not chunked
        self._answered = False

    @property
    def is_between_requests(self) -> bool:
        """Return whether the next byte belongs to a head."""
        return self._stage is _Stage.HEAD

    @property
    def is_full(self) -> bool:
        """Return whether no more bytes are needed before the next response."""
        return self._stage is _Stage.RESPONSE and bool(self._unread)

    def receive(self, data: bytes) -> None:
        """Pass on what aiohttp may read now, and keep the rest. Raises `HeadTooLarge`."""
        self._unread += data
        while self._unread and self._stage in {_Stage.HEAD, _Stage.BODY}:
            self._take_head() if self._stage is _Stage.HEAD else self._take_body()
        if self._stage is _Stage.CLOSED:
            self._unread = b""

    def begin(self, request: web.BaseRequest) -> None:
        """Continue with the body of this request."""
        self._answered = False
        chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
        self._chunks, self._left = _Chunks() if chunked else None, request.content_length or 0
        self._stage = _Stage.RESPONSE if request.content.is_eof() else _Stage.BODY
        self.receive(b"")

    def end(self) -> None:
        """Note that the response was sent. A rest of the body may still arrive."""
        self._answered = True
        if self._stage is _Stage.RESPONSE:
            self._expect_head()

    def close(self) -> None:
        """Ignore everything from here on."""
        self._stage, self._unread = _Stage.CLOSED, b""

    def _take_head(self) -> None:
        if not self._taken:
            self._unread = self._unread.lstrip(b"\r\n")  # permitted before a request (RFC 9112, 2.2)
        seen = self._tail + self._unread
        end = seen.find(_END)
        part = self._cut(len(self._unread) if end < 0 else end + len(_END) - len(self._tail))
        self._taken += len(part)
        self._tail = seen[-len(_END) + 1 :]
        if self._taken > self._most:
            self.close()
            raise HeadTooLarge
        if end >= 0:
            self._stage = _Stage.COMPLETE
        self._feed(part)

    def _take_body(self) -> None:
        length = self._left if self._chunks is None else self._chunks.measure(self._unread)
        part = self._cut(length)
        self._left -= len(part)
        ended = self._chunks.ended if self._chunks is not None else self._left == 0
        if ended:
            self._stage = _Stage.RESPONSE
        self._feed(part)
        if ended and self._answered:
            self._expect_head()

    def _cut(self, length: int) -> bytes:
        part, self._unread = self._unread[:length], self._unread[length:]
        return part

    def _expect_head(self) -> None:
        self._stage, self._taken, self._tail = _Stage.HEAD, 0, b""


class _Chunks:
    """A reader that finds the end of a chunked body (RFC 9112, 7.1). aiohttp rejects malformed bodies."""

    def __init__(self) -> None:
        self.ended = False
        self._left = 0  # bytes of the current chunk
        self._line = b""
        self._in_trailer = False

    def measure(self, data: bytes) -> int:
        """Return how many of the next bytes belong to the body."""
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or None][:_LONGEST_LINE]
            at = end or len(data)
            if end:
                self._end_line(self._line.strip())
                self._line = b""
        return at

    def _end_line(self, line: bytes) -> None:
        if self._in_trailer:
            self.ended = not line
            return
        with suppress(ValueError):
            size = int(line.partition(b";")[0], 16)
            self._in_trailer = size == 0
            self._left = size + _CRLF if size else 0
