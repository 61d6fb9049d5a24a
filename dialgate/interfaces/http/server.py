"""The HTTP server under the endpoints: what aiohttp leaves open about slow, oversized and ill-formed requests.

aiohttp waits without end for a request's head and answers an ill-formed one with text that quotes it. Both are mended
in `_Connection`, which also serves the lane. It reads and sets some private fields of aiohttp's protocol, whose version is
therefore held in pyproject.toml; tests/interfaces/http/test_http.py and tests/interfaces/http/test_http_lane.py hold it to them with raw sockets.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from errno import EADDRINUSE
from http import HTTPStatus
from typing import Any, TypeAlias, cast

import structlog
from aiohttp import http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from dialgate.config.configuration import Config, ConfigError
from dialgate.config.listeners import Limits, Operations
from dialgate.interfaces.connections import Connections, most
from dialgate.interfaces.http.certificates import Certificate
from dialgate.interfaces.http.check_fast_path import Lane
from dialgate.interfaces.http.errors import Fault, encoded, response
from dialgate.interfaces.http.tls import Handshake, TlsSite
from dialgate.interfaces.workers.listening import shared

_log = structlog.get_logger(__name__)

_LATE = Fault(408, "request.timeout", "The request did not arrive in time; send it again without pausing.")
_TOO_LONG = Fault(431, "request.headers_too_large", "Send a shorter request line and shorter headers.")
_NOT_HTTP = Fault(400, "request.not_http", "Send HTTP/1.1; this is not well-formed.")


# Given the connection's transport, what to do with bytes that are not for the lane, and what to do while it waits.
OpenLane: TypeAlias = Callable[
    [asyncio.Transport, Callable[[bytes], None], Callable[[bool], None], Callable[[], bool]], Lane
]

_BACKLOG = 1024
_DRAIN_SECONDS = 10
_REST_SECONDS = 1
_LINGER_SECONDS = (
    2  # to read a body on after its refusal, so that the client sees that; reading takes time from others
)
_LOOK_SECONDS = 0.02
_MOST_HEADERS = 64
_OPERATORS = 64  # connections of the operations listener


class _Connection(RequestHandler):
    __slots__ = (
        "_begun", "_closing", "_connections", "_deadline", "_deaf", "_first_byte_seconds", "_handshake", "_lane", "_open_lane", "_read_seconds",
        "_stranger",
    )  # fmt: skip

    def __init__(
        self,
        server: web.Server,
        *,
        limits: Limits,
        lane: OpenLane | None,
        closing: asyncio.Event,
        connections: Connections,
        handshake: "Handshake | None",
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._handshake = handshake
        self._deaf = False
        self._closing = closing
        self._connections, self._stranger = connections, True
        self._read_seconds = limits.read_seconds
        self._first_byte_seconds = min(limits.first_byte_seconds, limits.read_seconds)
        self._open_lane = lane
        self._lane: Lane | None = None
        self._begun = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._handshake is not None:
            self._handshake.end()
        if not self._connections.open(self):
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        if self._open_lane is not None:
            self._lane = self._open_lane(
                cast("asyncio.Transport", transport), self._leave_lane, self._watch, self._closing.is_set
            )
        self._deadline = self._loop.call_later(self._first_byte_seconds, self._end_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.close(self)
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        lane = self._lane
        if lane is not None and not self._force_close:
            lane.feed(data)
            if self._stranger and lane.awaited:
                self.admitted()
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        else:
            super().data_received(data)
            if self._messages or self._waiter is not None:  # else a body is being read, in its own time
                self._watch(not self._messages)

    def _leave_lane(self, data: bytes) -> None:
        self._lane = None
        self.data_received(data)

    def _watch(self, waiting: bool) -> None:  # noqa: FBT001 - it is asked one thing
        """`waiting`: a part of a request has come, and the rest has so much time."""
        if not waiting:
            if self._deadline is not None:
                self._stop_waiting()
            return
        self._begun = True
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._read_seconds, self._end_late)

    def _process_keepalive(self) -> None:
        self._keepalive = (
            self._keepalive or self._lane is not None
        )  # else aiohttp takes it for one that never asked
        super()._process_keepalive()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's signature
        if self._lane is not None and self._lane.awaited:
            await asyncio.wait([self._lane.rest()], timeout=timeout)
        await super().shutdown(timeout)

    def end_if_idle(self) -> None:
        busy = self._begun or self._request_in_progress or (self._lane is not None and self._lane.awaited)
        if not busy and not self._messages and self.transport is not None:
            self.transport.close()

    def _stop_waiting(self) -> None:
        self._begun = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def admitted(self) -> None:
        """Note that a request of this connection was admitted."""
        if self._stranger:
            self._stranger = False
            self._connections.admit(self)

    def stop_reading(self) -> None:
        """Read no more of a body. The connection is closed once `lingering_time` is over, so that the response arrives first."""
        self._deaf = True
        self.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        if not self._deaf:
            super().resume_reading(resume_parser)

    def is_idle(self) -> bool:
        return not self._request_in_progress and not self._messages

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _end_if_silent(self) -> None:
        """A request that has begun has the rest of its time."""
        left = self._read_seconds - self._first_byte_seconds
        if self._begun and left > 0:
            self._deadline = self._loop.call_later(left, self._end_late)
        else:
            self._end_late()

    def _end_late(self) -> None:
        if self.transport is not None and self._begun:
            body = encoded(_LATE.problem)
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it may quote a called number, so it is not told
    ) -> web.StreamResponse:
        """For what is not HTTP, and for errors of ours."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response that was begun cannot become an error")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("request failed", exc_info=exc)
            answer = response(Fault(status, "gate.error", "An error in the gate; its log has the details."))
        elif isinstance(exc, http_exceptions.LineTooLong):
            answer = response(_TOO_LONG)
        else:
            answer = response(_NOT_HTTP)
        answer.force_close()
        return answer


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return self.connection()

    def connection(self, handshake: Handshake | None = None) -> _Connection:
        return _Connection(self, loop=self._loop, handshake=handshake, **self._kwargs)

    def secure(self, tls: ssl.SSLContext, accepted: socket.socket) -> None:
        Handshake(self._kwargs["connections"]).begin(
            accepted, self.connection, tls, self._kwargs["limits"].first_byte_seconds
        )


class Runner(web.AppRunner):
    def __init__(self, app: web.Application, **options: Any) -> None:
        self._closing = asyncio.Event()
        self._certificate: Certificate | None = None
        super().__init__(app, closing=self._closing, **options)
        app.on_response_prepare.append(self._last)

    async def _last(self, _: web.Request, answer: web.StreamResponse) -> None:
        if self._closing.is_set():
            answer.force_close()

    async def drain(self) -> None:
        """Take no new connection, and end each after its next answer; those that ask nothing more, a little later. The
        listening sockets are another's too, so that nobody is refused."""
        for site in list(self.sites):
            await site.stop()
        self._closing.set()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (left := self._connections()) and loop.time() < begun + _DRAIN_SECONDS:
            if loop.time() > begun + _REST_SECONDS:
                for connection in left:
                    connection.end_if_idle()
            await asyncio.sleep(_LOOK_SECONDS)

    def renew(self, certificate: Certificate | None) -> None:
        """Show it on every new connection. Those that are open keep the one they began with."""
        self._certificate = certificate

    def secure(self, accepted: socket.socket) -> None:
        """Serve a new connection after its TLS handshake."""
        if self._certificate is not None:
            cast("_Server", self.server).secure(self._certificate.context, accepted)

    def _connections(self) -> list[_Connection]:
        return cast("list[_Connection]", self.server.connections) if self.server is not None else []

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


async def serve(
    app: web.Application,
    config: Config,
    lane: OpenLane,
    count_closed: Callable[[str], None],
    certificate: Certificate | None,
    sockets: Sequence[socket.socket] = (),
) -> Runner:
    """`count_closed`: see connections.py. `sockets`: where to listen, instead of where the settings say. Raises `ConfigError` if
    it cannot listen there."""
    listen = config.settings.listen
    if certificate is not None and not sockets:
        sockets = shared("listen", listen.host, listen.port, 1)[0]
    runner = _runner(app, config, lane, Connections(most(config.settings, "http"), count_closed))
    runner.renew(certificate)
    await runner.setup()
    sites = (
        _sites(runner, listen.host, listen.port, sockets)
        if certificate is None
        else [TlsSite(runner, sockets, runner.secure)]
    )
    await _start(runner, sites, f"listen: {listen.host} port {listen.port}", "--port")
    return runner


async def serve_operations(
    app: web.Application,
    config: Config,
    count_closed: Callable[[str], None],
    sockets: Sequence[socket.socket] = (),
) -> Runner:
    """The arguments are those of `serve`, as is what it raises; it is plain HTTP."""
    where = config.settings.operations or Operations()
    runner = _runner(app, config, None, Connections(_OPERATORS, count_closed))
    await runner.setup()
    name = f"operations: {where.host} port {where.port}"
    await _start(runner, _sites(runner, where.host, where.port, sockets), name, "`port`")
    return runner


def _runner(app: web.Application, config: Config, lane: OpenLane | None, connections: Connections) -> Runner:
    limits = config.settings.limits
    return Runner(
        app,
        access_log=None,
        shutdown_timeout=_DRAIN_SECONDS,
        keepalive_timeout=limits.idle_seconds,
        lingering_time=min(_LINGER_SECONDS, limits.read_seconds),
        max_line_size=limits.header_bytes,
        max_field_size=limits.header_bytes,
        max_headers=_MOST_HEADERS,
        limits=limits,
        lane=lane,
        connections=connections,
    )


def _sites(runner: Runner, host: str, port: int, sockets: Sequence[socket.socket]) -> Sequence[web.BaseSite]:
    given = [web.SockSite(runner, one, backlog=_BACKLOG) for one in sockets]
    return given or [web.TCPSite(runner, host, port, backlog=_BACKLOG)]


async def _start(runner: Runner, sites: Sequence[web.BaseSite], name: str, option: str) -> None:
    try:
        for site in sites:
            await site.start()
    except OSError as error:
        await runner.cleanup()
        why = error.strerror or error
        taken = f"; stop what listens there, or choose another {option}" if error.errno == EADDRINUSE else ""
        raise ConfigError([f"{name}: {why}{taken}"]) from error


def stop_reading(request: web.Request) -> None:
    """Leave the rest of a body that has not ended unread, and close the connection after the response."""
    if isinstance(request.protocol, _Connection) and not request.content.is_eof():
        request.protocol.stop_reading()


def note_admitted(request: web.Request) -> None:
    """Keep the connection as a known client's: see connections.py."""
    if isinstance(request.protocol, _Connection):
        request.protocol.admitted()
