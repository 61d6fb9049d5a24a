"""Tests of `dialgate policy test`: red cases, faults of case files, coverage, and cases written from decisions."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from dialgate.config import loader
from dialgate.tools.policy.call_facts import ConfiguredCalls
from dialgate.tools.policy.case_file import read_cases
from dialgate.tools.policy.checking import check_cases
from tests.support import yaml_files
from tests.support.commands import Done, run_command
from tests.support.paths import ROOT

HERE = Path(__file__).parent
CHANGES = yaml_files.read(HERE / "changes.yaml")
ALLOWED = """\
- about: A call
  at: 2026-11-24T10:00
  want: allow
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tmp_path / "countries").mkdir()
    shutil.copy(ROOT / "config/countries/it.yaml", tmp_path / "countries")
    (tmp_path / "changes.yaml").unlink()
    return tmp_path


def policy(folder: Path, *words: str, cases: Sequence[str] = ("cases",)) -> Done:
    paths = (folder / name for name in cases)
    return run_command("dialgate", "policy", "test", *paths, *words, "--config", folder / "dialgate.yaml")


def test_the_cases_are_green_on_their_configuration(folder: Path) -> None:
    done = policy(folder)
    assert (done.code, done.out, done.err) == (0, "36 cases, 0 red, 0 invalid\n", "")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change['set']} {change['to']}")
def test_a_deliberate_change_turns_exactly_these_cases_red(folder: Path, change: dict[str, Any]) -> None:
    path = folder / change["file"]
    content = at = yaml_files.read(path)
    *keys, last = (int(key) if key.isdigit() else key for key in change["set"].split("."))
    for key in keys:
        at = at[key]
    at[last] = change["to"]
    yaml_files.write(path, content)
    calls = ConfiguredCalls(loader.load(folder / "dialgate.yaml"))
    checked, problems = check_cases(read_cases([folder / "cases"], calls)[0], calls.law)
    assert problems == []
    assert [item.case.about for item in checked if item.differences] == change["red"]


def test_there_are_thirty_changes() -> None:
    assert len(CHANGES) == 30


def test_a_red_case_shows_what_was_wanted_and_what_was_decided_with_its_law(folder: Path) -> None:
    text = ALLOWED.replace("A call", "A withheld caller ID") + "  from: anonymous\n"
    (folder / "cases/more.yaml").write_text(text)
    done = policy(folder, "--junit", str(folder / "out.xml"))
    assert done.code == 1
    assert (
        f"RED {folder}/cases/more.yaml:1: A withheld caller ID\n    wanted: allow\n    got:    deny\n"
        in done.out
    )
    assert "caller_id.withheld: " in done.out
    assert "(statute: " in done.out
    suite = ET.parse(folder / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("37", "1", "0")
    (failure,) = suite.iter("failure")
    assert "caller_id.withheld" in (failure.text or "")


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("about: A call", "abuot: A call", 1, "unknown key `abuot`; did you mean `about`?"),
        ("want: allow", "want: alow", 3, "unknown reason code `alow`"),
        ("want: allow", "want: registry.lised", 3, "did you mean `registry.listed`?"),
        ("at: 2026-11-24T10:00", "at: noon", 2, "write a time such as 2026-11-24T10:00"),
        ("want: allow", "want: allow\n  campaign: fiber", 4, "no campaign `fiber`; did you mean `fibre`?"),
        (
            "want: allow",
            "want: allow\n  facts:\n    known:\n      consents:\n        - {id: c1, colected_at: -1d}",
            7,
            "unknown key `colected_at`; did you mean `collected_at`?",
        ),
        ("want: allow", "want: {decision: allow, outcomes: {hours: pass}}", 3, "unknown rule `hours`"),
    ],
)
def test_a_faulty_case_names_its_file_and_line_and_what_is_meant(
    folder: Path, before: str, after: str, line: int, message: str
) -> None:
    (folder / "cases/more.yaml").write_text(ALLOWED.replace(before, after))
    done = policy(folder)
    assert done.code == 2
    assert f"{folder}/cases/more.yaml:{line}: " in done.err
    assert message in done.err


def test_without_cases_or_with_an_invalid_configuration_the_exit_code_is_2(folder: Path) -> None:
    (folder / "none").mkdir()
    assert policy(folder, cases=["none"]).code == 2
    (folder / "dialgate.yaml").write_text("nonsense: true\n")
    done = policy(folder)
    assert done.code == 2
    assert "unknown key `nonsense`" in done.err


def test_coverage_names_what_no_case_tests(folder: Path) -> None:
    law = folder / "countries/it.yaml"
    text = law.read_text("utf-8")
    section = "  - {source: a limit that no case tests, from: 2026-01-01, severity: operator, purposes: [charity], events: attempts, after: 1, per: 1d, counting: rolling}\n"
    law.write_text(text.replace("\nlimits:\n", f"\nlimits:\n{section}"), "utf-8")
    report = policy(folder, "--coverage", "--json").json["coverage"]
    assert "IT limits[0] a limit that no case tests (from 2026-01-01)" in report["sections_not_reached"]
    assert "caller_id_ingress" in report["rules_without_denial"]
    assert report["campaigns_without_case"] == []
    report = policy(folder, "--coverage", "--json", cases=["cases/fibre.yaml"]).json["coverage"]
    assert report["campaigns_without_case"] == ["voice", "power", "survey", "care", "office", "tastes"]


def test_two_hundred_cases_take_at_most_five_seconds(folder: Path) -> None:
    for number in range(5):
        shutil.copy(folder / "cases/fibre.yaml", folder / f"cases/more-{number}.yaml")
        shutil.copy(folder / "cases/campaigns.yaml", folder / f"cases/others-{number}.yaml")
    begin = time.monotonic()
    done = policy(folder, "--coverage")
    assert done.code == 0
    assert done.out.startswith("216 cases, 0 red")
    assert (
        time.monotonic() - begin < 15
    )  # 5 s on an idle machine; the test machine runs several tests at once


def test_watch_tests_again_when_a_case_changes(folder: Path) -> None:
    arguments = [
        "policy",
        "test",
        str(folder / "cases"),
        "--watch",
        "--config",
        str(folder / "dialgate.yaml"),
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "dialgate", *arguments], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "36 cases, 0 red, 0 invalid\n"
        (folder / "cases/more.yaml").write_text(ALLOWED)
        assert watcher.stdout.readline() == "37 cases, 0 red, 0 invalid\n"
        watcher.terminate()
