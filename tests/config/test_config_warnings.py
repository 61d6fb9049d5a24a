"""A likely mistake causes a warning, but the configuration is still accepted."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dialgate.interfaces.cli import main
from tests.support.world import KEY, client, write_folder


def find_client_warnings(
    folder: Path, sources: list[str], scopes: list[str], host: str = "0.0.0.0", proxies: tuple[str, ...] = ()
) -> list[str]:
    switch = {"name": "switch", "controllers": ["acme"], "scopes": scopes, "sources": sources}
    clients = [client("tests", KEY, "check"), switch]
    listen = {"host": host, "port": 0, "trusted_proxies": list(proxies)}
    path = write_folder(folder, clients=clients, listen=listen)
    done = CliRunner().invoke(main.app, ["config", "check", "--config", str(path), "--json"])
    assert done.exit_code == 0, done.output
    found: list[str] = json.loads(done.stdout)["warnings"]
    spoken = CliRunner().invoke(main.app, ["config", "check", "--config", str(path)])
    assert spoken.exit_code == 0
    assert spoken.stderr.count("Warning:") == len(found)
    return [warning for warning in found if warning.startswith("client ")]


@pytest.mark.parametrize("source", ["127.0.0.1/32", "127.0.0.0/8", "0.0.0.0/0", "::1/128", "::/0"])
def test_sources_that_cover_this_host_cause_a_warning(tmp_path: Path, source: str) -> None:
    (warning,) = find_client_warnings(tmp_path, [source], ["check", "revoke"])
    assert f"client switch: source {source} covers this host" in warning
    assert "(check, revoke)" in warning


def test_the_listening_address_counts_as_this_host(tmp_path: Path) -> None:
    assert (
        len(find_client_warnings(tmp_path, ["10.1.2.3/32", "10.1.2.4/32"], ["revoke"], host="10.1.2.3")) == 1
    )


def test_a_trusted_proxy_on_another_host_causes_a_warning(tmp_path: Path) -> None:
    (warning,) = find_client_warnings(
        tmp_path, ["10.0.0.9/32", "10.0.0.8/32"], ["read"], proxies=("10.0.0.9/32",)
    )
    assert "source 10.0.0.9/32" in warning
    assert "listen.trusted_proxies" in warning


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1/32",)])
def test_a_local_dialer_that_only_checks_causes_no_warning(tmp_path: Path, proxies: tuple[str, ...]) -> None:
    """`deploy/README.md` describes this setup for a dialer on the gate's own machine.

    A client that only checks gets a warning only if one of its `sources` covers every address.
    """
    assert find_client_warnings(tmp_path, ["127.0.0.1/32"], ["check"], proxies=proxies) == []
    assert len(find_client_warnings(tmp_path / "anyone", ["0.0.0.0/0"], ["check"], proxies=proxies)) == 1


@pytest.mark.parametrize(
    ("source", "scopes"), [("10.0.0.0/8", ["check"]), ("127.0.0.1/32", []), ("fd00::/8", ["check"])]
)
def test_other_hosts_and_clients_without_rights_cause_no_warning(
    tmp_path: Path, source: str, scopes: list[str]
) -> None:
    assert find_client_warnings(tmp_path, [source], scopes, host="localhost") == []
