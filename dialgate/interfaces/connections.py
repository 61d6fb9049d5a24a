"""Limits on connections, so that the log and the store always find a free descriptor.

Whoever reaches a port can open connections and send nothing. A connection belongs to a *stranger* until a request on it was
admitted by a key, a session or a source address. Strangers share half of the places; when those are taken, the oldest idle one is
closed, or the oldest of all where none is idle. So known clients keep being served, however many strangers connect.
"""

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, Protocol, TypeAlias

from dialgate.config.settings import Settings

_RESERVED: Final = 256  # half for what is open from the start, half for what is opened later
_Door: TypeAlias = Literal["http", "fastagi", "sip"]


class Place(Protocol):
    """What holds a connection."""

    def is_idle(self) -> bool: ...

    def drop(self) -> None:
        """Close at once, without waiting for what is still to be sent."""


class Connections:
    """The connections of an HTTP server. `most`: at once, in all. `count_closed` is called with `evicted` or `refused`."""

    def __init__(self, most: int, count_closed: Callable[[str], None]) -> None:
        self._most, self._count_closed = most, count_closed
        self._places: set[Place] = set()
        self._strangers: dict[Place, None] = {}  # in the order in which they came

    def open(self, place: Place) -> bool:
        """Take a place for a new connection. Returns False if it must be closed at once."""
        if len(self._strangers) >= self._most // 2 or len(self._places) >= self._most or is_scarce():
            idle = (stranger for stranger in self._strangers if stranger.is_idle())
            victim = next(idle, None) or next(iter(self._strangers), None)
            self._count_closed("evicted" if victim else "refused")
            if victim is None:
                return False
            self.close(victim)
            victim.drop()
        self._places.add(place)
        self._strangers[place] = None
        return True

    def admit(self, place: Place) -> None:
        """Note that a request on the connection was admitted."""
        self._strangers.pop(place, None)

    def close(self, place: Place) -> None:
        self._places.discard(place)
        self._strangers.pop(place, None)


def most(settings: Settings, door: _Door) -> int:
    """The number of connections that this process can hold at a door: as set, or where the system allows fewer open files,
    the door's part of those."""
    limit = _limit()
    usable = limit - _reserved(limit)
    wanted = {"http": settings.limits.connections}
    if settings.fastagi is not None:
        wanted["fastagi"] = settings.fastagi.connections
    if settings.sip is not None and settings.sip.tcp:
        wanted["sip"] = settings.sip.connections
    every = sum(wanted.values())
    return wanted[door] if every <= usable else max(2, wanted[door] * usable // every)


def is_scarce() -> bool:
    """Whether the free descriptors are needed for the log, the store and files. The system hands out the lowest free
    number, so all below it are taken."""
    limit = _limit()
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(lowest)
    return lowest >= limit - _reserved(limit) // 2


def raise_limit() -> None:
    """Allow as many open files as the system lets this process have. Many systems begin with 1,024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # where it is forbidden, fewer connections are served
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def _reserved(limit: int) -> int:
    return min(_RESERVED, limit // 4)
