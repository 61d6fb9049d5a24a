"""The places and time zones where the called person may be, derived from the number and the addresses on file.

People keep their number when they move, and use mobile numbers anywhere. So an address outside the number's area adds
a place, and only an address inside the area narrows the choice.
"""

import re
from collections.abc import Iterable
from itertools import chain

from msgspec import Struct, structs

from dialgate.core.law import Law
from dialgate.core.model import CallRequest, Consent, Contract, Known, Listing, Number
from dialgate.core.phone import ZONES_OF_PLACES

_SUBDIVISION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")
# Countries whose subdivisions are all in the table.
_LISTED = frozenset(
    country for place in ZONES_OF_PLACES for country, _, part in [place.partition("-")] if part
)


class Addresses(Struct, frozen=True):
    """The places given for a number in call lists, consents, contracts and call requests."""

    places: frozenset[str]
    doubted: bool  # a wrong number was reported

    @classmethod
    def from_listings(cls, listings: Iterable[Listing], known: Known) -> "Addresses":
        entries: Iterable[Listing | Consent | Contract | CallRequest] = chain(
            listings, known.consents, known.contracts, known.requests
        )
        places = frozenset([entry.place for entry in entries if entry.place])
        return cls(places, any(not report.lifted for report in known.wrong_numbers))


def problem_of(place: str) -> str:
    """Return why a text is not a valid place, or ""."""
    if place in ZONES_OF_PLACES:
        return ""
    if place[:2] in _LISTED:
        return f"place is not a subdivision of {place[:2]}; write its ISO 3166-2 code, such as US-FL"
    return "" if _SUBDIVISION.fullmatch(place) else "place is not an ISO 3166-2 code, such as US-FL"


def locate(
    number: Number, zones: tuple[str, ...], addresses: Addresses, law: Law
) -> tuple[Number, tuple[str, ...]]:
    """Return the number with its possible places, and the possible time zones, given the addresses on file.

    If all addresses agree with the number, the result has only the places of the addresses. Otherwise, it also has the
    places of the number, because the number or an address may be out of date. A place is ignored if it is neither in
    the table of areas nor in the country file.
    """
    zones_of = {place: found for place in addresses.places if (found := _zones_of(place, law))}
    own = {place for place in zones_of if place.partition("-")[0] in law.covered}
    agrees = (
        bool(own)
        and own == zones_of.keys()
        and not addresses.doubted
        and all(not zones or not set(zones).isdisjoint(found) for found in zones_of.values())
        and (not number.places or own <= set(number.places))
    )
    stated = set(chain.from_iterable(zones_of.values()))
    if agrees:
        places = own
        zones_now = stated.intersection(zones) if zones else stated
    else:
        places = {*(number.places or (number.region,)), *own} if own else set(number.places)
        zones_now = stated.union(zones)
    return structs.replace(number, places=tuple(sorted(filter(None, places)))), tuple(sorted(zones_now))


def _zones_of(place: str, law: Law) -> tuple[str, ...]:
    return ZONES_OF_PLACES.get(place) or ((law.zone,) if place in law.covered else ())
