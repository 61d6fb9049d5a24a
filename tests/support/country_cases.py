"""The case books for countries, in `tests/cases/<country>/*.yaml`. Like `tests/cases/*.yaml`, they describe decisions as data.

The format is that of `dialgate policy test` (docs/reference/policy-cases.md), except that the campaign and the controller are facts
of each case. As in a gate, the facts about the called number and the caller ID are derived from `to` and `from`. A small book may
hold its `cases` in base.yaml. A file in `tests/cases/shared` holds `cases` that apply to all of its `countries`.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from dialgate.core import phone
from dialgate.core.law import Law, parse_law
from dialgate.core.model import Call
from dialgate.tools.policy.case_file import CallFacts, CaseBase, PolicyCase, WrittenCase, expand
from tests.support import casebook, yaml_files
from tests.support.casebook import FOLDER, law_data

SHARED = FOLDER / "shared"
COUNTRIES = tuple(sorted(path.parent.name.upper() for path in FOLDER.glob("*/base.yaml")))


class CallsToCountry:
    """A source of call facts for cases about one country, whose facts have the campaign."""

    def __init__(self, law: Law) -> None:
        self._law = law

    def call(self, call: Call, /) -> CallFacts:
        law = self._law
        number = phone.parse(call.to, law.country)
        called: dict[str, Any] = {"kind": number.kind, "region": number.region, "places": list(number.places)}
        barred = (prefix for section in law.diallable for prefix in section.not_prefixes)
        called["prefix"] = next((prefix for prefix in barred if number.e164.startswith(prefix)), "")
        caller = msgspec.to_builtins(phone.parse_caller_id(call.from_, law.country)) | {"assigned": True}
        facts = {"number": called, "caller_id": caller, "zones": list(number.zones)}
        return CallFacts(facts=facts, law=law, to=number.e164)


@cache
def cases_of(country: str) -> tuple[PolicyCase, ...]:
    """Return every case for a country. An entry with `each` becomes one case for each combination of the listed values."""
    folder = FOLDER / country.lower()
    files = {path.stem: _load(path) for path in sorted(folder.glob("*.yaml"))}
    base = files.pop("base", None)
    if base is None:
        return ()
    for path in sorted(SHARED.glob("*.yaml")):
        shared = _load(path)
        if country in shared["countries"]:
            files[f"shared/{path.stem}"] = shared["cases"]
    return tuple(read_book(law_data(country), base, files))


def read_book(law_file: dict[str, Any], base_file: Any, files: dict[str, Any]) -> Iterator[PolicyCase]:
    """Yield the cases in a book: those in base.yaml, then those in the other files, ordered by file name."""
    base, calls = msgspec.convert(base_file, CaseBase), CallsToCountry(parse_law(law_file))
    folder = law_file["country"].lower()
    books = {
        "base": base.cases,
        **{name: msgspec.convert(data, list[WrittenCase]) for name, data in files.items()},
    }
    for name, cases in books.items():
        for written in cases:
            yield from expand(written, base, calls, f"{folder}/{name}")


def all_country_cases() -> tuple[PolicyCase, ...]:
    return tuple(case for country in COUNTRIES for case in cases_of(country))


def _load(path: Path) -> Any:
    return casebook.plain(yaml_files.read(path), None)
