"""An HTTP connection: its timeouts, the fast path for checks, and the hand-over to aiohttp.

aiohttp has no timeout for a request head, and quotes malformed requests in its responses. The transport therefore calls
a `Connection`, which forwards bytes and events to aiohttp's request handler.
aiohttp's request factory and access logger report when a request begins and ends.
"""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias, cast

import structlog
from aiohttp import http_exceptions, web
from aiohttp.abc import AbstractAccessLogger
from msgspec import Struct

from dialgate.config.listeners import Limits
from dialgate.interfaces.connections import Connections
from dialgate.interfaces.http.check_fast_path import Lane
from dialgate.interfaces.http.errors import Fault, encoded, response
from dialgate.interfaces.http.tls import Handshake

_log = structlog.get_logger(__name__)

_LATE = Fault(408, "request.timeout", "The request did not arrive in time. Send it again, all at once.")
_TOO_LONG = Fault(
    431,
    "request.headers_too_large",
    "The request line, a header or all of them are too long. Send shorter ones.",
)
_NOT_HTTP = Fault(400, "request.not_http", "The request is not well-formed HTTP. Send HTTP/1.1 to this port.")

# Arguments: the transport, and the `hand_over` and `watch` of the lane.
OpenLane: TypeAlias = Callable[[asyncio.Transport, Callable[[bytes], None], Callable[[bool], None]], Lane]

# A refused request's body is read for this time, so that the client sees the response. A longer time would delay other clients.
_LINGER_SECONDS: Final = 2
_MOST_HEADERS: Final = 64
_LEAST_READ: Final = 16 << 10
_HEAD_OF_HEADERS: Final = 2  # maximum length of a head that arrives in parts, in headers of maximum length


class Handler(web.RequestHandler):
    __slots__ = ("connection",)

    def __init__(self, connection: "Connection", server: web.Server, limits: Limits) -> None:
        self.connection = connection
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log_class=_NoteEnd,
            keepalive_timeout=limits.idle_seconds,
            lingering_time=min(_LINGER_SECONDS, limits.read_seconds),
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            max_headers=_MOST_HEADERS,
            auto_decompress=False,  # a small body could keep the event loop busy for a second
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it may quote a called number, so it is not sent
    ) -> web.StreamResponse:
        """Return the response to malformed HTTP or to an unexpected error in the gate."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of the response was already sent, so no error can be sent")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("request failed", exc_info=exc)
            answer = response(
                Fault(
                    status,
                    "gate.error",
                    "An unexpected error occurred. Report the error with the traceback from the gate's service log.",
                )
            )
        elif isinstance(exc, http_exceptions.LineTooLong):
            answer = response(_TOO_LONG)
        else:
            answer = response(_NOT_HTTP)
        if exc is not None:
            exc.with_traceback(None)  # its frames refer to the exception and to the connection
        answer.headers["Server"] = (
            "dialgate"  # otherwise aiohttp adds its version; the signal that removes it is not sent for these errors
        )
        answer.force_close()
        return answer


class _NoteEnd(AbstractAccessLogger):
    """An access logger that notifies the connection when a request ends."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:  # noqa: ARG002 - aiohttp's
        connection_of(request).end_request()


def note_beginnings(server: web.Server) -> None:
    """Make the server notify a connection at the start of each request."""
    make = server.request_factory

    def begin(*arguments: Any) -> web.BaseRequest:
        request = make(*arguments)
        connection_of(request).begin_request(request)
        return request

    server.request_factory = begin


def connection_of(request: web.BaseRequest) -> "Connection":
    return cast("Handler", request.protocol).connection


class ServerState(Struct, frozen=True):
    """The state that all connections to a server share.

    `opened` holds the open connections. `open_lane` opens the fast path (`Lane`) for a connection, or is None if aiohttp
    serves all requests.
    """

    server: web.Server
    limits: Limits
    connections: Connections
    open_lane: OpenLane | None
    opened: set["Connection"]


class Connection(asyncio.Protocol):
    def __init__(self, shared: ServerState, handshake: Handshake | None = None) -> None:
        self._shared, self._handshake = shared, handshake
        self._loop = asyncio.get_running_loop()
        self._lane: Lane | None = None
        self._handler: Handler | None = None
        self._request: web.BaseRequest | None = None
        self._head = 0  # bytes since the last request began, without its body
        self._full = False  # whether reading stopped because too many bytes of the next requests arrived
        self._begun = self._deaf = self._writing_paused = self._answered = False
        self._stranger = True
        self._heard = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    # ---- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._handshake is not None:
            self._handshake.end()
        if not self._shared.connections.open(self):
            self._deaf = True
            self._transport.abort()
            return
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._shared.opened.add(self)
        self._heard = self._loop.time()
        self._deadline = self._loop.call_later(
            min(self._shared.limits.first_byte_seconds, self._shared.limits.read_seconds), self._end_if_silent
        )
        if self._shared.open_lane is None:
            self._hand_over(b"")
        else:
            self._lane = self._shared.open_lane(self._transport, self._hand_over, self._watch)
            self._end_idle_lane()

    def data_received(self, data: bytes) -> None:
        if self._lane is not None:
            self._heard = self._loop.time()
            self._lane.feed(data)
            if self._stranger and self._owes_response():
                self.admit(self._lane.client)
        elif self._handler is not None and not self._deaf:
            if self._full and not self._is_busy():
                self._refuse(_TOO_LONG)
            elif self._request is not None and not self._request.content.is_eof():
                self._handler.data_received(data)  # its body, which has its own timeout
            else:
                self._receive_next(data, self._handler)
        elif not self._transport.is_closing():
            self._transport.pause_reading()

    def _receive_next(self, data: bytes, handler: Handler) -> None:
        """Forward bytes of the next requests, and count them. A body is among them until aiohttp begins its request.

        If they exceed the maximum of a head, reading stops until aiohttp has begun or answered a request.
        """
        handler.data_received(data)
        self._head += len(data)
        if self._head > _HEAD_OF_HEADERS * self._shared.limits.header_bytes:
            self._full = True
            self._transport.pause_reading()
        if not self._is_busy():
            self._loop.call_soon(
                self._await_head, self._request
            )  # aiohttp first begins a request that is complete

    def _await_head(self, former: web.BaseRequest | None) -> None:
        """Read on with a timeout if no request has begun since `former`. A head that is too long is then refused."""
        if self._request is former and not self._deaf and not self._transport.is_closing():
            self._watch(True)  # noqa: FBT003 - its only argument
            if self._full:
                self._transport.resume_reading()

    def eof_received(self) -> None:
        if self._handler is not None:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._expect_reading()
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._stop_expecting()
        if self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._shared.connections.close(self)
        self._shared.opened.discard(self)
        self._lane = None
        self._stop_waiting()
        self._stop_expecting()
        if self._idle is not None:
            self._idle.cancel()
        if self._handler is not None:
            self._handler.connection_lost(exc)
        # The handler and the request refer to this object. Without these references, all are freed now and not by the garbage
        # collector, which thousands of connections outrun.
        self._handler = self._request = None

    # ---- the lane and aiohttp

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp serve the connection from here on."""
        self._lane = None
        if self._idle is not None:
            self._idle.cancel()
        self._handler = Handler(self, self._shared.server, self._shared.limits)
        self._handler.connection_made(self._transport)
        if self._writing_paused:
            self._handler.pause_writing()
        if data:
            self.data_received(data)

    def begin_request(self, request: web.BaseRequest) -> None:
        self._request, self._answered = request, False
        if not request.content.is_eof():
            self._read_on()  # nothing follows an incomplete body
        if not self._full:
            self._head = 0
        self._stop_waiting()

    def end_request(self) -> None:
        self._answered = True
        self._loop.call_soon(self._await_next)  # aiohttp first begins the next request in its queue

    def _await_next(self) -> None:
        """If the queue is empty, read on after a stop, or start the timeout for a head that has begun."""
        if self._handler is None or self._deaf or self._is_busy():
            return
        if not self._full and self._head:
            self._watch(True)  # noqa: FBT003 - its only argument
        self._read_on()

    def _read_on(self) -> None:
        if self._full and self._handler is not None:
            self._full, self._head = False, 0
            self._handler.resume_reading()

    def _owes_response(self) -> bool:
        """Return whether the lane has read a request but not yet answered it."""
        return self._lane is not None and self._lane.awaited

    def _is_busy(self) -> bool:
        """Return whether aiohttp has the head of a request, and has not read its body and responded."""
        return self._request is not None and not (self._answered and self._request.content.is_eof())

    # ---- timeouts

    def _watch(self, waiting: bool) -> None:  # noqa: FBT001 - its only argument
        """Start the timeout `read_seconds` if `waiting` for the rest of a request. Otherwise stop the timeout."""
        if not waiting:
            self._stop_waiting()
            return
        self._begun = True
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._shared.limits.read_seconds, self._end_late)

    def _stop_waiting(self) -> None:
        self._begun = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reading(self) -> None:
        """Close the connection if the client reads less than `_LEAST_READ` bytes of its responses in `read_seconds`."""
        seconds, unsent = self._shared.limits.read_seconds, self._transport.get_write_buffer_size()
        self._unread = self._loop.call_later(seconds, self._end_unread, unsent)

    def _end_unread(self, unsent: int) -> None:
        if self._transport.get_write_buffer_size() > unsent - _LEAST_READ:
            self._shared.connections.drop_unread(self)
        else:
            self._expect_reading()

    def _stop_expecting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end_if_silent(self) -> None:
        """Close the connection if no part of a request has arrived.

        Otherwise wait for the rest of the request until `read_seconds` after the connection opened.
        """
        left = self._shared.limits.read_seconds - self._shared.limits.first_byte_seconds
        if self._begun and left > 0:
            self._deadline = self._loop.call_later(left, self._end_late)
        else:
            self._end_late()

    def _end_late(self) -> None:
        if self._begun:
            self._refuse(_LATE)
        else:
            self._close()

    def _refuse(self, fault: Fault) -> None:
        """Respond to a request whose head is incomplete, and close the connection."""
        if not self._transport.is_closing():
            body = encoded(fault.problem)
            self._transport.write(
                b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                % (fault.status, HTTPStatus(fault.status).phrase.encode(), len(body), body)
            )
        self._close()

    def _end_idle_lane(self) -> None:
        """Close a connection on the fast path after `idle_seconds`. aiohttp has a timer for the other connections."""
        if self._lane is None:
            return
        now = self._loop.time()
        ends = self._heard + self._shared.limits.idle_seconds
        if now >= ends and not self._lane.awaited:
            self._close()
        else:
            again = ends if now < ends else now + self._shared.limits.idle_seconds
            self._idle = self._loop.call_at(again, self._end_idle_lane)

    def _close(self) -> None:
        """Stop reading, and close the connection once all written data has been sent."""
        self._lane, self._deaf = None, True
        if self._handler is not None:
            self._handler.force_close()
        self._transport.close()

    # ---- what the server and endpoints call

    def admit(self, client: str) -> None:
        """Mark the connection as belonging to a known client; see connections.py."""
        if self._stranger:
            self._stranger = False
            self._shared.connections.admit(self, client)

    def stop_reading(self) -> None:
        """Leave the rest of the request body unread.

        aiohttp closes the connection only after its `lingering_time`, so that the client still receives the response.
        """
        if self._request is not None and not self._request.content.is_eof():
            self._deaf = True
            self._transport.pause_reading()

    async def finish(self, seconds: float) -> None:
        """Close a connection on the fast path after the pending response, or after `seconds` at the latest."""
        if self._lane is not None and self._lane.awaited:
            await asyncio.wait([self._lane.rest()], timeout=seconds)
        if self._handler is None:
            self._close()

    def is_idle(self) -> bool:
        return not self._is_busy() and not self._owes_response()

    def drop(self) -> None:
        self._transport.abort()
