"""A local or mounted folder as a source.

Another program or a person exchanges the files in it with the registry.
"""

import asyncio
import shutil
from pathlib import Path

from dialgate.core.model import SECOND, Instant
from dialgate.runtime.atomic_write import sync_file, sync_folder
from registry_sync.source_settings import FolderSource
from registry_sync.sources import PART, SourceFailed


class Folder:
    def __init__(self, source: FolderSource, base: Path, now: Instant) -> None:
        self._inbox = base / source.inbox
        self._outbox = base / source.outbox if source.outbox else None
        self._settle, self._now = int(source.settle_seconds * SECOND), now

    async def list_files(self) -> dict[str, str]:
        """Return the files. Omit files changed within the last `settle_seconds`, because they may be incomplete."""
        try:
            files = {path.name: path.stat() for path in self._inbox.iterdir() if path.is_file()}
        except OSError as error:
            raise _failed(self._inbox, error) from error
        return {
            name: f"{stat.st_size}.{stat.st_mtime_ns}"
            for name, stat in sorted(files.items())
            if not name.endswith(PART)
            and (not self._settle or stat.st_mtime_ns // 1_000_000 + self._settle <= self._now)
        }

    async def fetch(self, name: str, to: Path) -> None:
        try:
            await asyncio.to_thread(shutil.copyfile, self._inbox / name, to)
        except OSError as error:
            raise _failed(self._inbox / name, error) from error

    async def stage(self, name: str, file: Path) -> None:
        part = self._out(name + PART)
        try:
            await asyncio.to_thread(shutil.copyfile, file, part)
            await asyncio.to_thread(sync_file, part)
            sync_folder(part.parent)
        except OSError as error:
            raise _failed(part, error) from error

    async def is_staged(self, name: str) -> bool:
        part = self._out(name + PART)
        # Without this check, an unmounted folder would look like a package already handed over.
        if not part.parent.is_dir():
            raise SourceFailed(f"outbox {part.parent} does not exist", transient=False)
        return part.exists()

    async def hand_over(self, name: str, file: Path) -> None:  # noqa: ARG002 - renames the staged copy
        part = self._out(name + PART)
        try:
            part.replace(self._out(name))
            sync_folder(part.parent)
        except OSError as error:
            raise _failed(part, error) from error

    def _out(self, name: str) -> Path:
        assert self._outbox is not None, (
            "the configuration requires an outbox for registries that answer queries"
        )
        return self._outbox / name


def _failed(path: Path, error: OSError) -> SourceFailed:
    return SourceFailed(f"{path}: {error.strerror}", transient=False)
