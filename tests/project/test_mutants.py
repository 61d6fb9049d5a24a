"""Tests that every change to a country file makes a case or a table fail, or is explained in `survivors.yaml`."""

import importlib.util
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import countries, operators, runner, source, survivors
from tests.mutants.operators import Change
from tests.mutants.survivors import Entry, Mutant
from tests.support.casebook import law_data
from tests.support.paths import ROOT

EXAMPLE = '''
LIMIT = 5


class Counter:
    def is_full(self, calls: int) -> bool:
        """More than the limit allows."""
        if calls >= LIMIT:
            return True
        raise ValueError("a message is not changed")
'''


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


@pytest.mark.torture
def test_every_judged_mutant_of_python_exists() -> None:
    known = [mutant for mutant in survivors.index_entries(survivors.read()) if mutant.file.endswith(".py")]
    files = {mutant.file for mutant in known}
    names = {change.mutant for file in files for change in operators.changes(ROOT / file, ROOT)}
    assert [mutant for mutant in known if mutant not in names] == []


def test_a_loosened_section_is_noticed() -> None:
    notice, data = countries.notice_of("IT"), law_data("IT")
    registries = [{**data["registries"][0], "purposes": ["sale"]}]
    assert notice.notices({**data, "registries": registries})


def test_the_tests_listed_for_mutants_of_python_exist() -> None:
    named = {name for group in source.GROUPS for name in group.tests}
    assert {name for name in named if not (ROOT / "tests" / f"{name}.py").exists()} == set()


def test_the_names_of_mutants_are_unique() -> None:
    names = [change.mutant for change in countries.changes("it.yaml", law_data("IT"))]
    assert len(names) == len(set(names))


def test_the_operators_leave_text_alone_and_name_the_place(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text(EXAMPLE)
    made = {(change.mutant.where, change.mutant.change) for change in operators.changes(path, tmp_path)}
    assert ("(module)", "LIMIT = 5  ->  LIMIT = 6") in made
    assert ("Counter.is_full", "if calls >= LIMIT:  ->  if calls > LIMIT:") in made
    assert ("Counter.is_full", "return True  ->  return False") in made
    assert not [change for _, change in made if "message is not changedx" in change or "allows.x" in change]


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "counter_example.py"
    path.write_text(EXAMPLE)
    spec = importlib.util.spec_from_file_location("counter_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["counter_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["counter_example"]


def change_of(folder: Path, text: str) -> Change:
    made = operators.changes(folder / "counter_example.py", folder)
    return next(change for change in made if change.mutant.change.endswith(text))


def test_a_functions_code_is_exchanged_where_it_is_imported(example: Any, tmp_path: Path) -> None:
    assert example.Counter().is_full(5)
    assert runner.exchange(change_of(tmp_path, "calls > LIMIT:"), tmp_path)
    with pytest.raises(ValueError, match="a message"):
        example.Counter().is_full(5)


def test_a_constant_is_exchanged_where_it_is_imported(example: Any, tmp_path: Path) -> None:
    file = tmp_path / "counter_importing.py"
    file.write_text("from counter_example import LIMIT\n")
    importing, unrelated = types.ModuleType(file.stem), types.ModuleType("counter_unrelated")
    importing.__file__ = str(file)
    vars(importing).update(LIMIT=example.LIMIT)
    vars(unrelated).update(LIMIT=example.LIMIT)
    modules = {module.__name__: module for module in (importing, unrelated)}
    sys.modules.update(modules)
    try:
        counter = example.Counter()
        assert runner.exchange(change_of(tmp_path, "LIMIT = 6"), tmp_path)
        with pytest.raises(ValueError, match="a message"):
            counter.is_full(5)
        assert vars(importing)["LIMIT"] == 6
        assert vars(unrelated)["LIMIT"] == 5
    finally:
        for name in modules:
            del sys.modules[name]


CHILD = """
import subprocess
import sys


def test_five_calls_fill_it():
    asked = "from counter_example import Counter; print(Counter().is_full(5))"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stdout == "True\\n"
"""


def test_a_change_in_a_copy_of_the_repository_reaches_child_processes_and_is_undone(
    tmp_path: Path,
) -> None:
    root, copied = tmp_path / "repository", tmp_path / "copy"
    root.mkdir()
    (root / "counter_example.py").write_text(EXAMPLE)
    (root / "test_counter.py").write_text(CHILD)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    change = change_of(root, "calls > LIMIT:")
    copy = runner.Copy(root, copied)
    outcomes = [copy.run(["test_counter.py"], tried, 120) for tried in (None, change, None)]
    assert [outcome.status for outcome in outcomes] == [runner.SURVIVED, runner.KILLED, runner.SURVIVED]
    assert outcomes[1].by.startswith("test_counter.py::test_five_calls_fill_it")


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
