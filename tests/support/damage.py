"""Helpers that damage a file or fill a disk."""

from contextlib import suppress
from pathlib import Path


def flip(path: Path, at: int | None = None) -> None:
    """Flip a bit of the byte at offset `at`, or of the byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
