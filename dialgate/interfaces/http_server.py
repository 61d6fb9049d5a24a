"""The HTTP server under the endpoints: what aiohttp leaves open about slow, oversized and ill-formed requests.

aiohttp waits without end for a request's head and answers an ill-formed one with text that quotes it. Both are mended
in `_Connection`, which also serves the lane. It reads and sets some private fields of aiohttp's protocol, whose version is
therefore held in pyproject.toml; tests/test_http.py and tests/test_http_lane.py hold it to them with raw sockets.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EADDRINUSE
from http import HTTPStatus
from typing import Any, TypeAlias, cast

import structlog
from aiohttp import http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from dialgate.doors import Limits
from dialgate.interfaces.connections import Connections, most
from dialgate.interfaces.http_errors import Fault, encoded, response
from dialgate.interfaces.http_lane import Lane
from dialgate.interfaces.listening import shared
from dialgate.settings import Config, ConfigError

_log = structlog.get_logger(__name__)

_LATE = Fault(408, "request.timeout", "The request did not arrive in time; send it again without pausing.")
_TOO_LONG = Fault(431, "request.headers_too_large", "Send a shorter request line and shorter headers.")
_NOT_HTTP = Fault(400, "request.not_http", "Send HTTP/1.1; this is not well-formed.")


# Given the connection's transport, what to do with bytes that are not for the lane, and what to do while it waits.
OpenLane: TypeAlias = Callable[
    [asyncio.Transport, Callable[[bytes], None], Callable[[bool], None], Callable[[], bool]], Lane
]

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 16  # an evicted connection gives its descriptor back a few turns of the event loop later
_DRAIN_SECONDS = 10
_REST_SECONDS = 1
_LINGER_SECONDS = (
    2  # to read a body on after its refusal, so that the client sees that; reading takes time from others
)
_LOOK_SECONDS = 0.02
_MOST_HEADERS = 64


class _Connection(RequestHandler):
    __slots__ = (
        "_begun", "_closing", "_connections", "_deadline", "_first_byte_seconds", "_handshake", "_lane", "_open_lane", "_read_seconds",
        "_stranger",
    )  # fmt: skip

    def __init__(
        self,
        server: web.Server,
        *,
        limits: Limits,
        lane: OpenLane,
        closing: asyncio.Event,
        connections: Connections,
        handshake: "_Handshake | None",
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._handshake = handshake
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


class _Handshake:
    """A connection until its TLS handshake is done. It is counted from its first moment: asyncio's TLS server shows a
    connection only after the handshake, so that nothing would limit those that never finish it."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._securing: asyncio.Task[None] | None = None

    def begin(
        self,
        accepted: socket.socket,
        make: Callable[["_Handshake"], _Connection],
        tls: ssl.SSLContext,
        seconds: float,
    ) -> None:
        async def secure() -> None:
            try:
                with suppress(OSError):  # of TLS too: whatever speaks something else is closed
                    await asyncio.get_running_loop().connect_accepted_socket(
                        lambda: make(self), accepted, ssl=tls, ssl_handshake_timeout=seconds
                    )
            finally:
                self.end()

        if self._connections.open(self):
            self._securing = asyncio.get_running_loop().create_task(secure())
        else:
            accepted.close()

    def end(self) -> None:
        self._connections.close(self)

    def is_idle(self) -> bool:
        return True

    def drop(self) -> None:
        if self._securing is not None:
            self._securing.cancel()


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return self.connection()

    def connection(self, handshake: _Handshake | None = None) -> _Connection:
        return _Connection(self, loop=self._loop, handshake=handshake, **self._kwargs)

    def secure(self, accepted: socket.socket, tls: ssl.SSLContext) -> None:
        _Handshake(self._kwargs["connections"]).begin(
            accepted, self.connection, tls, self._kwargs["limits"].first_byte_seconds
        )


class _TlsSite(web.BaseSite):
    """Listening sockets whose connections begin with a TLS handshake."""

    def __init__(self, runner: "Runner", tls: ssl.SSLContext, sockets: Sequence[socket.socket]) -> None:
        super().__init__(runner)
        self._tls, self._sockets = tls, sockets

    @property
    def name(self) -> str:
        host, port = self._sockets[0].getsockname()[:2]
        return f"https://{host}:{port}"

    async def start(self) -> None:
        await super().start()
        self._server = cast("asyncio.Server", _Listening(self._sockets, self._accepted))

    def _accepted(self, connection: socket.socket) -> None:
        cast("_Server", self._runner.server).secure(connection, self._tls)


class _Listening:
    """Accepts connections. Has of `asyncio.Server` what a site of aiohttp uses."""

    def __init__(self, sockets: Sequence[socket.socket], accepted: Callable[[socket.socket], None]) -> None:
        self.sockets, self._accepted = sockets, accepted
        self._loop = asyncio.get_running_loop()
        for one in sockets:
            one.settimeout(0)
            one.listen(_BACKLOG)
            self._loop.add_reader(one, self._accept, one)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # it has gone already, or there is no descriptor left
            for _ in range(_ACCEPTED_AT_ONCE):
                connection = listening.accept()[0]
                connection.settimeout(0)
                self._accepted(connection)

    def close(self) -> None:
        for one in self.sockets:
            self._loop.remove_reader(one)
            one.close()


class Runner(web.AppRunner):
    def __init__(self, app: web.Application, **options: Any) -> None:
        self._closing = asyncio.Event()
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
    sockets: Sequence[socket.socket] = (),
) -> Runner:
    """`count_closed`: see connections.py. `sockets`: where to listen, instead of where the settings say. Raises `ConfigError` if it cannot listen there or
    use that certificate."""
    listen, limits = config.settings.listen, config.settings.limits
    tls = _tls(config)
    if tls is not None and not sockets:
        sockets = shared("listen", listen.host, listen.port, 1)[0]
    runner = Runner(
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
        connections=Connections(most(config.settings, "http"), count_closed),
    )
    await runner.setup()
    try:
        sites: list[web.BaseSite] = [web.SockSite(runner, one, backlog=_BACKLOG) for one in sockets]
        if tls is not None:
            sites = [_TlsSite(runner, tls, sockets)]
        for site in sites or [web.TCPSite(runner, listen.host, listen.port, backlog=_BACKLOG)]:
            await site.start()
    except OSError as error:
        await runner.cleanup()
        why = error.strerror or error
        taken = "; stop what listens there, or choose another --port" if error.errno == EADDRINUSE else ""
        raise ConfigError([f"listen: {listen.host} port {listen.port}: {why}{taken}"]) from error
    return runner


def note_admitted(request: web.Request) -> None:
    """Keep the connection as a known client's: see connections.py."""
    if isinstance(request.protocol, _Connection):
        request.protocol.admitted()


def _tls(config: Config) -> ssl.SSLContext | None:
    listen = config.settings.listen
    if not listen.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(
            config.folder / listen.tls_certificate, config.folder / (listen.tls_key or listen.tls_certificate)
        )
    except OSError as error:  # ssl.SSLError is one too
        raise ConfigError(
            [f"listen.tls_certificate: {error.strerror or error}; give a PEM chain and its tls_key"]
        ) from error
    return context
