"""Tests of the example on the page "Write a country": its country file is valid, and its cases pass."""

import re
from typing import Any

import pytest
import yaml

from dialgate.core.decision import decide
from dialgate.core.law import SECTIONS, parse_law
from dialgate.tools.policy import case_facts
from dialgate.tools.policy.checking import differences
from tests.core.test_changes_of_law import missing_cases
from tests.support import casebook, country_cases
from tests.support.case_checks import name_of
from tests.support.paths import ROOT

BLOCKS = re.findall(
    r"```yaml\n(.*?)```", (ROOT / "docs/how-to/write-a-country.md").read_text("utf-8"), re.DOTALL
)
LAW_DATA: Any = casebook.plain(yaml.safe_load(next(block for block in BLOCKS if "diallable:" in block)))
BOOK: Any = casebook.plain(yaml.safe_load(next(block for block in BLOCKS if "numbers:" in block)), None)
LAW = parse_law(LAW_DATA)
CASES = list(country_cases.read_book(LAW_DATA, BOOK, {}))


def test_it_has_thirteen_rules() -> None:
    assert sum(len(getattr(LAW, name)) for name in SECTIONS) == 13


def test_the_cases_are_decided_as_the_page_says() -> None:
    found = {
        name_of(case): differences(case.want, decide(case_facts.build_facts(case.facts, case.at, LAW), LAW))
        for case in CASES
    }
    assert {name: several for name, several in found.items() if several} == {}


def test_each_change_of_law_has_a_case() -> None:
    """The page "Write a country" requires cases for each change of law, so its example must have them."""
    assert (
        missing_cases(
            LAW, [case_facts.build_facts(case.facts, case.at, LAW) for case in CASES if not case.law]
        )
        == []
    )


@pytest.mark.parametrize("kind", [name for name in SECTIONS if LAW_DATA.get(name) and name != "legal_basis"])
def test_without_its_sections_a_case_fails(kind: str) -> None:
    """`legal_basis` is not among the cases, because a law without such a section is invalid."""
    law = parse_law({**LAW_DATA, kind: LAW_DATA[kind] if kind == "diallable" else []})
    if kind == "diallable":
        law = parse_law({**LAW_DATA, kind: [{**LAW_DATA[kind][0], "allows": ["fixed", "premium"]}]})
    assert any(
        decide(case_facts.build_facts(case.facts, case.at, law), law).allow != (case.want.decision == "allow")
        for case in CASES
    )
