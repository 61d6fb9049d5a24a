"""Changes that a CRM or dialer must know: ledger entries, consents that expired, and numbers that a registry listed.

A subscriber with `events` receives them. Those of one number are in the order of the ledger. The gate itself needs none of
them: it knows all of this when it decides a call.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import Struct, structs

from dialgate.config.webhook_targets import EventType
from dialgate.core import local_time
from dialgate.core.ledger_events import (
    CallRequested,
    ConsentGiven,
    ConsentsVoided,
    ConsentWithdrawn,
    ContractMade,
    Entry,
    Lifted,
    NumberConfirmed,
    NumberWrong,
    Revoked,
)
from dialgate.core.ledger_state import fold
from dialgate.core.model import Consent, Instant
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import Timestamp
from dialgate.crypto.keys import Keys
from dialgate.ledger import judge
from dialgate.lists.snapshot import Snapshot, SnapshotPart
from dialgate.store import CallList, LedgerAndDocuments

_AT_ONCE = 512  # entries or numbers, so that the event loop is not blocked
_MOST_IDS = 10


class ChangeEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change. `ids` are those that you gave to the consents, contracts and call requests about the number, newest first.

    `seq` is 0 if no ledger entry shows the change. `of` is the `seq` of the entry that `lift` or `number_confirmed` ends.
    `at` of `consent_expired` is the end of the consent, and of `listed` without `seq` the time of the registry's answer.
    """

    type: EventType
    at: Timestamp
    controller: str
    number: str
    seq: int = 0
    scope: str = ""
    campaign: str = ""
    channel: str = ""
    consent: str = ""
    registry: str = ""
    of: int = 0
    ids: tuple[str, ...] = ()


class ChangeFeed:
    """The changes about the numbers of some controllers."""

    def __init__(self, store: LedgerAndDocuments, keys: Keys) -> None:
        self._store, self._keys = store, keys

    async def after(
        self, seq: int, controllers: Collection[str], types: Collection[EventType], limit: int
    ) -> tuple[list[ChangeEvent], int]:
        """Return the changes in the ledger after `seq`, and the sequence number of the last entry read.

        At most `limit` entries are read. Raises `StoreUnavailable` and `KeysUnusable`.
        """
        entries = await self._store.since(seq, limit)
        found = [
            change
            for entry in entries
            if entry.controller in {*controllers, "*"} and entry.sealed
            for change in changes_of(entry, self._keys)
            if change.type in types
        ]
        return await self._with_ids(found, controllers), entries[-1].seq if entries else seq

    async def _with_ids(
        self, changes: Sequence[ChangeEvent], controllers: Collection[str]
    ) -> list[ChangeEvent]:
        """Add the ids of the entries that these controllers have about the numbers."""

        def subjects_of(change: ChangeEvent) -> list[bytes]:
            owners = controllers if change.controller == "*" else [change.controller]
            return [self._keys.subject(owner, change.number) for owner in owners]

        wanted = [subject for change in changes for subject in subjects_of(change)]
        histories = await self._store.histories(wanted) if wanted else {}
        named = {
            subject: [
                event.id
                for entry in reversed(entries)
                if isinstance(event := entry.decoded().event, ConsentGiven | ContractMade | CallRequested)
            ]
            for subject, entries in histories.items()
        }
        return [
            structs.replace(change, ids=tuple(dict.fromkeys(ids))[:_MOST_IDS])
            for change in changes
            for ids in [[name for subject in subjects_of(change) for name in named.get(subject, ())]]
        ]

    async def expired(
        self, controllers: Collection[str], begin: Instant, end: Instant
    ) -> AsyncIterator[list[ChangeEvent]]:
        """Yield the consents whose own end is after `begin` and not after `end`, unless they ended otherwise."""
        seq = 0
        while entries := await self._store.since(seq, _AT_ONCE):
            seq = entries[-1].seq
            ended = {
                (entry.subject, entry.event.id): entry
                for entry in entries
                if isinstance(entry.event, ConsentGiven)
                and entry.controller in controllers
                and entry.sealed
                and begin < entry.event.expires_at <= end
            }
            if not ended:
                continue
            histories = await self._store.histories([subject for subject, _ in ended])
            found = [
                self._expiry(entry, consent)
                for (subject, name), entry in ended.items()
                for consent in fold(stored.decoded() for stored in histories.get(subject, ())).consents
                if consent.id == name and begin < consent.expires_at <= end
                if not (consent.withdrawn_at or consent.voided_at)
            ]
            if found:
                yield await self._with_ids(found, controllers)

    def _expiry(self, entry: Entry, consent: Consent) -> ChangeEvent:
        at = local_time.rfc3339(consent.expires_at)
        return _change(entry, self._keys, "consent_expired", consent=consent.id, seq=0, channel="", at=at)

    async def listed(
        self, controllers: Collection[str], snapshot: Snapshot, since: Instant, folder: Path
    ) -> AsyncIterator[list[ChangeEvent]]:
        """Yield the numbers on call lists in `folder` that a registry listed, in answers to the controllers imported after `since`.

        Raises `AnswersUnusable`, `DamagedFile` and `StoreUnavailable`.
        """
        lists = [item for item in await self._store.lists() if not item.retired_at]
        for part in snapshot.parts():
            own = [item for item in lists if item.controller == part.controller in controllers]
            find = partial(_find_listed, own, folder, snapshot, part, since)
            answers = await asyncio.to_thread(find)
            for begin in range(0, len(answers), _AT_ONCE):
                page = answers[begin : begin + _AT_ONCE]
                found = [
                    ChangeEvent(
                        type="listed",
                        at=local_time.rfc3339(at),
                        controller=part.controller,
                        number=f"+{number}",
                        registry=part.registry,
                    )
                    for number, at in page
                ]
                yield await self._with_ids(found, controllers)


def changes_of(entry: Entry, keys: Keys) -> Iterator[ChangeEvent]:
    """Yield the changes that a ledger entry with a sealed number shows, without `ids`. Raises `KeysUnusable`."""
    match entry.event:
        case Revoked(scope=scope, campaign=campaign):
            # An older entry can name a campaign although its scope is wider. A dialer would block too little.
            campaign = campaign if scope == "campaign" else ""
            yield _change(entry, keys, "stop", scope=scope, campaign=campaign)
            if entry.channel == "erasure":
                yield _change(entry, keys, "erased")
        # A new consent lifts a revocation for every controller only for one: the others' dialers must not drop it.
        case Lifted(of=of, ground=ground) if entry.controller != "*" or ground == "error":
            yield _change(entry, keys, "lift", of=of)
        case ConsentWithdrawn(id=name):
            yield _change(entry, keys, "consent_withdrawn", consent=name)
        case ConsentsVoided(registry=registry):
            yield _change(entry, keys, "listed", registry=registry)
        case NumberWrong():
            yield _change(entry, keys, "wrong_number")
        case NumberConfirmed(of=of):
            yield _change(entry, keys, "number_confirmed", of=of)


def _change(entry: Entry, keys: Keys, kind: EventType, **more: str | int) -> ChangeEvent:
    number = keys.ledger.unseal(entry.sealed)
    change = copy_fields(entry, ChangeEvent, type=kind, number=number, at=local_time.rfc3339(entry.at))
    return structs.replace(change, **more)


def _find_listed(
    lists: Sequence[CallList], folder: Path, snapshot: Snapshot, part: SnapshotPart, since: Instant
) -> list[tuple[int, Instant]]:
    """Return the listed numbers on these lists, each with the time of the answer."""
    if not lists:
        return []
    numbers = np.unique(np.concatenate([judge.numbers_of(item, folder) for item in lists]))
    registry = snapshot.answers_for(part.registry, part.controller)
    new = {asked.id for asked in snapshot.consultations(part) if asked.imported_at > since}
    chosen = np.array(
        [answer.answer == "listed" and answer.consultation in new for answer in registry.answers]
    )
    places = registry.places(numbers)
    found = chosen[places]
    times = (registry.answers[place].consulted_at for place in places[found])
    return list(zip(numbers[found].tolist(), times, strict=True))
