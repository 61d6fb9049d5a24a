"""The places where the called person may be, given the number's area and the addresses on file."""

from datetime import date

import pytest

from dialgate.core.law import parse_law
from dialgate.core.location import Addresses, locate, problem_of
from dialgate.core.model import CallRequest, Consent, Contract, Known, Listing, Number, Origin, WrongNumber

LAW = parse_law(
    {
        "country": "US",
        "name": "A made-up country",
        "zone": "America/New_York",
        "regions": ["US", "PR", "US-FL", "US-NY", "US-QQ"],
        "diallable": [{"source": "d", "from": "2020-01-01", "allows": ["fixed"]}],
        "legal_basis": [{"source": "b", "from": "2020-01-01", "accepts": ["consent"]}],
    }
)
NEW_YORK, CHICAGO = "America/New_York", "America/Chicago"
FLORIDA = (CHICAGO, NEW_YORK)


@pytest.mark.parametrize(
    ("places", "zones", "addresses", "doubted", "expected"),
    [
        # the number's places and zones, and the addresses  ->  places and zones
        ((), FLORIDA, ["US-NY"], False, (("US-NY",), (NEW_YORK,))),
        (("US-FL", "US-NY"), FLORIDA, ["US-NY"], False, (("US-NY",), (NEW_YORK,))),
        (("US-FL",), FLORIDA, ["US-FL"], False, (("US-FL",), FLORIDA)),
        (("US-FL",), FLORIDA, ["US-FL"], True, (("US-FL",), FLORIDA)),
        (("US-FL", "US-NY"), FLORIDA, ["US-NY"], True, (("US-FL", "US-NY"), FLORIDA)),
        ((), FLORIDA, ["US-NY"], True, (("US", "US-NY"), FLORIDA)),
        (("US-NY",), (NEW_YORK,), ["US-FL"], False, (("US-FL", "US-NY"), FLORIDA)),
        (("US-FL", "US-NY"), FLORIDA, ["US-NY", "US-HI"], False, (("US-FL", "US-HI", "US-NY"), (CHICAGO, NEW_YORK, "Pacific/Honolulu"))),
        ((), (NEW_YORK,), ["US-HI"], False, (("US", "US-HI"), (NEW_YORK, "Pacific/Honolulu"))),
        ((), (), ["US-HI"], False, (("US-HI",), ("Pacific/Honolulu",))),
        ((), FLORIDA, ["CA-NL"], False, ((), (CHICAGO, "America/Halifax", NEW_YORK, "America/St_Johns"))),
        ((), (NEW_YORK,), ["CA-NL", "US-NY"], False, (("US", "US-NY"), ("America/Halifax", NEW_YORK, "America/St_Johns"))),
        ((), (NEW_YORK, "America/Toronto"), ["CA-ON", "US-NY"], False, (("US", "US-NY"), ("America/Atikokan", NEW_YORK, "America/Toronto", "America/Winnipeg"))),
        ((), (NEW_YORK,), ["US-HI", "US-NY"], False, (("US", "US-HI", "US-NY"), (NEW_YORK, "Pacific/Honolulu"))),
        (("US-NY",), FLORIDA, ["US-NY"], False, (("US-NY",), (NEW_YORK,))),
        ((), (NEW_YORK,), ["US-FL"], False, (("US-FL",), (NEW_YORK,))),
        ((), (CHICAGO,), ["FR-75"], False, ((), (CHICAGO,))),
        ((), FLORIDA, ["US-QQ"], False, (("US-QQ",), (NEW_YORK,))),
        ((), FLORIDA, ["FR-75"], False, ((), FLORIDA)),
        (("US-FL",), FLORIDA, ["FR-75"], False, (("US-FL",), FLORIDA)),
        (("US-FL",), FLORIDA, ["FR-75", "US-FL"], False, (("US-FL",), FLORIDA)),
    ],
)  # fmt: skip
def test_an_address_narrows_the_places_only_if_it_agrees_with_the_number(
    places: tuple[str, ...],
    zones: tuple[str, ...],
    addresses: list[str],
    doubted: bool,
    expected: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    number = Number(kind="fixed", region="US", places=places)
    found, found_zones = locate(number, zones, Addresses(frozenset(addresses), doubted), LAW)
    assert (found.places, found_zones) == expected
    assert (found.kind, found.region) == ("fixed", "US")


def test_the_addresses_are_those_of_lists_consents_contracts_and_requests() -> None:
    origin = Origin(collected_by="acme", collected_on=date(2026, 1, 1))
    listings = [Listing(list="l", basis="directory", origin=origin, place=place) for place in ("US-FL", "")]
    known = Known(
        consents=(Consent(id="c", collected_at=1, purposes=(), call_types=(), place="US-NY"),),
        contracts=(Contract(id="d", starts=date(2026, 1, 1), place="US-TX"),),
        requests=(CallRequest(id="r", requested_at=1, expires_at=2, place="US-HI"),),
        wrong_numbers=(WrongNumber(seq=1, at=1, lifted=True),),
    )
    assert Addresses.from_listings(listings, known) == Addresses(
        frozenset({"US-FL", "US-NY", "US-TX", "US-HI"}), False
    )
    doubted = Known(wrong_numbers=(WrongNumber(seq=1, at=1, lifted=True), WrongNumber(seq=2, at=1)))
    assert Addresses.from_listings([], doubted) == Addresses(frozenset(), True)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("US-FL", ""),
        ("PR", ""),
        ("PR-001", ""),
        ("GB-SCT", ""),
        ("US-QQ", "place is not a subdivision of US; write its ISO 3166-2 code, such as US-FL"),
        ("Florida", "place is not an ISO 3166-2 code, such as US-FL"),
    ],
)
def test_an_invalid_place_has_a_problem(place: str, problem: str) -> None:
    assert problem_of(place) == problem
