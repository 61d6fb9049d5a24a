"""Stops outlast the renaming of campaigns, goods and controllers in the configuration."""

from pathlib import Path
from urllib.parse import quote

import pytest
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import content_store, loader
from dialgate.config.configuration import ConfigError
from dialgate.interfaces.cli.config import check
from tests.support import world, yaml_files
from tests.support.world import CALL, CLEAR, KEY, LIST, NOW, SCOPES, World

STOP = {"number": CLEAR, "scope": "campaign", "campaign": "acme-fibre"}
CONSENT = {
    "number": CLEAR,
    "id": "c1",
    "collected_at": "2026-11-01T10:00:00Z",
    "purposes": ["sale"],
    "call_types": ["agent"],
    "goods": ["broadband"],
    "artefact": "form-1",
    "artefact_sha256": "0" * 64,
}

CLIENTS = [world.client("tests", KEY, *SCOPES, "subjects")]


def rename(running: World, old: str, new: str, *files: str) -> None:
    for name in files or ("controllers/acme.yaml",):
        path = running.folder / name
        path.write_text(path.read_text().replace(old, new))
    running.app.reload(loader.load(running.folder / "dialgate.yaml"))


async def codes(running: World, campaign: str) -> list[str]:
    answer = await running.post("/v1/check", CALL | {"campaign": campaign}, 200)
    return [reason["code"] for reason in answer.get("reasons", [])]


async def load_list(running: World, campaign: str) -> None:
    await running.post("/v1/lists", LIST | {"id": campaign, "campaigns": [campaign]})
    await running.app.tick(patience=None)


@pytest.mark.parametrize("is_late", [False, True])
async def test_revocation_for_a_renamed_campaign_applies_to_the_new_id(
    tmp_path: Path, *, is_late: bool
) -> None:
    async with world.running(tmp_path) as running:
        if not is_late:
            await running.post("/v1/revocations", STOP)
        rename(running, "id: acme-fibre", "id: acme-fibre-dec")
        await load_list(running, "acme-fibre-dec")
        if is_late:
            assert await codes(running, "acme-fibre-dec") == []
            receipt = await running.post("/v1/revocations", STOP)
            assert "applies to all campaigns of the controller" in receipt["note"]
        assert await codes(running, "acme-fibre-dec") == ["revocation.revoked"]


async def test_revocation_for_a_renamed_campaign_withdraws_the_consent(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        await running.post("/v1/consents", CONSENT)
        await running.post("/v1/revocations", STOP)
        rename(running, "id: acme-fibre", "id: acme-fibre-dec")
        (consent,) = (await running.get(f"/v1/consents?number={quote(CLEAR)}&purpose=case"))["consents"]
        assert consent["reason"] == "consent.withdrawn"


async def test_withdrawal_for_renamed_goods_applies_to_the_new_goods(tmp_path: Path) -> None:
    async with world.running(tmp_path) as running:
        await load_list(running, "acme-fibre")
        await running.post("/v1/consents", CONSENT)
        await running.post("/v1/consents/withdraw", {"number": CLEAR, "id": "c1"})
        rename(running, "goods: broadband", "goods: fibre")
        assert await codes(running, "acme-fibre") == ["consent.withdrawn"]


RENAMED = ("controllers/acme.yaml", "dialgate.yaml")
MISSING = r"controller acme is missing.*add acme to `former_controllers`"


async def test_reload_without_an_earlier_controller_is_rejected(tmp_path: Path) -> None:
    async with world.running(tmp_path) as running:
        await load_list(running, "acme-fibre")
        allowed = await running.post("/v1/check", CALL, 200)
        with pytest.raises(ConfigError, match=MISSING):
            rename(running, "acme\n", "acme2\n", *RENAMED)
        outcome = {"decision_id": allowed["decision_id"], "outcome": "opt_out"}
        await running.post("/v1/outcomes", outcome, 200)
        assert await codes(running, "acme-fibre") == ["revocation.revoked"]


async def test_gate_does_not_start_without_an_earlier_controller(tmp_path: Path) -> None:
    async with world.running(tmp_path) as running:
        with pytest.raises(ConfigError, match=MISSING):
            rename(running, "acme\n", "acme2\n", *RENAMED)
    path = tmp_path / "dialgate.yaml"
    with pytest.raises(ConfigError, match=MISSING):
        await App.open(loader.load(path), registry=CollectorRegistry(), clock=world.Hand())
    with pytest.raises(ConfigError, match=MISSING):
        check(path, tmp_path / "registries.yaml", NOW)
    assert content_store.controllers(tmp_path / "data" / "kept") == {"acme"}
    yaml_files.write(path, yaml_files.read(path) | {"former_controllers": ["acme"]})
    app = await App.open(loader.load(path), registry=CollectorRegistry(), clock=world.Hand())
    await app.close()
    assert content_store.controllers(tmp_path / "data" / "kept") == {"acme", "acme2"}


@pytest.mark.parametrize("text", ["id: acme", "\ufeffid: acme", "id : 'acme'", '"id": "acme"  # the first'])
def test_controllers_of_the_archive_are_found_however_their_id_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(f"{text}\nname: Acme\ncampaigns: []\n")
    (tmp_path / "b").write_text("id: it\nname: no controller\n")
    assert content_store.controllers(tmp_path) == {"acme"}
