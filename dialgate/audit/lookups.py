"""Reading is recorded: whoever is shown what is held about a number is written down first, with the reason.

GDPR 5(2), 15(1)(c), 32: the person may ask who saw it, and after a breach it must be known. Without the record nothing is
shown. The same record bounds what one client may see: whoever could ask about every number would rebuild the registry,
which the law forbids to extract (D.P.R. 26/2022 art. 8 c. 1 and 3).
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import structlog
from msgspec import Meta, Struct

from dialgate.config.clients import Client
from dialgate.config.settings import Settings
from dialgate.core import local_time
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.masking import Masker
from dialgate.observability.metrics import Metrics
from dialgate.store.sqlite_subjects import Lookup, SubjectStore

# Why somebody looks. Longer than a mark on a form, shorter than a novel.
Reason: TypeAlias = Annotated[str, Meta(min_length=3, max_length=256)]

SPAN = HOUR
_UNBOUNDED = 1 << 60
_log = structlog.get_logger(__name__)


class TooManyLookups(Refused):
    """`after`: seconds until the client may look up another number."""

    def __init__(self, limit: int, after: int) -> None:
        super().__init__(
            "lookup.throttled",
            f"This client has looked up {limit} numbers within an hour, which is its limit; ask again later.",
            status=429,
        )
        self.after = after


class Seen(Struct, frozen=True, kw_only=True):
    """Who looked, as it is told to the person."""

    at: str
    client: str
    what: str
    purpose: str


class Lookups:
    def __init__(
        self, store: SubjectStore, keys: Keys, clock: Callable[[], Instant], metrics: Metrics
    ) -> None:
        self._store, self._keys, self._clock, self._metrics = store, keys, clock, metrics
        self._nonces = nonces()
        self._alarmed: dict[str, Instant] = {}

    async def note(
        self, client: Client, settings: Settings, controller: str, number: str, what: str, purpose: str
    ) -> None:
        """Durable on return: show it then. `number` in E.164. Raises `TooManyLookups`, `Refused` where no purpose is
        given, `StoreUnavailable`."""
        limit = settings.limits.lookups_an_hour
        lookup = self._lookup(client, settings.node, controller, number, what, purpose)
        oldest = await self._store.look_up(lookup, lookup.at - SPAN, limit)
        if oldest is not None:
            raise self._throttled(client, limit, oldest + SPAN - lookup.at, lookup.at)
        self._metrics.lookups.labels(what).inc()

    async def disclosed(
        self, client: Client, node: str, controller: str, numbers: Iterable[str], purpose: str
    ) -> None:
        """The same of numbers about which evidence leaves: an authority's list is as long as it is. Raises as `note`."""
        for number in numbers:
            lookup = self._lookup(client, node, controller, number, "evidence", purpose)
            await self._store.look_up(lookup, lookup.at, _UNBOUNDED)

    def _lookup(
        self, client: Client, node: str, controller: str, number: str, what: str, purpose: str
    ) -> Lookup:
        if not purpose.strip():
            raise Refused("request.invalid", "Say why you look this number up.", "purpose")
        return Lookup(
            at=self._clock(),
            client=client.name,
            node=node,
            controller=controller,
            subject=self._keys.subject(controller, number),
            sealed=self._keys.ledger.seal(number, next(self._nonces)),
            what=what,
            purpose=Masker(self._keys, controller).text(purpose, number),
        )

    def _throttled(self, client: Client, limit: int, left: Instant, now: Instant) -> TooManyLookups:
        self._metrics.throttled.labels(client.name).inc()
        if now - self._alarmed.get(client.name, -SPAN) >= SPAN:
            self._alarmed[client.name] = now
            _log.warning("a client enumerates numbers", client=client.name, limit=limit)
        return TooManyLookups(limit, max(1, -(-left // SECOND)))

    async def seen(self, controller: str, number: str) -> list[Seen]:
        """Oldest first."""
        show = Masker(self._keys, controller).shown
        return [
            Seen(
                at=local_time.rfc3339(each.at), client=each.client, what=each.what, purpose=show(each.purpose)
            )
            for each in await self._store.lookups(self._keys.subject(controller, number))
        ]


def instant(at: datetime) -> Instant:
    return int(at.astimezone(UTC).timestamp() * 1000)
