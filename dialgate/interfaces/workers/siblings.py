"""Requests between the processes of a node: its workers, and commands that write to its store.

Each worker listens on a socket in `DATA/run/`, `WORKER.sock`, which only the user that runs the node can open. A request is one
line:

    metrics        returns its metrics: `[[name, help, kind, unit, [[sample, labels, value], …]], …]` in MessagePack
    board SINCE    returns its part of the console board (`console.live.Share`)
    refresh        loads the call lists and proofs from the store, then returns `done`

The worker that receives a request for `/metrics` asks the others, and labels every sample with `worker`. The samples
are not added up, because a sum would fall when one worker is restarted, and Prometheus would interpret the fall as a
restart of all workers. Use `sum without (worker) (rate(…))`.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dialgate.core.faults import Unavailable

UP: Final = "dialgate_worker_up"
_SECONDS: Final = 1.0
_REFRESH_SECONDS: Final = 10.0  # large lists are read completely before they are used
_DONE: Final = b"done"
_NAME: Final = re.compile(r"([0-9]+)\.sock")
_Sample: TypeAlias = tuple[str, dict[str, str], float]
_Family: TypeAlias = tuple[str, str, str, str, list[_Sample]]
_encode: Final = msgspec.msgpack.Encoder().encode
_families: Final = msgspec.msgpack.Decoder(list[_Family])


class Siblings:
    """A client and server for requests between this worker and the node's other workers. Create it with `open`."""

    def __init__(
        self, folder: int, worker: int, registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._folder, self._worker, self._registry = folder, worker, registry
        self.responders: dict[str, Callable[[str], bytes]] = {"metrics": lambda _: _encode(_read(registry))}
        self._refresh = refresh
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    @classmethod
    async def open(
        cls, data: Path, worker: int, registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]
    ) -> "Siblings":
        """Open this worker's socket. Raises `OSError`.

        `refresh` loads this worker's lists and proofs from the store. If `refresh` raises `Unavailable`, the worker
        does not confirm the request.
        """
        (data / "run").mkdir(mode=0o700, exist_ok=True)
        siblings = cls(os.open(data / "run", os.O_RDONLY | os.O_DIRECTORY), worker, registry, refresh)
        path = _path(siblings._folder, worker)
        path.unlink(missing_ok=True)
        siblings._server = await asyncio.start_unix_server(siblings._respond, path)
        siblings._inode = path.stat().st_ino
        return siblings

    async def collect_metrics(self) -> Collector:
        """Return the metrics of all workers.

        `dialgate_worker_up` is 0 for a worker that does not respond within a second.
        """
        replies = await self.ask_each(lambda _: "metrics")
        families = {worker: _decoded(reply) for worker, reply in replies.items()}
        return _Together(dict(sorted({**families, self._worker: _read(self._registry)}.items())))

    async def ask_each(self, request: Callable[[int], str]) -> dict[int, bytes | None]:
        """Send a request to each other worker. Return the responses by worker.

        The value is None for a worker that does not respond within a second.
        """
        workers = sorted(_workers(self._folder) - {self._worker})
        replies = await asyncio.gather(
            *(_answer(self._folder, worker, request(worker)) for worker in workers)
        )
        return dict(zip(workers, replies, strict=True))

    async def refresh_others(self) -> bool:
        """Make the other workers load lists and proofs from the store. Return whether all of them confirmed."""
        return await _refreshed(self._folder, _workers(self._folder) - {self._worker})

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        path = _path(self._folder, self._worker)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == self._inode:  # otherwise it is the replacement's socket
                path.unlink()
        os.close(self._folder)

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, TimeoutError, ValueError, KeyError, Unavailable):
            async with asyncio.timeout(_SECONDS):
                word, _, rest = (await reader.readline()).decode().strip().partition(" ")
            if word == "refresh":
                await self._refresh()
            async with asyncio.timeout(_SECONDS):
                writer.write(_DONE if word == "refresh" else self.responders[word](rest))
                await writer.drain()
        writer.close()


async def refresh_gates(data: Path) -> bool:
    """Send `refresh` to every worker that has a socket in the data folder.

    The workers load lists and proofs from the store. Return whether every running worker confirmed. If no worker is
    running, return True.
    """
    try:
        folder = os.open(data / "run", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        return await _refreshed(folder, _workers(folder))
    finally:
        os.close(folder)


async def _refreshed(folder: int, workers: Iterable[int]) -> bool:
    requests = (_ask(folder, worker, "refresh", _REFRESH_SECONDS) for worker in sorted(workers))
    answers = await asyncio.gather(*requests, return_exceptions=True)
    absence = (FileNotFoundError, ConnectionRefusedError)  # killed gates leave their sockets behind
    return all(answer == _DONE or isinstance(answer, absence) for answer in answers)


def _workers(folder: int) -> set[int]:
    names = filter(None, map(_NAME.fullmatch, os.listdir(folder)))
    return {int(name[1]) for name in names}


def _path(folder: int, worker: int) -> Path:
    """Return a short path to the socket, because socket paths are limited to 107 bytes."""
    return Path(f"/proc/self/fd/{folder}/{worker}.sock")


async def _answer(folder: int, worker: int, command: str) -> bytes | None:
    try:
        return await _ask(folder, worker, command, _SECONDS)
    except (OSError, TimeoutError):
        return None


async def _ask(folder: int, worker: int, command: str, seconds: float) -> bytes:
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_unix_connection(_path(folder, worker))
        try:
            writer.write(command.encode() + b"\n")
            return await reader.read(-1)
        finally:
            writer.close()


def _decoded(reply: bytes | None) -> list[_Family] | None:
    try:
        return _families.decode(reply or b"")
    except msgspec.DecodeError:
        return None


class _Together(Collector):
    def __init__(self, families: dict[int, list[_Family] | None]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        up = Metric(UP, "1 while the worker responds to its siblings.", "gauge")
        metrics: dict[str, Metric] = {}
        for worker, families in self._families.items():
            label = {"worker": str(worker)}
            up.add_sample(up.name, label, families is not None)
            for name, text, kind, unit, samples in families or ():
                metric = metrics.setdefault(name, Metric(name, text, kind, unit))
                for sample, labels, value in samples:
                    metric.add_sample(sample, labels | label, value)
        return iter([*metrics.values(), up])


def _read(registry: CollectorRegistry) -> list[_Family]:
    return [
        (metric.name, metric.documentation, metric.type, metric.unit, _samples(metric))
        for metric in registry.collect()
    ]


def _samples(metric: Metric) -> list[_Sample]:
    samples: Iterable[_Sample] = (
        (sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples
    )
    return list(samples)
