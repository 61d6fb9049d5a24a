"""The register of breaches over HTTP: from the opening to the notification, in phases, and who did what."""

import asyncio
import csv
import io
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dialgate.core.model import HOUR
from tests.subjects.test_breach import fill
from tests.subjects.test_letters import plain
from tests.support import world, yaml_files
from tests.support.console_world import BETA
from tests.support.world import CLEAR, World

BETAS = "key-of-beta"
CLIENTS = [
    world.client("tests", world.KEY, *world.SCOPES, "subjects", "watch"),
    world.client("dialer", "stolen", "check", "read"),
    world.client("beta", BETAS, "subjects", "watch") | {"controllers": ["beta"]},
]
OPENING = {"aware_at": "2026-11-24T09:00:00Z", "nature": "The key of the dialer was in a public repository."}
STOLEN = {
    **OPENING,
    "client": "dialer",
    "since": "2026-11-24T08:00:00Z",
    "until": "2026-11-25T00:00:00Z",
}


def add_beta(folder: Path) -> None:
    yaml_files.write(folder / "controllers/beta.yaml", BETA)


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS, prepare=add_beta, node="rome-1") as running:
        await world.load_list(running)
        yield running


async def open_breach(gate: World, **more: Any) -> str:
    return str((await gate.post("/v1/breaches", {**OPENING, **more}))["id"])


async def step(gate: World, name: str, outcome: str, status: int = 200, **more: Any) -> Any:
    return await gate.post(f"/v1/breaches/{name}", {"outcome": outcome, **more}, status)


async def draft(gate: World, name: str, **query: str) -> str:
    async with gate.client.get(f"/v1/breaches/{name}/notification", params=query) as answer:
        assert answer.status == 200, await answer.text()
        return plain(await answer.text())


async def tasks(gate: World, **headers: Any) -> list[tuple[str, Any]]:
    found = (await gate.get("/v1/tasks", **headers))["tasks"]
    return [(task["kind"], task.get("days_left")) for task in found if task["kind"].startswith("breach")]


async def test_a_stolen_key_from_the_opening_to_the_decision_about_the_people(gate: World) -> None:
    await fill(gate)
    name = await open_breach(gate, **STOLEN)
    assert await tasks(gate) == [("breach_due", pytest.approx(2.96, abs=0.02))]
    computed = await gate.post(f"/v1/breaches/{name}/exposure", {}, 200)
    assert (computed["affected"], computed["exposed_records"]) == (3, 4)
    assert [figure["node"] for figure in computed["figures"]] == ["rome-1"]
    await step(gate, name, "amended", consequences="Unwanted calls.", measures="The key was replaced.")
    words = await draft(gate, name, language="en")
    for wanted in (
        "Garante per la protezione dei dati personali", "public repository", "dpo@acme.example", "Unwanted calls.",
        "The key was replaced.", "Data subjects, approximately 3", "client “dialer”", "[to be completed: whether the risk is high",
    ):  # fmt: skip
        assert wanted in words
    assert CLEAR[3:] not in words
    sent = await step(gate, name, "notified", reason="protocol 2026/4711")
    assert (sent["authority"], sent["late"], sent["hours_left"]) == ("notified", False, 0)
    assert await tasks(gate) == [("breach_people", None)]
    await step(gate, name, "communicated", reason="By SMS to the 3 numbers.")
    assert await tasks(gate) == []
    await step(gate, name, "notified", reason="second phase", persons="3")
    words = await draft(gate, name)
    assert "Informazioni integrative" in words
    assert "Gli interessati sono stati informati. By SMS to the 3 numbers." in words
    shown = await gate.get(f"/v1/breaches/{name}")
    steps = [(entry["step"], entry["by"]) for entry in shown["steps"]]
    assert steps == [
        (kind, "tests") for kind in ("opened", "computed", "amended", "notified", "communicated", "notified")
    ]
    assert CLEAR[3:] not in str(shown)


async def test_the_draft_is_a_pdf_with_every_chapter(gate: World) -> None:
    name = await open_breach(gate)
    async with gate.client.get(f"/v1/breaches/{name}/notification?form=pdf") as answer:
        assert answer.headers["Content-Type"] == "application/pdf"
        body = await answer.read()
    command = ["pdftotext", "-layout", "-", "-"]
    text = await asyncio.to_thread(
        lambda: subprocess.run(command, input=body, capture_output=True, check=True)
    )
    for chapter in ("1. Natura", "2. Responsabile", "3. Probabili", "4. Misure", "5. Comunicazione"):
        assert chapter in re.sub(r"\s+", " ", text.stdout.decode())


async def test_a_request_that_is_sent_again_changes_nothing(gate: World) -> None:
    first = await open_breach(gate, **STOLEN)
    gate.hand.at += HOUR
    assert await open_breach(gate, **STOLEN) == first
    assert await open_breach(gate) != first
    for _ in range(2):
        await step(gate, first, "notified", reason="protocol 1")
        gate.hand.at += 1
    for _ in range(2):
        file = await step(gate, first, "amended", measures="new key")
    assert [entry["step"] for entry in file["steps"]] == ["opened", "notified", "amended"]
    assert file["steps"][2]["texts"] == ["measures"]


async def test_a_late_notification_needs_the_reasons_for_the_delay(gate: World) -> None:
    name = await open_breach(gate)
    gate.hand.at += 80 * HOUR
    assert [(kind, left is not None and left < 0) for kind, left in await tasks(gate)] == [
        ("breach_due", True)
    ]
    assert "[da completare: perché oltre le 72 ore]" in await draft(gate, name)
    refused = await step(gate, name, "notified", 409, reason="protocol 2")
    assert (refused["error"]["code"], refused["error"]["field"]) == ("breach.refused", "delay")
    in_time: Any = {"reason": "protocol 2", "at": "2026-11-26T10:00:00Z"}  # recorded late, but sent in time
    assert (await step(gate, name, "notified", **in_time))["late"] is False
    other = await open_breach(gate, nature="A letter went to the wrong address.")
    late = await step(gate, other, "notified", reason="protocol 3", delay="The officer was ill.")
    assert (late["late"], late["texts"]["delay"]) == (True, "The officer was ill.")


async def test_a_breach_that_is_not_notified_stays_in_the_register_with_its_reason(gate: World) -> None:
    name = await open_breach(gate, nature="=A disk was lost")
    assert (await step(gate, name, "not_notified", 400))["error"]["field"] == "reason"
    await step(gate, name, "not_notified", reason="The disk was encrypted.")
    await step(gate, name, "not_communicated", reason="No risk.")
    async with gate.client.get("/v1/breach-register") as answer:
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [(row["authority"], row["authority_reason"], row["people"], row["nature"]) for row in rows] == [
        ("not_notified", "The disk was encrypted.", "not_communicated", "'=A disk was lost")
    ]
    await step(gate, name, "notified", reason="The password was on the disk, protocol 5")
    refused = await step(gate, name, "not_notified", 409, reason="again")
    assert refused["error"]["code"] == "breach.refused"
    await step(gate, name, "noted", reason="The authority closed its file.")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"aware_at": "2027-01-01T00:00:00Z"}, "aware_at"),
        ({"client": "dialer", "node": "rome-1"}, "client"),
        ({"client": "dialer"}, "until"),
        ({"since": "2026-11-24T09:00:00Z", "until": "2026-11-24T08:00:00Z"}, "until"),
        ({"nature": f"The number {CLEAR} was read"}, "nature"),
        ({"nature": "no"}, "nature"),
    ],
)
async def test_a_breach_that_is_not_possible_is_refused(gate: World, change: Any, field: str) -> None:
    refused = await gate.post("/v1/breaches", {**OPENING, **change}, 400)
    assert (refused["error"]["code"], refused["error"]["field"]) == ("request.invalid", field)


async def test_a_step_that_is_not_possible_is_refused(gate: World) -> None:
    name = await open_breach(gate)
    assert (await step(gate, name, "amended", 400))["error"]["field"] == "nature"
    assert (await gate.post(f"/v1/breaches/{name}/exposure", {}, 400))["error"]["field"] == "client"
    early: Any = {"reason": "protocol 2", "at": "2026-11-01T10:00:00Z"}
    assert (await step(gate, name, "notified", 400, **early))["error"]["field"] == "at"


async def test_the_time_of_becoming_aware_is_corrected_and_the_former_one_stays(gate: World) -> None:
    name = await open_breach(gate, **STOLEN)
    assert (await step(gate, name, "corrected", 400, reason="typed wrong"))["error"]["field"] == "at"
    early: Any = {"at": "2026-11-21T08:00:00Z"}
    assert (await step(gate, name, "corrected", 400, **early))["error"]["field"] == "reason"
    refused = await step(gate, name, "corrected", 400, reason="typed wrong", at="2026-11-25T08:00:00Z")
    assert refused["error"]["field"] == "at"
    for _ in range(2):  # the second is a repetition
        file = await step(gate, name, "corrected", reason="the mail came on Saturday", **early)
        gate.hand.at += 1
    assert (file["aware_at"], file["due_at"]) == ("2026-11-21T08:00:00.000Z", "2026-11-24T08:00:00.000Z")
    assert (file["late"], file["since"]) == (True, "2026-11-24T08:00:00.000Z")
    seen = [(entry["step"], entry["done_at"], entry["text"]) for entry in file["steps"]]
    assert seen == [
        ("opened", "2026-11-24T09:00:00.000Z", ""),
        ("corrected", "2026-11-21T08:00:00.000Z", "the mail came on Saturday"),
    ]
    assert (await step(gate, name, "notified", 409, reason="protocol 2"))["error"]["field"] == "delay"
    back = await step(gate, name, "corrected", reason="it was spam", at="2026-11-24T08:30:00Z")
    assert (back["late"], len(back["steps"])) == (False, 3)
    in_time: Any = {"reason": "protocol 2", "at": "2026-11-24T08:45:00Z"}
    assert (await step(gate, name, "notified", **in_time))["late"] is False
    refused = await step(gate, name, "corrected", 400, reason="later", at="2026-11-24T08:50:00Z")
    assert refused["error"]["field"] == "at"
    assert (await step(gate, name, "corrected", reason="read on Saturday", **early))["late"] is True
    await step(gate, name, "communicated", reason="letters", at="2026-11-24T08:20:00Z")
    refused = await step(gate, name, "corrected", 400, reason="later", at="2026-11-24T08:40:00Z")
    assert refused["error"]["field"] == "at"
    async with gate.client.get("/v1/breach-register") as answer:
        (row,) = csv.DictReader(io.StringIO(await answer.text()))
    assert (row["aware_at"], row["late"]) == ("2026-11-21T08:00:00.000Z", "yes")
    assert await open_breach(gate, **STOLEN) == name  # sent again


async def test_a_correction_and_a_notification_at_once_do_not_contradict_each_other(gate: World) -> None:
    name = await open_breach(gate, **STOLEN)
    gate.hand.at += 2 * HOUR
    steps: list[dict[str, Any]] = [
        {"outcome": "notified", "reason": "protocol 1", "at": "2026-11-24T09:10:00Z"},
        {"outcome": "corrected", "reason": "later", "at": "2026-11-24T09:30:00Z"},
    ]

    async def send(ask: dict[str, Any]) -> int:
        async with gate.client.post(f"/v1/breaches/{name}", json=ask) as answer:
            return answer.status

    assert sorted(await asyncio.gather(*map(send, steps))) == [200, 400]
    file = await gate.get(f"/v1/breaches/{name}")
    assert file["aware_at"] <= (file["notified_at"] or file["aware_at"])


async def test_a_controller_sees_only_its_own_breaches_and_its_own_exposure(gate: World) -> None:
    await fill(gate)
    name = await open_breach(gate, **STOLEN)
    beta: Any = {"Authorization": f"Bearer {BETAS}"}
    assert (await gate.get("/v1/breaches", **beta))["breaches"] == []
    assert await tasks(gate, **beta) == []
    await gate.get(f"/v1/breaches/{name}", 404, **beta)
    await gate.post(f"/v1/breaches/{name}", {"outcome": "noted", "reason": "x"}, 404, **beta)
    other = await gate.post("/v1/breaches", STOLEN, **beta)
    assert other["id"] != name
    computed = await gate.post(f"/v1/breaches/{other['id']}/exposure", {}, 200, **beta)
    assert (computed["affected"], computed["figures"][0]["could_look_up"]) == (0, 0)


async def test_a_breach_survives_a_restart_between_the_phases(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS, prepare=add_beta) as gate:
        name = await open_breach(gate, **STOLEN)
        await step(gate, name, "notified", reason="protocol 1")
    async with world.serving(tmp_path / "dialgate.yaml", gate.hand) as app:
        client = next(client for client in app.config.settings.clients if client.name == "tests")
        file = await app.breaches.show(client, name)
        assert (file.authority, [entry.step for entry in file.steps]) == ("notified", ["opened", "notified"])
