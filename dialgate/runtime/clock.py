"""The gate's time, which never goes back."""

import time
from collections.abc import Callable

from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.core.responses import when

_SLACK = SECOND  # a clock that is disciplined steps back by milliseconds


def wall_clock() -> Instant:
    return time.time_ns() // 1_000_000


class ClockSteppedBack(Unavailable):
    """The clock says less than it said before. What has expired must not become valid again."""

    component = "clock"


class Clock:
    """Time that never goes back: small steps are flattened, larger ones raise `ClockSteppedBack` until they are over.

    `steady`: the monotonic clock, in seconds, by which durations are measured.
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
                f"the clock says {when(now)}, and has already said {when(self.latest)}; set it right"
            )
        self.latest = max(now, self.latest)
        return self.latest

    def at_least(self) -> Instant:
        """For what must be taken whatever the clock says: a person's stop, the outcome of a call."""
        return max(self._read(), self.latest)
