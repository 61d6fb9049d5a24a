"""What all workers of a node measured, for whoever asks one of them.

Each worker answers on a socket in `DATA/run/`, `WORKER.sock`, which only the node's own user can open. It is asked in a line:

    metrics        its metrics: `[[name, help, kind, unit, [[sample, labels, value], …]], …]` in MessagePack
    board SINCE    what it adds to the console's board (`console.live.Share`)

Who is asked for `/metrics` asks the others, and shows every sample with a label `worker`. They are not added up here: a sum falls when one worker is restarted,
and Prometheus would take that for a restart of all of them. `sum without (worker) (rate(…))` adds what may be added.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

UP: Final = "dialgate_worker_up"
_SECONDS: Final = 1.0
_NAME: Final = re.compile(r"([0-9]+)\.sock")
_Sample: TypeAlias = tuple[str, dict[str, str], float]
_Family: TypeAlias = tuple[str, str, str, str, list[_Sample]]
_encode: Final = msgspec.msgpack.Encoder().encode
_families: Final = msgspec.msgpack.Decoder(list[_Family])


class Siblings:
    """Made by `open`. Costs a decision nothing: who is not asked does nothing."""

    def __init__(self, folder: int, worker: int, registry: CollectorRegistry) -> None:
        self._folder, self._worker, self._registry = folder, worker, registry
        self.tells: dict[str, Callable[[str], bytes]] = {"metrics": lambda _: _encode(_read(registry))}
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    @classmethod
    async def open(cls, data: Path, worker: int, registry: CollectorRegistry) -> "Siblings":
        """Raises `OSError`."""
        (data / "run").mkdir(mode=0o700, exist_ok=True)
        opened = cls(os.open(data / "run", os.O_RDONLY | os.O_DIRECTORY), worker, registry)
        path = opened._path(worker)
        path.unlink(missing_ok=True)
        opened._server = await asyncio.start_unix_server(opened._tell, path)
        opened._inode = path.stat().st_ino
        return opened

    async def measured(self) -> Collector:
        """Of every worker that answers within a second; `dialgate_worker_up` is 0 for one that does not."""
        told = await self.ask_each(lambda _: "metrics")
        found = {worker: _decoded(said) for worker, said in told.items()}
        return _Together(dict(sorted({**found, self._worker: _read(self._registry)}.items())))

    async def ask_each(self, ask: Callable[[int], str]) -> dict[int, bytes | None]:
        """Of each of the others what it answers; None where it does not within a second."""
        names = filter(None, map(_NAME.fullmatch, os.listdir(self._folder)))  # noqa: PTH208 - a folder that is open has no path
        workers = sorted({int(name[1]) for name in names} - {self._worker})
        told = await asyncio.gather(*(self._ask(worker, ask(worker)) for worker in workers))
        return dict(zip(workers, told, strict=True))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        path = self._path(self._worker)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == self._inode:  # else it is its follower's
                path.unlink()
        os.close(self._folder)

    def _path(self, worker: int) -> Path:
        """Short, however deep the folder is: a socket's path may have 107 bytes."""
        return Path(f"/proc/self/fd/{self._folder}/{worker}.sock")

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, TimeoutError, ValueError, KeyError):
            async with asyncio.timeout(_SECONDS):
                word, _, rest = (await reader.readline()).decode().strip().partition(" ")
                writer.write(self.tells[word](rest))
                await writer.drain()
        writer.close()

    async def _ask(self, worker: int, asked: str) -> bytes | None:
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._path(worker))
                try:
                    writer.write(asked.encode() + b"\n")
                    return await reader.read(-1)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None


def _decoded(said: bytes | None) -> list[_Family] | None:
    try:
        return _families.decode(said or b"")
    except msgspec.DecodeError:
        return None


class _Together(Collector):
    def __init__(self, told: dict[int, list[_Family] | None]) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        up = Metric(UP, "1 while the worker answers its siblings.", "gauge")
        found: dict[str, Metric] = {}
        for worker, families in self._told.items():
            label = {"worker": str(worker)}
            up.add_sample(up.name, label, families is not None)
            for name, text, kind, unit, samples in families or ():
                metric = found.setdefault(name, Metric(name, text, kind, unit))
                for sample, labels, value in samples:
                    metric.add_sample(sample, labels | label, value)
        return iter([*found.values(), up])


def _read(registry: CollectorRegistry) -> list[_Family]:
    return [
        (metric.name, metric.documentation, metric.type, metric.unit, _samples(metric))
        for metric in registry.collect()
    ]


def _samples(metric: Metric) -> list[_Sample]:
    samples: Iterable[_Sample] = (
        (each.name, dict(each.labels), float(each.value)) for each in metric.samples
    )
    return list(samples)
