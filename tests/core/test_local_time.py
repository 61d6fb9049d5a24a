"""The source of the time zones."""

import zoneinfo
from datetime import UTC, datetime
from importlib.resources import files

import pytest

from dialgate.core import local_time


@pytest.mark.parametrize("zone", ["America/Winnipeg", "America/Vancouver", "Europe/Rome"])
def test_time_zones_are_those_of_the_package_whose_version_is_recorded(zone: str) -> None:
    """The system's time zones may be older: Manitoba stopped changing its clocks in 2026."""
    with files("tzdata").joinpath("zoneinfo", zone).open("rb") as file:
        packaged = zoneinfo.ZoneInfo.from_file(file)
    for at in (datetime(2026, 12, 15, tzinfo=UTC), datetime(2027, 7, 15, tzinfo=UTC)):
        assert local_time.clock_in(zone, at).utcoffset() == at.astimezone(packaged).utcoffset()
    assert not zoneinfo.TZPATH
