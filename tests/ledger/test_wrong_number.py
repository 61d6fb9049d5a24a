"""Wrong-number reports suspend the effect of earlier entries at once, on every gate, until the number is confirmed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from typer.testing import CliRunner

from dialgate.app import App
from dialgate.core.ledger_events import NumberConfirmed, NumberWrong
from dialgate.core.model import DAY, HOUR, SECOND
from dialgate.core.responses import Answer
from dialgate.interfaces.cli import main
from dialgate.ledger.schemas import ConsentRequest, OutcomeRequest
from tests.gate.test_restore import House, house
from tests.store.test_shared_store import gates
from tests.support import world, yaml_files
from tests.support.world import CALLER, KEY, NOW, World, ask, codes

__all__ = ["gates", "house"]  # fixtures

MOBILE = "+393289876543"
PERSON = quote(MOBILE)
CALL = {"to": MOBILE, "from": CALLER, "campaign": "acme-fibre"}
CONSENT = {
    "number": MOBILE,
    "id": "form-1",
    "collected_at": "2026-11-20T10:00:00+01:00",
    "purposes": ["sale"],
    "goods": ["broadband"],
    "call_types": ["agent"],
    "artefact": "recordings/1.wav",
    "artefact_sha256": "a" * 64,
}
AGENT = "agent-key"
AS_AGENT = {"Authorization": f"Bearer {AGENT}"}
CLIENTS = [
    world.client("tests", KEY, *world.SCOPES, "subjects"),
    world.client("agents", AGENT, "check", "outcome", "revoke", "ledger", "read"),
]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        world.publish_answers(running.app.config.data, {MOBILE: False}, NOW - 2 * HOUR)
        await running.post("/v1/consents", CONSENT)
        await running.post("/v1/lists", {**world.LIST, "basis": "consent", "numbers": [MOBILE]})
        await running.app.tick()
        yield running


async def check(gate: World) -> Any:
    return await gate.post("/v1/check", CALL, 200)


async def reason(gate: World) -> str:
    answer = await check(gate)
    return str(answer["reasons"][0]["code"] if answer["decision"] == "deny" else "allow")


async def report(gate: World) -> Any:
    """Call the number once, report a wrong number, and return the receipt."""
    allowed = await check(gate)
    assert allowed["decision"] == "allow"
    outcome_report = {"decision_id": allowed["decision_id"], "outcome": "wrong_number"}
    return await gate.post("/v1/outcomes", outcome_report, 200, **AS_AGENT)


async def entries(gate: World, path: str = "wrong-numbers") -> Any:
    return (await gate.get(f"/v1/{path}?number={PERSON}&purpose=case"))["entries"]


async def test_next_call_on_the_same_consent_is_denied_with_the_reason(gate: World) -> None:
    receipt = await report(gate)
    assert receipt["revocation"] is None
    assert receipt["wrong_number"]["seq"] == 2
    answer = await check(gate)
    (why,) = answer["reasons"]
    assert (why["code"], why["severity"]) == ("consent.wrong_number", "statute")
    assert why["law"].startswith("GDPR art. 5(1)(d)")
    (entry,) = await entries(gate)
    assert (entry["seq"], entry["kind"], entry["actor"], entry["channel"]) == (
        2,
        "wrong_number",
        "agents",
        "call",
    )


async def test_report_outlives_the_attempts(gate: World) -> None:
    await report(gate)
    await gate.app._store.drop_attempts(NOW + 400 * DAY, drop=True)
    assert await reason(gate) == "consent.wrong_number"


async def test_repeated_report_is_one_entry_even_after_a_lift(gate: World) -> None:
    receipt = await report(gate)
    outcome_report = {"decision_id": receipt["decision_id"], "outcome": "wrong_number"}
    assert (await gate.post("/v1/outcomes", outcome_report, 200))["wrong_number"]["seq"] == 2
    lift = {"ground": "error", "reason": "the wrong button"}
    await gate.post("/v1/wrong-numbers/2/lift", lift)
    assert (await gate.post("/v1/outcomes", outcome_report, 200))["wrong_number"]["seq"] == 2
    assert await reason(gate) == "allow"


async def test_officer_lifts_the_report_and_agent_may_not(gate: World) -> None:
    await report(gate)
    lift = {"ground": "confirmed", "reason": "a code sent to the number was read back", "actor": "dpo"}
    refused = await gate.post("/v1/wrong-numbers/2/lift", lift, 403, **AS_AGENT)
    assert refused["error"]["code"] == "auth.scope"
    for seq, body, code in (
        (1, lift, "ledger.unknown"),
        (9, lift, "ledger.unknown"),
        (2, {**lift, "reason": " "}, ""),
    ):
        answer = await gate.post(f"/v1/wrong-numbers/{seq}/lift", body, 404 if code else 400)
        assert answer["error"]["code"] == (code or "request.invalid")
    assert await reason(gate) == "consent.wrong_number"
    receipt = await gate.post("/v1/wrong-numbers/2/lift", lift)
    assert (await gate.post("/v1/wrong-numbers/2/lift", lift))["seq"] == receipt["seq"]
    assert await reason(gate) == "allow"
    _, lifted = await entries(gate)
    assert (lifted["kind"], lifted["actor"], lifted["details"]["ground"]) == (
        "number_confirmed",
        "dpo",
        "confirmed",
    )


async def command(gate: World, *words: str) -> int:
    environment = {"DIALGATE_CONFIG": str(gate.folder / "dialgate.yaml")}
    done = await asyncio.to_thread(CliRunner().invoke, main.app, list(words), env=environment)
    return done.exit_code


async def test_command_lifts_the_report(gate: World) -> None:
    await report(gate)
    options = ["--ground", "error", "--reason", "the wrong line of the table", "--actor", "dpo"]
    assert await command(gate, "number", "confirm", "7", *options) == 1
    assert await reason(gate) == "consent.wrong_number"
    assert await command(gate, "number", "confirm", "2", *options) == 0
    assert await reason(gate) == "allow"
    assert (await entries(gate))[1]["actor"] == "dpo"


async def test_only_a_newer_consent_confirms_the_number(gate: World) -> None:
    await report(gate)
    await gate.post("/v1/consents", CONSENT)
    assert await reason(gate) == "consent.wrong_number"
    gate.hand.at += SECOND
    await gate.post("/v1/consents", {**CONSENT, "id": "form-2", "collected_at": "2026-11-24T10:00:01+01:00"})
    assert await reason(gate) == "allow"


async def test_wrong_number_is_accepted_after_a_stricter_outcome(gate: World) -> None:
    allowed = await check(gate)
    for outcome in ("abandoned", "wrong_number"):
        outcome_report = {"decision_id": allowed["decision_id"], "outcome": outcome}
        receipt = await gate.post("/v1/outcomes", outcome_report, 200)
    assert receipt["wrong_number"]["seq"] == 2
    gate.hand.at += 10 * DAY
    world.publish_answers(gate.app.config.data, {MOBILE: False}, gate.hand.at - HOUR)
    await gate.app.tick()
    assert await reason(gate) == "consent.wrong_number"


async def test_access_report_shows_the_report_and_erasure_keeps_it(gate: World) -> None:
    await report(gate)
    asked = await gate.post(
        f"/v1/subjects/{PERSON}/requests", {"kind": "erasure", "identified": "a call back"}
    )
    erased = await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": asked["id"]}, 200)
    done = {item["what"]: item["done"] for item in erased["items"]}
    assert done["wrong_number"] == "kept"
    async with gate.client.get(f"/v1/subjects/{PERSON}?purpose=case") as answer:
        kinds = [item["kind"] for item in (await answer.json())["ledger"]]
    assert "wrong_number" in kinds
    async with gate.client.get(
        f"/v1/subjects/{PERSON}?purpose=case", headers={"Accept": "text/html"}
    ) as answer:
        assert "numero errato" in await answer.text()


async def test_report_takes_effect_in_the_other_gate(gates: list[App]) -> None:
    one, other = gates
    for app in gates:
        world.publish_answers(app.config.data, {MOBILE: False}, NOW - 2 * HOUR)
        await app.tick()
    client = one.config.settings.clients[0]
    await one.registrar.consents.record(client, msgspec.convert(CONSENT, ConsentRequest))
    allowed = await ask(one, to=MOBILE)
    assert (await ask(other, to=MOBILE)).decision == "allow"
    await one.registrar.outcomes.result(
        client, OutcomeRequest(decision_id=allowed.decision_id, outcome="wrong_number")
    )
    denied: Answer = await ask(other, to=MOBILE)
    assert codes(denied) == ["list.unknown", "consent.wrong_number"]


async def test_report_in_the_log_takes_effect_on_a_restored_ledger(house: House) -> None:
    """The ledger is restored from a backup. The report is entered once, although the gate starts twice."""
    world.publish_answers(house.data, {MOBILE: False}, NOW - 2 * HOUR)
    async with house.open() as app:
        client = app.config.settings.clients[0]
        await app.registrar.consents.record(client, msgspec.convert(CONSENT, ConsentRequest))
    house.save()
    async with house.open() as app:
        allowed = await ask(app, to=MOBILE)
        outcome_report = OutcomeRequest(decision_id=allowed.decision_id, outcome="wrong_number")
        await app.registrar.outcomes.result(client, outcome_report)
        assert codes(await ask(app, to=MOBILE))[-1] == "consent.wrong_number"
    house.restore()
    for _ in range(2):
        async with house.open() as app:
            assert codes(await ask(app, to=MOBILE))[-1] == "consent.wrong_number"
        _, entry = await house.ledger()
        assert isinstance(entry.event, NumberWrong)
        assert entry.event.decision == allowed.decision_id


async def test_shipped_law_cites_a_source_for_wrong_numbers() -> None:
    law = yaml_files.read(world.CONFIG / "countries/it.yaml")
    assert [item for item in law["consents"] if "wrong_number" in item.get("cited_for", ())]
    assert NumberConfirmed.__struct_config__.tag == "number_confirmed"
