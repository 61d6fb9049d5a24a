"""The HTTP server, which accepts, drains and closes connections."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from errno import EADDRINUSE
from pathlib import Path
from typing import Any

from aiohttp import web

from dialgate.config.configuration import Config, ConfigError
from dialgate.config.listeners import Limits, Operations
from dialgate.interfaces.connections import Connections, most
from dialgate.interfaces.http import local_socket
from dialgate.interfaces.http.certificates import Certificate
from dialgate.interfaces.http.connection import Connection, OpenLane, ServerState, note_beginnings
from dialgate.interfaces.http.tls import Handshake, TlsListener
from dialgate.interfaces.workers.listening import shared

_BACKLOG = 1024
_DRAIN_SECONDS = 10
_REST_SECONDS = 1
_LOOK_SECONDS = 0.02
_OPERATORS = 64  # connections to the operations listener


class Runner:
    """An HTTP server that starts and stops one aiohttp application. Call `listen` only once."""

    def __init__(
        self,
        app: web.Application,
        limits: Limits,
        lane: OpenLane | None,
        connections: Connections,
        certificate: Certificate | None = None,
    ) -> None:
        """Create a server that does not listen yet. Without a certificate it uses plain HTTP."""
        self._limits, self._lane, self._connections = limits, lane, connections
        self._closing = asyncio.Event()
        self._certificate = certificate
        self._listening: list[asyncio.Server | TlsListener] = []
        self._opened: set[Connection] = set()
        app.on_response_prepare.append(self._finish_head)
        self._runner = web.AppRunner(app, shutdown_timeout=_DRAIN_SECONDS)

    @property
    def addresses(self) -> list[Any]:
        """The addresses on the network. The local socket has none."""
        sockets = [listening for server in self._listening for listening in server.sockets]
        return [sock.getsockname() for sock in sockets if sock.family != socket.AF_UNIX]

    async def listen(self, host: str, port: int, sockets: Sequence[socket.socket]) -> None:
        """Listen on the host and port, or on `sockets` if there are any. TLS requires `sockets`. Raises `OSError`."""
        await self._runner.setup()
        assert self._runner.server is not None
        note_beginnings(self._runner.server)
        self._shared = ServerState(
            self._runner.server, self._limits, self._connections, self._lane, self._closing, self._opened
        )
        loop = asyncio.get_running_loop()
        if self._certificate is not None:
            self._listening.append(TlsListener(sockets, self._secure))
        elif sockets:
            for sock in sockets:
                self._listening.append(await loop.create_server(self._connect, sock=sock, backlog=_BACKLOG))
        else:
            self._listening.append(await loop.create_server(self._connect, host, port, backlog=_BACKLOG))

    async def listen_locally(self, data: Path) -> None:
        """Also listen on the socket in the data folder. Call this after `listen`. Raises `OSError`."""
        loop, sock = asyncio.get_running_loop(), local_socket.bind(data)
        self._listening.append(await loop.create_unix_server(self._connect, sock=sock, backlog=_BACKLOG))

    def renew(self, certificate: Certificate | None) -> None:
        """Use this certificate for new connections. Open connections keep the old certificate."""
        self._certificate = certificate

    async def drain(self) -> None:
        """Stop accepting connections. Close each open connection after its next response.

        After one second, idle connections are closed too. Other processes listen on the same port, so no client is
        refused.
        """
        self._stop_listening()
        self._closing.set()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while self._opened and loop.time() < begun + _DRAIN_SECONDS:
            if loop.time() > begun + _REST_SECONDS:
                for connection in list(self._opened):
                    connection.end_if_idle()
            await asyncio.sleep(_LOOK_SECONDS)

    async def cleanup(self) -> None:
        """Stop listening, wait for requests in progress, and stop the application."""
        self._stop_listening()
        await asyncio.gather(*(connection.finish(_DRAIN_SECONDS) for connection in self._opened))
        await self._runner.cleanup()

    def _stop_listening(self) -> None:
        for server in self._listening:
            server.close()
        self._listening = []

    def _connect(self, handshake: Handshake | None = None) -> Connection:
        return Connection(self._shared, handshake)

    def _secure(self, accepted: socket.socket) -> None:
        if self._certificate is not None:
            Handshake(self._connections).begin(
                accepted, self._connect, self._certificate.context, self._limits.first_byte_seconds
            )

    async def _finish_head(self, _: web.Request, answer: web.StreamResponse) -> None:
        answer.headers.pop("Server", None)  # aiohttp's, with the versions of aiohttp and Python
        if self._closing.is_set():
            answer.force_close()


async def serve(
    app: web.Application,
    config: Config,
    lane: OpenLane,
    count_closed: Callable[[str], None],
    certificate: Certificate | None,
    sockets: Sequence[socket.socket] = (),
) -> Runner:
    """Start the API server. Raises `ConfigError` if it cannot listen.

    The server listens on `sockets`, or on the configured address if there are none. `count_closed` is described in
    connections.py.
    """
    listen = config.settings.listen
    if certificate is not None and not sockets:
        sockets = shared("listen", listen.host, listen.port, 1)[0]
    connections = Connections(most(config.settings, "http"), count_closed)
    runner = Runner(app, config.settings.limits, lane, connections, certificate)
    await _listen(runner, "listen", listen.host, listen.port, sockets, "--port")
    return runner


async def serve_operations(
    app: web.Application,
    config: Config,
    count_closed: Callable[[str], None],
    sockets: Sequence[socket.socket] = (),
) -> Runner:
    """Start the operations listener, in plain HTTP. See `serve` for the arguments and errors."""
    where = config.settings.operations or Operations()
    runner = Runner(app, config.settings.limits, None, Connections(_OPERATORS, count_closed))
    await _listen(runner, "operations", where.host, where.port, sockets, "`port`")
    return runner


async def _listen(
    runner: Runner, name: str, host: str, port: int, sockets: Sequence[socket.socket], option: str
) -> None:
    try:
        await runner.listen(host, port, sockets)
    except OSError as error:
        await runner.cleanup()
        why = error.strerror or error
        advice = (
            f". Stop the program that listens there, or choose another {option}"
            if error.errno == EADDRINUSE
            else ""
        )
        raise ConfigError([f"{name}: {host} port {port}: {why}{advice}"]) from error
