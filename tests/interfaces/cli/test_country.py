import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.interfaces.cli import main
from tests.report.test_law_page import LAW
from tests.support import yaml_files
from tests.support.casebook import COUNTRIES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    yaml_files.write(tmp_path / "xx.yaml", LAW)
    return tmp_path


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(
        main.app, ["country", *arguments, "--countries", str(folder)], env={"COLUMNS": "200"}
    )
    assert result.exit_code == code, result.output
    return str(result.output)


def as_json(folder: Path, *arguments: str) -> Any:
    return json.loads(run(folder, *arguments, "--json"))


def test_show_prints_the_law_of_a_day(folder: Path) -> None:
    shown = run(folder, "show", "xx", "--at", "2024-12-31")
    assert "Nowhere (XX) on 2024-12-31" in shown
    assert "- appointments" in shown
    assert "act 2" in shown
    assert "act 3" not in shown
    assert "act 3" in run(folder, "show", "XX", "--at", "2025-01-01")
    assert run(folder, "show", "XX", "--at", "2025-01-01", "--markdown").startswith(
        "# Nowhere on 2025-01-01\n"
    )


def test_show_and_diff_as_json(folder: Path) -> None:
    page = as_json(folder, "show", "XX", "--at", "2022-01-01")
    assert (page["country"], page["day"], page["missing"]) == ("XX", "2022-01-01", ["appointments"])
    (change,) = as_json(folder, "diff", "XX", "--from", "2024-12-31", "--to", "2025-01-01")
    assert (change["day"], change["kind"]) == ("2025-01-01", "changes")
    assert change["line"]["source"] == "act 3"


def test_diff_prints_changes_or_says_that_there_are_none(folder: Path) -> None:
    assert "changes" in run(folder, "diff", "XX", "--from", "2024-12-31", "--to", "2025-01-01")
    assert "the same on both days" in run(folder, "diff", "XX", "--from", "2020-01-01", "--to", "2020-12-31")


def test_list_shows_the_state_of_each_file(folder: Path) -> None:
    assert as_json(folder, "list") == [
        {
            "country": "XX", "name": "Nowhere", "state": "draft", "sections": 9, "next_change": "", "missing": 1,
            "unconfirmed": 1,
        }
    ]  # fmt: skip
    assert "Nowhere" in run(folder, "list")
    assert {"IT", "FR"} <= {row["country"] for row in as_json(COUNTRIES, "list")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "YY"], "has no file for YY. It has: XX."),
        (["show", "XX", "--at", "yesterday"], "Enter a date, for example 2026-09-01."),
        (["diff", "XX", "--from", "2026-13-01"], "Enter a date, for example 2026-09-01."),
    ],
)
def test_a_wrong_country_or_day_is_refused(folder: Path, arguments: list[str], message: str) -> None:
    assert message in " ".join(run(folder, *arguments, code=2).split())


def test_an_invalid_file_is_refused(folder: Path) -> None:
    (folder / "zz.yaml").write_text("country: ZZ\n")
    assert "zz.yaml is not a valid country file" in " ".join(run(folder, "list", code=2).split())
