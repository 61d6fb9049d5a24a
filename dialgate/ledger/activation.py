"""Activation of new call lists, caller-ID proofs and lifted pauses in this node's gates."""

import asyncio

from dialgate.core.faults import Unavailable
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.host_gate import HostGate


class NotInForce(Unavailable):
    """Raised if an entry is recorded, but this gate does not use it yet."""

    component = "gate"


class Activation:
    """A component that makes all gates on this node use the newest entries."""

    def __init__(self, access: LedgerAccess, gate: HostGate) -> None:
        self._access, self._gate = access, gate

    async def put_in_force(self) -> str:
        """Make every gate on this node reload lists, caller-ID proofs and pauses. Raises `NotInForce`.

        Return a message for the client that says when each node uses the new entries.
        """
        try:
            _, confirmed = await asyncio.gather(self._gate.refresh(), self._gate.refresh_others())
        except (Unavailable, OSError) as error:
            raise NotInForce(
                f"The entry is recorded, but this gate does not use it yet ({error}). The gate retries every second."
            ) from error
        if not confirmed:
            return "recorded, but some gates on this node do not use it yet; they retry every second"
        shared = self._access.config.settings.store is not None
        return "now on this gate, on other gates within 1 second" if shared else "now"
