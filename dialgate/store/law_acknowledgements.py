"""Changes of law that a data-protection officer has read."""

from datetime import date

from msgspec import Struct

from dialgate.core.model import Instant


class LawAcknowledgement(Struct, frozen=True, kw_only=True):
    """Who has read what changes in a country's file, up to the day `until`. `law` is the hash of the file."""

    controller: str
    country: str
    law: str
    until: date
    at: Instant
    by: str
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.controller}\0{self.country}\0{self.law}\0{self.until}"
