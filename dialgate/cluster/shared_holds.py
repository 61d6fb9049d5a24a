"""Legal holds for gates that share a store. Each gate has a copy of every hold (`dialgate.audit.legal_holds`).

Holds are not kept in the store. A hold must last as long as the log that it protects, even if the store is lost or
restored from an older backup. See docs/decisions/0012-seal-requests-between-gates.md.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeVar

import structlog

from dialgate.audit.legal_holds import HoldRefused, Holds, LegalHold, UnderHold
from dialgate.cluster.peer_questions import LiftHold, ListHolds, PlaceHold
from dialgate.cluster.peers import Peers
from dialgate.crypto.keys import Keys
from dialgate.store import StoreUnavailable

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class SharedHolds:
    """The legal holds on one gate and its peers.

    Methods raise `StoreUnavailable` if holds cannot be read or written. In that case, the caller must not destroy data.
    """

    def __init__(self, holds: Holds, keys: Keys, peers: Peers) -> None:
        self._holds, self._keys, self._peers = holds, keys, peers

    async def under(self) -> UnderHold:
        """Return the numbers on hold on this gate."""
        return await _run_in_thread(self._holds.under)

    async def change(self, change: PlaceHold | LiftHold) -> bool:
        """Place or lift a hold in this gate's own records for another gate. Return whether anything changed."""

        def changed() -> LegalHold | None:
            self._refuse_replay(change)
            return self._place(change) if isinstance(change, PlaceHold) else self._lift(change)

        return await _run_in_thread(changed) is not None

    def _refuse_replay(self, change: PlaceHold | LiftHold) -> None:
        """Raise `HoldRefused` if the request would undo a later one, because it may be a replay."""
        hold = self._holds.find(change.number)
        if isinstance(change, LiftHold) and hold is not None and hold.at > change.at:
            raise HoldRefused("the hold is newer than this request. Request the lift again")
        lifted = (hold.lifted_at for hold in self._holds.all())
        if isinstance(change, PlaceHold) and hold is None and any(at >= change.at for at in lifted):
            raise HoldRefused("a hold was lifted here after this request was made. Request the hold again")

    def _place(self, change: PlaceHold) -> LegalHold | None:
        """Place a hold and return it. Return None if the number is already on hold."""
        return self._add(change) if self._holds.find(change.number) is None else None

    def _lift(self, change: LiftHold) -> LegalHold | None:
        """Lift a hold and return it. Return None if the number is not on hold."""
        if self._holds.find(change.number) is None:
            return None
        return self._holds.lift(change.number, at=change.at, by=change.by, reason=change.reason)

    async def place_everywhere(self, change: PlaceHold) -> tuple[LegalHold | None, dict[str, str]]:
        """Place a hold on all gates. Return it, and the reason for each gate that could not be asked.

        Raises `HoldRefused` if every gate already has the number on hold, or if the texts contain the number.
        """
        placed = await asyncio.to_thread(self._place, change)
        peers = await self._peers.ask(change)
        if not (placed or peers.missing or any(peers.answers.values())):
            raise HoldRefused("this number is already under a legal hold. Lift that hold first.")
        return placed or await asyncio.to_thread(self._holds.find, change.number), peers.missing

    async def lift_everywhere(self, change: LiftHold) -> tuple[LegalHold | None, dict[str, str]]:
        """Lift a hold on all gates. Return this gate's hold, and the reason for each gate that could not be asked.

        Raises `HoldRefused` if no gate has the number on hold, or if the texts contain the number.
        """
        hold = await asyncio.to_thread(self._lift, change)
        peers = await self._peers.ask(change)
        if not (hold or peers.missing or any(peers.answers.values())):
            raise HoldRefused("this number is not under a legal hold.")
        return hold, peers.missing

    async def list_holds(self, number: str = "") -> list[LegalHold]:
        """Return this gate's holds, including lifted ones, or only the hold in force on `number` (E.164)."""
        holds = await _run_in_thread(lambda: (self._holds.find(number),) if number else self._holds.all())
        return [hold for hold in holds if hold is not None]

    def _add(self, change: PlaceHold) -> LegalHold:
        return self._holds.add(change.number, at=change.at, by=change.by, reason=change.reason)

    async def find_here(self) -> list[PlaceHold]:
        """Return the holds in force on this gate."""
        holds = await _run_in_thread(self._holds.all)
        return [
            PlaceHold(self._keys.holds.unseal(hold.number), hold.at, hold.by, hold.reason)
            for hold in holds
            if hold.number
        ]

    async def find_everywhere(self) -> tuple[list[PlaceHold], dict[str, str]]:
        """Return the holds on all gates, and the reason for each gate that could not be asked."""
        peers = await self._peers.ask(ListHolds())
        return [*await self.find_here(), *chain.from_iterable(peers.answers.values())], peers.missing

    async def under_everywhere(self) -> UnderHold:
        """Return the numbers that any gate has on hold. Raises `StoreUnavailable` if a gate could not be asked."""
        return UnderHold(self._keys, sorted({hold.number for hold in await self._all_or_raise()}))

    async def copy_from_peers(self) -> None:
        """Place the other gates' holds on this gate. Call this before a month's keys are destroyed.

        Raises the same errors as `under_everywhere`.
        """
        holds = await self._all_or_raise()
        await _run_in_thread(lambda: self._copy(holds))

    async def _all_or_raise(self) -> list[PlaceHold]:
        holds, missing = await self.find_everywhere()
        if missing:
            reasons = "; ".join(f"{node}: {reason}" for node, reason in missing.items())
            raise StoreUnavailable(
                f"the legal holds on some gates are not known, so nothing is destroyed ({reasons})"
            )
        return holds

    def _copy(self, holds: Iterable[PlaceHold]) -> None:
        for hold in holds:
            if self._holds.find(hold.number) is None:
                placed = self._add(hold)
                _log.warning("hold copied from another gate", hold=placed.id, by=placed.by)


async def _run_in_thread(work: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(work)
    except (HoldRefused, OSError) as fault:
        raise StoreUnavailable(f"legal holds: {fault}") from fault
