"""Who is logged in: a small file of each session in `DATA/run/sessions/`, in a folder of its client's, so that every worker of the node knows it, a rolling
restart ends none, and who logs out at one has logged out at all. It is named by the digest of the session's name, which the
browser alone holds; its time of change is when it was last used. The API key itself is kept nowhere, and what it may do is
looked up anew with each request. Failed logins are kept in the same way, by the digest of their address.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.model import HOUR, MINUTE, Instant

LONGEST: Final = 12 * HOUR  # a shift
IDLE: Final = HOUR
FAILURES: Final = 10
SPAN: Final = 10 * MINUTE
OF_ONE: Final = 200  # of one client: with more the oldest end, and nobody else's
_ADDRESSES: Final = 1_000
_NOTED: Final = MINUTE  # how exactly it is known when a session was last used
_NANOSECONDS: Final = 1_000_000


class Session(Struct, frozen=True):
    """`key`: SHA-256 of the API key, in hex. `token` must come with every write."""

    key: str
    token: str
    begun: Instant

    def is_good(self, token: str) -> bool:
        return hmac.compare_digest(self.token.encode(), token.encode("utf-8", "surrogateescape"))


_encode: Final = msgspec.json.Encoder().encode
_session: Final = msgspec.json.Decoder(Session)


class Throttled(Exception):
    """Too many wrong keys came from the address. `seconds`: until the next one is judged."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"wait {seconds} seconds")
        self.seconds = seconds


class Sessions:
    def __init__(self, data: Path, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._sessions, self._failures = data / "run" / "sessions", data / "run" / "failures"

    def begin(self, key: str, config: Config, address: str) -> str | None:
        """Begin a session and return its name, or None where no client has this key, which counts as a failure of the address. A
        right key is never refused: all who share a proxy may share an address. The key is compared by its digest, so that
        the time says nothing of it. Raises `Throttled` for a wrong key, `OSError`."""
        digest, now = _digest(key.strip()), self._clock()
        client = config.keys.get(digest)
        if client is None:
            if seconds := self._wait(address, now):
                raise Throttled(seconds)
            self._failed(address, now)
            return None
        name = f"{_digest(client.name)[:16]}.{secrets.token_urlsafe(32)}"
        path, session = self._path(name), Session(digest, secrets.token_urlsafe(32), now)
        _room(path.parent, now - IDLE, OF_ONE)
        _append(path, _encode(session), now)
        (self._failures / _digest(address)).unlink(missing_ok=True)
        return name

    def find(self, name: str, config: Config) -> tuple[Session, Client] | None:
        """To have asked counts as use. Ended with its key, too."""
        path, now = self._path(name), self._clock()
        try:
            with path.open("rb") as file:
                session, seen = _session.decode(file.read()), _changed(os.fstat(file.fileno()))
        except (OSError, msgspec.DecodeError):
            return None
        client = config.keys.get(session.key)
        if client is None or now - session.begun >= LONGEST or now - seen >= IDLE:
            self.end(name)
            return None
        if now - seen >= _NOTED:
            _mark(path, now)
        return session, client

    def end(self, name: str) -> None:
        with suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        """What stands before the point says whose it is."""
        return self._sessions / _digest(name.partition(".")[0]) / _digest(name)

    def _wait(self, address: str, now: Instant) -> int:
        """Return the seconds until a wrong key of the address is judged again; 0: now."""
        try:
            failures = list(map(int, (self._failures / _digest(address)).read_bytes().split()))
        except (OSError, ValueError):
            return 0
        recent = [at for at in failures if now - at < SPAN]
        if len(recent) < FAILURES:
            return 0
        return int(max(1, (recent[-FAILURES] + SPAN - now) // 1000))

    def _failed(self, address: str, now: Instant) -> None:
        _room(self._failures, now - SPAN, _ADDRESSES)
        _append(self._failures / _digest(address), b"%d\n" % now, now)


def _room(folder: Path, since: Instant, most: int) -> None:
    """For one more: what was not used since is dropped, and the oldest where there are too many."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # another worker makes room too
        used = sorted((_changed(path.stat()), path) for path in folder.iterdir())
        for place, (at, path) in enumerate(used):
            if at < since or place <= len(used) - most:
                path.unlink()


def _append(path: Path, line: bytes, now: Instant) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(line)
    _mark(path, now)


def _mark(path: Path, now: Instant) -> None:
    with suppress(OSError):  # it was ended meanwhile
        os.utime(path, ns=(now * _NANOSECONDS, now * _NANOSECONDS))


def _changed(status: os.stat_result) -> Instant:
    return status.st_mtime_ns // _NANOSECONDS


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
