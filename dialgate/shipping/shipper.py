"""Both at once: segments in a thread, for a target may block; the stream; and what is told of them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.runtime.file_lock import hold_lock
from dialgate.shipping import status, target
from dialgate.shipping.cursor import Cursors
from dialgate.shipping.segments import SegmentShipping
from dialgate.shipping.status import Standing
from dialgate.shipping.stream import StreamShipping
from dialgate.shipping.target import Refused

_LOOK: Final = 0.25  # seconds; the gate says once a second how far its log is on the disk
_SEGMENTS: Final = 10.0
_TELL: Final = 5.0
_LONGEST_WAIT: Final = 60.0
_log = structlog.get_logger(__name__)


class Shipper:
    """Of one data folder, of which it writes `shipping/` only. `clock`: for who watches."""

    def __init__(self, config: Config, clock: Callable[[], Instant], *, anew: bool = False) -> None:
        """`anew`: compare all that a target has, not only what is new. Raises `Refused`, `OSError`."""
        shipping = config.settings.shipping
        if shipping is None:
            raise Refused("nothing is to be shipped: give `shipping` in the configuration")
        folder, node = config.data / "shipping", config.settings.node
        self._clock = clock
        self._textfile = config.folder / shipping.textfile if shipping.textfile else None
        self._segments: SegmentShipping | None = None
        self._stream: StreamShipping | None = None
        if shipping.to:
            to = target.opened(shipping, config.folder)
            cursors = Cursors(folder / "segments.json", f"{shipping.to} {shipping.endpoint}", anew=anew)
            self._segments = SegmentShipping(config.data, node, to, cursors, at_once=shipping.at_once)
        if shipping.stream is not None:
            url = _url(shipping.stream.url, shipping.stream.url_file, config.folder)
            try:
                cursors = Cursors(folder / "stream.json", url)
                self._stream = StreamShipping(config.data, node, shipping.stream, url, cursors)
            except ValueError as error:
                raise Refused(f"shipping: stream: {error}; write it as redis://host:6379/0") from None

    async def once(self) -> bool:
        """All that is there now. Whether nothing failed."""
        try:
            if self._segments is not None:
                await asyncio.to_thread(self._segments.round)
            while self._stream is not None and await self._stream.round():
                pass
        finally:
            await self.close()
        return not any(each.problem for each in self.standings().values())

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. What was not foreseen ends it: whoever started it starts it again, and nothing is lost."""
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(self._telling())]
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
        found: dict[tuple[status.To, int], Standing] = {}
        if self._segments is not None:
            found |= {("segments", worker): each for worker, each in self._segments.standings.items()}
        if self._stream is not None:
            found |= {("stream", worker): each for worker, each in self._stream.standings.items()}
        return found

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.close()
        self._tell()

    async def _shipping(self, segments: SegmentShipping) -> None:
        wait = _SEGMENTS
        while True:
            went_on = await asyncio.to_thread(segments.round)
            wait = _SEGMENTS if went_on else min(2 * wait, _LONGEST_WAIT)
            await asyncio.sleep(wait)

    async def _streaming(self, stream: StreamShipping) -> None:
        wait = _LOOK
        while True:
            more = await stream.round()
            failing = any(each.problem for each in stream.standings.values())
            wait = min(2 * wait, _LONGEST_WAIT) if failing else _LOOK
            if failing or not more:
                await asyncio.sleep(wait)

    async def _telling(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(_TELL)

    def _tell(self) -> None:
        if self._textfile is None:
            return
        try:
            status.tell(self.standings(), self._clock(), self._textfile)
        except OSError as error:
            _log.error("the metrics cannot be written", file=str(self._textfile), problem=str(error))


def _url(url: str, file: str, folder: Path) -> str:
    if not file:
        return url
    try:
        return (folder / file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"shipping: stream: {folder / file} cannot be read: {error}") from None


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Raises `Refused` where another ships this folder, `OSError`."""
    folder = data / "shipping"
    folder.mkdir(mode=0o700, exist_ok=True)
    with hold_lock(folder / ".lock", Refused(f"{data}: another process ships this log; let it work")):
        yield
