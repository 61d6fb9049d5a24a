"""The table of telephone areas: which subdivisions an area code serves, and which time zones."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from dialgate.core import local_time
from dialgate.core.phone import ZONES_OF_PLACES, NotANumber, Parsed, parse
from tests.support import yaml_files
from tests.support.paths import ROOT

TABLES = yaml_files.read(ROOT / "tests/cases/tables/areas.yaml")


@pytest.mark.parametrize(("number", "zones", "places"), TABLES["areas"])
def test_a_number_has_the_zones_and_subdivisions_of_its_area(
    number: str, zones: list[str], places: list[str]
) -> None:
    assert ([*parse(number).zones], [*parse(number).places]) == (zones, places)


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


@pytest.mark.parametrize(("zone", "comment", "place"), TABLES["zone_tab"])
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
