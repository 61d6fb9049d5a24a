"""Activation of new call lists, caller-ID proofs and lifted pauses."""

from dialgate.core.faults import Unavailable
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.host_gate import HostGate


class NotInForce(Unavailable):
    """Raised if an entry is recorded, but this gate does not use it yet."""

    component = "gate"


class Activation:
    """A component that makes this gate use the newest entries."""

    def __init__(self, access: LedgerAccess, gate: HostGate) -> None:
        self._access, self._gate = access, gate

    async def put_in_force(self) -> str:
        """Make this gate reload lists, caller-ID proofs and pauses. Raises `NotInForce`.

        Return a message for the client that says when each gate uses the new entries.
        """
        try:
            await self._gate.refresh()
        except (Unavailable, OSError) as error:
            raise NotInForce(
                f"The entry is recorded, but this gate does not use it yet ({error}). The gate retries every second."
            ) from error
        shared = self._access.config.settings.store is not None
        return "now on this gate, on other gates within 1 second" if shared else "now"
