"""Limits that keep one client from harming the others: calls per second, and the last space on the disk.

A call over a limit is denied without a decision and without a record, so it costs nearly nothing.
"""

from collections.abc import Callable, Mapping
from math import exp
from typing import Final

import structlog

from dialgate.config.clients import Client
from dialgate.core.model import HOUR, Instant
from dialgate.core.responses import Answer, refusal

THROTTLED: Final = "rate.exceeded"
# Below this, calls are refused. Uploads stop earlier, and alerts are raised much earlier.
RESERVE: Final = 512 << 20  # bytes, or
_PART: Final = 20  # this part of the disk, if that is less
_SPACE: Final = "the gate's disk is nearly full, and this client wrote most of the last hour's records; ask the operator to free space"
_log = structlog.get_logger(__name__)


class CallRates:
    """The number of calls that each client may make now. `steady` is a clock in seconds."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._left: dict[str, tuple[float, float]] = {}  # calls left, and since when

    def admit(self, client: Client) -> bool:
        """Count a call and return True, unless the client made `calls_per_second` calls in the last second."""
        most, now = float(client.calls_per_second), self._steady()
        left, since = self._left.get(client.name, (most, now))
        left = min(most, left + (now - since) * most)
        is_admitted = left >= 1
        self._left[client.name] = (left - 1 if is_admitted else left, now)
        return is_admitted


class DiskShares:
    """The bytes that each client's calls added to the log in about the last hour, in this process.

    While the disk is nearly full, `refused` holds the client that wrote most, so that the others can go on. Each time
    the free space halves again, it holds the next one too. The last client is never refused: nobody would gain.
    """

    def __init__(self) -> None:
        self.refused: frozenset[str] = frozenset()
        self._bytes: dict[str, float] = {}
        self._counted_at: Instant = 0

    def count(self, written: Mapping[str, int]) -> None:
        for client, size in written.items():
            self._bytes[client] = self._bytes.get(client, 0) + size

    def look(self, size: int, free: int, now: Instant) -> None:
        """Decide who is refused, from the size of the disk and its free space in bytes."""
        elapsed = now - (self._counted_at or now)
        kept = exp(-max(0, elapsed) / HOUR)  # a byte counts less from hour to hour
        self._bytes = {client: count * kept for client, count in self._bytes.items() if count * kept >= 1}
        self._counted_at = now
        heaviest = sorted(self._bytes, key=lambda client: self._bytes[client], reverse=True)
        refused = frozenset(heaviest[: min(_halvings(size, free), max(0, len(heaviest) - 1))])
        if refused != self.refused:
            _log.error("the disk is nearly full: calls of these clients are refused", clients=sorted(refused))
        self.refused = refused


def _halvings(size: int, free: int) -> int:
    """Return 0 if there is enough space, 1 below the reserve, 2 below half of it, and so on."""
    reserve = min(RESERVE, size // _PART)
    return (reserve // max(free, 1)).bit_length() if free < reserve else 0


class ClientLimits:
    def __init__(self, steady: Callable[[], float], shares: DiskShares) -> None:
        self._rates, self._shares = CallRates(steady), shares

    def refuse(self, client: Client) -> Answer | None:
        """Return the denial for a call over one of the client's limits, or None."""
        if client.name in self._shares.refused:
            return refusal("gate.unavailable", _SPACE)
        if client.calls_per_second and not self._rates.admit(client):
            most = client.calls_per_second
            return refusal(THROTTLED, f"this client may check {most} calls per second; retry in a second")
        return None
