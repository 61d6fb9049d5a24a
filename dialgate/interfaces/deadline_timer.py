"""One timer for the deadlines of many calls. It may fire early, but never late.

Time is divided into short intervals (turns). At the end of a turn, the timer expires every call whose deadline falls within
the next turn. It also allows for the recent delay in the event loop: if the loop was busy for 30 ms, denials are sent 30 ms
earlier.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

_TURNS: Final = 50  # per deadline
_MOST_BEHIND: Final = 0.5  # maximum delay taken into account, as a share of the deadline
_FORGETS: Final = 0.9  # share of the last delay that still counts a turn later


class Late(Protocol):
    """A telephone call that must be decided before a deadline."""

    def late(self) -> None:
        """Stop processing the call. `DeadlineTimer` calls this method when the deadline is near."""


class DeadlineTimer:
    """A timer for the deadlines of many calls. `seconds` is the usual time between adding a call and its deadline."""

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
        """Add a call that expires in `seconds`, and return its slot for `drop`.

        The recent delay in the event loop is subtracted from `seconds`, as an estimate of how long the call has waited.
        """
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
        """Expire the calls whose deadline is near, and start the timer again if any calls remain."""
        now = self._clock()
        self.behind = min(max(now - self._next, self.behind * _FORGETS), self._most)
        self._timer = None
        until = now + self._turn + self.behind
        for slot in [slot for slot in self._slots if slot * self._turn < until]:
            for call in self._slots.pop(slot):
                call.late()
        if self._slots:
            self._arm()
