"""The shipping process, which sends segments and records to their targets and writes metrics.

Segments are shipped in a separate thread, because sending them may block.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from dialgate.config import url_secrets
from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.crypto.keys import KeysUnusable, first_log
from dialgate.runtime.file_lock import hold_lock
from dialgate.shipping import status, target
from dialgate.shipping.cursor import Cursors
from dialgate.shipping.fetching import fetch
from dialgate.shipping.redis_stream import StreamShipping
from dialgate.shipping.segments import SegmentShipping
from dialgate.shipping.target import StorageRefused, TargetFailed

_STREAM_INTERVAL: Final = 0.25  # seconds; a gate publishes about once a second how far its log is on disk
_METRICS_INTERVAL: Final = 5.0  # seconds
_MAX_WAIT: Final = 60.0  # seconds
_log = structlog.get_logger(__name__)


class Shipper:
    """The shipper for one data folder. In this folder, it writes only to `shipping/`.

    `clock` supplies the time for metrics.
    """

    def __init__(self, config: Config, clock: Callable[[], Instant], *, compare_all: bool = False) -> None:
        """Open the targets. Raises `StorageRefused` and `OSError`.

        With `compare_all`, the first round compares every segment with its copy at the target, even if the segment
        was shipped before.
        """
        shipping = config.settings.shipping
        if shipping is None:
            raise StorageRefused("`shipping` is not configured: add it to the configuration")
        folder, node = config.data / "shipping", config.settings.node
        self._clock = clock
        self._textfile = config.folder / shipping.textfile if shipping.textfile else None
        self._data = config.data
        self._segments: SegmentShipping | None = None
        self._objects: target.Objects | None = None
        self._stream: StreamShipping | None = None
        if shipping.to:
            to = target.open_target(shipping, config.folder)
            cursors = Cursors(
                folder / "segments.json", f"{shipping.to} {shipping.endpoint}", restart=compare_all
            )
            shared = config.settings.store is not None
            self._segments = SegmentShipping(
                config.data, node, to, cursors, at_once=shipping.at_once, shared=shared
            )
            self._objects = to if isinstance(to, target.Objects) else None
        if shipping.stream is not None:
            url = _url(shipping.stream.url, shipping.stream.url_file, config.folder)
            try:
                cursors = Cursors(folder / "stream.json", url)
                self._stream = StreamShipping(config.data, node, shipping.stream, url, cursors)
            except ValueError as error:
                raise StorageRefused(
                    f"shipping: stream: {error}. Use the form `redis://host:6379/0`"
                ) from None

    async def once(self) -> bool:
        """Ship everything that is available now. Return False if something failed."""
        try:
            if self._segments is not None:
                await asyncio.to_thread(self._ship_and_fetch, self._segments)
            while self._stream is not None and await self._stream.round():
                pass
        finally:
            await self.close()
        return not any(standing.problem for standing in self.standings().values())

    async def run(self, stop: asyncio.Event) -> None:
        """Ship until `stop` is set.

        An unexpected error ends the process. Nothing is lost, and the service manager restarts the process.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(self._write_metrics_regularly())]
                if self._segments is not None:
                    background.append(tasks.create_task(self._shipping(self._segments)))
                if self._stream is not None:
                    background.append(tasks.create_task(self._streaming(self._stream)))
                await stop.wait()
                for task in background:
                    task.cancel()
        finally:
            await self.close()

    def standings(self) -> status.Standings:
        targets: dict[status.To, SegmentShipping | StreamShipping | None]
        targets = {"segments": self._segments, "stream": self._stream}
        return {
            (to, number): progress
            for to, target in targets.items()
            if target is not None
            for number, progress in target.standings.items()
        }

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.close()
        self._write_metrics()

    async def _shipping(self, segments: SegmentShipping) -> None:
        wait = segments.interval
        while True:
            succeeded = await asyncio.to_thread(self._ship_and_fetch, segments)
            wait = segments.interval if succeeded else min(2 * wait, _MAX_WAIT)
            await asyncio.sleep(wait)

    def _ship_and_fetch(self, segments: SegmentShipping) -> bool:
        """Ship this node's segments, and copy those of the other nodes from object storage. Return whether all succeeded."""
        succeeded = segments.round()
        try:
            if self._objects is not None:
                logs = {path.stem for path in (self._data / "peers").glob("*.json")}
                fetch(self._objects, self._data / "shipped", logs - {first_log(self._data / "keys.json")})
        except (TargetFailed, KeysUnusable, OSError) as error:
            _log.warning("logs of other nodes not copied", problem=str(error))
            return False
        return succeeded

    async def _streaming(self, stream: StreamShipping) -> None:
        wait = _STREAM_INTERVAL
        while True:
            more = await stream.round()
            failing = any(standing.problem for standing in stream.standings.values())
            wait = min(2 * wait, _MAX_WAIT) if failing else _STREAM_INTERVAL
            if failing or not more:
                await asyncio.sleep(wait)

    async def _write_metrics_regularly(self) -> None:
        while True:
            self._write_metrics()
            await asyncio.sleep(_METRICS_INTERVAL)

    def _write_metrics(self) -> None:
        if self._textfile is None:
            return
        try:
            status.write_metrics(self.standings(), self._clock(), self._textfile)
        except OSError as error:
            _log.error("the metrics cannot be written", file=str(self._textfile), problem=str(error))


def _url(url: str, file: str, folder: Path) -> str:
    try:
        return url_secrets.read_url(url, file, folder)
    except (OSError, UnicodeDecodeError) as error:
        raise StorageRefused(f"shipping: stream: {folder / file} cannot be read: {error}") from None


@contextmanager
def shipping_lock(data: Path) -> Iterator[None]:
    """Hold the lock for shipping this folder. Raises `OSError`, and `StorageRefused` if another process holds the lock."""
    folder = data / "shipping"
    folder.mkdir(mode=0o700, exist_ok=True)
    with hold_lock(
        folder / ".lock", StorageRefused(f"{data}: another `dialgate ship` is running for this folder")
    ):
        yield
