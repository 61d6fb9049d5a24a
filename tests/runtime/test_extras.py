"""Features of an extra that is not installed name the extra. tests/packaging installs a real base environment."""

import sys
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from dialgate.config import loader, warnings
from dialgate.interfaces.cli.main import app
from dialgate.lists import tabular
from dialgate.runtime import extras
from dialgate.runtime.extras import MissingExtra
from registry_sync.config import SftpSource
from registry_sync.sources import open_source
from tests.support import world
from tests.support.paths import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the modules of all extras from this process."""
    for modules in extras.MODULES.values():
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)


def test_the_table_has_the_extras_of_the_project() -> None:
    assert extras.MODULES.keys() == EXTRAS.keys() - {"all"}
    (every,) = map(Requirement, EXTRAS["all"])
    assert every.extras == extras.MODULES.keys()


@pytest.mark.parametrize("extra", extras.MODULES)
def test_an_installed_extra_is_found(extra: str) -> None:
    assert extras.is_installed(extra)
    extras.require(extra, "A feature")


@pytest.mark.parametrize("extra", extras.MODULES)
@pytest.mark.usefixtures("bare")
def test_a_missing_extra_is_named_with_the_command_to_install_it(extra: str) -> None:
    with pytest.raises(MissingExtra) as missing:
        extras.require(extra, "A feature")
    assert str(missing.value) == f"A feature needs an extra: run `pip install 'dialgate[{extra}]'`."


@pytest.mark.parametrize(
    ("setting", "extra"),
    [
        ({"shipping": {"to": "s3://bucket/prefix"}}, "s3"),
        ({"traces": {"endpoint": "http://127.0.0.1:4318/v1/traces"}}, "otel"),
    ],
)
@pytest.mark.usefixtures("bare")
def test_the_check_of_a_configuration_names_the_extra_that_a_setting_needs(
    tmp_path: Path, setting: dict[str, Any], extra: str
) -> None:
    path = world.write_folder(tmp_path, **setting)
    result = CliRunner().invoke(app, ["config", "check", "--config", str(path)])
    assert result.exit_code == 2
    assert f"extra.missing: The setting `{next(iter(setting))}" in result.stderr
    assert f"dialgate[{extra}]" in result.stderr


@pytest.mark.usefixtures("bare")
def test_a_command_without_its_extra_exits_with_2_and_changes_nothing(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path)
    result = CliRunner().invoke(app, ["log", "archive", "--config", str(path), "--json"])
    assert result.exit_code == 2
    assert '"code":"extra.missing"' in result.stdout.replace(" ", "")
    assert "dialgate[archive]" in result.stdout


def test_an_unpacked_log_is_a_warning(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    config = loader.load(world.write_folder(tmp_path))
    assert not any("dialgate[archive]" in warning for warning in warnings.warnings(config))
    request.getfixturevalue("bare")
    assert any("dialgate[archive]" in warning for warning in warnings.warnings(config))


@pytest.mark.usefixtures("bare")
def test_a_spreadsheet_without_its_extra_is_refused() -> None:
    with pytest.raises(MissingExtra, match=r"dialgate\[xlsx\]"):
        tabular.read(BytesIO(b"PK\x03\x04"), "IT")


@pytest.mark.usefixtures("bare")
async def test_an_sftp_source_without_its_extra_is_refused(tmp_path: Path) -> None:
    source = SftpSource(
        host="127.0.0.1", user="acme", host_key="ssh-ed25519 AAAA", key_file="key", inbox="in"
    )
    with pytest.raises(MissingExtra, match=r"dialgate\[sftp\]"):
        async with open_source(source, tmp_path, 0):
            pass
