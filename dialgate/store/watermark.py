"""How far the ledger is known to have come: `ledger.durable` in the data folder, one number in decimal.

A store whose ledger ends before that has lost stops: it was emptied, an older copy was put in its place, or another store was
named and nothing copied. Nobody opens such a one. In a backup there is none: a folder that is restored is taken as it is.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

from dialgate.runtime.file_lock import hold_lock
from dialgate.store import Ledger, StoreUnavailable

InThread: TypeAlias = Callable[[Callable[[int], None], int], Awaitable[None]]
_DIGITS: Final = 20


class Reached:
    """Of one data folder, which several processes may share: what they note only grows. `in_thread`: runs what waits for the
    disk."""

    def __init__(self, data: Path, in_thread: InThread = asyncio.to_thread) -> None:
        self._path, self._in_thread = data / "ledger.durable", in_thread
        self._noted = 0

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

    async def keep(self, store: Ledger) -> None:
        """What the ledger holds by now cannot be lost any more, and neither can that it did. Raises `StoreUnavailable`, `OSError`."""
        newest = await store.ping()
        self._noted = self._noted or self.held()
        if newest > self._noted:
            await store.append([])  # what could be read is durable on its return
            await self._in_thread(self._write, newest)
            self._noted = newest
        store.hold_to(self._noted)

    def _write(self, seq: int) -> None:
        with hold_lock(self._path) as fd:
            held = os.pread(fd, _DIGITS, 0)
            if not held.isdigit() or int(held) < seq:
                os.pwrite(fd, b"%0*d" % (_DIGITS, seq), 0)
                os.fdatasync(fd)
