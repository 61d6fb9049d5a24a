"""The record of look-ups, which shows who read data about a number, and why.

Each look-up is recorded before the data is shown. If the look-up cannot be recorded, no data is shown. GDPR 5(2),
15(1)(c), 32: the data subject may ask who saw the data, and after a breach the controller must be able to say who saw
the data.

The record also limits each client's look-ups. By looking up every number, a client could rebuild the registry,
which the law forbids (D.P.R. 26/2022 art. 8 c. 1 and 3).
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import structlog
from msgspec import Meta, Struct

from dialgate.config.clients import PERSON, Client
from dialgate.config.settings import Settings
from dialgate.core import local_time
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import Timestamp
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker, covered, mask_number
from dialgate.crypto.nonces import nonces
from dialgate.observability.metrics import Metrics
from dialgate.store.subjects import DISCLOSURE, Lookup, SubjectStore

# The minimum refuses empty reasons; the maximum keeps case files out of the record.
LookupReason: TypeAlias = Annotated[str, Meta(min_length=3, max_length=256)]

SPAN = HOUR
_UNBOUNDED = 1 << 60
_log = structlog.get_logger(__name__)


class TooManyLookups(Refused):
    """Raised if a client has reached its look-up limit.

    `after` is the number of seconds until the next look-up is possible.
    """

    def __init__(self, limit: int, after: int) -> None:
        super().__init__(
            "lookup.throttled",
            f"This client has reached its limit of {limit} look-ups per hour. Try again in {after} seconds.",
            status=429,
        )
        self.after = after


class Seen(Struct, frozen=True, kw_only=True):
    """One look-up, as shown to the data subject."""

    at: Timestamp
    client: str
    what: str
    purpose: str


class LookupLine(Struct, frozen=True, kw_only=True):
    """One look-up, as shown to an officer. `number` is masked. `id` is unique among all gates."""

    at: Timestamp
    client: str
    controller: str
    what: str
    purpose: str
    number: str
    node: str
    id: str


class LookupFilter(Struct, frozen=True, kw_only=True):
    """Look-ups with `since` <= time < `until`, before the look-up with the id `before`, newest first, at most `most`.

    An empty `client` or `what` means any. A person may be named without the prefix `person:`.
    """

    since: Instant
    until: Instant
    controllers: tuple[str, ...]
    client: str = ""
    what: str = ""
    before: str = ""
    most: int = 100


def lookup_order(name: str) -> tuple[Instant, int, str]:
    """Return the sort key of a look-up's id. It orders the look-ups of all gates by time."""
    at, seq, node = name.split(".", 2)
    return int(at), int(seq), node


class Lookups:
    def __init__(
        self, store: SubjectStore, keys: Keys, clock: Callable[[], Instant], metrics: Metrics
    ) -> None:
        self._store, self._keys, self._clock, self._metrics = store, keys, clock, metrics
        self._nonces = nonces()
        self._alarmed: dict[str, Instant] = {}

    async def record(
        self, client: Client, settings: Settings, controller: str, number: str, what: str, purpose: str
    ) -> None:
        """Record that a client looks up a number (E.164). Show the data only after this returns.

        Raises `TooManyLookups`, `StoreUnavailable`, and `Refused` if `purpose` is empty.
        """
        limit = settings.limits.lookups_an_hour
        lookup = self._lookup(client, settings.node, controller, number, what, purpose)
        oldest = await self._store.look_up(lookup, lookup.at - SPAN, limit)
        if oldest is not None:
            raise self._throttled(client, limit, oldest + SPAN - lookup.at, lookup.at)
        self._metrics.lookups.labels(what).inc()

    async def record_disclosure(
        self, client: Client, node: str, controller: str, numbers: Iterable[str], purpose: str
    ) -> None:
        """Record that evidence about these numbers was disclosed.

        The look-up limit does not apply, because an authority may ask about many numbers. Disclosures do not count
        towards the limit either. Raises `StoreUnavailable`, and `Refused` if `purpose` is empty.
        """
        for number in numbers:
            lookup = self._lookup(client, node, controller, number, DISCLOSURE, purpose)
            await self._store.look_up(lookup, lookup.at, _UNBOUNDED)

    def _lookup(
        self, client: Client, node: str, controller: str, number: str, what: str, purpose: str
    ) -> Lookup:
        if not purpose.strip():
            raise Refused("request.invalid", "Give the reason for this look-up.", "purpose")
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
        self._metrics.throttled.labels("people" if client.name.startswith(PERSON) else client.name).inc()
        if now - self._alarmed.get(client.name, -SPAN) >= SPAN:
            self._alarmed[client.name] = now
            _log.warning("a client has reached its look-up limit", client=client.name, limit=limit)
        return TooManyLookups(limit, max(1, -(-left // SECOND)))

    async def find(self, controller: str, number: str) -> list[Seen]:
        """Return the look-ups about this number, oldest first."""
        show = Masker(self._keys, controller).unseal
        return [
            Seen(
                at=local_time.rfc3339(lookup.at),
                client=lookup.client,
                what=lookup.what,
                purpose=show(lookup.purpose),
            )
            for lookup in await self._store.lookups(self._keys.subject(controller, number))
        ]

    async def search(self, wanted: LookupFilter) -> list[LookupLine]:
        """Return the look-ups on this gate that match, newest first."""
        found = await self._store.find_lookups(
            (wanted.since, wanted.until),
            lookup_order(wanted.before) if wanted.before else (wanted.until, 0, ""),
            {
                "controller": wanted.controllers,
                "client": [wanted.client, f"{PERSON}{wanted.client}"] if wanted.client else [],
                "what": [wanted.what] if wanted.what else [],
            },
            wanted.most,
        )
        return await asyncio.to_thread(lambda: [self._line(lookup) for lookup in found])

    def _line(self, lookup: Lookup) -> LookupLine:
        return copy_fields(
            lookup,
            LookupLine,
            at=local_time.rfc3339(lookup.at),
            purpose=covered(lookup.purpose),
            number=mask_number(self._keys.ledger.unseal(lookup.sealed)),
            id=f"{lookup.at}.{lookup.seq}.{lookup.node}",
        )


def instant(at: datetime) -> Instant:
    return int(at.astimezone(UTC).timestamp() * 1000)
