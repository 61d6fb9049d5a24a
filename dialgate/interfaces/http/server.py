"""The HTTP server, which accepts and closes connections."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
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
from dialgate.interfaces.listening import listen
from dialgate.runtime.gate_address import SOCKET

_BACKLOG = 1024
_DRAIN_SECONDS = 10
_OPERATORS = 64  # connections to the operations listener


class Runner:
    """An HTTP server that starts and stops one aiohttp application. Call `setup` first."""

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

    async def setup(self) -> None:
        """Start the application, without listening."""
        await self._runner.setup()
        assert self._runner.server is not None
        note_beginnings(self._runner.server)
        self._shared = ServerState(
            self._runner.server, self._limits, self._connections, self._lane, self._opened
        )

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on `sockets`, which the server closes at the end."""
        loop = asyncio.get_running_loop()
        if self._certificate is not None:
            self._listening.append(TlsListener(sockets, self._secure))
        else:
            for sock in sockets:
                self._listening.append(await loop.create_server(self._connect, sock=sock, backlog=_BACKLOG))

    async def listen_locally(self, data: Path) -> None:
        """Also listen on the socket in the data folder. Raises `OSError`."""
        loop, sock = asyncio.get_running_loop(), local_socket.bind(data)
        self._listening.append(await loop.create_unix_server(self._connect, sock=sock, backlog=_BACKLOG))

    def renew(self, certificate: Certificate | None) -> None:
        """Use this certificate for new connections. Open connections keep the old certificate."""
        self._certificate = certificate

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


async def serve(
    app: web.Application,
    config: Config,
    lane: OpenLane,
    count_closed: Callable[[str], None],
    certificate: Certificate | None,
    enter_stops: Callable[[], Awaitable[None]],
) -> Runner:
    """Start the API server. Raises `ConfigError` if it cannot listen. `count_closed` is described in connections.py.

    `enter_stops` is called when commands reach the gate, and before calls do: a command that did not reach it has kept its
    stop by then, or finds out that the gate runs.
    """
    sockets = listen("listen", config.settings.listen)
    connections = Connections(most(config.settings, "http"), count_closed)
    runner = Runner(app, config.settings.limits, lane, connections, certificate)
    await runner.setup()
    try:
        await runner.listen_locally(config.data)
    except OSError as error:
        for sock in sockets:
            sock.close()
        await runner.cleanup()
        raise ConfigError(
            [f"data: the socket {config.data / SOCKET} cannot be opened: {error.strerror}"]
        ) from error
    await enter_stops()
    await runner.listen(sockets)
    return runner


async def serve_operations(
    app: web.Application,
    config: Config,
    count_closed: Callable[[str], None],
) -> Runner:
    """Start the operations listener, in plain HTTP. See `serve` for the arguments and errors."""
    sockets = listen("operations", config.settings.operations or Operations())
    runner = Runner(app, config.settings.limits, None, Connections(_OPERATORS, count_closed))
    await runner.setup()
    await runner.listen(sockets)
    return runner
