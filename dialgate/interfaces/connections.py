"""Limits on connections, so that the log and the store always have a free file descriptor.

Anyone who can reach a port can open connections and send nothing. A connection belongs to a *stranger* until the gate
authenticates a request on it by a key, a session or a source address. Strangers can hold at most half of the
connections. When they hold half, or when no connection is free, each new connection replaces a stranger's connection:
the oldest idle connection, or the oldest if none is idle. The gate therefore still serves known clients, however many
strangers connect. A client, too, can hold at most half of the connections; each further one replaces one of its own.
"""

import os
import resource
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, Protocol, TypeAlias

from dialgate.config.settings import Settings

_RESERVED: Final = 256  # descriptors: half for files opened at the start, half for later ones
_Listener: TypeAlias = Literal["http", "fastagi"]


class OpenConnection(Protocol):
    """The methods of a connection that `Connections` calls."""

    def is_idle(self) -> bool: ...

    def drop(self) -> None:
        """Close immediately, without sending buffered data."""


class Connections:
    """The open connections to a server. `most` is the maximum number of connections.

    A connection that a client does not read holds at most 64 KiB of answers, so this also bounds a client's unread bytes.

    `count_closed` is called with `evicted`, `refused` or `unread` for each connection that this object closes.
    """

    def __init__(self, most: int, count_closed: Callable[[str], None]) -> None:
        self._most, self._count_closed = most, count_closed
        self._places: set[OpenConnection] = set()
        self._strangers: dict[OpenConnection, None] = {}  # in order of arrival
        self._clients: defaultdict[str, dict[OpenConnection, None]] = defaultdict(dict)  # likewise
        self._client_of: dict[OpenConnection, str] = {}

    def open(self, place: OpenConnection) -> bool:
        """Count a new connection. Return False if it must be closed immediately."""
        if len(self._strangers) >= self._most // 2 or len(self._places) >= self._most or is_scarce():
            if not self._strangers:
                self._count_closed("refused")
                return False
            self._evict(self._strangers)
        self._places.add(place)
        self._strangers[place] = None
        return True

    def admit(self, place: OpenConnection, client: str) -> None:
        """Mark the connection as belonging to a known client, and evict one of the client's if it holds half of all."""
        self._strangers.pop(place, None)
        if place in self._places and place not in self._client_of:
            held = self._clients[client]
            if len(held) >= max(1, self._most // 2):
                self._evict(held)
            held[place] = None
            self._client_of[place] = client

    def _evict(self, places: dict[OpenConnection, None]) -> None:
        """Close the oldest idle connection, or the oldest if none is idle. Busy ones cost their own client an answer."""
        victim = next((place for place in places if place.is_idle()), None) or next(iter(places))
        self._count_closed("evicted")
        self.close(victim)
        victim.drop()

    def drop_unread(self, place: OpenConnection) -> None:
        """Close a connection whose client does not read its responses."""
        self._count_closed("unread")
        place.drop()

    def close(self, place: OpenConnection) -> None:
        self._places.discard(place)
        self._strangers.pop(place, None)
        if (client := self._client_of.pop(place, None)) is not None:
            held = self._clients[client]
            held.pop(place, None)
            if not held:
                del self._clients[client]


def most(settings: Settings, listener: _Listener) -> int:
    """Return the maximum number of connections to a listener in this process.

    The maximum is the configured number. If there are too few file descriptors for all listeners, the maximum is
    reduced in proportion, but not below 2.
    """
    limit = _limit()
    usable = limit - _reserved(limit)
    wanted = {"http": settings.limits.connections}
    if settings.fastagi is not None:
        wanted["fastagi"] = settings.fastagi.connections
    every = sum(wanted.values())
    return wanted[listener] if every <= usable else max(2, wanted[listener] * usable // every)


def is_scarce() -> bool:
    """Return whether the remaining descriptors are reserved for the log, the store and files.

    The system assigns the lowest free descriptor. If that is a high number, all lower ones are in use.
    """
    limit = _limit()
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(lowest)
    return lowest >= limit - _reserved(limit) // 2


def raise_limit() -> None:
    """Raise the limit on open files to the hard limit. On many systems the default is 1,024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # without permission, fewer connections are served
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def _reserved(limit: int) -> int:
    return min(_RESERVED, limit // 4)
