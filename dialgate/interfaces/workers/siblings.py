"""Requests between the processes of a node: its workers, and the commands that write to its store.

Each worker answers on a socket in `DATA/run/`, `WORKER.sock`, which only the node's own user can open. It is asked in a line:

    metrics        its metrics: `[[name, help, kind, unit, [[sample, labels, value], …]], …]` in MessagePack
    board SINCE    what it adds to the console's board (`console.live.Share`)
    refresh        use the call lists and proofs that the store holds; it answers `done` when it does

Who is asked for `/metrics` asks the others, and shows every sample with a label `worker`. They are not added up here: a sum falls when one worker is restarted,
and Prometheus would take that for a restart of all of them. `sum without (worker) (rate(…))` adds what may be added.
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
_REFRESH_SECONDS: Final = 10.0  # a large list is read to its end before it is used
_DONE: Final = b"done"
_NAME: Final = re.compile(r"([0-9]+)\.sock")
_Sample: TypeAlias = tuple[str, dict[str, str], float]
_Family: TypeAlias = tuple[str, str, str, str, list[_Sample]]
_encode: Final = msgspec.msgpack.Encoder().encode
_families: Final = msgspec.msgpack.Decoder(list[_Family])


class Siblings:
    """Made by `open`. Costs a decision nothing: who is not asked does nothing."""

    def __init__(
        self, folder: int, worker: int, registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._folder, self._worker, self._registry = folder, worker, registry
        self.tells: dict[str, Callable[[str], bytes]] = {"metrics": lambda _: _encode(_read(registry))}
        self._refresh = refresh
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    @classmethod
    async def open(
        cls, data: Path, worker: int, registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]
    ) -> "Siblings":
        """`refresh`: of this worker's lists and proofs; raises `Unavailable`. Raises `OSError`."""
        (data / "run").mkdir(mode=0o700, exist_ok=True)
        siblings = cls(os.open(data / "run", os.O_RDONLY | os.O_DIRECTORY), worker, registry, refresh)
        path = _path(siblings._folder, worker)
        path.unlink(missing_ok=True)
        siblings._server = await asyncio.start_unix_server(siblings._tell, path)
        siblings._inode = path.stat().st_ino
        return siblings

    async def measured(self) -> Collector:
        """Of every worker that answers within a second; `dialgate_worker_up` is 0 for one that does not."""
        replies = await self.ask_each(lambda _: "metrics")
        families = {worker: _decoded(reply) for worker, reply in replies.items()}
        return _Together(dict(sorted({**families, self._worker: _read(self._registry)}.items())))

    async def ask_each(self, ask: Callable[[int], str]) -> dict[int, bytes | None]:
        """Of each of the others what it answers; None where it does not within a second."""
        workers = sorted(_workers(self._folder) - {self._worker})
        replies = await asyncio.gather(*(_answer(self._folder, worker, ask(worker)) for worker in workers))
        return dict(zip(workers, replies, strict=True))

    async def refresh_others(self) -> bool:
        """Have the other workers use the lists and proofs that the store holds. Return whether each confirmed."""
        return await _refreshed(self._folder, _workers(self._folder) - {self._worker})

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        path = _path(self._folder, self._worker)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == self._inode:  # else it is its follower's
                path.unlink()
        os.close(self._folder)

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, TimeoutError, ValueError, KeyError, Unavailable):
            async with asyncio.timeout(_SECONDS):
                word, _, rest = (await reader.readline()).decode().strip().partition(" ")
            if word == "refresh":
                await self._refresh()
            async with asyncio.timeout(_SECONDS):
                writer.write(_DONE if word == "refresh" else self.tells[word](rest))
                await writer.drain()
        writer.close()


async def refresh_gates(data: Path) -> bool:
    """Have every gate that runs on this data folder use the lists and proofs that the store holds. Return whether each
    confirmed; true also where none runs."""
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
    absence = (FileNotFoundError, ConnectionRefusedError)  # a socket that a killed gate left behind
    return all(answer == _DONE or isinstance(answer, absence) for answer in answers)


def _workers(folder: int) -> set[int]:
    names = filter(None, map(_NAME.fullmatch, os.listdir(folder)))
    return {int(name[1]) for name in names}


def _path(folder: int, worker: int) -> Path:
    """Return a short path, however deep the folder is: a socket's path may have 107 bytes."""
    return Path(f"/proc/self/fd/{folder}/{worker}.sock")


async def _answer(folder: int, worker: int, command: str) -> bytes | None:
    try:
        return await _ask(folder, worker, command, _SECONDS)
    except (OSError, TimeoutError):
        return None


async def _ask(folder: int, worker: int, command: str, seconds: float) -> bytes:
    """Raises `OSError`, `TimeoutError`."""
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
        up = Metric(UP, "1 while the worker answers its siblings.", "gauge")
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
