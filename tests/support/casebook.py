"""The decision cases in `tests/cases/*.yaml`.

Each case has a description (`about`), the facts of a call and the expected decision. A case starts from `BASE`, an
allowed call, and lists only the facts that differ. Instants are written in RFC 3339 or as days before the call (`-4d`).
`zones` lists the time zones where the called person might be. `law` changes the country file for one case: a value that
an operator can set, or a section that another country might have.
"""

import re
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct, structs

from dialgate.core import local_time
from dialgate.core.day_sets import DaySet
from dialgate.core.law import Law, parse_law
from dialgate.core.location import Addresses, locate
from dialgate.core.model import DAY, Facts, Known, Place
from tests.support import yaml_files
from tests.support.paths import ROOT

FOLDER = ROOT / "tests" / "cases"
COUNTRIES = ROOT / "config" / "countries"

BASE: dict[str, Any] = {
    "number": {"kind": "fixed", "region": "IT"},
    "controller": {"id": "acme"},
    "campaign": {
        "id": "fibre",
        "purpose": "sale",
        "goods": "broadband",
        "call_type": "agent",
        "trunk_country": "IT",
    },
    "call_type": "agent",
    "caller_id": {"number": "+390844123456", "form": "number", "region": "IT", "assigned": True},
    "zones": ["Europe/Rome"],
    "listings": [
        {
            "list": "directory-2026",
            "basis": "directory",
            "origin": {"collected_by": "acme", "collected_on": "2026-01-15"},
        }
    ],
    "registries": [
        {
            "registry": "rpo",
            "answer": "clear",
            "consulted_at": "-4d",
            "consultation": "T-1",
            "snapshot": "s",
        }
    ],
}


class Wanted(Struct, forbid_unknown_fields=True, kw_only=True):
    """The expected decision of a case.

    `reasons` are in order. `outcomes` maps the rules that matter to `pass`, `skip` or `deny`. Instants are RFC 3339; an
    empty string means that the decision has no such instant. `cites` maps a reason code to a severity and the beginning
    of the cited source, or to a severity alone if no section is cited. A case needs `cites` if several sections could
    have denied the call (`tests/support/citations.py`).
    """

    decision: str
    reasons: list[str] = []
    basis: str | None = None
    outcomes: dict[str, str] = {}
    valid_until: str | None = None
    not_before: str | None = None
    cites: dict[str, str] = {}


class Case(Struct, forbid_unknown_fields=True, kw_only=True):
    about: str
    at: str
    want: Wanted
    facts: dict[str, Any] = {}
    law: dict[str, Any] = {}
    traps: list[int] = []
    country: str = "IT"
    file: str = ""
    # Set only by `country_cases.py`, whose facts are complete: the called number, and the caller ID as sent.
    to: str = ""
    shown: str = ""
    pending: str = ""


@cache
def all_cases() -> tuple[Case, ...]:
    """Return every case. The result is cached, because parsing takes a second."""
    return tuple(
        msgspec.structs.replace(msgspec.convert(plain(data), Case), file=path.stem)
        for path in sorted(FOLDER.glob("*.yaml"))
        for data in yaml_files.read(path)
    )


def plain(value: Any, zone: tzinfo | None = UTC) -> Any:
    """Convert dates and instants, which YAML has parsed, back to text. An instant without an offset is in `zone`."""
    if isinstance(value, dict):
        return {key: plain(item, zone) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, zone) for item in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=zone)).isoformat()
    return value.isoformat() if isinstance(value, date) else value


@cache
def law_data(country: str) -> dict[str, Any]:
    """Return the parsed country file. It is shared: copy it before changing it."""
    loaded: dict[str, Any] = yaml_files.read(COUNTRIES / f"{country.lower()}.yaml")
    return loaded


@cache
def law_of(country: str) -> Law:
    return parse_law(law_data(country))


def case_law_data(case: Case) -> dict[str, Any]:
    """Return the country file with the changes that the case makes. It is shared: copy it before changing it."""
    data: dict[str, Any] = merge_values(law_data(case.country), case.law)
    return data


def case_law(case: Case) -> Law:
    return parse_law(case_law_data(case)) if case.law else law_of(case.country)


def instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def facts_of(case: Case) -> Facts:
    return build_facts(case.facts if case.to else merge_values(BASE, case.facts), case.at, case_law(case))


def build_facts(data: dict[str, Any], at: str, law: Law) -> Facts:
    """Convert the facts of a case to `Facts` for a call at `at` (RFC 3339).

    Like a gate, combine the places declared by lists and ledger entries with those derived from the number.
    """
    now = instant(at)
    known = {name: value for name, value in data.items() if name != "zones"}
    today = local_time.day_in(law.zone, now).isoformat()
    facts = msgspec.convert({**_instants(known, now), "at": now, "today": today}, Facts)
    number, zones = facts.number, tuple(data["zones"])
    addresses = Addresses.from_listings(facts.listings, facts.known)
    if addresses.places:
        number, zones = locate(number, zones, addresses, law)
    day_sets = tuple(law.day_sets.items())
    places = tuple(_place(zone, day_sets, now) for zone in zones)
    return structs.replace(facts, number=number, places=places)


@cache
def _place(zone: str, day_sets: tuple[tuple[str, DaySet], ...], at: int) -> Place:
    return local_time.place(zone, dict(day_sets), at)


def merge_values(base: Any, more: Any) -> Any:
    """Merge two values: mappings key by key; any other value of `more` replaces that of `base`."""
    if isinstance(base, dict) and isinstance(more, dict):
        return {**base, **{key: merge_values(base.get(key), value) for key, value in more.items()}}
    return more


INSTANTS = {"at", "consulted_at", "listed_at", "collected_at", "expires_at", "withdrawn_at", "voided_at", "confirmed_at",
          "requested_at", "entered_at", "proved_at", "begins", "renewed_at", "since", "asked_since"}  # fmt: skip
_DAYS_BEFORE = re.compile(r"-(\d+)d")


def _instants(value: Any, at: int) -> Any:
    if isinstance(value, dict):
        return {
            key: _instant(item, at) if key in INSTANTS and isinstance(item, str) else _instants(item, at)
            for key, item in value.items()
        }
    return [_instants(item, at) for item in value] if isinstance(value, list) else value


def _instant(text: str, at: int) -> int:
    days = _DAYS_BEFORE.fullmatch(text)
    return at - int(days[1]) * DAY if days else instant(text)


def stranger_of(facts: Facts) -> Facts:
    """Return the facts of the same call to a number of which nothing is stored."""
    return structs.replace(facts, known=Known(seq=facts.known.seq), former_campaigns=(), former_goods=())
