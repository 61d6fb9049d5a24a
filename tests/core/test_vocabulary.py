"""Tests of every key in the country vocabulary, with small made-up laws.

Each file in `tests/cases/vocabulary/` holds a `law`, `cases`, and the `facts` that the cases share. A case may change
the law and the facts.
"""

from datetime import date
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from dialgate.core.decision import decide
from dialgate.core.law import Law, parse_law
from dialgate.core.law_sections import Ratio
from dialgate.core.model import DayCount, Facts
from dialgate.core.rules import pacing
from dialgate.tools.policy.case_facts import build_facts, merge_values
from dialgate.tools.policy.case_file import Wanted
from dialgate.tools.policy.checking import differences
from tests.support import yaml_files
from tests.support.case_checks import is_replayed
from tests.support.casebook import BASE, FOLDER, plain


class VocabularyCase(Struct, forbid_unknown_fields=True, kw_only=True):
    about: str
    at: str
    want: Wanted
    facts: dict[str, Any] = {}
    law: dict[str, Any] = {}


class VocabularyFile(Struct, forbid_unknown_fields=True, kw_only=True):
    law: dict[str, Any]
    cases: list[VocabularyCase]
    facts: dict[str, Any] = {}


FILES = {
    path.stem: msgspec.convert(plain(yaml_files.read(path)), VocabularyFile)
    for path in sorted((FOLDER / "vocabulary").glob("*.yaml"))
}


def read(file: VocabularyFile, case: VocabularyCase) -> tuple[Facts, Law]:
    law = parse_law(merge_values(file.law, case.law))
    return build_facts(merge_values(merge_values(BASE, file.facts), case.facts), case.at, law), law


@pytest.mark.parametrize("name", FILES)
def test_each_key_has_its_meaning(name: str) -> None:
    file = FILES[name]
    found = {}
    for case in file.cases:
        facts, law = read(file, case)
        found[case.about] = differences(case.want, decide(facts, law))
        assert is_replayed(facts, law), case.about
    assert {about: several for about, several in found.items() if several} == {}


@pytest.mark.parametrize(
    ("days", "since"),
    [
        ({1: (0, 4)}, 1),
        ({1: (0, 2), 2: (0, 2), 3: (5, 0)}, 2),
        ({1: (0, 3), 2: (0, 1)}, 2),  # at the limit on the first day
        ({1: (0, 4), 2: (200, 0), 3: (0, 6)}, 3),  # within the limit on the second day
        ({1: (0, 4), 20: (0, 0)}, 1),
    ],
)
def test_a_pause_begins_with_the_day_of_the_calls_above_the_limit(
    days: dict[int, tuple[int, int]], since: int
) -> None:
    section = Ratio(source="s", starts=date(2020, 1, 1), above=3, out_of=100, to="answered", per="30d")
    counts = [DayCount(date(2026, 11, day), *called) for day, called in days.items()]
    assert pacing.first_day_above(section, counts, date(2026, 11, 24)).day == since


@pytest.mark.parametrize(
    ("law", "sector", "text"),
    [
        (
            {"sectors": ["gas"]},
            "gas",
            "calls to consumers for gas are banned without the person's own request",
        ),
        ({"sectors": ["gas"]}, "heating", "the law of GB does not name the sector heating"),
        ({}, "heating", "calls to consumers for heating are banned without the person's own request"),
    ],
)
def test_a_ban_says_whether_the_law_names_the_sector(law: dict[str, Any], sector: str, text: str) -> None:
    ban = {"source": "s", "from": "2020-01-01", "severity": "self_regulation", **law}
    file = {
        "country": "GB",
        "name": "A made-up country",
        "zone": "Europe/London",
        "sectors": ["gas"],
        "diallable": [{"source": "d", "from": "2020-01-01", "allows": ["fixed"]}],
        "legal_basis": [{"source": "b", "from": "2020-01-01", "accepts": ["directory"]}],
        "sector_bans": [ban],
    }
    parsed = parse_law(file)
    campaign = {"sector": sector, "trunk_country": "GB"}
    facts = build_facts(
        merge_values(BASE, {"number": {"region": "GB"}, "campaign": campaign}), "2026-11-24T12:00:00Z", parsed
    )
    (deny,) = [reason for reason in decide(facts, parsed).reasons if reason.code == "campaign.sector_banned"]
    assert text in deny.text
    assert (deny.law, deny.severity) == ("s", "self_regulation")
