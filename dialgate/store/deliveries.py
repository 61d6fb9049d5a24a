"""The delivery state of each webhook."""

from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Instant


class Delivery(Struct, frozen=True, kw_only=True):
    """The cursor of a webhook, which has received the ledger up to entry `seq`.

    `tries` counts the failed attempts to send the next message, and `failing_since` is the time of the first.
    `dead` counts the messages that are no longer retried. The last of them contained the entries after
    sequence `dead_after`.
    """

    webhook: str
    seq: int
    tries: int = 0
    failing_since: Instant = 0
    dead: int = 0
    dead_after: int = 0


class Deliveries(Protocol):
    async def deliveries(self) -> list[Delivery]: ...

    async def put_delivery(self, delivery: Delivery) -> None: ...
