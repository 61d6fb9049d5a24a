"""What a configuration may hold and most likely should not is said, and refuses nothing."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dialgate.interfaces import cli
from tests.world import KEY, client, write_folder


def checked(folder: Path, sources: list[str], scopes: list[str], host: str = "0.0.0.0") -> list[str]:
    switch = {"name": "switch", "controllers": ["acme"], "scopes": scopes, "sources": sources}
    clients = [client("tests", KEY, "check"), switch]
    path = write_folder(folder, clients=clients, listen={"host": host, "port": 0})
    done = CliRunner().invoke(cli.app, ["config", "check", "--config", str(path), "--json"])
    assert done.exit_code == 0, done.output
    found: list[str] = json.loads(done.stdout)["warnings"]
    spoken = CliRunner().invoke(cli.app, ["config", "check", "--config", str(path)])
    assert spoken.exit_code == 0
    assert spoken.stderr.count("Warning:") == len(found)
    return found


@pytest.mark.parametrize("source", ["127.0.0.1/32", "127.0.0.0/8", "0.0.0.0/0", "::1/128", "::/0"])
def test_sources_that_cover_this_host_are_warned_of(tmp_path: Path, source: str) -> None:
    (warning,) = checked(tmp_path, [source], ["check", "revoke"])
    assert f"client switch: source {source} covers this host" in warning
    assert "(check, revoke)" in warning


def test_the_address_that_the_gate_listens_at_is_this_host_too(tmp_path: Path) -> None:
    assert len(checked(tmp_path, ["10.1.2.3/32", "10.1.2.4/32"], ["check"], host="10.1.2.3")) == 1


@pytest.mark.parametrize(
    ("source", "scopes"), [("10.0.0.0/8", ["check"]), ("127.0.0.1/32", []), ("fd00::/8", ["check"])]
)
def test_of_other_hosts_and_of_who_may_do_nothing_there_is_no_warning(
    tmp_path: Path, source: str, scopes: list[str]
) -> None:
    assert checked(tmp_path, [source], scopes, host="localhost") == []
