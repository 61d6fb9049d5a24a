"""A file with one bit of it changed, whatever stood there."""

from pathlib import Path


def flip(path: Path, at: int | None = None) -> None:
    """Of the byte `at`; of the one in the middle without it."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
