"""The deadlines of many calls, by one timer: each is met early, never late.

Time is cut into turns. At the end of a turn all is late that falls due before the next one can have ended, reckoned with
what the event loop was last behind: a loop that is busy for 30 ms gives its denials 30 ms earlier.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

_TURNS: Final = 50  # in the time that a call is given
_MOST_BEHIND: Final = 0.5  # of that time
_FORGETS: Final = 0.9  # of what was behind, a turn


class Late(Protocol):
    def late(self) -> None:
        """The time is over."""


class Due:
    """For calls that are each given about `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._turn = seconds / _TURNS
        self._most = seconds * _MOST_BEHIND
        self._slots: dict[int, set[Late]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        self.behind = 0.0

    def add(self, call: Late, seconds: float) -> int:
        """Where it stands, for `drop`. Of `seconds` the wait to be accepted is gone, which nobody has seen: it is taken
        for as long as the loop was behind."""
        slot = int((self._clock() + seconds - self.behind) / self._turn)
        self._slots.setdefault(slot, set()).add(call)
        if self._timer is None:
            self._arm()
        return slot

    def drop(self, call: Late, slot: int) -> None:
        if slot in self._slots:
            self._slots[slot].discard(call)

    def _arm(self) -> None:
        self._next = self._clock() + self._turn
        self._timer = self._loop.call_later(self._turn, self.over)

    def over(self) -> None:
        """A turn is."""
        now = self._clock()
        self.behind = min(max(now - self._next, self.behind * _FORGETS), self._most)
        self._timer = None
        until = now + self._turn + self.behind
        for slot in [slot for slot in self._slots if slot * self._turn < until]:
            for call in self._slots.pop(slot):
                call.late()
        if self._slots:
            self._arm()
