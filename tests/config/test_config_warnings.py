"""A likely mistake causes a warning, but the configuration is still accepted."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.config import loader, warnings
from dialgate.interfaces.cli import main
from tests.support.world import KEY, client, write_folder

# The sources and scopes of a client, the listener's settings, and the source that a warning names.
CASES: list[tuple[list[str], list[str], dict[str, Any], str]] = [
    *(
        ([source], ["check", "revoke"], {}, source)
        for source in ("127.0.0.1/32", "127.0.0.0/8", "0.0.0.0/0", "::1/128", "::/0")
    ),
    (["10.1.2.3/32", "10.1.2.4/32"], ["revoke"], {"host": "10.1.2.3"}, "10.1.2.3/32"),
    (["10.0.0.9/32", "10.0.0.8/32"], ["read"], {"trusted_proxies": ["10.0.0.9/32"]}, "10.0.0.9/32"),
    # A dialer on the gate's own machine that only checks, as in deploy/README.md.
    (["127.0.0.1/32"], ["check"], {}, ""),
    (["127.0.0.1/32"], ["check"], {"trusted_proxies": ["127.0.0.1/32"]}, ""),
    (["0.0.0.0/0"], ["check"], {"trusted_proxies": ["127.0.0.1/32"]}, "0.0.0.0/0"),
    # Other hosts, and a client without rights.
    (["10.0.0.0/8"], ["check"], {"host": "localhost"}, ""),
    (["127.0.0.1/32"], [], {"host": "localhost"}, ""),
    (["fd00::/8"], ["check"], {"host": "localhost"}, ""),
]


def write(folder: Path, sources: list[str], scopes: list[str], listen: dict[str, Any]) -> Path:
    switch = {"name": "switch", "controllers": ["acme"], "scopes": scopes, "sources": sources}
    listen = {"host": "0.0.0.0", "port": 0, **listen}
    return write_folder(folder, clients=[client("tests", KEY, "check"), switch], listen=listen)


@pytest.mark.parametrize(("sources", "scopes", "listen", "named"), CASES)
def test_a_source_from_which_a_proxy_may_connect_causes_a_warning(
    tmp_path: Path, sources: list[str], scopes: list[str], listen: dict[str, Any], named: str
) -> None:
    config = loader.load(write(tmp_path, sources, scopes, listen))
    found = [text for text in warnings.warnings(config) if text.startswith("client ")]
    assert len(found) == bool(named)
    for text in found:
        assert text.startswith(f"client switch: source {named} covers this host or a trusted proxy.")
        assert f"({', '.join(scopes)})" in text


@pytest.mark.parametrize(
    ("shipping", "warned"),
    [
        ({}, 1),
        ({"shipping": {"stream": {"url": "redis://other"}}}, 1),
        ({"shipping": {"to": "s3://logs"}}, 0),
    ],
)
def test_several_gates_that_do_not_ship_their_logs_cause_a_warning(
    tmp_path: Path, shipping: dict[str, Any], warned: int
) -> None:
    gates = {"store": {"url": "redis://localhost"}, "peers": {"rome": "http://rome.example"}}
    config = loader.load(write_folder(tmp_path, **gates, **shipping))
    assert sum(text.startswith("shipping: ") for text in warnings.warnings(config)) == warned


def test_config_check_shows_the_warnings_and_succeeds(tmp_path: Path) -> None:
    words = ["config", "check", "--config", str(write(tmp_path, ["127.0.0.1/32"], ["revoke"], {}))]
    done, spoken = (CliRunner().invoke(main.app, [*words, *more]) for more in (["--json"], []))
    assert (done.exit_code, spoken.exit_code) == (0, 0)
    found = json.loads(done.stdout)["warnings"]
    assert spoken.stderr.count("Warning:") == len(found) > 0
