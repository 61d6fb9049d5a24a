"""The delivery state of each webhook."""

from msgspec import Struct

from dialgate.core.model import Instant


class Rejection(Struct, frozen=True):
    """A revocation whose number a dialer rejected at `since`. It is sent again while later revocations are delivered."""

    seq: int
    since: Instant


class Delivery(Struct, frozen=True, kw_only=True):
    """The delivery state of one webhook.

    The next message starts after the ledger entry with the sequence number `seq`. `tries` counts the failed
    attempts to send this message. `failing_since` is the time of the first failed attempt.

    `dead` counts the messages that the gate has given up on. The newest of these messages starts after the ledger
    entry with the sequence number `dead_after`.

    Consents that expired until `expired_until`, and registry answers published until `listed_until`, have been sent.
    """

    webhook: str
    seq: int
    tries: int = 0
    failing_since: Instant = 0
    dead: int = 0
    dead_after: int = 0
    rejected: tuple[Rejection, ...] = ()
    expired_until: Instant = 0
    listed_until: Instant = 0
