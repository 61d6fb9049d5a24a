"""Tests that changes to a country file make a case or a table fail, or are explained in `survivors.yaml`."""

import pytest

from tests.mutants import countries, survivors
from tests.support.casebook import law_data

SAMPLE = 32  # one mutant in 32 takes 5 s of processor time


@pytest.mark.torture
def test_a_sample_of_mutants_of_a_country_file_is_killed_or_has_a_judgement() -> None:
    """To save time, this test skips draft country files and mutants with a judgement.

    `make mutants`, a part of `make torture`, tries every mutant.
    """
    known = survivors.read()
    tried, survived = countries.run(countries.countries(drafts=False), judged=known, step=SAMPLE)
    assert len(tried) > 40
    assert survived == [], "write a case, or a judgement: see `make mutants`"


def test_a_loosened_section_is_noticed() -> None:
    notice, data = countries.notice_of("IT"), law_data("IT")
    registries = [{**data["registries"][0], "purposes": ["sale"]}]
    assert notice.notices({**data, "registries": registries})


def test_a_judgement_is_about_a_mutant_that_exists() -> None:
    names = {change.mutant for change in countries.changes("config/countries/it.yaml", law_data("IT"))}
    assert {mutant for mutant in survivors.read() if mutant.file == "config/countries/it.yaml"} <= names
