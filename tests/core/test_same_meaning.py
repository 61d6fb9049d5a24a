"""Tests that a country file with the keys of 0.2.0 has the same meaning as the file with the current keys.

`before/it.yaml` is Italy's file before its keys were generalised. Change this file only when the law changes.
"""

import copy
from datetime import date
from typing import Any

import msgspec
import pytest

from dialgate.core.decision import decide
from dialgate.core.law import Law, parse_law
from dialgate.core.law_migration import modernise
from dialgate.core.windows import WEEKDAYS
from dialgate.tools.policy.case_facts import merge_values
from tests.support import yaml_files
from tests.support.case_checks import name_of
from tests.support.casebook import all_cases, case_law, facts_of, law_of
from tests.support.paths import ROOT

BEFORE = yaml_files.read(ROOT / "tests" / "core" / "before" / "it.yaml")
ITALIAN = [case for case in all_cases() if case.country == "IT"]


def test_the_older_file_is_the_same_law() -> None:
    assert plain_law(parse_law(BEFORE)) == plain_law(law_of("IT"))


def plain_law(law: Law) -> dict[str, Any]:
    """Return a law's data with the windows of each weekday instead of the `days` as written in the file."""
    return msgspec.structs.asdict(law) | {
        "hours": [
            msgspec.structs.asdict(section)
            | {
                "days": {
                    day: (windows[day], windows.get("holiday", windows[day]), windows.get("pre_holiday"))
                    for day in WEEKDAYS
                },
                "day_set": "",
            }
            for section in law.hours
            for windows in [section.windows]
        ]
    }


def test_every_case_is_decided_alike_under_the_older_file() -> None:
    older, before = modernise(BEFORE), parse_law(BEFORE)
    for case in ITALIAN:
        law = parse_law(merge_values(older, case.law)) if case.law else before
        assert decide(facts_of(case), law) == decide(facts_of(case), case_law(case)), name_of(case)


TRANSLATED: list[tuple[Any, Any]] = [
    (
        {"holidays": {"country": "IT", "subdivision": "RM", "added": [date(2026, 12, 24)]}},
        {"day_sets": {"holidays": {"library": "IT", "subdivision": "RM", "added": ["2026-12-24"]}}},
    ),
    ({"traits": ["a"], "codes": ["b"]}, {"traits": ["a", "b"]}),
    ({"limits": [{"adherents_of": ""}]}, {"limits": [{"traits": []}]}),
    ({"contracts": [{"tail_days": 0}]}, {"contracts": [{}]}),
    (
        {"registries": [{"consent": "always"}, {"sistan_exempts": False}, {"unless": ["request"]}]},
        {"registries": [{"unless": ["consent"]}, {"unless": []}, {"unless": ["request"]}]},
    ),
    ({"caller_ids": [{"classes": [{"prefixes": ["+1"]}]}]}, {"caller_ids": [{"classes": [{"prefixes": ["+1"]}]}]}),
    ({"diallable": [{"kinds": ["a"], "allows": ["b"]}]}, {"diallable": [{"kinds": ["a"], "allows": ["b"]}]}),
    ({"codes": "a"}, {"codes": "a"}),  # cannot be translated: the check of the file reports it
    (["codes"], ["codes"]),
]  # fmt: skip


@pytest.mark.parametrize(("older", "current"), TRANSLATED)
def test_a_key_that_the_italian_file_lacks_is_translated(older: Any, current: Any) -> None:
    before = copy.deepcopy(older)
    assert modernise(older) == current
    assert older == before
