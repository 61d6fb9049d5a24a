"""Who is logged in: kept in memory, gone with the process. The browser holds a random name of the session and nothing else;
the key itself is kept nowhere, and what it may do is looked up anew with each request."""

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from dialgate.model import HOUR, MINUTE, Instant
from dialgate.settings import Client, Config

LONGEST: Final = 12 * HOUR  # a shift
IDLE: Final = HOUR
FAILURES: Final = 10
SPAN: Final = 10 * MINUTE
_MOST: Final = 1_000


class Session(Struct):
    """`key`: SHA-256 of the API key, in hex. `token` must come with every write."""

    key: str
    token: str
    begun: Instant
    seen: Instant

    def is_good(self, token: str) -> bool:
        return hmac.compare_digest(self.token.encode(), token.encode("utf-8", "surrogateescape"))


class Sessions:
    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._failures: OrderedDict[str, deque[Instant]] = OrderedDict()

    def begin(self, key: str, config: Config, address: str) -> str | None:
        """The session's name, or nothing where no client has this key; that is a failure of the address's."""
        digest = _digest(key.strip())
        if digest not in config.keys:
            self._failed(address)
            return None
        while len(self._sessions) >= _MOST:
            self._sessions.popitem(last=False)
        now, name = self._clock(), secrets.token_urlsafe(32)
        self._sessions[_digest(name)] = Session(digest, secrets.token_urlsafe(32), now, now)
        self._failures.pop(address, None)
        return name

    def find(self, name: str, config: Config) -> tuple[Session, Client] | None:
        """To have asked counts as use. Ended with its key, too."""
        session, now = self._sessions.get(_digest(name)), self._clock()
        if session is None:
            return None
        client = config.keys.get(session.key)
        if client is None or now - session.begun >= LONGEST or now - session.seen >= IDLE:
            self.end(name)
            return None
        session.seen = now
        return session, client

    def end(self, name: str) -> None:
        self._sessions.pop(_digest(name), None)

    def wait(self, address: str) -> int:
        """Seconds until the address may try again; 0: now."""
        failures, now = self._failures.get(address, deque()), self._clock()
        while failures and now - failures[0] >= SPAN:
            failures.popleft()
        if len(failures) < FAILURES:
            return 0
        return int(max(1, (failures[0] + SPAN - now) // 1000))

    def _failed(self, address: str) -> None:
        while len(self._failures) >= _MOST:
            self._failures.popitem(last=False)
        self._failures.setdefault(address, deque(maxlen=FAILURES)).append(self._clock())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
