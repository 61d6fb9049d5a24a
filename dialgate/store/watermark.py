"""The ledger watermark: the highest sequence number known to be durable.

The watermark is stored as a decimal number in `ledger.durable` in the data folder. If a ledger ends before the
watermark, the store was emptied, restored from an older copy or replaced. Such a store may lack revocations, so
it is refused. Backups do not contain `ledger.durable`, so a data folder restored from a backup is accepted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from dialgate.runtime.atomic_write import write_file
from dialgate.store import Ledger, StoreUnavailable, ledger_too_short

InThread: TypeAlias = Callable[[Callable[[int], None], int], Awaitable[None]]


class LedgerWatermark:
    """The watermark in one data folder. It only grows.

    `in_thread` runs a function in a thread, because file access waits for the disk.
    """

    def __init__(self, data: Path, in_thread: InThread = asyncio.to_thread) -> None:
        self._path, self._in_thread = data / "ledger.durable", in_thread
        self._noted = 0

    def read(self) -> int:
        """Return the watermark, or 0 if none is stored. Raises `StoreUnavailable` and `OSError`."""
        try:
            # Empty: an earlier version created it before a power failure.
            return int(self._path.read_bytes() or 0)
        except FileNotFoundError:
            return 0
        except ValueError:
            raise StoreUnavailable(
                f"{self._path}: the content is not a number. If the `store` setting is correct, delete this file"
            ) from None

    async def expect(self, seq: int) -> None:
        """Set the watermark before an import, so that no gate opens a store whose ledger ends before `seq`.

        Raises `StoreUnavailable` if the watermark is higher, and `OSError`.
        """
        if (known := self.read()) > seq:
            raise ledger_too_short(seq, known)
        await self._in_thread(self._write, seq)

    async def advance(self, store: Ledger) -> None:
        """Make all readable entries durable and set the watermark to the newest.

        Raises `StoreUnavailable` and `OSError`.
        """
        newest = await store.ping()
        self._noted = self._noted or self.read()
        if newest > self._noted:
            await store.append([])  # without drafts, this returns when all readable entries are durable
            await self._in_thread(self._write, newest)
            self._noted = newest
        store.require_seq(self._noted)

    def _write(self, seq: int) -> None:
        write_file(self._path, b"%020d" % seq)
