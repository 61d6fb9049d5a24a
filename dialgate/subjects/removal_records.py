"""What was removed after its retention period, by each run, in the file `removals.json` of the data folder.

A migration of `subjects.db` would make it unreadable for an earlier version, so these records are a file of their own. It contains
no data about people called, only counts, months and who asked for the run.
"""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.core.text_formats import Timestamp
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.file_lock import hold_lock
from dialgate.subjects.expiry import Removal

_MOST: Final = 4_000  # runs kept: ten years of daily ones


class RemovalRecord(Struct, frozen=True, kw_only=True):
    """One run: data removed, by kind, or the `months` whose keys were destroyed. `actor` is empty for the gate's daily run."""

    at: Timestamp
    actor: str = ""
    kinds: list[Removal] = []
    months: list[str] = []


class RemovalRecords:
    """The records in one data folder. Methods block, and raise `OSError` and `msgspec.DecodeError`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "removals.json"

    def read(self) -> list[RemovalRecord]:
        """Return the records, oldest first."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[RemovalRecord])
        except FileNotFoundError:
            return []

    def add(self, record: RemovalRecord) -> None:
        with hold_lock(self._path.with_suffix(".lock")):
            write_file(self._path, msgspec.json.encode([*self.read(), record][-_MOST:]))
