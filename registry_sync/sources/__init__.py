"""Transports for registry files: a folder, SFTP and HTTPS. `open_source` selects one by its `kind`.

A file is handed over atomically: `stage` writes it under a temporary name that the registry ignores, and
`hand_over` renames it. After a crash, `is_staged` returns whether the file still has to be handed over.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from dialgate.core.model import Instant
from dialgate.runtime.extras import require
from registry_sync import source_settings

_T = TypeVar("_T")
PART = ".part"


class SourceFailed(Exception):
    """Raised if a source cannot be read or written. If `transient` is true, a retry may succeed."""

    def __init__(self, text: str, *, transient: bool) -> None:
        super().__init__(text)
        self.transient = transient


class Source(Protocol):
    async def list_files(self) -> dict[str, str]:
        """Return the names of the available files, mapped to change marks.

        A file's change mark (for example, its ETag) changes when the contents of the file change. The mark is "" if
        the source does not provide one.
        """

    async def fetch(self, name: str, to: Path) -> None:
        """Copy a file to `to`. If this raises, `to` may be incomplete."""

    async def stage(self, name: str, file: Path) -> None: ...

    async def is_staged(self, name: str) -> bool: ...

    async def hand_over(self, name: str, file: Path) -> None:
        """Hand over the staged file. `file` is the local copy."""


@asynccontextmanager
async def open_source(source: source_settings.Source, folder: Path, now: Instant) -> AsyncIterator[Source]:
    """Open a source. Its paths are relative to `folder`.

    This function and the source's methods retry transient failures. After the last attempt they raise
    SourceFailed.
    """
    match source:
        case source_settings.FolderSource():
            from registry_sync.sources.folder import Folder  # noqa: PLC0415 - loads only the transport in use

            yield Folder(source, folder, now)
        case source_settings.SftpSource():
            require("sftp", "An SFTP source")
            from registry_sync.sources.sftp import connect  # noqa: PLC0415 - as above

            async with connect(source, folder) as sftp:
                yield sftp
        case source_settings.HttpsSource():
            from registry_sync.sources.https import connect as https  # noqa: PLC0415 - as above

            async with https(source, folder) as web:
                yield web


async def retry(
    patience: source_settings.Patience, step: Callable[[], Awaitable[_T]], *, transfer: bool = False
) -> _T:
    """Run a step, and repeat it after transient failures.

    Set `transfer` for a step that copies a file and needs a longer timeout. Raises SourceFailed at once if
    the failure is permanent, or after the last attempt.
    """
    wait = patience.retry_seconds
    seconds = patience.transfer_seconds if transfer else patience.timeout_seconds
    for attempt in range(1, patience.attempts + 1):
        try:
            async with asyncio.timeout(seconds):
                return await step()
        except TimeoutError:
            if attempt == patience.attempts:
                raise SourceFailed(
                    f"no response within {seconds:g} s in {attempt} attempts", transient=True
                ) from None
        except SourceFailed as failed:
            if not failed.transient or attempt == patience.attempts:
                raise
        # Jitter spreads the retries of clients that failed together.
        await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - not used for security
        wait *= 2
    raise AssertionError("no attempt was made")
