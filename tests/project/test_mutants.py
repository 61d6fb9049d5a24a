"""Tests that every change to a country file makes a case or a table fail, or is explained in `survivors.yaml`."""

import pytest

from tests.mutants import countries, survivors
from tests.mutants.survivors import Entry, Mutant
from tests.support.casebook import law_data


@pytest.mark.timeout(300)
def test_every_mutant_of_a_country_file_is_killed_or_has_a_judgement() -> None:
    """To save time, this test skips draft country files and mutants with a judgement.

    `make mutants` tries every mutant.
    """
    known = survivors.index_entries(survivors.read())
    tried, survived = countries.run(countries.countries(drafts=False), judged=known)
    names = {change.mutant for change in tried}
    assert len(names) > 1_000
    assert survived == [], "write a case, or a judgement: see `make mutants`"
    assert {mutant for mutant in known if mutant.file == "config/countries/it.yaml"} <= names


def test_a_loosened_section_is_noticed() -> None:
    notice, data = countries.notice_of("IT"), law_data("IT")
    registries = [{**data["registries"][0], "purposes": ["sale"]}]
    assert notice.notices({**data, "registries": registries})


def test_the_names_of_mutants_are_unique() -> None:
    names = [change.mutant for change in countries.changes("it.yaml", law_data("IT"))]
    assert len(names) == len(set(names))


def test_a_list_with_a_mutant_twice_or_without_a_reason_is_refused() -> None:
    entry = Entry(where="f", judgement="equivalent", reason="same", changes=["a  ->  b"])
    with pytest.raises(ValueError, match="twice"):
        survivors.index_entries({"x.py": [entry, entry]})
    with pytest.raises(ValueError, match="no reason"):
        survivors.index_entries(
            {"x.py": [Entry(where="f", judgement="equivalent", reason="", changes=["a  ->  b"])]}
        )


def test_a_comparison_reports_new_and_outdated_mutants() -> None:
    old, new, elsewhere = Mutant("x.py", "f", "old"), Mutant("x.py", "f", "new"), Mutant("y.py", "f", "old")
    assert survivors.compare([new], [new], [old, elsewhere]) == ([new], [old])
