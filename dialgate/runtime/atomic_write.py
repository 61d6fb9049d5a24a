"""Files that appear whole and durable, or not at all, also after a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, content: bytes, temporary: Path | None = None) -> None:
    """Replace the file's content, as `replace_file`."""
    with replace_file(path, temporary) as file:
        file.write(content)


@contextmanager
def replace_file(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Open a new file, private to its owner, that replaces `path` when the block ends. An exception leaves `path` as it was.

    Two processes that may write `path` at once each need a `temporary` name of their own, in the same folder.
    """
    with remove_on_exit(temporary or path.with_name(f"{path.name}.new")) as new:
        with open_private(new) as file:
            yield file
        publish_file(new, path)


def publish_file(temporary: Path, path: Path) -> None:
    """Sync a finished file and rename it to `path`, in the same folder; the name is durable too."""
    sync_file(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def remove_on_exit(path: Path) -> Iterator[Path]:
    """Remove the file when the block ends, unless it was renamed."""
    try:
        yield path
    finally:
        with suppress(OSError):  # the reason why it was not finished is the one to report
            path.unlink()


def open_private(path: Path) -> BinaryIO:
    """Create the file, in place of any there, readable and writable by its owner alone."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def sync_file(path: Path) -> None:
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Make new names durable: fsync(2) of a file does not sync its entry in the folder."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
