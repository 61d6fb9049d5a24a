"""A log of calls that an interface refused because the decision was late."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

_log = structlog.get_logger(__name__)
_SECONDS: Final = 1.0


class RefusalLog:
    """A log with at most one line per second for each reason.

    `calls` in a line is the number of calls refused since the last line.
    """

    def __init__(self, component: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._component = component
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def add(self, reason: str, **details: float) -> None:
        """Count a refused call, and log it if a line is due.

        `details` are durations in seconds for the log line.
        """
        self._unlogged[reason] += 1
        now = self._clock()
        if reason in self._logged and now - self._logged[reason] < _SECONDS:
            return
        self._logged[reason] = now
        rounded = {name: round(seconds, 3) for name, seconds in details.items()}
        calls = self._unlogged.pop(reason)
        _log.error("calls refused", component=self._component, reason=reason, calls=calls, **rounded)
