"""Tests that every command reads a telephone number from standard input if the argument is `-`.

Arguments are visible to other users of the machine, for example with `ps`.
"""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dialgate.interfaces.cli.main import app as dialgate
from dialgate.interfaces.cli.options import number_given, numbers_given
from docs.reference_pages import COMMANDS

OTHERS = {"column", "log_number"}
FILES_OR_COUNTS = {"dialgate log evidence", "dialgate demo", "dialgate ledger export"}


def takes_a_number(parameter: Any) -> bool:
    names = (parameter.name or "", str(parameter.metavar or ""))
    return parameter.name not in OTHERS and any("number" in name.lower() for name in names)


FOUND = [
    (name, parameter)
    for name, command in COMMANDS.items()
    if name.startswith("dialgate ") and name not in FILES_OR_COUNTS
    for parameter in command.params
    if takes_a_number(parameter)
]


@pytest.mark.parametrize(("path", "parameter"), FOUND, ids=lambda each: getattr(each, "name", each))
def test_every_number_can_be_read_from_standard_input(path: str, parameter: Any) -> None:
    assert parameter.callback is not None, path
    assert "standard input" in str(getattr(parameter, "help", "")), path


def test_the_parameters_are_found() -> None:
    commands = {path for path, _ in FOUND}
    assert {"dialgate check", "dialgate why", "dialgate revoke add", "dialgate consent add"} <= commands
    assert len(commands) > 15


app = typer.Typer()


@app.command()
def one(
    number: str = typer.Argument(callback=number_given), other: str = typer.Option("", callback=number_given)
) -> None:
    typer.echo(f"{number} {other}")


@pytest.mark.parametrize(
    ("words", "given", "shown"),
    [
        (["-"], "+390612345678\n", "+390612345678 "),
        (["-"], "\n 06 12345678 \n\n", "06 12345678 "),
        (["-", "--other", "-"], "1\n2\n", None),
        (["+39"], "unread", "+39 "),
    ],
)
def test_each_line_is_a_number(words: list[str], given: str, shown: str | None) -> None:
    done = CliRunner().invoke(app, words, input=given)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip("\n") == shown if shown else set(done.stdout.split()) == {"1", "2"}


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (["-"], "1\n2\n", "standard input has 2 numbers, but this command reads 1. Nothing was done"),
        (["+39", "--other", "-"], "1\n2\n3", "standard input has 3 numbers, but this command reads 1"),
        (["--other", "-", "-"], "1\n2\n3", "standard input has 3 numbers, but this command reads 2"),
        (["-", "--other", "-"], "1\n", "standard input has fewer numbers than there are `-` arguments"),
    ],
)
def test_too_many_or_too_few_lines_are_misuse(words: list[str], given: str, said: str) -> None:
    done = CliRunner().invoke(app, words, input=given)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert not done.stdout


@pytest.mark.parametrize("words", [["revoke", "add", "-"], ["revoke", "-"], ["why", "-"]], ids=" ".join)
def test_a_second_number_is_refused_before_the_first_is_recorded(words: list[str]) -> None:
    given = "+390612345672\n+390612345673\n"
    done = CliRunner().invoke(dialgate, [*words, "--config", "absent.yaml"], input=given)
    assert done.exit_code == 2
    assert "standard input has 2 numbers" in " ".join(done.stderr.replace("│", " ").split())


def test_empty_input_is_misuse() -> None:
    done = CliRunner().invoke(app, ["-"], input=" \n")
    assert done.exit_code == 2
    assert "standard input contains no numbers" in done.stderr


def test_a_list_of_numbers_reads_all_lines() -> None:
    several = typer.Typer()

    @several.command()
    def all_of_them(numbers: list[str] = typer.Argument(None, callback=numbers_given)) -> None:  # noqa: B008
        typer.echo(" ".join(numbers))

    assert CliRunner().invoke(several, ["-"], input="1\n\n2\n3").stdout == "1 2 3\n"
