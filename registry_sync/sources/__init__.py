"""Where files come from and go to. Three doors, one shape; `open_source` picks by kind.

Handing a file over is one step that cannot be half done: `stage` brings it there under a name that nobody takes, and
`hand_over` gives it its own. After a crash `staged` tells whether that step is still to be done.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from dialgate.core.model import Instant
from registry_sync import config

_T = TypeVar("_T")
PART = ".part"


class SourceFailed(Exception):
    """The source cannot be read or written. `passing`: trying again may help."""

    def __init__(self, text: str, *, passing: bool) -> None:
        super().__init__(text)
        self.passing = passing


class Source(Protocol):
    async def names(self) -> dict[str, str]:
        """The files that are there to be taken, each with a mark that changes when the file does."""

    async def fetch(self, name: str, to: Path) -> None:
        """Writes `to`, which is half there where this raises."""

    async def stage(self, name: str, file: Path) -> None: ...

    async def staged(self, name: str) -> bool: ...

    async def hand_over(self, name: str, file: Path) -> None:
        """`file` is what was staged."""


@asynccontextmanager
async def open_source(source: config.Source, folder: Path, now: Instant) -> AsyncIterator[Source]:
    """Paths in `source` are relative to `folder`. Raises SourceFailed; so does every step of the source, after it has
    tried again what may pass."""
    match source:
        case config.FolderSource():
            from registry_sync.sources.folder import Folder  # noqa: PLC0415 - only what is used is loaded

            yield Folder(source, folder, now)
        case config.SftpSource():
            from registry_sync.sources.sftp import connected  # noqa: PLC0415 - as above

            async with connected(source, folder) as sftp:
                yield sftp
        case config.HttpsSource():
            from registry_sync.sources.https import connected as https  # noqa: PLC0415 - as above

            async with https(source, folder) as web:
                yield web


async def retried(
    patience: config.Patience, step: Callable[[], Awaitable[_T]], *, transfer: bool = False
) -> _T:
    """`transfer`: the step carries a file. Raises SourceFailed: at once what will not pass, and after the last attempt what might have."""
    wait = patience.retry_seconds
    seconds = patience.transfer_seconds if transfer else patience.timeout_seconds
    for attempt in range(1, patience.attempts + 1):
        try:
            async with asyncio.timeout(seconds):
                return await step()
        except TimeoutError:
            if attempt == patience.attempts:
                raise SourceFailed(f"no answer within {seconds:g} s, {attempt} times", passing=True) from None
        except SourceFailed as failed:
            if not failed.passing or attempt == patience.attempts:
                raise
        # Jitter keeps many who were cut off together from coming back together; no secret hangs on it.
        await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - as the line above says
        wait *= 2
    raise AssertionError("there is at least one attempt")
