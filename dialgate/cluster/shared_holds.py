"""Legal holds for gates that share a store: in the store, with a copy on each gate (`dialgate.audit.legal_holds`).

A hold must last as long as the log that it protects, even if the store is lost or restored from an older backup. So each gate
publishes the holds that the store lacks, and of two changes the later one counts. Each step that destroys data calls `sync` first.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from dialgate.audit.legal_holds import HoldRefused, Holds, LegalHold, UnderHold
from dialgate.core.model import SECOND, Instant
from dialgate.core.struct_copies import copy_fields
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import mask_number
from dialgate.store import Documents, StoreUnavailable
from dialgate.store.documents import StoredHold

_INTERVAL: Final = 5 * SECOND
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class SharedHolds:
    """The legal holds on this gate, which equal those in the store after each `sync`.

    Methods raise `StoreUnavailable` if holds cannot be read or written. In that case, the caller must not destroy data.
    """

    def __init__(self, holds: Holds, keys: Keys, store: Documents) -> None:
        self._holds, self._keys, self._store = holds, keys, store
        self._synced: Instant = 0
        # A sync between the two writes of a change would undo the change that the store does not have yet.
        self._turn = asyncio.Lock()

    async def sync(self) -> UnderHold:
        """Make the holds here and in the store equal, and return the numbers on hold."""
        async with self._turn:
            stored = await self._store.holds()
            for key, hold in await _run_in_thread(lambda: self._merge(stored)):
                await self._store.put_hold(key, hold)
            return await _run_in_thread(self._holds.under)

    async def tick(self, now: Instant) -> None:
        """Call `sync` every few seconds, so that each gate shows the holds that another one placed."""
        if abs(now - self._synced) >= _INTERVAL:
            await self.sync()
            self._synced = now

    def _merge(self, stored: dict[str, StoredHold]) -> list[tuple[str, StoredHold]]:
        """Place and lift holds here as in the store. Return those that the store lacks."""
        unseal = self._keys.holds.unseal
        own = {self._key(unseal(hold.number)): hold for hold in self._holds.all() if hold.number}
        for key, hold in stored.items():
            here, end = own.get(key), hold.lifted_at
            if not end and here is None:
                placed = self._holds.add(unseal(hold.number), at=hold.at, by=hold.by, reason=hold.reason)
                _log.warning("hold copied from another gate", hold=placed.id, by=placed.by)
            elif here is not None and here.at <= end:
                self._holds.lift(unseal(here.number), at=end, by=hold.lifted_by, reason=hold.lifted_because)
        return [
            (key, copy_fields(hold, StoredHold))
            for key, hold in own.items()
            if key not in stored or 0 < stored[key].lifted_at < hold.at
        ]

    async def place(self, number: str, *, at: Instant, by: str, reason: str) -> LegalHold:
        """Place a hold on a number (E.164).

        Raises `HoldRefused` if the number is on hold, or if the texts contain it. If the store is unavailable, the hold is
        in force on this gate, and is published later.
        """
        async with self._turn:
            hold = await asyncio.to_thread(self._holds.add, number, at=at, by=by, reason=reason)
            await self._store.put_hold(self._key(number), copy_fields(hold, StoredHold))
        return hold

    async def lift(self, number: str, *, at: Instant, by: str, reason: str) -> LegalHold:
        """Lift a hold. Raises `HoldRefused` if the number is not on hold, or if the texts contain it."""
        await self.sync()
        async with self._turn:
            hold = await asyncio.to_thread(self._holds.lift, number, at=at, by=by, reason=reason)
            await self._store.put_hold(self._key(number), copy_fields(hold, StoredHold))
        return hold

    async def list_holds(self, number: str = "") -> list[LegalHold]:
        """Return the holds, including lifted ones, or only the hold in force on `number` (E.164)."""
        await self.sync()
        holds = await _run_in_thread(lambda: (self._holds.find(number),) if number else self._holds.all())
        return [hold for hold in holds if hold is not None]

    def masked_number(self, hold: LegalHold) -> str:
        """Return the number of a hold in force with most digits hidden, or "" for a lifted one."""
        return mask_number(self._keys.holds.unseal(hold.number)) if hold.number else ""

    def _key(self, number: str) -> str:
        return self._keys.named("?holds", number.encode()).hex()  # "?": not the name of a controller


async def _run_in_thread(work: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(work)
    except (HoldRefused, OSError) as fault:
        raise StoreUnavailable(f"legal holds: {fault}") from fault
