"""Who must be dropped: revocations, and what lifted them, as dialers and former recipients of a number are told of them
(GDPR art. 17(2), 19 and 21(3)).

They are read from the ledger by sequence, so whoever remembers the last that it was told of misses none. The numbers are
in clear, for a dialer must know whom to drop; each is told to its own controller's clients only, and those that bind every
controller to all.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal, Protocol

from msgspec import Struct

from dialgate.core import local_time
from dialgate.core.ledger_events import Entry, Lifted, Revoked
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.store import Deliveries, Delivery, Ledger

AT_ONCE = 1_000  # ledger entries


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`revoked`: call `number` no more, for this campaign, this controller or, where `controller` is `*`, at all. `lifted`:
    the revocation of sequence `of` binds no more.
    """

    seq: int
    kind: Literal["revoked", "lifted"]
    at: str
    controller: str
    number: str
    scope: str = ""
    campaign: str = ""
    channel: str = ""
    of: int = 0


class FeedStore(Ledger, Deliveries, Protocol):
    """The parts of the store that the feed uses."""


class Notices:
    def __init__(self, store: FeedStore, keys: Keys) -> None:
        self.closing = False
        self.written = 0  # times
        self._store, self._keys = store, keys
        self._news = asyncio.Event()

    async def after(
        self, seq: int, controllers: Sequence[str], limit: int = AT_ONCE
    ) -> tuple[list[Notice], int]:
        """What these controllers are to be told after `seq`, of the next `limit` ledger entries; and the sequence of the last
        of those. Raises `StoreUnavailable`, `KeysUnusable`.
        """
        entries = await self._store.since(seq, limit)
        return list(self._told(entries, {*controllers, "*"})), entries[-1].seq if entries else seq

    def _told(self, entries: Sequence[Entry], controllers: set[str]) -> Iterator[Notice]:
        for entry in entries:
            if entry.controller not in controllers or not entry.sealed:
                continue
            match entry.event:
                case Revoked(scope=scope, campaign=campaign):
                    yield self._notice(entry, "revoked", scope=scope, campaign=campaign)
                case Lifted(of=of):
                    yield self._notice(entry, "lifted", of=of)
                case _:
                    pass

    def _notice(
        self,
        entry: Entry,
        kind: Literal["revoked", "lifted"],
        *,
        scope: str = "",
        campaign: str = "",
        of: int = 0,
    ) -> Notice:
        return Notice(
            seq=entry.seq,
            kind=kind,
            at=local_time.rfc3339(entry.at),
            controller=entry.controller,
            number=self._keys.ledger.unseal(entry.sealed),
            scope=scope,
            campaign=campaign,
            channel=entry.channel,
            of=of,
        )

    async def head(self) -> int:
        """The newest sequence of the ledger."""
        return (await self._store.read([b""])).known[0].seq

    def wake(self) -> None:
        """Something was written here."""
        self.written += 1
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, seconds: float, written: int = -1) -> None:
        """Until something is written here, if more was not `written` since; or that time has passed, for another process may
        have written.
        """
        if written in {-1, self.written}:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()

    def close(self) -> None:
        """Whoever follows is to stop."""
        self.closing = True
        self.wake()

    # ---- how far each webhook has been told --------------------------------------------------------------------------

    async def delivery(self, webhook: str) -> Delivery:
        """One that is new begins with what comes from now on."""
        for held in await self._store.deliveries():
            if held.webhook == webhook:
                return held
        begun = Delivery(webhook=webhook, seq=await self.head())
        await self._store.put_delivery(begun)
        return begun

    async def delivered(self, delivery: Delivery) -> None:
        await self._store.put_delivery(delivery)


def behind(delivery: Delivery, head: int) -> int:
    """Ledger entries that a webhook has not been told of."""
    return max(0, head - delivery.seq)


def failing(delivery: Delivery, now: Instant) -> Instant:
    """For how long, in milliseconds."""
    return now - delivery.failing_since if delivery.failing_since else 0
