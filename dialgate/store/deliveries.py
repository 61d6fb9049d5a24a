"""The position of each webhook in the ledger."""

from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Instant


class Delivery(Struct, frozen=True, kw_only=True):
    """The cursor of a webhook, which has received the ledger up to entry `seq`.

    `failing_since`: time of the first of `tries` failed attempts to send the next message. `dead`: number of
    messages that are no longer retried. The last of them contained the entries that follow sequence `dead_after`.
    """

    webhook: str
    seq: int
    tries: int = 0
    failing_since: Instant = 0
    dead: int = 0
    dead_after: int = 0


class Deliveries(Protocol):
    """The cursors of all webhooks, by name."""

    async def deliveries(self) -> list[Delivery]: ...

    async def put_delivery(self, delivery: Delivery) -> None: ...
