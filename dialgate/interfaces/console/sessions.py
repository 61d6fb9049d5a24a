"""Console sessions of API keys, until the first person has signed in. They are stored as small files in `DATA/run/sessions/`, with one folder per client, so that they survive a restart.

The file name is the digest of the session name; only the browser has the session name itself. The modification time of the file
is the time at which the session was last used. The API key is not stored, because each request looks up the client by the digest
of the key. Failed sign-ins are counted in memory.
"""

import hashlib
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.core.model import HOUR, MINUTE, Instant

LONGEST: Final = 12 * HOUR  # a shift
IDLE: Final = HOUR
FAILURES: Final = 10
SPAN: Final = 10 * MINUTE
OF_ONE: Final = 200  # maximum sessions per client; another one ends the client's oldest session
_ADDRESSES: Final = 1_000
_RESOLUTION: Final = MINUTE  # of the time of last use
_NANOSECONDS: Final = 1_000_000


class Session(Struct, frozen=True):
    """A session. `key` is the SHA-256 of the API key in hex. Every form must send `token`."""

    key: str
    token: str
    begun: Instant


_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Session)


class Throttled(Exception):
    """Raised after too many wrong keys from one address. `seconds` is the time to wait before the next attempt."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong keys; wait {seconds} seconds")
        self.seconds = seconds


class Sessions:
    """The sessions and the failed sign-ins of one gate."""

    def __init__(self, data: Path, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._sessions = data / "run" / "sessions"
        self._failures: dict[str, deque[Instant]] = {}  # by address, the latest last
        self._lock = Lock()  # of the failures, because each sign-in has a thread

    def begin(self, key: str, clients: Mapping[str, Client], address: str) -> str | None:
        """Begin a session and return its name, or None if the key is unknown. `clients` are by the SHA-256 of their valid keys.

        After too many wrong keys from the address, further wrong keys raise `Throttled`. A valid key is still accepted,
        because many users may share the address of a proxy. Keys are looked up by digest, so timing reveals nothing
        about a key. Raises `OSError`.
        """
        digest, now = _digest(key.strip()), self._clock()
        client = clients.get(digest)
        if client is None:
            self._record_failure(address, now)
            return None
        name = f"{_digest(client.name)[:16]}.{secrets.token_urlsafe(32)}"
        path, session = self._path(name), Session(digest, secrets.token_urlsafe(32), now)
        _make_room(path.parent, now - IDLE)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(_encode(session))
        _touch(path, now)
        with self._lock:
            self._failures.pop(address, None)
        return name

    def find(self, name: str, clients: Mapping[str, Client]) -> tuple[Session, Client] | None:
        """Return a session and its client, or None if the session has ended or its key was withdrawn.

        Record that the session was used now.
        """
        path, now = self._path(name), self._clock()
        try:
            with path.open("rb") as file:
                session, used_at = _decoder.decode(file.read()), _modified_at(os.fstat(file.fileno()))
        except (OSError, msgspec.DecodeError):
            return None
        client = clients.get(session.key)
        if client is None or now - session.begun >= LONGEST or now - used_at >= IDLE:
            self.end(name)
            return None
        if now - used_at >= _RESOLUTION:
            _touch(path, now)
        return session, client

    def end(self, name: str) -> None:
        with suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        """Return the path for a session file. The part of `name` before the dot identifies the client."""
        return self._sessions / _digest(name.partition(".")[0]) / _digest(name)

    def _record_failure(self, address: str, now: Instant) -> None:
        """Record a wrong key from an address. Raises `Throttled` if there were too many."""
        with self._lock:
            failures = self._failures.pop(address, None) or deque(maxlen=FAILURES)
            self._failures[address] = failures
            if len(failures) == FAILURES and now - failures[0] < SPAN:
                raise Throttled(int(max(1, (failures[0] + SPAN - now) // 1000)))
            failures.append(now)
            if len(self._failures) > _ADDRESSES:
                del self._failures[next(iter(self._failures))]


def _make_room(folder: Path, since: Instant) -> None:
    """Delete files last used before `since`, then the oldest ones until fewer than `OF_ONE` remain."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # another sign-in deletes files at the same time
        files = sorted((_modified_at(path.stat()), path) for path in folder.iterdir())
        for place, (used_at, path) in enumerate(files):
            if used_at < since or place <= len(files) - OF_ONE:
                path.unlink()


def _touch(path: Path, now: Instant) -> None:
    with suppress(OSError):  # another request may have deleted it
        os.utime(path, ns=(now * _NANOSECONDS, now * _NANOSECONDS))


def _modified_at(status: os.stat_result) -> Instant:
    return status.st_mtime_ns // _NANOSECONDS


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
