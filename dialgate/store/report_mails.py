"""Which reports were sent by mail."""

from msgspec import Struct

from dialgate.core.model import Instant


class ReportDelivery(Struct, frozen=True, kw_only=True):
    """The newest report of a schedule that was sent, and the attempt to send the next one.

    `schedule` contains the controller, too. `until` is the end of the period that was sent. No gate tries before `retry_at`: it is
    an hour ahead while one sends, so gates on one store never send the same report. `token` is random and makes a Message-ID
    with the period's name, so each attempt repeats it.
    """

    schedule: str
    period: str = ""
    until: Instant = 0
    sent_at: Instant = 0
    token: str = ""
    retry_at: Instant = 0
    problem: str = ""
