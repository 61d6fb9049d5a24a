"""How far the ledger is known to have come: `ledger.durable` in the data folder, one number in decimal.

A store whose ledger ends before that has lost stops: it was emptied, an older copy was put in its place, or another store was
named and nothing copied. Nobody opens such a one. In a backup there is none: a folder that is restored is taken as it is.
"""

import os
from pathlib import Path
from typing import Final

from dialgate.lockfile import locked
from dialgate.model import SECOND, Instant
from dialgate.store import StoreUnavailable

# So long after it was seen an entry cannot be lost with the server that showed it: it is on the disk, here and at the replicas.
_CERTAIN: Final = 5 * SECOND
_DIGITS: Final = 20


class Reached:
    """Of one data folder, which several processes may share: what they note only grows."""

    def __init__(self, data: Path) -> None:
        self._path = data / "ledger.durable"
        self._noted = 0
        self._seen = 0, 0

    def held(self) -> int:
        """Raises `StoreUnavailable`, `OSError`."""
        try:
            return int(self._path.read_bytes() or 0)  # empty: made a moment ago, or before the power went
        except FileNotFoundError:
            return 0
        except ValueError:
            raise StoreUnavailable(
                f"{self._path}: no number; delete it if the store is the right one"
            ) from None

    def note(self, newest: int, now: Instant) -> int:
        """`newest`: where the ledger ends. Returns how far it is certain to have come; that is on the disk then. Blocks. Raises
        `OSError`."""
        seq, at = self._seen
        if now - at >= _CERTAIN:
            self._seen = newest, now
            certain = min(seq, newest)
            if certain > self._noted:
                self._write(certain)
                self._noted = certain
        return self._noted

    def _write(self, seq: int) -> None:
        with locked(self._path) as fd:
            held = os.pread(fd, _DIGITS, 0)
            if not held.isdigit() or int(held) < seq:
                os.pwrite(fd, b"%0*d" % (_DIGITS, seq), 0)
                os.fdatasync(fd)
