"""The settings of shadow mode: its last day is bounded, ends at a midnight, and binds no trunk but by its own setting."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core.local_time import day_in, midnight
from dialgate.core.model import Instant
from dialgate.runtime.clock import wall_clock
from tests.support import world, yaml_files
from tests.support.commands import run_command

ROME, LONDON = "Europe/Rome", "Europe/London"
DAY = date(2026, 11, 30)
END = midnight(ROME, date(2026, 12, 1))
CLIENT = world.client("tests", world.KEY, "check")


def in_campaign(path: Path, day: date | None) -> None:
    file = path.parent / "controllers/acme.yaml"
    controller = yaml_files.read(file)
    controller["campaigns"][0]["shadow_until"] = day
    yaml_files.write(file, controller)


def written(folder: Path, scope: str, day: date) -> Path:
    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "gate": lambda: {"shadow_until": day},
        "client tests": lambda: {"clients": [CLIENT | {"shadow_until": day}]},
        "campaign acme-fibre": dict,
    }
    path = world.write_folder(folder, **changes[scope]())
    if scope.startswith("campaign"):
        in_campaign(path, day)
    return path


@pytest.mark.parametrize("scope", ["gate", "client tests", "campaign acme-fibre"])
def test_a_day_that_is_too_far_ahead_is_refused(tmp_path: Path, scope: str) -> None:
    today = day_in(ROME, wall_clock())
    loader.load(written(tmp_path / "latest", scope, today + timedelta(days=92)))
    with pytest.raises(ConfigError, match=f"{scope}: shadow_until .* is more than 92 days ahead"):
        loader.load(written(tmp_path / "later", scope, today + timedelta(days=94)))


@pytest.mark.parametrize("scope", ["gate", "client tests", "campaign acme-fibre"])
def test_a_day_that_is_over_is_a_warning(tmp_path: Path, scope: str) -> None:
    done = run_command(
        "dialgate", "config", "check", "--config", str(written(tmp_path, scope, date(2026, 1, 31)))
    )
    assert done.code == 0, done
    assert f"Shadow mode until 2026-01-31: {scope}." in " ".join(done.out.split())
    assert f"{scope}: shadow mode ended on 2026-01-31" in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("settings", "campaign", "until"),
    [
        ({}, None, 0),
        ({"shadow_until": DAY}, None, END),
        ({"clients": [CLIENT | {"shadow_until": DAY}]}, None, END),
        ({}, DAY, END),
        ({"shadow_until": date(2026, 11, 1)}, DAY, END),
        ({"shadow_until": DAY, "clients": [CLIENT | {"trunk": True}]}, DAY, 0),
        ({"clients": [CLIENT | {"trunk": True, "shadow_until": DAY}]}, None, END),
    ],
)
def test_the_latest_end_counts_but_only_its_own_for_a_trunk(
    tmp_path: Path, settings: dict[str, Any], campaign: date | None, until: Instant
) -> None:
    path = world.write_folder(tmp_path, **settings)
    in_campaign(path, campaign)
    config = loader.load(path)
    assert config.shadow.until(config.settings.clients[0], "acme-fibre") == until


def test_the_gates_day_ends_at_the_earliest_midnight(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path, shadow_until=DAY, accept_drafts=["GB"])
    (tmp_path / "countries/gb.yaml").write_bytes((world.CONFIG / "countries/gb.yaml").read_bytes())
    acme = yaml_files.read(tmp_path / "controllers/acme.yaml")
    campaign = acme["campaigns"][0] | {"id": "bolt-fibre", "trunk_country": "GB", "shadow_until": DAY}
    bolt = acme | {"id": "bolt", "country": "GB", "campaigns": [campaign], "adheres_to": []}
    yaml_files.write(tmp_path / "controllers/bolt.yaml", bolt)
    ends = loader.load(path).shadow.ends
    assert ends == {("gate", ""): END, ("campaign", "bolt-fibre"): midnight(LONDON, date(2026, 12, 1))}
