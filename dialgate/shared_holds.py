"""Legal holds where several gates share a store: each keeps the same, in its own data folder (`dialgate.holds`)."""

import asyncio
from itertools import chain

from dialgate.holds import HoldRefused, Holds, UnderHold
from dialgate.keys import Keys
from dialgate.peers import HoldLifted, HoldPlaced, HoldsKept, Peers
from dialgate.store import StoreUnavailable


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
        held = self._holds.find(asked.number)
        if isinstance(asked, HoldPlaced):
            if held is None:
                self._holds.add(asked.number, at=asked.at, by=asked.by, reason=asked.reason)
            return held is None
        if held is None or held.at > asked.at:
            return False
        self._holds.lift(asked.number, at=asked.at, by=asked.by, reason=asked.reason)
        return True

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

    async def take_up(self) -> None:
        """Those of the other gates that this one has not got, for it came later or was away. To be done before anything is
        destroyed. Raises also where one of them cannot be asked."""
        told = await self._peers.ask(HoldsKept(), list[HoldPlaced])
        if told.missing:
            reasons = "; ".join(f"{node}: {why}" for node, why in told.missing.items())
            raise StoreUnavailable(
                f"what others hold as evidence is not known, so nothing is destroyed ({reasons})"
            )
        for each in chain.from_iterable(told.answers.values()):
            await self.change(each)


def _unknown(fault: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"legal holds: {fault}")
