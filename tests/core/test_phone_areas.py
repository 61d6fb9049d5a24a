"""The table of telephone areas: which subdivisions an area code serves, and which time zones."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from dialgate.core import local_time
from dialgate.core.phone import ZONES_OF_PLACES, NotANumber, Parsed, parse

NEW_YORK, CHICAGO, DENVER = "America/New_York", "America/Chicago", "America/Denver"
AREAS = [
    ("+12122345678", (NEW_YORK,), ("US-NY",)),
    ("+17182345678", (NEW_YORK,), ("US-NY",)),  # by its city only
    ("+13102345678", ("America/Los_Angeles",), ("US-CA",)),  # neither zone nor state in `phonenumbers`
    ("+18122345678", (CHICAGO, NEW_YORK), ("US-IN",)),
    (
        "+18124225678",
        (CHICAGO, NEW_YORK),
        ("US-IN",),
    ),  # an exchange of Evansville: a ported number may be elsewhere
    ("+19302345678", (CHICAGO, NEW_YORK), ("US-IN",)),  # overlays 812
    ("+18502345678", (CHICAGO, NEW_YORK), ("US-FL",)),
    ("+16052345678", (CHICAGO, DENVER), ("US-SD",)),
    ("+17872345678", ("America/Puerto_Rico",), ()),
    ("+14162345678", ("America/Toronto",), ("CA-ON",)),
    ("+19022345678", ("America/Halifax",), ("CA-NS", "CA-PE")),
    ("+16042345678", ("America/Vancouver",), ("CA-BC",)),
    ("+13062345678", ("America/Edmonton", "America/Regina"), ("CA-SK",)),
    ("+551123456789", ("America/Sao_Paulo",), ("BR-SP",)),
    ("+5511912345678", ("America/Sao_Paulo",), ("BR-SP",)),
    ("+559223456789", ("America/Manaus",), ("BR-AM",)),
    ("+556823456789", ("America/Rio_Branco",), ("BR-AC",)),
    ("+35312345678", ("Europe/Dublin",), ()),
    ("+353851234567", ("Europe/Dublin",), ()),
    ("+61292345678", ("Australia/Sydney",), ()),
    ("+61740512345", ("Australia/Brisbane", "Australia/Sydney"), ()),  # Cairns
    ("+61851205000", ("Australia/Perth",), ()),  # Port Hedland
    ("+61851350000", ("Australia/Perth", "Indian/Christmas", "Indian/Cocos"), ()),
    ("+390612345678", ("Europe/Rome",), ()),
]


@pytest.mark.parametrize(("number", "zones", "places"), AREAS)
def test_a_number_has_the_zones_and_subdivisions_of_its_area(
    number: str, zones: tuple[str, ...], places: tuple[str, ...]
) -> None:
    assert (parse(number).zones, parse(number).places) == (zones, places)


def test_a_toll_free_number_and_a_mobile_of_several_zones_have_no_subdivision() -> None:
    assert [parse(number).places for number in ("+18002345678", "+61412345678", "+15002345678")] == [()] * 3
    assert len(parse("+18002345678").zones) > 40
    assert {"Australia/Darwin", "Australia/Perth", "Australia/Sydney"} < set(parse("+61412345678").zones)


@pytest.mark.parametrize(
    ("code", "digits", "regions"),
    [("+1", range(200, 1000), {"US", "CA"}), ("+55", range(11, 100), {"BR"})],
)
def test_every_area_code_in_use_has_a_subdivision_and_its_zones(
    code: str, digits: range, regions: set[str]
) -> None:
    subscribers = ("2345678", "5551234") if code == "+1" else ("23456789",)
    numbers = [number for area in digits for end in subscribers if (number := _valid(f"{code}{area}{end}"))]
    served = [
        number
        for number in numbers
        if number.region in regions and number.kind in {"fixed", "fixed_or_mobile"}
    ]
    assert len(served) > 60
    assert [number.e164 for number in served if not number.places] == []
    for number in served:
        zones = [set(ZONES_OF_PLACES[place]) for place in number.places]
        assert set(number.zones) & set().union(*zones)
        assert {place[:2] for place in number.places} == {number.region}
    assert {place for place in ZONES_OF_PLACES if place[:2] in regions and len(place) > 2} == {
        place for number in served for place in number.places
    }


def _valid(number: str) -> Parsed | None:
    try:
        return parse(number)
    except NotANumber:
        return None


# Comments of the time-zone database that name a part of a subdivision with a clock of its own.
IN_ZONE_TAB = [
    ("America/Menominee", "MI (Wisconsin border)", "US-MI"),
    ("America/Indiana/Tell_City", "IN (Perry)", "US-IN"),
    ("America/Boise", "ID (south), OR (east)", "US-OR"),
    ("America/Winnipeg", "ON (northwest)", "CA-ON"),
    ("America/Edmonton", "BC(E)", "CA-BC"),
    ("America/Edmonton", "SK(W)", "CA-SK"),
    ("America/Blanc-Sablon", "QC (Lower North Shore)", "CA-QC"),
    ("America/Goose_Bay", "Labrador", "CA-NL"),
    ("America/Rankin_Inlet", "NU (central)", "CA-NU"),
    ("America/Cambridge_Bay", "NU (west)", "CA-NU"),
    ("America/Eirunepe", "Amazonas (west)", "BR-AM"),
    ("America/Noronha", "Atlantic islands", "BR-PE"),
    ("Australia/Broken_Hill", "New South Wales", "AU-NSW"),
    ("Australia/Eucla", "Western Australia", "AU-WA"),
    ("Atlantic/Madeira", "Madeira Islands", "PT-30"),
    ("Africa/Ceuta", "Ceuta, Melilla", "ES-CE"),
]


@pytest.mark.parametrize(("zone", "comment", "place"), IN_ZONE_TAB)
def test_a_subdivision_has_the_clock_of_each_of_its_parts(zone: str, comment: str, place: str) -> None:
    assert comment in next(line for line in _zone_tab() if f"\t{zone}\t" in line)
    assert _clock(zone) in [_clock(own) for own in ZONES_OF_PLACES[place]]


@pytest.mark.parametrize("country", ["US", "CA", "BR", "AU", "ES", "PT"])
def test_every_clock_of_a_country_is_that_of_a_subdivision(country: str) -> None:
    """If several zones of a country have the same local time, the table needs only one of them.

    A new release of the time-zone database can give one of those zones a different local time. In that case this test
    fails until the table contains that zone.
    """
    clocks = [
        _clock(zone)
        for place, zones in ZONES_OF_PLACES.items()
        for zone in zones
        if place.startswith(f"{country}-")
    ]
    zones = [line.split("\t")[2] for line in _zone_tab() if line.startswith(country)]
    assert [zone for zone in zones if _clock(zone) not in clocks] == []


def _zone_tab() -> list[str]:
    return files("tzdata").joinpath("zoneinfo/zone.tab").read_text("utf-8").splitlines()


def _clock(zone: str) -> list[timedelta | None]:
    months = [datetime(2027, month, 15, tzinfo=UTC) for month in range(1, 13)]
    return [local_time.clock_in(zone, at).utcoffset() for at in months]
