"""Stops that a shared gate could lose: one for every controller that one of them lifts, and one in a call that was denied."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from dialgate.core.model import HOUR
from tests.interfaces.console.test_console import browser, send
from tests.support import world, yaml_files
from tests.support.world import CLEAR, NOW, World

ADMIN = [
    {**world.client("tests", world.KEY, *world.SCOPES, "admin"), "controllers": ["acme", "partner"]},
    {**world.client("partner", "key-of-partner", *world.SCOPES), "controllers": ["partner"]},
]
STOP = {"number": CLEAR, "scope": "everyone", "controller": "acme", "at": "2026-11-23T10:00:00+01:00"}
CONSENT = {
    "number": CLEAR,
    "id": "again",
    "collected_at": "2026-11-23T12:00:00+01:00",
    "purposes": ["sale", "statistics"],
    "call_types": ["agent"],
    "artefact": "forms/again.pdf",
    "artefact_sha256": "0" * 64,
}
LIFT = {"ground": "new_consent", "reason": "signed again", "consent": "again"}


def add_surveys(folder: Path) -> None:
    """Give each of two controllers a survey for official statistics, which needs no consent."""
    path = folder / "controllers/acme.yaml"
    text = path.read_text()
    for name, line in (("acme", "844123456"), ("partner", "844123457")):
        own = folder / f"controllers/{name}.yaml"
        own.write_text(text.replace("acme", name).replace("844123456", line))
        settings = yaml_files.read(own)
        survey = {**settings["campaigns"][0], "id": f"{name}-survey", "purpose": "statistics"}
        settings["campaigns"].append(survey)
        yaml_files.write(own, settings)


@pytest_asyncio.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, prepare=add_surveys, clients=ADMIN) as made:
        for name in ("acme", "partner"):
            world.publish_answers(made.app.config.data, {CLEAR: False}, NOW - HOUR, controller=name)
            campaigns = [f"{name}-fibre", f"{name}-survey"]
            await made.post(
                "/v1/lists",
                {**world.LIST, "controller": name, "id": name, "campaigns": campaigns, "collected_by": name},
            )
        await made.app.tick(patience=None)
        yield made


async def test_an_opt_out_from_a_call_that_was_denied_is_a_stop(gate: World) -> None:
    """The dialer called in spite of the answer, and the person said stop. Other results of such a call are refused."""
    call = {"to": CLEAR, "from": world.CALLER, "campaign": "acme-fibre", "call_type": "automated"}
    denied = await gate.post("/v1/check", call, 200)
    assert denied["decision"] == "deny"
    assert "revocation.revoked" not in await codes(gate, "acme-fibre")
    report = {"decision_id": denied["decision_id"], "outcome": "opt_out"}
    await gate.post("/v1/outcomes", {**report, "outcome": "answered"}, 404)
    assert (await gate.post("/v1/outcomes", report, 200))["revocation"]["seq"]
    assert "revocation.revoked" in await codes(gate, "acme-fibre")
    assert "revocation.revoked" not in await codes(gate, "partner-survey")
    await gate.post("/v1/outcomes", report, 404, Authorization="Bearer key-of-partner")


async def codes(gate: World, campaign: str) -> set[str]:
    call = {"to": CLEAR, "from": "auto", "campaign": campaign}
    reasons: list[dict[str, Any]] = (await gate.post("/v1/simulate", call, 200))["reasons"]
    return {reason["code"] for reason in reasons}


async def test_a_new_consent_lifts_a_stop_for_its_controller_only(gate: World) -> None:
    """The person consented to calls by one controller (GDPR art. 4(11)), and never took the stop back for the other."""
    assert "revocation.revoked" not in await codes(gate, "partner-survey")
    stop = await gate.post("/v1/revocations", STOP)
    await gate.post("/v1/consents", {**CONSENT, "controller": "acme"})
    path = f"/v1/revocations/{stop['seq']}/lift"
    first = await gate.post(path, {**LIFT, "controller": "acme"})
    assert "revocation.revoked" not in await codes(gate, "acme-fibre")
    for campaign in ("partner-fibre", "partner-survey"):
        assert "revocation.revoked" in await codes(gate, campaign)
    assert (await gate.post(path, {**LIFT, "controller": "acme"}))["seq"] == first["seq"]

    await gate.post("/v1/consents", {**CONSENT, "controller": "partner", "id": "later"})
    assert "revocation.revoked" in await codes(gate, "partner-fibre"), "not lifted for this consent"
    page = {"number": CLEAR, "purpose": "a letter", "controller": "partner"}
    async with browser(gate, world.KEY) as session:
        assert "Opted out" in await send(session, "/console/lookup", 200, **page)
    second = await gate.post(path, {**LIFT, "controller": "partner", "consent": "later"})
    assert second["seq"] != first["seq"]
    for campaign in ("acme-fibre", "partner-fibre"):
        assert "revocation.revoked" not in await codes(gate, campaign)

    await gate.post("/v1/revocations", {**STOP, "at": "2026-11-24T09:00:00+01:00"})
    for campaign in ("acme-fibre", "partner-fibre"):
        assert "revocation.revoked" in await codes(gate, campaign)
