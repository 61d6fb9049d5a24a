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
    """Check the files of a packed segment against their SHA-256.

    Raises `OSError`, and `PackedDamaged` if a file differs.
    """
    listed = _sums(segment)
    for path in files_of(segment):
        if path != sums_of(segment) and listed.get(path.name) != digest(path):
            raise PackedDamaged(path, 0, f"its SHA-256 does not match {sums_of(segment).name}")


def files_of(segment: Path) -> list[Path]:
    """Return all files of a packed segment, with the segment itself last.

    A segment that was packed by an earlier version has its own index file.
    """
    own = segment.with_suffix(".numbers.npy")
    return [*([own] if own.name in _sums(segment) else []), sums_of(segment), segment]


def write_sums(segment: Path, digests: dict[str, str]) -> None:
    write_file(sums_of(segment), _sums_text(digests))


def _sums(segment: Path) -> dict[str, str]:
    path = sums_of(segment)
    try:
        raw = path.read_bytes()
        pairs = [line.split("  ") for line in raw.decode("ascii").splitlines()]
        sums = {name: value for value, name in pairs}
    except (OSError, ValueError) as error:
        raise PackedDamaged(path, 0, f"the checksums of a packed segment cannot be read: {error}") from error
    if raw != _sums_text(sums):
        raise PackedDamaged(path, 0, "the checksums of a packed segment were modified")
    return sums


def _sums_text(digests: dict[str, str]) -> bytes:
    return b"".join(b"%b  %b\n" % (value.encode(), name.encode()) for name, value in digests.items())
