"""The checks for countries/*.yaml, and for country codes in other files."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dialgate.config import yaml_file
from dialgate.core import local_time, phone
from dialgate.core.law import Law, parse_law
from dialgate.core.law_migration import modernise
from dialgate.core.law_sections import LawError

SHIPPED: Final = (
    Path(__file__).parents[1] / "resources/countries"
)  # the country files that come with dialgate
_COUNTRY: Final = re.compile("[A-Z]{2}")
_MISTAKEN: Final = {"UK": "GB", "EL": "GR", "ITA": "IT", "ITALY": "IT", "ITALIA": "IT"}


def convert_law(data: Any) -> tuple[Law | None, list[str]]:
    """Convert a parsed country file. Return the law, or None and every fault in the file.

    If one key has the wrong type, the others are still checked. Sections refer to `sectors`, `traits` and `regions`, so
    if one of these three is wrong, only the types of the other keys are checked.
    """
    data = modernise(data)
    read, faults = yaml_file.convert(data, Law)
    rest = data if read is not None else yaml_file.remainder(data, Law)
    country = data.get("country") if isinstance(data, dict) else None
    if isinstance(country, str) and (country in _MISTAKEN or not _COUNTRY.fullmatch(country)):
        faults.append(f"country {explain_country(country)}")
    if read is not None or not any(fault.startswith(("sectors", "traits", "regions")) for fault in faults):
        try:
            read = parse_law(rest)
        except LawError as error:
            faults += [] if rest is yaml_file.LOST else error.problems
    return None if faults else read, faults


def unknown_holidays(law: Law) -> Iterator[str]:
    """Yield a message for each entry of `day_sets` whose country or subdivision is missing from the `holidays` library.

    This is slow, because the library imports a module for each country.
    """
    for name, days in law.day_sets.items():
        if why := local_time.unknown_library(days):
            yield f"day_sets: {name}: {why}"


def explain_country(value: str) -> str:
    """Return why `value` is not a country code, and what to write instead."""
    meant = _MISTAKEN.get(value.upper(), value.upper())
    advice = (
        f"write {meant}"
        if meant in phone.COUNTRIES
        else "write two capital letters (ISO 3166), for example IT"
    )
    return f"{value!r} is not a country code; {advice}"


def law_faults(country: str, laws: Mapping[str, Law], folder: str, *, whole: bool) -> Iterator[str]:
    """Yield a message if `country` is not a key of `laws`.

    `whole` is true if every file in `folder` is valid. If it is false, an invalid file might contain the missing law,
    so only an invalid country code is reported.
    """
    if country in laws:
        return
    meant = _MISTAKEN.get(country.upper(), country.upper())
    if meant in laws:
        yield f"{country} has no country file; write {meant}"
    elif meant not in phone.COUNTRIES or meant != country:
        yield explain_country(country)
    elif whole:
        existing = f"has files for {', '.join(laws)}" if laws else "has no file"
        yield f"{country} has no country file; {folder}/ {existing}"
