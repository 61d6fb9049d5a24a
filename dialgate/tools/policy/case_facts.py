"""The facts of a case: from the values in its file to the `Facts` that rules see."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final

from msgspec import structs

from dialgate.config import yaml_file
from dialgate.core import local_time
from dialgate.core.day_sets import DaySet
from dialgate.core.former_names import CurrentNames
from dialgate.core.law import Law
from dialgate.core.location import Addresses, locate
from dialgate.core.model import DAY, Facts, Instant, Place

# The facts that are instants: written in RFC 3339, as a local time, or as days before the call.
INSTANTS: Final = frozenset({
    "at", "consulted_at", "listed_at", "collected_at", "expires_at", "withdrawn_at", "voided_at", "confirmed_at", "requested_at",
    "entered_at", "proved_at", "begins", "renewed_at", "since", "asked_since", "paused_at",
})  # fmt: skip
_DAYS_BEFORE: Final = re.compile(r"-(\d+)d")


class CaseFault(Exception):
    """Raised for a faulty case. `path` names the place in the case, such as `want.reasons`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


def instant(text: str) -> Instant:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def build_facts(data: Mapping[str, Any], at: str, law: Law, names: CurrentNames | None = None) -> Facts:
    """Convert the facts of a case to `Facts` for a call at `at` (RFC 3339). Raises `CaseFault`.

    Like a gate, combine the places declared by lists and ledger entries with those derived from the number.
    """
    now = instant(at)
    known = {name: value for name, value in data.items() if name != "zones"}
    today = local_time.day_in(law.zone, now).isoformat()
    facts, faults = yaml_file.convert({**_instants(known, now), "at": now, "today": today}, Facts)
    if facts is None:
        raise CaseFault("facts", "; ".join(faults))
    number, zones = facts.number, tuple(data["zones"])
    addresses = Addresses.from_listings(facts.listings, facts.known)
    if addresses.places:
        number, zones = locate(number, zones, addresses, law)
    day_sets = tuple(law.day_sets.items())
    places = tuple(_place(zone, day_sets, now) for zone in zones)
    facts = structs.replace(facts, number=number, places=places)
    if names is None:
        return facts
    held = facts.known
    return structs.replace(
        facts, former_campaigns=names.former_campaigns(held), former_goods=names.former_goods(held)
    )


@cache
def _place(zone: str, day_sets: tuple[tuple[str, DaySet], ...], at: Instant) -> Place:
    return local_time.place(zone, dict(day_sets), at)


def merge_values(base: Any, more: Any) -> Any:
    """Merge two values: mappings key by key; any other value of `more` replaces that of `base`."""
    if isinstance(base, dict) and isinstance(more, dict):
        return {**base, **{key: merge_values(base.get(key), value) for key, value in more.items()}}
    return more


def _instants(value: Any, at: Instant) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _instant(item, at) if key in INSTANTS and isinstance(item, str) else _instants(item, at)
            for key, item in value.items()
        }
    return [_instants(item, at) for item in value] if isinstance(value, list | tuple) else value


def _instant(text: str, at: Instant) -> Instant:
    days = _DAYS_BEFORE.fullmatch(text)
    return at - int(days[1]) * DAY if days else instant(text)
