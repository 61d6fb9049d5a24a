"""A helper that damages files by flipping a bit."""

from pathlib import Path


def flip(path: Path, at: int | None = None) -> None:
    """Flip a bit of the byte at offset `at`, or of the byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
