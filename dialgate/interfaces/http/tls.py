"""A TLS listener for the HTTP server that counts each connection as soon as it is accepted.

asyncio's TLS server reports a connection only after its handshake, so handshakes that never finish would not be
limited. `loop.start_tls` is not used, because under uvloop it loses bytes that arrived before the call.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from dialgate.interfaces.connections import Connections

_BACKLOG: Final = 1024
# Accept few at once, because an evicted connection frees its descriptor only some turns of the event loop later.
_ACCEPTED_AT_ONCE: Final = 16


class Handshake:
    """A connection during its TLS handshake."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._securing: asyncio.Task[None] | None = None

    def begin(
        self,
        accepted: socket.socket,
        make: Callable[["Handshake"], asyncio.Protocol],
        tls: ssl.SSLContext,
        seconds: float,
    ) -> None:
        async def secure() -> None:
            try:
                with suppress(OSError):  # includes TLS errors, such as clients that do not use TLS
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


class TlsListener:
    """The listening TLS sockets. `accepted` is called with each new connection."""

    def __init__(self, sockets: Sequence[socket.socket], accepted: Callable[[socket.socket], None]) -> None:
        self.sockets, self._accepted = sockets, accepted
        self._loop = asyncio.get_running_loop()
        for listening in sockets:
            listening.settimeout(0)
            listening.listen(_BACKLOG)
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # the client has disconnected, or no descriptor is free
            for _ in range(_ACCEPTED_AT_ONCE):
                connection = listening.accept()[0]
                connection.settimeout(0)
                self._accepted(connection)

    def close(self) -> None:
        for listening in self.sockets:
            self._loop.remove_reader(listening)
            listening.close()
