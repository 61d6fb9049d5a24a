"""The feed of new and lifted revocations, for dialers and other recipients of numbers.

The feed fulfils the duties in GDPR art. 17(2), 19 and 21(3).

Notices are sent in ledger order. A client that resumes after the last `seq` it received misses no notice. Notices
contain unencrypted numbers, because a dialer must know which number to remove. A notice about one
controller is sent only to that controller's clients. A notice about all controllers is sent to every client.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Literal

from msgspec import Struct

from dialgate.core.ledger_events import Entry, Lifted, Revoked
from dialgate.core.model import Instant
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import Timestamp
from dialgate.crypto.keys import Keys
from dialgate.ledger.change_events import changes_of
from dialgate.store import Delivery, LedgerAndDocuments

AT_ONCE = 1_000  # ledger entries
_KINDS: Final = {"stop": "revoked", "lift": "lifted"}  # by the type of the change


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A notice that a number's revocation was recorded or lifted.

    After a `revoked` notice, do not call `number` for `controller`. If `scope` is `campaign`, the revocation covers
    only `campaign`. The controller `*` means all controllers. A `lifted` notice ends the revocation whose `seq` is
    in the field `of`.
    """

    seq: int
    kind: Literal["revoked", "lifted"]
    at: Timestamp
    controller: str
    number: str
    scope: str = ""
    campaign: str = ""
    channel: str = ""
    of: int = 0


class Notices:
    """The feed of notices from the ledger. A write in this process wakes waiting readers in this process."""

    def __init__(self, store: LedgerAndDocuments, keys: Keys) -> None:
        self.closing = False
        self.written = 0  # number of writes in this process
        self._store, self._keys = store, keys
        self._news = asyncio.Event()

    async def after(
        self, seq: int, controllers: Sequence[str], limit: int = AT_ONCE
    ) -> tuple[list[Notice], int]:
        """Return the notices in the ledger after `seq`, and the sequence number of the last entry read.

        At most `limit` entries are read. Only notices about `controllers` or about all controllers are returned.
        Raises `StoreUnavailable` and `KeysUnusable`.
        """
        entries = await self._store.since(seq, limit)
        return list(self._notices(entries, {*controllers, "*"})), entries[-1].seq if entries else seq

    def _notices(self, entries: Sequence[Entry], controllers: set[str]) -> Iterator[Notice]:
        for entry in entries:
            if entry.controller in controllers and entry.sealed and isinstance(entry.event, Revoked | Lifted):
                for change in changes_of(entry, self._keys):
                    if kind := _KINDS.get(change.type):
                        yield copy_fields(change, Notice, kind=kind)

    async def numbers(self, controllers: Sequence[str]) -> set[str]:
        """Return the numbers in all notices that a client with access to `controllers` can read."""
        numbers, seq, reached = set[str](), -1, 0
        while seq != reached:
            seq = reached
            notices, reached = await self.after(seq, controllers)
            numbers |= {notice.number for notice in notices}
        return numbers

    async def head(self) -> int:
        return (await self._store.read([b""])).known[0].seq

    def wake(self) -> None:
        """Wake the readers after a write in this process."""
        self.written += 1
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, seconds: float, written: int = -1) -> None:
        """Wait up to `seconds` for the next write in this process.

        `written` is the value of `self.written` that the caller last read. If `self.written` has changed, a write has
        already happened, so return immediately. Writes by other processes do not end the wait.
        """
        if written in {-1, self.written}:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()

    def close(self) -> None:
        self.closing = True
        self.wake()

    # ---- delivery to webhooks ----------------------------------------------------------------------------------------

    async def delivery(self, webhook: str) -> Delivery:
        """Return the delivery state of a webhook. A new webhook gets only entries written from now on."""
        for delivery in await self._store.deliveries():
            if delivery.webhook == webhook:
                return delivery
        first = Delivery(webhook=webhook, seq=await self.head())
        await self._store.put_delivery(first)
        return first

    async def delivered(self, delivery: Delivery) -> None:
        await self._store.put_delivery(delivery)


def behind(delivery: Delivery, head: int) -> int:
    """Return the number of ledger entries that have not been delivered to a webhook."""
    return max(0, head - delivery.seq) + len(delivery.rejected)


def failing(delivery: Delivery, now: Instant) -> Instant:
    """Return how long a delivery has been failing, in milliseconds, or 0 if it is not failing."""
    return now - delivery.failing_since if delivery.failing_since else 0
