"""The oracle of the soak: judges each answer of the gates when it arrives, and at the end what their logs lack."""

import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from dialgate.core.responses import Answer
from tests.bench import Figure

LIMIT: Final = 5  # allowed calls to a number: the limit in the country file of the benchmarks
_RECOVERED: Final = (
    60.0  # seconds after the kill of a primary in which `gate.unavailable` counts as its outage
)


class Oracle:
    """The acknowledged stops and the answers of millions of checks, in a few bytes each.

    A number is known by its position in the list of numbers, and a check by its number, which is its `call_id`.
    """

    def __init__(self, numbers: int) -> None:
        self.faults: list[str] = []
        self.stops: dict[int, float] = {}  # the time of the acknowledgement, by position
        self.stopped: list[int] = []
        self._counts = bytearray(numbers)  # allows, by position
        self._unlogged = bytearray()  # 1 for a check whose allow was not yet seen in a log, by check
        self._ended, self._waits = array("d"), array("d")
        self._unavailable, self._denied = array("d"), 0.0

    def answered(self, position: int, check: int, begun: float, answer: Answer) -> None:
        ended = time.monotonic()
        self._ended.append(ended)
        self._waits.append(ended - begun)
        if answer.decision != "allow":
            self._denied = max(self._denied, ended - begun)
            if answer.reason_class == "gate":
                self._unavailable.append(ended)
            return
        self._unlogged.extend(bytes(max(0, check + 1 - len(self._unlogged))))
        self._unlogged[check] = 1
        self._counts[position] += 1
        if self._counts[position] > LIMIT:
            self.faults.append(f"{answer.decision_id} is call {self._counts[position]} to its number")
        if begun > self.stops.get(position, begun):
            self.faults.append(f"{answer.decision_id} allows a call after a stop")

    def stop(self, position: int) -> None:
        """Record that a gate has just acknowledged a stop."""
        if position not in self.stops:
            self.stops[position] = time.monotonic()
            self.stopped.append(position)

    def logged(self, check: int) -> None:
        """Record that a log contains the allow of a check."""
        if check < len(self._unlogged):
            self._unlogged[check] = 0

    def unlogged(self) -> Iterator[str]:
        missing = sum(self._unlogged)
        if missing:
            yield f"{missing} allows are in no log, the first of check {self._unlogged.index(1)}"

    def figures(self, kills: Sequence[float]) -> Iterator[Figure]:
        """Yield the waits outside of failovers, and the outages in them.

        An outage is the time from the kill of a primary to the last denial because the gate could not decide.
        """
        ended, waits, unavailable = map(np.array, (self._ended, self._waits, self._unavailable))
        usual, other = np.ones(len(ended), bool), np.ones(len(unavailable), bool)
        outages = []
        for kill, following in pairwise([*kills, float("inf")]):
            during = (unavailable >= kill) & (unavailable < min(kill + _RECOVERED, following))
            last = float(unavailable[during].max(initial=kill))
            outages.append(last - kill)
            other &= ~during
            usual &= (ended < kill) | (ended - waits > last)
        yield Figure("soak.checks", len(ended), "1")
        yield Figure("soak.allowed", round(sum(self._counts) / len(ended), 3), "share")
        for name, share in (("p50", 50), ("p99", 99), ("slowest", 100)):
            yield Figure(f"soak.{name}", round(float(np.percentile(waits[usual], share)) * 1e3, 2), "ms")
        yield Figure("soak.unavailable", int(other.sum()), "1")
        yield Figure("soak.slowest_denial", round(self._denied, 2), "s")
        yield Figure("soak.failovers", len(outages), "1")
        if outages:
            yield Figure("soak.outage", round(max(outages), 2), "s")
            yield Figure("soak.outage_median", round(float(np.median(outages)), 2), "s")
