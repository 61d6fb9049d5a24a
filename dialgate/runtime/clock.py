"""The gate's clock, which never goes back and is compared with a shared store's clock."""

import time
from collections.abc import Callable
from typing import Final

from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.core.responses import when

_SLACK = SECOND  # NTP may step the clock back by milliseconds
TOLERANCE: Final = 5 * SECOND


def wall_clock() -> Instant:
    return time.time_ns() // 1_000_000


class ClockWrong(Unavailable):
    """Raised if the clock stepped back or differs from the store's, because expired data must not become valid again."""

    component = "clock"


class Clock:
    """A clock that never goes back.

    Backward steps of up to a second are hidden; larger ones raise `ClockWrong`. `steady` is the monotonic
    clock for durations, in seconds. `read` returns the system time as it is. With a `tolerance` in milliseconds, the clock also raises `ClockWrong` until
    `compare` has found that it differs from the store's clock by no more than that.
    """

    def __init__(
        self,
        read: Callable[[], Instant],
        latest: Instant = 0,
        steady: Callable[[], float] = time.monotonic,
        tolerance: Instant | None = None,
    ) -> None:
        self.latest, self.steady = latest, steady
        self.read, self._tolerance = read, tolerance
        self._difference = "" if tolerance is None else "the clock has not been compared with the store's yet"

    def __call__(self) -> Instant:
        now = self.read()
        if now < self.latest - _SLACK:
            raise ClockWrong(
                f"the clock stepped back from {when(self.latest)} to {when(now)}; correct the system time"
            )
        if self._difference:
            raise ClockWrong(self._difference)
        self.latest = max(now, self.latest)
        return self.latest

    def compare(self, asked: Instant, store_time: Instant) -> None:
        """Compare this clock with the store's, which was read after `asked` and before now."""
        if self._tolerance is None:
            return
        ahead, behind = asked - store_time, store_time - self.at_least()
        self._difference = ""
        if max(ahead, behind) > self._tolerance:
            self._difference = (
                f"this node's clock is {max(ahead, behind) / SECOND:.0f} s {'ahead of' if ahead > 0 else 'behind'} the store's,"
                f" which shows {when(store_time)}. Synchronise both machines (NTP)"
            )

    def at_least(self) -> Instant:
        """Return the current time, or the latest time so far if the clock has stepped back.

        Use this for revocations and call outcomes, which must be accepted even if the clock is wrong.
        """
        return max(self.read(), self.latest)
