"""The breach report: the personal data exposed by a stolen key or a compromised node.

Use the report to notify the authority within 72 hours (GDPR 33), and the data subjects (GDPR 34). The report covers
one period, and contains only data that the gate returned in responses. If an intruder could read the files on the
node, the whole `data` folder is exposed.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeAlias

from msgspec import Struct

from dialgate.config.clients import Client, Scope
from dialgate.config.configuration import Config
from dialgate.core.local_time import rfc3339
from dialgate.core.model import HOUR, Instant
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import Timestamp
from dialgate.crypto.keys import KeyRetired, Keys
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.store.subjects import Lookup

# Scopes that allow a client to read data about any of a controller's numbers.
_READING: frozenset[Scope] = frozenset({"read", "simulate", "subjects", "officer"})


class BreachPeriod(Struct, frozen=True, kw_only=True):
    """A period, and the client or the node to report on.

    The period includes `start` but not `end`. Either `client` or `node` is empty. With `controller`, only its data.
    """

    start: Instant
    end: Instant
    client: str = ""
    node: str = ""
    controller: str = ""

    def owns(self, controller: str) -> bool:
        return self.controller in {"", controller}


class LookedUp(Struct, frozen=True, kw_only=True):
    at: Timestamp
    client: str
    node: str
    controller: str
    what: str
    purpose: str


class Exposure(Struct, frozen=True, kw_only=True):
    """The personal data exposed in a period.

    `numbers` contains the E.164 numbers about which the gate returned data. `unreadable` counts the numbers
    that can no longer be decrypted, because the keys for the month are destroyed. `could_look_up` is the maximum
    number of look-ups that the limit allowed the client in this period. `could_stream` counts the numbers in the
    stream of revocations. Each is 0 if the client's scopes do not allow it.
    """

    client: str
    node: str
    start: Timestamp
    end: Timestamp
    known: bool
    scopes: tuple[str, ...]
    controllers: tuple[str, ...]
    decisions: int
    allows: int
    lookups: list[LookedUp]
    numbers: list[str]
    unreadable: int
    could_look_up: int
    could_stream: int


Runner: TypeAlias = Callable[[Callable[[], Exposure]], Awaitable[Exposure]]


def exposure(config: Config, span: BreachPeriod, lookups: Iterable[Lookup], could_stream: int) -> Exposure:
    """Return the data exposed in a period. This reads the whole decision log.

    `lookups` are the look-ups in that period. Raises `LogDamaged`, `KeysUnusable`.
    """
    keys = Keys.open(config.data / "keys.json")
    decisions = allows = 0
    sealed_numbers: dict[bytes, tuple[Instant, bytes]] = {}  # one for each keyed hash
    for record in _records(config, span):
        decisions += 1
        allows += record.decision.allow
        if record.facts.number.kind != "invalid":
            sealed_numbers.setdefault(record.number, (record.at, record.sealed))
    own_lookups = [
        lookup
        for lookup in lookups
        if _concerns(span, lookup.client, lookup.node) and span.owns(lookup.controller)
    ]
    numbers = {keys.ledger.unseal(lookup.sealed) for lookup in own_lookups}
    unreadable = 0
    for at, sealed in sealed_numbers.values():
        try:
            numbers.add(keys.month(at).called_number(sealed))
        except KeyRetired:
            unreadable += 1
    client = client_of(config, span)
    owners = client.controllers if client else tuple(config.controllers)
    concerned = tuple(owner for owner in owners if span.owns(owner))
    reads = client is not None and bool(concerned) and not _READING.isdisjoint(client.scopes)
    hours = -(-(span.end - span.start) // HOUR)
    return Exposure(
        client=span.client,
        node=span.node,
        start=rfc3339(span.start),
        end=rfc3339(span.end),
        known=client is not None if span.client else span.node == config.settings.node,
        scopes=client.scopes if client else (),
        controllers=concerned,
        decisions=decisions,
        allows=allows,
        lookups=[_looked_up(lookup) for lookup in own_lookups],
        numbers=sorted(numbers),
        unreadable=unreadable,
        could_look_up=hours * config.settings.limits.lookups_an_hour if reads else 0,
        could_stream=could_stream,
    )


def client_of(config: Config, span: BreachPeriod) -> Client | None:
    """Return the client to report on, or None if it is no longer configured or the report is on a node."""
    return next((client for client in config.settings.clients if client.name == span.client), None)


def _records(config: Config, span: BreachPeriod) -> Iterator[Record]:
    for _, entry in Chains(config.data).entries():
        if (
            isinstance(entry, Record)
            and span.start <= entry.at < span.end
            and _concerns(span, entry.client, entry.node)
            and span.owns(entry.facts.controller.id)
        ):
            yield entry


def _concerns(span: BreachPeriod, client: str, node: str) -> bool:
    return client == span.client if span.client else node.partition("/")[0] == span.node


def _looked_up(lookup: Lookup) -> LookedUp:
    return copy_fields(lookup, LookedUp, at=rfc3339(lookup.at))
