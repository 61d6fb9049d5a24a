"""The decision cases in `tests/cases/*.yaml`, read by the reader of `dialgate policy test`.

Each case starts from `base` in base.yaml there, an allowed call, and lists only the facts that differ. They name the properties of
the called number instead of a number. `zones` lists the time zones where the called person might be. `law` changes the country file
for one case: a value that an operator can set, or a section that another country might have.
"""

from datetime import UTC, date, datetime, tzinfo
from functools import cache
from typing import Any

from msgspec import structs

from dialgate.core.law import Law, parse_law
from dialgate.core.model import Call, Facts, Known
from dialgate.tools.policy.case_facts import build_facts, merge_values
from dialgate.tools.policy.case_file import BASE_FILE, CallFacts, PolicyCase, read_cases
from tests.support import yaml_files
from tests.support.paths import ROOT

FOLDER = ROOT / "tests" / "cases"
COUNTRIES = ROOT / "config" / "countries"


class DescribedCalls:
    """A source for cases that describe the call in their facts."""

    def call(self, _: Call, /) -> CallFacts:
        return CallFacts(facts={}, law=law_of("IT"))


@cache
def all_cases() -> tuple[PolicyCase, ...]:
    """Return every case. The result is cached, because parsing takes a second."""
    paths = [path for path in sorted(FOLDER.glob("*.yaml")) if path.name != BASE_FILE]
    cases, problems = read_cases(paths, DescribedCalls())
    assert problems == []
    return tuple(
        structs.replace(case, file=case.file.rpartition("/")[2].removesuffix(".yaml")) for case in cases
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


BASE: dict[str, Any] = plain(yaml_files.read(FOLDER / BASE_FILE))["base"]


@cache
def law_data(country: str) -> dict[str, Any]:
    """Return the parsed country file. It is shared: copy it before changing it."""
    loaded: dict[str, Any] = yaml_files.read(COUNTRIES / f"{country.lower()}.yaml")
    return loaded


@cache
def law_of(country: str) -> Law:
    return parse_law(law_data(country))


def case_law_data(case: PolicyCase) -> dict[str, Any]:
    """Return the country file with the changes that the case makes. It is shared: copy it before changing it."""
    data: dict[str, Any] = merge_values(law_data(case.country), case.law)
    return data


def case_law(case: PolicyCase) -> Law:
    return parse_law(case_law_data(case)) if case.law else law_of(case.country)


def facts_of(case: PolicyCase) -> Facts:
    return build_facts(case.facts if case.to else merge_values(BASE, case.facts), case.at, case_law(case))


def stranger_of(facts: Facts) -> Facts:
    """Return the facts of the same call to a number of which nothing is stored."""
    return structs.replace(facts, known=Known(seq=facts.known.seq), former_campaigns=(), former_goods=())
