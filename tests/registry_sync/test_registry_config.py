"""The shipped registries.yaml is valid, and all errors in a registries.yaml are reported at once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.config.configuration import ConfigError
from registry_sync import cli, config
from tests.registry_sync.test_registry_lists import US
from tests.support import yaml_files
from tests.support.registry_world import ASKED, JobWorld
from tests.support.world import CONFIG


def test_shipped_example_is_valid(tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "sample.key.sha256").write_text("0" * 64)  # `make run` creates it
    plan = config.load(tmp_path / "config" / "registries.yaml")
    assert [(asked.registry, asked.controller) for asked in plan.registries.asked] == [("rpo", "acme")]
    assert plan.snapshots == plan.gate.data / "snapshots"


def problems(folder: Path, written: dict[str, Any]) -> str:
    job = JobWorld(folder)
    yaml_files.write(job.path, written)
    with pytest.raises(ConfigError) as refused:
        config.load(job.path)
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
    "controller": (
        {"controller": "nobody"},
        "asked rpo, nobody: unknown controller. Known controllers: acme",
    ),
    "registry": ({"registry": "dnc"}, "no country file names this registry. Known registries: rpo"),
    "look-ahead": ({"look_ahead_hours": 360}, "look_ahead_hours must be less than an answer's validity"),
    "giving up": ({"give_up_hours": 12}, "give_up_hours must be more than answer_hours"),
    "no outbox": ({"source": {"kind": "folder", "inbox": "in"}}, "outbox is missing"),
    "one folder": (
        {"source": {"kind": "folder", "inbox": "x", "outbox": "x/"}},
        "outbox and inbox must be different folders",
    ),
    "no credential": ({"source": SFTP}, "set exactly one of key_file, password_file and password_env"),
    "host key": (
        {"source": SFTP | {"host_key": "SHA256:x", "password_env": "HOME"}},
        "host_key must be a public key",
    ),
    "missing file": ({"source": SFTP | {"key_file": "gone"}}, "is not a file"),
    "unset variable": (
        {"source": HTTPS | {"token_env": "NO_SUCH"}},
        "the environment variable NO_SUCH is not set",
    ),
    "plain http": ({"source": {"kind": "https", "url": "http://h/"}}, "https://"),
    "unknown key": ({"look_ahead": 3}, "look_ahead"),
    "receipts": ({"receipts_days": 100}, "730"),
    "kind": ({"source": {"kind": "ftp", "inbox": "x"}}, "kind"),
}


@pytest.mark.parametrize("case", ASKED_MISTAKES)
def test_error_in_a_queried_registry_is_reported(tmp_path: Path, case: str) -> None:
    changes, fault = ASKED_MISTAKES[case]
    assert fault in problems(tmp_path, {"asked": [ASKED | changes]})


LISTED_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing covered": ({"coverage": []}, "listed us_dnc: coverage is empty"),
    "another country": ({"coverage": ["44"]}, "must begin with 1"),
    "not an area code": ({"coverage": ["14071"]}, "must be 1 followed by an area code, for example 1407"),
    "duplicate": ({"coverage": ["1407", "1407"]}, "contains a prefix twice"),
    "within another": ({"format": "tps", "coverage": ["44", "4420"]}, "includes another prefix"),
    "not a prefix": ({"coverage": ["+1407"]}, "coverage"),
    "key readable by others": (
        {"source": SFTP | {"key_file": "registries.yaml"}},
        "other users can read",
    ),
}


@pytest.mark.parametrize("case", LISTED_MISTAKES)
def test_error_in_a_full_list_is_reported(tmp_path: Path, case: str) -> None:
    changes, fault = LISTED_MISTAKES[case]
    assert fault in problems(tmp_path, {"listed": [US | changes]})


def test_all_errors_are_reported_at_once_including_the_gates(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        {"asked": [ASKED | {"controller": "nobody"}, ASKED, ASKED], "listed": [US | {"coverage": []}]},
    )
    expected = (
        "unknown controller",
        "asked rpo, acme: there are 2 entries with this name",
        "coverage is empty",
    )
    assert [part in text for part in expected] == [True] * 3
    assert "cannot be read" in problems(tmp_path / "other", {"gate": "nowhere.yaml"})


def test_import_accepts_either_file(tmp_path: Path) -> None:
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
        result = CliRunner().invoke(cli.app, [*words, "--config", str(tmp_path / "config" / name)])
        assert (result.exit_code, json.loads(result.stdout)["outcome"]) == (0, outcome)
    neither = tmp_path / "config/controllers/acme.yaml"
    refused = CliRunner().invoke(cli.app, [*words, "--config", str(neither)], env={"COLUMNS": "300"})
    assert refused.exit_code == 2
    assert "is neither a dialgate.yaml nor a registries.yaml" in refused.stderr


def test_errors_of_the_gate_are_reported_with_those_of_the_job(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    yaml_files.write(job.path, {"kept": 0, "gate": "dialgate.yaml"})
    gate = tmp_path / "dialgate.yaml"
    gate.write_text(gate.read_text() + "answer_seconds: never\n")
    with pytest.raises(ConfigError) as refused:
        config.load(job.path)
    result = "\n".join(refused.value.problems)
    assert "kept: must be at least 1" in result
    assert "answer_seconds: must be a number, not text" in result
