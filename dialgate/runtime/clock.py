"""The gate's clock, which never goes back."""

import time
from collections.abc import Callable

from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.core.responses import when

_SLACK = SECOND  # NTP may step the clock back by milliseconds


def wall_clock() -> Instant:
    return time.time_ns() // 1_000_000


class ClockSteppedBack(Unavailable):
    """Raised if the clock stepped back, because expired data must not become valid again."""

    component = "clock"


class Clock:
    """A clock that never goes back.

    Backward steps of up to a second are hidden; larger ones raise `ClockSteppedBack`. `steady` is the monotonic
    clock for durations, in seconds.
    """

    def __init__(
        self, read: Callable[[], Instant], latest: Instant = 0, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self.latest, self.steady = latest, steady
        self._read = read

    def __call__(self) -> Instant:
        now = self._read()
        if now < self.latest - _SLACK:
            raise ClockSteppedBack(
                f"the clock stepped back from {when(self.latest)} to {when(now)}; correct the system time"
            )
        self.latest = max(now, self.latest)
        return self.latest

    def at_least(self) -> Instant:
        """Return the current time, or the latest time so far if the clock has stepped back.

        Use this for revocations and call outcomes, which must be accepted even after a backward step.
        """
        return max(self._read(), self.latest)
