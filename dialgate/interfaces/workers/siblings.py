"""Requests from commands that write to the store to the gates that run on the same data folder.

Each worker listens on a socket in `DATA/run/`, `WORKER.sock`, which only the user that runs the node can open. On a connection it
loads the call lists and proofs from the store, then writes `done`.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dialgate.core.faults import Unavailable

_SECONDS: Final = 1.0
_REFRESH_SECONDS: Final = 10.0  # large lists are read completely before they are used
_DONE: Final = b"done"
_NAME: Final = re.compile(r"([0-9]+)\.sock")


class RefreshSocket:
    """A worker's server for refresh requests. Create it with `open`."""

    def __init__(self, folder: int, worker: int, refresh: Callable[[], Awaitable[None]]) -> None:
        self._folder, self._worker, self._refresh = folder, worker, refresh
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    @classmethod
    async def open(cls, data: Path, worker: int, refresh: Callable[[], Awaitable[None]]) -> "RefreshSocket":
        """Open this worker's socket. Raises `OSError`.

        `refresh` loads this worker's lists and proofs from the store. If `refresh` raises `Unavailable`, the worker
        does not confirm the request.
        """
        (data / "run").mkdir(mode=0o700, exist_ok=True)
        door = cls(os.open(data / "run", os.O_RDONLY | os.O_DIRECTORY), worker, refresh)
        path = _path(door._folder, worker)
        path.unlink(missing_ok=True)
        door._server = await asyncio.start_unix_server(door._respond, path)
        door._inode = path.stat().st_ino
        return door

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        path = _path(self._folder, self._worker)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == self._inode:  # otherwise it is the replacement's socket
                path.unlink()
        os.close(self._folder)

    async def _respond(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, TimeoutError, Unavailable):
            await self._refresh()
            async with asyncio.timeout(_SECONDS):
                writer.write(_DONE)
                await writer.drain()
        writer.close()


async def refresh_gates(data: Path) -> bool:
    """Make every worker that has a socket in the data folder load lists and proofs from the store.

    Return whether every running worker confirmed. If no worker is running, return True.
    """
    try:
        folder = os.open(data / "run", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        workers = sorted(int(name[1]) for name in filter(None, map(_NAME.fullmatch, os.listdir(folder))))  # noqa: PTH208 - a descriptor
        answers = await asyncio.gather(
            *(_request_refresh(folder, worker) for worker in workers), return_exceptions=True
        )
    finally:
        os.close(folder)
    absence = (FileNotFoundError, ConnectionRefusedError)  # killed gates leave their sockets behind
    return all(answer == _DONE or isinstance(answer, absence) for answer in answers)


async def _request_refresh(folder: int, worker: int) -> bytes:
    async with asyncio.timeout(_REFRESH_SECONDS):
        reader, writer = await asyncio.open_unix_connection(_path(folder, worker))
        try:
            return await reader.read(-1)
        finally:
            writer.close()


def _path(folder: int, worker: int) -> Path:
    """Return a short path to the socket, because socket paths are limited to 107 bytes."""
    return Path(f"/proc/self/fd/{folder}/{worker}.sock")
