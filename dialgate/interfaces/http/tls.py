"""TLS for the HTTP server: it accepts connections, and counts each from its first moment.

asyncio's TLS server shows a connection only after its handshake, so that nothing would limit those that never finish it.
`loop.start_tls` is no way either: under uvloop, bytes that arrive before it are lost.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from dialgate.interfaces.connections import Connections

_BACKLOG: Final = 1024
_ACCEPTED_AT_ONCE: Final = (
    16  # an evicted connection gives its descriptor back a few turns of the event loop later
)


class Handshake:
    """A connection until its handshake is done."""

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


class Listener:
    """Listening sockets whose connections begin with a TLS handshake. `accepted` is called with each."""

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
