"""Files that are there whole or not at all, also after the power went."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Replaces the file; durable at return. Only one process may write it at a time."""
    with temporary(path.with_name(f"{path.name}.tmp")) as new:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    sync_folder(path.parent)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Gone on every way out, unless it was renamed."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    # A rename is durable only once its folder is: fsync(2), "Calling fsync() does not necessarily ensure that the entry
    # in the directory containing the file has also reached disk".
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
