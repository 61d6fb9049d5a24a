"""A look-up computes the state of each consent with the same function as the next decision."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dialgate.core.model import HOUR
from tests.interfaces.console.test_console import browser, send
from tests.support import world
from tests.support.world import CALLER, KEY, LIST, NOW, World

MOBILE = "+393289876543"
OFFICER = "officer-key"
CONSENT: dict[str, Any] = {
    "number": MOBILE,
    "id": "form-1",
    "collected_at": "2026-11-20T10:00:00+01:00",
    "purposes": ["sale"],
    "goods": ["broadband"],
    "call_types": ["agent"],
    "artefact": "recordings/1.wav",
    "artefact_sha256": "a" * 64,
}
STOP = ("/v1/revocations", {"number": MOBILE})
CLIENTS = [
    world.client("tests", KEY, *world.SCOPES, "subjects", "admin"),
    world.client("dpo", OFFICER, "simulate", "watch", "read", "subjects"),
]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        world.publish_answers(running.app.config.data, {MOBILE: False}, NOW - 2 * HOUR)
        await running.post("/v1/lists", {**LIST, "basis": "consent", "numbers": [MOBILE]})
        await running.app.tick()
        yield running


async def check_codes(gate: World) -> list[str]:
    call = {"to": MOBILE, "from": CALLER, "campaign": "acme-fibre"}
    return [reason["code"] for reason in (await gate.post("/v1/check", call, 200)).get("reasons", [])]


async def read_state(gate: World) -> Any:
    path = f"/v1/consents?number={quote(MOBILE)}&purpose=case"
    return (await gate.get(path))["consents"][0]


CASES: list[tuple[str, dict[str, Any], list[tuple[str, dict[str, Any]]]]] = [
    ("", {}, []),
    ("consent.withdrawn", {}, [STOP, ("/v1/revocations/2/lift", {"ground": "new_consent", "reason": "a form", "consent": "new"})]),
    ("consent.withdrawn", {}, [("/v1/consents/withdraw", {"number": MOBILE, "id": "form-1"})]),
    ("", {}, [STOP, ("/v1/revocations/2/lift", {"ground": "error", "reason": "another's letter"})]),
    ("consent.expired", {"collected_at": "2024-11-01T10:00:00+01:00"}, []),
    ("consent.expired", {"expires_at": "2026-11-24T10:00:00+01:00"}, []),
    ("consent.void", {"artefact": ""}, []),
    ("consent.void", {"double_opt_in": True}, []),
    ("consent.void", {"origin": {"collected_by": "broker", "collected_on": "2026-11-20"}}, []),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "changes", "events"), CASES)
async def test_state_equals_the_reason_of_the_next_decision(
    gate: World, reason: str, changes: dict[str, Any], events: list[tuple[str, dict[str, Any]]]
) -> None:
    await gate.post("/v1/consents", CONSENT | changes)
    for path, body in events:
        if body.get("consent"):  # the new consent is for other goods, so a call would rely on the old one
            gate.hand.at += 1000
            later = {"id": "new", "collected_at": "2026-11-24T10:00:01+01:00", "goods": ["insurance"]}
            await gate.post("/v1/consents", CONSENT | later)
        await gate.post(path, body)
    state = await read_state(gate)
    assert (state["reason"], state["refused_for"]) == (reason, [])
    codes = await check_codes(gate)
    if not any(body.get("consent") for _, body in events):
        assert codes == ([reason] if reason else [])


async def test_look_up_shows_a_consent_as_withdrawn_after_a_revocation(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    query = {"number": MOBILE, "purpose": "a letter", "controller": "acme"}
    async with browser(gate, OFFICER) as session:
        assert ">in force<" in await send(session, "/console/lookup", 200, **query)
        await gate.post(*STOP)
        shown = await send(session, "/console/lookup", 200, **query)
    assert ">in force<" not in shown
    assert ">Consent withdrawn<" in shown
    assert (await read_state(gate))["reason"] == "consent.withdrawn"
    assert await check_codes(gate) == ["revocation.revoked", "consent.withdrawn"]


@pytest.mark.parametrize("scope", ["everyone", "controller"])
async def test_revocation_for_controller_or_everyone_withdraws_the_consent(gate: World, scope: str) -> None:
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/revocations", {"number": MOBILE, "scope": scope})
    assert (await read_state(gate))["reason"] == "consent.withdrawn"


async def test_revocation_for_one_campaign_leaves_the_consent_in_force_for_others(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/revocations", {"number": MOBILE, "scope": "campaign", "campaign": "acme-fibre"})
    state = await read_state(gate)
    assert (state["reason"], state["refused_for"]) == ("", ["acme-fibre"])
    async with browser(gate, OFFICER) as session:
        query = {"number": MOBILE, "purpose": "a letter", "controller": "acme"}
        assert "in force, but not for acme-fibre" in await send(session, "/console/lookup", 200, **query)


async def test_enrolment_in_the_snapshot_voids_the_consent(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    world.publish_answers(gate.app.config.data, {MOBILE: True}, NOW - HOUR)
    await gate.app.tick()
    state = await read_state(gate)
    assert (state["reason"], state["voided_at"]) == ("consent.void", "")
    assert await check_codes(gate) == ["registry.listed", "consent.void"]


async def test_a_second_withdrawal_holds_against_a_consent_entered_late(gate: World) -> None:
    withdrawal = {"number": MOBILE, "id": "form-1"}
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/consents/withdraw", withdrawal | {"at": "2026-11-21T10:00:00+01:00"})
    await gate.post("/v1/consents/withdraw", withdrawal | {"at": "2026-11-23T10:00:00+01:00"})
    # the nightly export enters what was collected between the two
    await gate.post("/v1/consents", CONSENT | {"collected_at": "2026-11-22T10:00:00+01:00"})
    assert await check_codes(gate) == ["consent.withdrawn"]


async def test_contract_that_ended_before_it_began_stays_ended(gate: World) -> None:
    sector = gate.app.config.lines["acme-fibre"].campaign.sector
    deal = {
        "number": MOBILE,
        "id": "k",
        "starts": "2026-11-24",
        "sector": sector,
        "marketing": True,
        "proof": "k.pdf",
    }
    await gate.post("/v1/contracts", deal)
    await gate.post("/v1/contracts/end", {"number": MOBILE, "id": "k", "ends": "2026-10-20"})
    assert await check_codes(gate) == ["consent.missing"]
    await gate.post("/v1/contracts", deal)
    assert await check_codes(gate) == ["consent.missing"]


async def test_wrong_number_ends_the_consent(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    call = {"to": MOBILE, "from": CALLER, "campaign": "acme-fibre"}
    allowed = await gate.post("/v1/check", call, 200)
    outcome = {"decision_id": allowed["decision_id"], "outcome": "wrong_number"}
    await gate.post("/v1/outcomes", outcome, 200)
    assert (await read_state(gate))["reason"] == "consent.wrong_number"


async def test_consent_for_goods_of_no_campaign_is_in_force(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT | {"goods": ["insurance"]})
    state = await read_state(gate)
    assert (state["reason"], state["refused_for"]) == ("", [])
