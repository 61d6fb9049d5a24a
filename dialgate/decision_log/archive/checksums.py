"""The SHA-256 files of packed segments, which detect a modified segment without decoding it."""

import hashlib
from pathlib import Path

from dialgate.decision_log.segment import LogDamaged
from dialgate.runtime.atomic_write import write_file


class PackedDamaged(LogDamaged, ValueError):
    """The error for a packed segment that was modified.

    It is also a `ValueError`, because `verify` expects one for unreadable segments.
    """


def sums_of(segment: Path) -> Path:
    return segment.with_suffix(".sha256")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(segment: Path) -> None:
    """Check a packed segment against its SHA-256. Raises `OSError`, and `PackedDamaged` if it differs."""
    path = sums_of(segment)
    try:
        listed = path.read_bytes()
    except OSError as error:
        raise PackedDamaged(path, 0, f"the checksum of a packed segment cannot be read: {error}") from error
    if listed != _sum_text(segment.name, digest(segment)):
        raise PackedDamaged(segment, 0, f"its SHA-256 does not match {path.name}")


def files_of(segment: Path) -> list[Path]:
    """Return the files of a packed segment without its index, with the segment itself last."""
    return [sums_of(segment), segment]


def write_sum(segment: Path, value: str) -> None:
    write_file(sums_of(segment), _sum_text(segment.name, value))


def _sum_text(name: str, value: str) -> bytes:
    return f"{value}  {name}\n".encode()
