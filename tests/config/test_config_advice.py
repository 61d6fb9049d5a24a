"""Tests of the warnings that `config check` gives about a valid but incomplete configuration."""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.config import advice, loader
from dialgate.interfaces.cli import main
from tests.support import yaml_files
from tests.support.world import CONFIG, KEY, NOW, client, write_folder

ASKED = {
    "registry": "rpo",
    "controller": "acme",
    "source": {"kind": "folder", "inbox": "in", "outbox": "out"},
}


def change(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    yaml_files.write(path, yaml_files.read(path) | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path)
    yaml_files.write(tmp_path / "registries.yaml", {"asked": [ASKED]})
    return tmp_path


def warned(folder: Path, registries: str = "registries.yaml") -> list[str]:
    return advice.warnings(loader.load(folder / "dialgate.yaml"), folder / registries, NOW)


def test_the_sample_has_no_gaps_but_is_reported_as_always_open(folder: Path) -> None:
    assert warned(folder) == []
    assert advice.open_always(loader.load(folder / "dialgate.yaml"), NOW) == ["acme-fibre"]


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("dialgate.yaml", {"clients": []}, "controller acme: no client may check calls for it"),
        ("dialgate.yaml", {"clients": [client("other", KEY, "check") | {"controllers": []}]}, "controller acme: no client"),
        ("dialgate.yaml", {"clients": [client("dialer", KEY, "check")]}, "campaign acme-fibre: the law limits its abandoned calls, but no client of acme may report"),
        ("controllers/acme.yaml", {"contact": ""}, "controller acme: it has no `contact`"),
        ("controllers/acme.yaml", {"adheres_to": []}, "campaign acme-fibre: no hours apply to it"),
        ("registries.yaml", {"asked": []}, "controller acme: registries.yaml has no entry for the registry rpo"),
        ("registries.yaml", {"asked": [ASKED | {"controller": "beta"}]}, "controller acme: registries.yaml has no entry"),
    ],
)  # fmt: skip
def test_each_gap_is_reported_by_name(
    folder: Path, name: str, changes: dict[str, Any], expected: str
) -> None:
    change(folder, name, **changes)
    (warning,) = warned(folder)
    assert warning.startswith(expected)


def test_binding_hours_close_a_campaign_but_a_recommendation_does_not(folder: Path) -> None:
    change(folder, "controllers/acme.yaml", adheres_to=["codice_condotta_telemarketing"])
    assert warned(folder) == []
    assert advice.open_always(loader.load(folder / "dialgate.yaml"), NOW) == []
    law = folder / "countries/it.yaml"
    law.write_text(law.read_text().replace("severity: self_regulation", "severity: recommendation"))
    assert [problem.partition(";")[0] for problem in warned(folder)] == [
        "campaign acme-fibre: no hours apply to it, so it may call by night"
    ]


def test_a_caller_id_that_is_given_up_too_early_is_reported(folder: Path) -> None:
    controller = yaml_files.read(folder / "controllers/acme.yaml")
    (shown, *_) = controller["campaigns"][0]["caller_ids"]
    controller["campaigns"][0]["caller_id_ends"] = {shown: date(2026, 12, 23)}
    yaml_files.write(folder / "controllers/acme.yaml", controller)
    assert warned(folder) == []
    law = yaml_files.read(folder / "countries/it.yaml")
    law["caller_ids"].append({"source": "ours", "from": date(2020, 1, 1), "answers_for": "30d"})
    yaml_files.write(folder / "countries/it.yaml", law)
    (warning,) = warned(folder)
    assert "are answered only until 2026-12-23, but the law requires a longer time" in warning
    law["caller_ids"][-1]["answers_for"] = "29d"
    yaml_files.write(folder / "countries/it.yaml", law)
    assert warned(folder) == []


def test_an_ai_voice_without_the_proof_that_it_says_what_it_is_is_reported(folder: Path) -> None:
    controller = yaml_files.read(folder / "controllers/acme.yaml")
    controller["campaigns"][0]["call_type"] = "ai_voice"
    yaml_files.write(folder / "controllers/acme.yaml", controller)
    (warning,) = warned(folder)
    assert warning.startswith(
        "campaign acme-fibre: an AI voice makes its calls, but `ai_disclosure` names no"
    )
    controller["campaigns"][0]["ai_disclosure"] = "script 3 of 2026-07-01"
    yaml_files.write(folder / "controllers/acme.yaml", controller)
    assert warned(folder) == []


def demand_records(folder: Path, *what: str) -> None:
    law = yaml_files.read(folder / "countries/it.yaml")
    law["records"] = [
        {"source": "ours", "from": date(2020, 1, 1), "what": [*what], "keep": "P5Y", "since": ["granted"]}
    ]
    yaml_files.write(folder / "countries/it.yaml", law)


def test_a_retention_period_that_the_law_extends_is_reported(folder: Path) -> None:
    demand_records(folder, "consents", "decisions")
    assert warned(folder) == []  # the default, which is one day shorter than five years may be
    change(
        folder,
        "dialgate.yaml",
        storage={"consents_days": 100, "contracts_days": 100},
        retention=[{"country": "IT", "allowed_months": 59}],
    )
    days, months = warned(folder)
    assert days.startswith(
        "storage: consents_days is 100, but the law of IT requires 1827, which applies instead"
    )
    assert months.startswith(
        "retention: the law of IT requires a longer period for its decisions than configured"
    )
    change(
        folder,
        "dialgate.yaml",
        storage={"consents_days": 1827},
        retention=[{"country": "IT", "allowed_months": 60, "refused_months": 60}],
    )
    assert warned(folder) == []


def test_a_sector_that_a_country_with_rules_about_sectors_does_not_know_is_reported(folder: Path) -> None:
    """Germany has no rule about sectors, so its country file need not list the sector."""
    change(folder, "dialgate.yaml", accept_drafts=["DE", "GB"])
    for name in ("de", "gb"):
        shutil.copy(CONFIG / f"countries/{name}.yaml", folder / "countries")
    acme = yaml_files.read(folder / "controllers/acme.yaml")
    change(
        folder,
        "controllers/acme.yaml",
        campaigns=[campaign | {"sector": "pensions"} for campaign in acme["campaigns"]],
    )
    (text,) = [text for text in warned(folder) if "sector" in text]
    assert text.startswith(
        "campaign acme-fibre: the country file of IT does not list the sector 'pensions', so all sector rules of IT"
    )


def test_a_missing_job_file_causes_one_warning(folder: Path) -> None:
    (warning,) = warned(folder, "none.yaml")
    assert warning.startswith("none.yaml cannot be read")
    assert "--registries" in warning


def test_config_check_shows_the_warnings_and_succeeds(folder: Path) -> None:
    change(folder, "controllers/acme.yaml", adheres_to=[])
    shown = CliRunner().invoke(main.app, ["config", "check", "--config", str(folder / "dialgate.yaml")])
    assert shown.exit_code == 0
    assert "Warning: campaign acme-fibre: no hours apply to it" in shown.stderr
    registries = ["--registries", str(CONFIG / "registries.yaml")]
    (folder / "registries.yaml").unlink()
    shown = CliRunner().invoke(
        main.app, ["config", "check", "--config", str(folder / "dialgate.yaml"), *registries]
    )
    assert "registries.yaml" not in shown.stderr


DRAFT = {"country": "GB", "name": "United Kingdom", "zone": "Europe/London", "draft": True, "missing": ["the TPS"],
         "holidays": {"country": "GB"},
         "diallable": [{"source": "s", "from": "2020-01-01", "kinds": ["fixed"]}],
         "legal_basis": [{"source": "s", "from": "2020-01-01", "accepts": ["consent"]}]}  # fmt: skip


def test_a_campaign_for_a_country_with_a_draft_is_named(folder: Path) -> None:
    yaml_files.write(folder / "countries/gb.yaml", DRAFT)
    assert warned(folder) == []
    controller = yaml_files.read(folder / "controllers/acme.yaml")
    controller["campaigns"][0]["dial_region"] = "GB"
    change(folder, "controllers/acme.yaml", campaigns=controller["campaigns"])
    (warning,) = warned(folder)
    assert warning.startswith("campaign acme-fibre: its dial_region is GB, whose country file is a draft")


def test_an_accepted_draft_is_named_with_what_it_lacks(folder: Path) -> None:
    yaml_files.write(folder / "countries/gb.yaml", DRAFT)
    change(folder, "dialgate.yaml", accept_drafts=["GB"])
    (warning,) = warned(folder)
    assert warning.startswith("United Kingdom (GB): calls are decided under a draft")
    assert warning.endswith("It does not express: the TPS")
    config = loader.load(folder / "dialgate.yaml")
    assert (list(config.laws), config.drafts) == (["GB", "IT"], {})


def test_an_unaccepted_draft_decides_nothing_and_is_shown(folder: Path) -> None:
    yaml_files.write(folder / "countries/gb.yaml", DRAFT)
    config = loader.load(folder / "dialgate.yaml")
    assert (list(config.laws), list(config.law_hash), list(config.drafts)) == (["IT"], ["IT"], ["GB"])
    check = [
        "config",
        "check",
        "--config",
        str(folder / "dialgate.yaml"),
        "--registries",
        str(folder / "registries.yaml"),
    ]
    shown = CliRunner().invoke(main.app, check)
    assert shown.exit_code == 0
    assert "United Kingdom (GB)" in shown.output
    listed = CliRunner().invoke(main.app, [*check, "--json"])
    assert json.loads(listed.output)["drafts"] == {"GB": ["the TPS"]}
