"""The files in `deploy` that start the nightly job: they use only a command and options that exist."""

import configparser
import shlex
from pathlib import Path

from typer.main import get_command

from registry_sync.cli import app
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"


def unit(name: str) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # keys of a unit contain capitals
    parsed.read(DEPLOY / "systemd" / name, "utf-8")
    return parsed


def systemd_command() -> list[str]:
    return shlex.split(unit("registry-sync.service")["Service"]["ExecStart"])


def test_command_and_options_exist() -> None:
    program, name, *words = systemd_command()
    assert Path(program).name == "registry-sync"
    command_ = get_command(app).get_command(None, name)  # type: ignore[attr-defined]  # a group of commands
    options = {option for parameter in command_.params for option in parameter.opts}
    assert "--once" in words
    assert {word for word in words if word.startswith("--")} <= options


def test_timer_starts_the_service_of_its_name() -> None:
    assert unit("registry-sync.timer")["Timer"]["OnCalendar"]
    assert (DEPLOY / "systemd" / "registry-sync.service").is_file()
