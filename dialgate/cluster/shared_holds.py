"""Legal holds where several gates share a store: each keeps the same, in its own data folder (`dialgate.audit.legal_holds`)."""

import asyncio
from collections.abc import Iterable
from itertools import chain

import structlog

from dialgate.audit.legal_holds import HoldRefused, Holds, UnderHold
from dialgate.cluster.peers import HoldLifted, HoldPlaced, HoldsKept, Peers
from dialgate.crypto.keys import Keys
from dialgate.store import StoreUnavailable

_log = structlog.get_logger(__name__)


class SharedHolds:
    """Of one gate. Every method raises `StoreUnavailable` where holds cannot be read or written: nothing is destroyed then."""

    def __init__(self, holds: Holds, keys: Keys, peers: Peers) -> None:
        self._holds, self._keys, self._peers = holds, keys, peers

    async def under(self) -> UnderHold:
        try:
            return await asyncio.to_thread(self._holds.under)
        except (HoldRefused, OSError) as fault:
            raise _unknown(fault) from fault

    async def change(self, asked: HoldPlaced | HoldLifted) -> bool:
        """Here. Whether there was anything to change."""
        try:
            return await asyncio.to_thread(self._change, asked)
        except (HoldRefused, OSError) as fault:
            raise _unknown(fault) from fault

    def _change(self, asked: HoldPlaced | HoldLifted) -> bool:
        """What somebody took down and sends again, minutes later, undoes nothing that was done since."""
        held = self._holds.find(asked.number)
        if isinstance(asked, HoldPlaced):
            if held is None and any(each.lifted_at >= asked.at for each in self._holds.all()):
                raise HoldRefused("a hold was lifted here since this one was placed; place it again")
            if held is None:
                self._holds.add(asked.number, at=asked.at, by=asked.by, reason=asked.reason)
            return held is None
        if held is not None and held.at > asked.at:
            raise HoldRefused("the hold was placed since it was lifted; lift it again")
        if held is not None:
            self._holds.lift(asked.number, at=asked.at, by=asked.by, reason=asked.reason)
        return held is not None

    async def kept(self) -> list[HoldPlaced]:
        """Here."""
        try:
            held = await asyncio.to_thread(self._holds.all)
            return [
                HoldPlaced(self._keys.holds.unseal(each.number), each.at, each.by, each.reason)
                for each in held
                if each.number
            ]
        except (HoldRefused, OSError) as fault:
            raise _unknown(fault) from fault

    async def heard(self) -> tuple[list[HoldPlaced], dict[str, str]]:
        """Of this gate and the others; and of each that could not be asked, why."""
        told = await self._peers.ask(HoldsKept(), list[HoldPlaced])
        return [*await self.kept(), *chain.from_iterable(told.answers.values())], told.missing

    async def everywhere(self) -> list[HoldPlaced]:
        """The same, to be asked before anything is destroyed. Raises also where somebody cannot be asked."""
        found, missing = await self.heard()
        if missing:
            reasons = "; ".join(f"{node}: {why}" for node, why in missing.items())
            raise StoreUnavailable(
                f"what others hold as evidence is not known, so nothing is destroyed ({reasons})"
            )
        return found

    async def under_everywhere(self) -> UnderHold:
        """Raises as `everywhere`."""
        return UnderHold(self._keys, sorted({each.number for each in await self.everywhere()}))

    async def take_up(self) -> None:
        """Those of the others, for this gate's own decisions: to be done before a month's keys go. Raises as `everywhere`."""
        try:
            await asyncio.to_thread(self._take_up, await self.everywhere())
        except (HoldRefused, OSError) as fault:
            raise _unknown(fault) from fault

    def _take_up(self, holds: Iterable[HoldPlaced]) -> None:
        for each in holds:
            if self._holds.find(each.number) is None:
                hold = self._holds.add(each.number, at=each.at, by=each.by, reason=each.reason)
                _log.warning("another gate's hold is in force here too", hold=hold.id, by=hold.by)


def _unknown(fault: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"legal holds: {fault}")
