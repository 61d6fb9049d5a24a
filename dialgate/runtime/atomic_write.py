"""Atomic, durable writes.

After a crash or a power cut, a file has either its old or its new content.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, content: bytes, temporary: Path | None = None) -> None:
    with replace_file(path, temporary) as file:
        file.write(content)


@contextmanager
def replace_file(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Open a new private file, which replaces `path` when the block ends without an exception.

    Processes that can write `path` at the same time must each pass a different `temporary`, in the folder of `path`.
    """
    with remove_on_exit(temporary or path.with_name(f"{path.name}.new")) as new:
        with open_private(new) as file:
            yield file
        publish_file(new, path)


def publish_file(temporary: Path, path: Path) -> None:
    """Sync a finished file, rename it to `path` in the same folder, and sync the folder."""
    sync_file(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def remove_on_exit(path: Path) -> Iterator[Path]:
    """Remove the file when the block ends, unless it was renamed."""
    try:
        yield path
    finally:
        with suppress(OSError):  # do not replace the exception that the block raised
            path.unlink()


def open_private(path: Path) -> BinaryIO:
    """Create a file that only its owner can access, replacing an existing one."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def sync_file(path: Path) -> None:
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Sync a folder to make new file names durable. Syncing only the files would not do this (fsync(2))."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
