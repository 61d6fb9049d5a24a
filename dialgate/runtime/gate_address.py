"""Where a gate answers: on the Unix socket in its data folder, or at a URL.

Commands and jobs on the gate's machine use the socket, which needs no key. Only its owner may open it.
"""

import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

SOCKET: Final = "gate.sock"
_PROBE_SECONDS: Final = 5.0


class GateAddress(Struct, frozen=True):
    """The address of a gate, and the key of the client that asks. Without `url`, the gate is that of the data folder."""

    data: Path
    url: str = ""
    key: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet, with a timeout. Raises `ValueError` for an unusable URL."""
        if not self.url:
            return _LocalConnection(self.data, seconds)
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(
                f"{self.url!r} is not an http:// or https:// URL. Example: http://127.0.0.1:8080"
            )
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)

    def answers(self) -> bool:
        """Return whether a gate accepts connections here."""
        connection = self.connection(_PROBE_SECONDS)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True


class _LocalConnection(http.client.HTTPConnection):
    def __init__(self, data: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._data = data

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._data) as path:
            self.sock.connect(str(path))


@contextmanager
def short_path(data: Path) -> Iterator[Path]:
    """Yield a path to the socket that is valid within the block, because paths of sockets are limited to 107 bytes."""
    folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{folder}/{SOCKET}")
    finally:
        os.close(folder)
