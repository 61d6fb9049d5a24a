"""Promise: a country file in older keys means the same as in the current ones.

`before/it.yaml` is Italy's file before its keys were generalised. It is never changed, except for a change of law.
"""

import msgspec
import pytest

from dialgate.core.decision import decide
from dialgate.core.law import parse_law
from tests.support import decision_tables
from tests.support.casebook import Case, all_cases, case_law, facts_of, law_of, load_yaml, merged
from tests.support.paths import ROOT

BEFORE = load_yaml(ROOT / "tests" / "core" / "before" / "it.yaml")
ITALIAN = [case for case in all_cases() if case.country == "IT"]


def test_the_older_file_is_the_same_law() -> None:
    assert msgspec.structs.asdict(parse_law(BEFORE)) == msgspec.structs.asdict(law_of("IT"))


@pytest.mark.parametrize("case", ITALIAN, ids=lambda case: f"{case.file}: {case.about}")
def test_a_case_is_decided_alike_under_the_older_file(case: Case) -> None:
    assert decide(facts_of(case), parse_law(merged(BEFORE, case.law))) == decide(
        facts_of(case), case_law(case)
    )


def test_the_tables_are_decided_alike_under_the_older_file() -> None:
    before = parse_law(BEFORE)
    for row in decision_tables.read_rows():
        for question in row.questions:
            assert decide(question.facts, before) == decide(question.facts, law_of("IT")), row.text
