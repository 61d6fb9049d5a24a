"""Activation of new call lists, caller-ID proofs and lifted pauses in this node's gates."""

import asyncio
from collections.abc import Awaitable, Callable

from dialgate.core.faults import Unavailable
from dialgate.ledger.access import LedgerAccess


class NotInForce(Unavailable):
    """Raised if an entry is recorded, but this gate does not use it yet."""

    component = "gate"


async def _no_gate() -> None:
    return None


async def _no_workers() -> bool:
    return True


class Activation:
    """A component that makes all gates on this node use the newest entries."""

    def __init__(self, access: LedgerAccess) -> None:
        self._access = access
        # Reload in this process. Raises `Unavailable`.
        self.refresh: Callable[[], Awaitable[None]] = _no_gate
        # Reload in this node's other processes. Returns whether every process confirmed.
        self.refresh_workers: Callable[[], Awaitable[bool]] = _no_workers

    async def put_in_force(self) -> str:
        """Make every gate on this node reload lists, caller-ID proofs and pauses. Raises `NotInForce`.

        Return a message for the client that says when each node uses the new entries.
        """
        try:
            _, confirmed = await asyncio.gather(self.refresh(), self.refresh_workers())
        except (Unavailable, OSError) as error:
            raise NotInForce(
                f"The entry is recorded, but this gate does not use it yet ({error}). The gate retries every second."
            ) from error
        if not confirmed:
            return "recorded, but some gates on this node do not use it yet; they retry every second"
        shared = self._access.config.settings.store is not None
        return "now on this gate, on other gates within 1 second" if shared else "now"
