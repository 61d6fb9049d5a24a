"""Consultations dated later than the clock of the gate that saw them, which are void for good.

A registry's answer that was imported while a clock was wrong has a date in the future. Once that date has come, the answer
would look fresh, and be valid long after its 15 days (DPR 26/2022 art. 8 c. 2). So a gate notes the consultation's id the
first time it sees one, in the file `consultations.void` of its data folder, one id a line.
"""

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from dialgate.core.model import Instant
from dialgate.lists.manifest import read_manifest
from dialgate.lists.number_set import NumberSet
from dialgate.lists.snapshot import Consultation, read_contents
from dialgate.runtime.clock import TOLERANCE

_FILE: Final = "consultations.void"


def read(data: Path) -> frozenset[str]:
    """Return the ids of the void consultations. Raises `OSError`."""
    try:
        return frozenset((data / _FILE).read_text("utf-8").split())
    except FileNotFoundError:
        return frozenset()


def note(data: Path, folder: Path, now: Instant) -> frozenset[str]:
    """Note the consultations in the snapshot `folder` that are later than `now`, and return all void ones.

    On return the note is durable. Clocks may differ by `TOLERANCE`. Raises `SnapshotMissing`, `DamagedFile` and `OSError`.
    """
    known = read(data)
    ahead = {item.id for item in _consultations(folder) if item.submitted_at > now + TOLERANCE}
    if new := ahead - known:
        _append(data / _FILE, new)
    return known | ahead


def _consultations(folder: Path) -> Iterable[Consultation]:
    for entry in read_manifest(folder).files:
        path = folder / entry.file
        with closing(NumberSet.open(path)) as numbers:
            yield from read_contents(numbers, path).consultations


def _append(path: Path, ids: Iterable[str]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(
            fd, "".join(f"\n{name}\n" for name in sorted(ids)).encode()
        )  # a crash may have left an incomplete line
        os.fsync(fd)
    finally:
        os.close(fd)
