"""registries.yaml: the example runs as it stands, and every mistake is named at once, in words that say what to do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dialgate.config.configuration import ConfigError
from registry_sync import cli, config
from tests.registry_sync.test_registry_lists import US
from tests.support.registry_world import ASKED, Night
from tests.support.world import CONFIG


def test_the_example_is_good(tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "sample.key.sha256").write_text("0" * 64)  # as `make run` makes it
    plan = config.load(tmp_path / "config" / "registries.yaml")
    assert [(each.registry, each.controller) for each in plan.registries.asked] == [("rpo", "acme")]
    assert plan.snapshots == plan.gate.data / "snapshots"


def problems(folder: Path, written: dict[str, Any]) -> str:
    night = Night(folder)
    night.path.write_text(yaml.safe_dump(written))
    with pytest.raises(ConfigError) as refused:
        config.load(night.path)
    return "\n".join(refused.value.problems)


SFTP = {
    "kind": "sftp",
    "host": "h",
    "user": "u",
    "host_key": "ssh-ed25519 AAAA",
    "inbox": "in",
    "outbox": "out",
}
HTTPS = {"kind": "https", "url": "https://h/"}
ASKED_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "controller": ({"controller": "nobody"}, "asked rpo, nobody: no such controller; there are acme"),
    "registry": ({"registry": "dnc"}, "no country's law asks for this registry; it asks for rpo"),
    "look-ahead": ({"look_ahead_hours": 360}, "look_ahead_hours is no less than an answer holds"),
    "giving up": ({"give_up_hours": 12}, "give_up_hours must be more than answer_hours"),
    "no outbox": ({"source": {"kind": "folder", "inbox": "in"}}, "outbox is missing"),
    "one folder": (
        {"source": {"kind": "folder", "inbox": "x", "outbox": "x/"}},
        "outbox and inbox are one folder",
    ),
    "no credential": ({"source": SFTP}, "give one of key_file, password_file and password_env"),
    "host key": (
        {"source": SFTP | {"host_key": "SHA256:x", "password_env": "HOME"}},
        "host_key is no public key",
    ),
    "no such file": ({"source": SFTP | {"key_file": "gone"}}, "is no file"),
    "no such variable": ({"source": HTTPS | {"token_env": "NO_SUCH"}}, "the environment has no NO_SUCH"),
    "plain http": ({"source": {"kind": "https", "url": "http://h/"}}, "https://"),
    "unknown key": ({"look_ahead": 3}, "look_ahead"),
    "receipts": ({"receipts_days": 100}, "730"),
    "kind": ({"source": {"kind": "ftp", "inbox": "x"}}, "kind"),
}


@pytest.mark.parametrize("case", ASKED_MISTAKES)
def test_a_mistake_about_a_registry_that_answers_is_named(tmp_path: Path, case: str) -> None:
    changes, fault = ASKED_MISTAKES[case]
    assert fault in problems(tmp_path, {"asked": [ASKED | changes]})


LISTED_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing covered": ({"coverage": []}, "listed us_dnc: coverage is empty"),
    "another country": ({"coverage": ["44"]}, "does not begin with 1"),
    "no area code": ({"coverage": ["14071"]}, "is no area code after a 1, as in 1407"),
    "twice": ({"coverage": ["1407", "1407"]}, "names a prefix twice"),
    "within another": ({"format": "tps", "coverage": ["44", "4420"]}, "covers another of its prefixes"),
    "no prefix": ({"coverage": ["+1407"]}, "coverage"),
    "key for everybody": (
        {"source": SFTP | {"key_file": "registries.yaml"}},
        "can be read by others than its owner",
    ),
}


@pytest.mark.parametrize("case", LISTED_MISTAKES)
def test_a_mistake_about_a_full_list_is_named(tmp_path: Path, case: str) -> None:
    changes, fault = LISTED_MISTAKES[case]
    assert fault in problems(tmp_path, {"listed": [US | changes]})


def test_all_mistakes_are_named_at_once_the_gates_too(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        {"asked": [ASKED | {"controller": "nobody"}, ASKED, ASKED], "listed": [US | {"coverage": []}]},
    )
    assert [word in found for word in ("no such controller", "stands twice", "coverage is empty")] == [
        True
    ] * 3
    assert "cannot be read" in problems(tmp_path / "other", {"gate": "nowhere.yaml"})


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.path.write_text("kept: 3\nkept: 4\n")
    with pytest.raises(ConfigError, match="kept stands twice"):
        config.load(night.path)


def test_either_file_names_the_gate(tmp_path: Path) -> None:
    """For `registry-sync import --config`, where people give the file of the job as often as the gate's."""
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "sample.key.sha256").write_text("0" * 64)
    found = [config.gate_of(tmp_path / "config" / name) for name in ("dialgate.yaml", "registries.yaml")]
    assert [each.path.name for each in found] == ["dialgate.yaml"] * 2
    with pytest.raises(
        ConfigError, match=r"acme.yaml is neither a gate's dialgate.yaml nor a registries.yaml"
    ):
        config.gate_of(tmp_path / "config" / "controllers" / "acme.yaml")
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read"):
        config.gate_of(tmp_path / "none.yaml")


def test_import_takes_either_file(tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "sample.key.sha256").write_text("0" * 64)
    sample = [
        "--request",
        str(CONFIG / "sample/rpo-request.txt"),
        "--answer",
        str(CONFIG / "sample/rpo-answer.txt"),
    ]
    words = ["import", "--registry", "rpo", "--controller", "acme", *sample, "--receipt", "R", "--json"]
    words += ["--consulted-at", "2026-11-20T08:00:00+01:00", "--expired"]
    for name, outcome in (("registries.yaml", "published"), ("dialgate.yaml", "already imported")):
        told = CliRunner().invoke(cli.app, [*words, "--config", str(tmp_path / "config" / name)])
        assert (told.exit_code, json.loads(told.stdout)["outcome"]) == (0, outcome)
    neither = tmp_path / "config/controllers/acme.yaml"
    refused = CliRunner().invoke(cli.app, [*words, "--config", str(neither)], env={"COLUMNS": "300"})
    assert refused.exit_code == 2
    assert "is neither a gate's dialgate.yaml nor a registries.yaml" in refused.stderr


def test_mistakes_of_the_gate_are_named_with_those_of_the_job(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.path.write_text(yaml.safe_dump({"kept": 0, "gate": "dialgate.yaml"}))
    gate = tmp_path / "dialgate.yaml"
    gate.write_text(gate.read_text() + "answer_seconds: never\n")
    with pytest.raises(ConfigError) as refused:
        config.load(night.path)
    told = "\n".join(refused.value.problems)
    assert "kept: must be at least 1" in told
    assert "answer_seconds: must be a number, not text" in told
