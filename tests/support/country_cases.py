"""The case books for countries, in `tests/cases/<country>/*.yaml`. Like `tests/cases/*.yaml`, they describe decisions as data.

A country's `base.yaml` holds telephone numbers by name (`numbers`) and an allowed call (`base`). Each case lists only
what differs from that call. A small book may hold its `cases` in base.yaml too. As in a gate, the facts about the called
number and the caller ID are derived from `to` and `from`. A file in `tests/cases/shared` holds `cases` that apply to all
of its `countries`.

- `place`: where the called person is, as an IANA time zone or a region such as `US-CA`. `zones` in base.yaml gives the time
  zone of a region. If `numbers` has an entry named after the place, that number is called. If the region of the number is
  not known, the call lists declare the place. If the number belongs to another region, reading the case raises
  `ValueError`. Instants without an offset are local time at the place. If there is no `place`, these instants are in
  the country's main time zone.
- `declared`: the place that each call list declares for the number.
- `each`: lists of values by fact, such as `campaign.purpose: [sale, advertising]`. The case is repeated for every
  combination of the values. `each` may also be a list of such mappings; each mapping is then combined separately.
- `want`: `allow`, or the reason codes of the denial, or a mapping like those in `tests/cases/*.yaml`.
- `pending`: why the country file cannot express the law of this case yet. If the decision matches `want`, a test fails
  until `pending` is removed.
"""

import itertools
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from dialgate.core import phone
from tests.support import casebook, yaml_files
from tests.support.casebook import FOLDER, INSTANTS, Case, law_data, merge_values

# The keys of a case that `each` may name; its other names are paths into the facts.
_OF_CASE = {"at": "at", "to": "to", "from": "from_", "place": "place", "declared": "declared"}
SHARED = FOLDER / "shared"
COUNTRIES = tuple(sorted(path.parent.name.upper() for path in FOLDER.glob("*/base.yaml")))


class _Written(Struct, forbid_unknown_fields=True, kw_only=True):
    """A case before its combinations are expanded and its defaults are filled in."""

    about: str
    at: str
    want: str | list[str] | dict[str, Any]
    place: str = ""
    declared: str = ""
    to: str = ""
    from_: str | None = msgspec.field(name="from", default=None)
    facts: dict[str, Any] = {}
    law: dict[str, Any] = {}
    each: dict[str, list[Any]] | list[dict[str, list[Any]]] = {}
    pending: str = ""


class _Base(Struct, forbid_unknown_fields=True, kw_only=True):
    numbers: dict[str, str]
    base: dict[str, Any]
    zones: dict[str, str] = {}
    cases: list[_Written] = []


@cache
def cases_of(country: str) -> tuple[Case, ...]:
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


def read_book(law: dict[str, Any], base_file: Any, files: dict[str, Any]) -> Iterator[Case]:
    """Yield the cases in a book: those in base.yaml, then those in the other files, ordered by file name."""
    base = msgspec.convert(base_file, _Base)
    folder = law["country"].lower()
    books = {
        "base": base.cases,
        **{name: msgspec.convert(data, list[_Written]) for name, data in files.items()},
    }
    for name, cases in books.items():
        for written in cases:
            yield from _expand(law, f"{folder}/{name}", base, written)


def all_country_cases() -> tuple[Case, ...]:
    return tuple(case for country in COUNTRIES for case in cases_of(country))


def _load(path: Path) -> Any:
    return casebook.plain(yaml_files.read(path), None)


def _expand(law: dict[str, Any], file: str, base: _Base, written: _Written) -> Iterator[Case]:
    for chosen in _combinations(written):
        about = f"{written.about} ({', '.join(map(str, chosen.values()))})" if chosen else written.about
        own = {key: chosen.pop(name) for name, key in _OF_CASE.items() if name in chosen}
        facts = merge_values(base.base, written.facts)
        for path, value in chosen.items():
            facts = merge_values(facts, _nested(path.split("."), value))
        yield _case(law, file, base, msgspec.structs.replace(written, about=about, facts=facts, **own))


def _combinations(written: _Written) -> Iterator[dict[str, Any]]:
    for each in written.each if isinstance(written.each, list) else [written.each]:
        for values in itertools.product(*each.values()):
            yield dict(zip(each, values, strict=True))


def _nested(path: list[str], value: Any) -> Any:
    return {path[0]: _nested(path[1:], value)} if path else value


def _case(law: dict[str, Any], file: str, base: _Base, written: _Written) -> Case:
    country = law["country"]
    zone = base.zones.get(written.place, written.place) or law["zone"]
    facts = dict(written.facts)
    usual_to, usual_from = facts.pop("to"), facts.pop("from")
    to = written.to or (written.place if written.place in base.numbers else usual_to)
    shown = usual_from if written.from_ is None else written.from_
    number = phone.parse(base.numbers.get(to, to), country)
    declared = written.declared
    if written.place in law.get("regions", ()) and written.place not in {number.region, *number.places}:
        if number.places:
            raise ValueError(f"{file}: {written.about}: {to} is not a number of {written.place}")
        declared = declared or written.place
    called: dict[str, Any] = {"kind": number.kind, "region": number.region, "places": list(number.places)}
    barred = (prefix for section in law["diallable"] for prefix in section.get("not_prefixes", ()))
    called["prefix"] = next((prefix for prefix in barred if number.e164.startswith(prefix)), "")
    caller = msgspec.to_builtins(phone.parse_caller_id(shown, country)) | {"assigned": True}
    facts = merge_values({"number": called, "caller_id": caller, "zones": list(number.zones)}, facts)
    if declared:
        facts["listings"] = [{**listing, "place": declared} for listing in facts["listings"]]
    want = written.want
    if not isinstance(want, dict):
        reasons = [want] if isinstance(want, str) else want
        want = {"decision": "allow"} if reasons == ["allow"] else {"decision": "deny", "reasons": reasons}
    return msgspec.convert(
        {
            "about": written.about,
            "at": _zoned(written.at, zone),
            "facts": _zoned_inside(facts, zone),
            "want": _zoned_inside(want, zone),
            "law": written.law,
            "country": country,
            "file": file,
            "to": number.e164,
            "shown": shown,
            "pending": written.pending,
        },
        Case,
    )


def _zoned(text: str, zone: str) -> str:
    """Add the UTC offset of `zone` to a local time. Return any other text, such as `-4d`, unchanged."""
    if not text or text.startswith("-"):
        return text
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).isoformat()


def _zoned_inside(value: Any, zone: str) -> Any:
    if isinstance(value, dict):
        return {
            key: _zoned(item, zone)
            if key in INSTANTS | {"not_before", "valid_until"} and isinstance(item, str)
            else _zoned_inside(item, zone)
            for key, item in value.items()
        }
    return [_zoned_inside(item, zone) for item in value] if isinstance(value, list) else value
