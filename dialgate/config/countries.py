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

    If a key has the wrong type, only the types of the keys are checked.
    """
    data = modernise(data)
    law, faults = yaml_file.convert(data, Law)
    country = data.get("country") if isinstance(data, dict) else None
    if isinstance(country, str) and (country in _MISTAKEN or not _COUNTRY.fullmatch(country)):
        faults.append(f"country {explain_country(country)}")
    if law is not None:
        try:
            law = parse_law(data)
        except LawError as error:
            faults += error.problems
    return None if faults else law, faults


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


def law_faults(country: str, laws: Mapping[str, Law], folder: str) -> Iterator[str]:
    """Yield a message if `country` is not a key of `laws`."""
    if country in laws:
        return
    meant = _MISTAKEN.get(country.upper(), country.upper())
    if meant in laws:
        yield f"{country} has no country file; write {meant}"
    elif meant not in phone.COUNTRIES or meant != country:
        yield explain_country(country)
    else:
        existing = f"has files for {', '.join(laws)}" if laws else "has no file"
        yield f"{country} has no country file; {folder}/ {existing}"
