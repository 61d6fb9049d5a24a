"""The work on one data subject's request, over HTTP, from its arrival to its end."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dialgate.core.model import DAY, HOUR
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Remarked
from tests.subjects.test_letters import open_request, plain, write
from tests.subjects.test_subjects import CLIENTS, PERSON, fill
from tests.support import world
from tests.support.world import CALL, CLEAR, World


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        await world.load_list(running)
        yield running


async def show(gate: World, name: str, **query: str) -> Any:
    text = "&".join(f"{key}={value}" for key, value in query.items())
    return await gate.get(f"/v1/subject-requests/{name}?{text}")


async def execute(gate: World, name: str, status: int = 200, **ask: Any) -> Any:
    return await gate.post(f"/v1/subject-requests/{name}/execution", ask, status)


async def step(gate: World, name: str, outcome: str, reason: str, status: int = 200) -> Any:
    return await gate.post(f"/v1/subject-requests/{name}", {"outcome": outcome, "reason": reason}, status)


async def decide(gate: World) -> list[str]:
    answer = await gate.post("/v1/check", CALL, 200)
    return [reason["code"] for reason in answer.get("reasons", [])]


async def test_a_number_is_shown_only_with_a_purpose_which_is_recorded(gate: World) -> None:
    name = await open_request(gate, "access")
    file = await show(gate, name)
    assert CLEAR[3:] not in str(file)
    assert "Anna" not in str(file)
    assert file["request"]["person"] == "+39 ••••••••78"
    shown = await show(gate, name, purpose="to%20answer%20it")
    assert (shown["number"], shown["addressee"].splitlines()[0]) == (CLEAR, "Anna Esempio")
    report = await gate.get(f"/v1/subjects/{PERSON}?purpose=check")
    assert next((seen["what"], seen["purpose"]) for seen in report["lookups"]) == ("request", "to answer it")


async def test_an_objection_stops_calls_once_and_is_answered(gate: World) -> None:
    assert await decide(gate) == []
    name = await open_request(gate, "objection", received_at="2026-11-24T08:00:00+01:00")
    assert "subject.premature" in await write(gate, name, 409)
    for _ in range(2):  # the second is a repetition
        assert (await execute(gate, name))["request"]["executed"] is True
    assert "revocation.revoked" in await decide(gate)
    stops = (await gate.get(f"/v1/revocations?number={PERSON}&purpose=check"))["entries"]
    assert [(stop["channel"], stop["proof"], stop["details"]["at"]) for stop in stops] == [
        ("objection", f"request:{name}", "2026-11-24T07:00:00.000Z")
    ]
    assert "Nessuna chiamata" not in plain(await write(gate, name, language="en"))
    await step(gate, name, "sent", "objection letter by PEC")
    await step(gate, name, "answered", "letter sent by PEC")
    steps = [entry["step"] for entry in (await show(gate, name))["steps"]]
    assert steps == ["received", "executed", "executed", "sent", "answered"]
    await execute(gate, name, 409)


async def test_an_erasure_is_previewed_done_and_then_answered(gate: World) -> None:
    await fill(gate)
    await decide(gate)
    name = await open_request(gate, "erasure")
    preview = await gate.get(f"/v1/subject-requests/{name}/erasure?purpose=erasure")
    before = await gate.get(f"/v1/consents?number={PERSON}&purpose=check")
    assert len(before["entries"]) == 1  # nothing has changed
    file = await execute(gate, name)
    done = {(item["what"], item["done"]) for item in file["items"]}
    assert {(item["what"], item["done"]) for item in preview["items"]} == done
    assert file["request"]["closed_at"] == ""
    assert "Che cosa abbiamo cancellato" in plain(await write(gate, name))
    await step(gate, name, "answered", "letter sent")
    assert "Che cosa abbiamo cancellato" in plain(await write(gate, name))  # the letter can be printed again
    access = await open_request(gate, "access")
    words = plain(await write(gate, access))
    assert "opposizione" in words
    assert "C-1" not in words


async def test_an_erasure_under_a_hold_ends_after_the_hold_also_if_the_request_was_answered(
    gate: World,
) -> None:
    holds = gate.app.subjects.holds
    await holds.place(CLEAR, at=world.NOW, by="dpo", reason="case 7")
    answered, still_open = await open_request(gate, "erasure"), await open_request(gate, "erasure")
    for name in (answered, still_open):
        file = await execute(gate, name)
        assert ("call list", "restricted") in {(item["what"], item["done"]) for item in file["items"]}
    await step(gate, answered, "answered", "letter sent")
    await step(gate, still_open, "noted", "waits for the court")
    gate.hand.at += HOUR
    await holds.lift(CLEAR, at=gate.hand.at, by="dpo", reason="closed")
    await gate.app.subjects.retire(gate.app.gate.now(), drop=True)
    report = await gate.get(f"/v1/subjects/{PERSON}?purpose=check")
    assert report["lists"] == []
    assert (await show(gate, still_open))["request"]["closed_at"] == ""  # it is still to be answered


async def test_a_rectification_is_done_and_then_answered(gate: World) -> None:
    await fill(gate)
    entry = (await gate.get(f"/v1/consents?number={PERSON}&purpose=check"))["entries"][0]
    name = await open_request(gate, "rectification")
    await execute(gate, name, 404, of=0, fields={"goods": ["telephony"]})
    file = await execute(gate, name, of=entry["seq"], fields={"goods": ["telephony"]})
    assert (file["request"]["executed"], file["request"]["closed_at"]) == (True, "")
    assert "telephony" in plain(await write(gate, name))
    await step(gate, name, "answered", "letter sent")


async def test_a_request_that_is_sent_again_is_the_same_request(gate: World) -> None:
    first = await open_request(gate, "access", proof="pec/2026-0417")
    gate.hand.at += HOUR
    assert await open_request(gate, "access", proof="pec/2026-0417") == first
    assert await open_request(gate, "erasure", proof="pec/2026-0417") != first
    assert await open_request(gate, "access") != first  # nothing shows that it is the same
    await step(gate, first, "answered", "letter sent")
    assert await open_request(gate, "access", proof="pec/2026-0417") != first


async def test_a_step_that_races_with_the_removal_of_its_request_leaves_nothing(gate: World) -> None:
    subjects = gate.app.subjects
    name = await open_request(gate, "erasure")
    subject = gate.app.registrar.access.keys.subject("acme", CLEAR)
    opening = await subjects.deadlines.find_open(name, "erasure", subject)
    await step(gate, name, "withdrawn", "by telephone")
    gate.hand.at += 9000 * DAY
    world.store_time(gate.app.config.data, gate.hand.at)
    await subjects.retire(gate.hand.at, drop=True)
    note = Remarked(kind="noted", text="sent again", actor="dpo")
    with pytest.raises(Refused, match="not found"):
        await subjects.deadlines.add_step(opening, note)
    with pytest.raises(Refused, match="not found"):
        await subjects.deadlines.next_step(name, note)
    assert await subjects._file.case(name) == []


async def test_a_complaint_is_answered_with_what_was_found(gate: World) -> None:
    await decide(gate)
    name = await open_request(gate, "complaint", received_at="2026-11-24T08:00:00+01:00")
    await execute(gate, name, 400)
    assert "`reasons`" in await write(gate, name, 400)
    found = "Il numero era in una lista non aggiornata: l'abbiamo ritirata."
    letter = await write(gate, name, reasons=found)
    assert "il Suo reclamo del 24 novembre 2026" in plain(letter)
    assert found in plain(letter)
    assert "art. 77 GDPR" in plain(letter)
    assert "Ecco che cosa risulta" in plain(await write(gate, name, kind="why"))
    await step(gate, name, "answered", found)
    assert found in plain(await write(gate, name))  # from the closed request
    assert (await show(gate, name))["request"]["kind"] == "complaint"


async def test_a_request_for_the_reasons_of_a_call_gets_them(gate: World) -> None:
    await decide(gate)
    name = await open_request(gate, "why")
    assert "Lei ci ha chiesto perché" in plain(await write(gate, name))


async def test_a_withdrawn_request_is_closed_and_nothing_more_is_done(gate: World) -> None:
    name = await open_request(gate, "objection")
    await step(gate, name, "withdrawn", "the person wrote again")
    await execute(gate, name, 409)
    await step(gate, name, "withdrawn", "twice", 409)
    await step(gate, name, "answered", "twice", 409)
    assert await decide(gate) == []
    assert (await step(gate, name, "noted", "called back, all is well"))["withdrawn"] is True


async def test_an_extension_after_the_deadline_is_refused(gate: World) -> None:
    name = await open_request(gate, "access")
    gate.hand.at += 40 * DAY
    assert (await step(gate, name, "extended", "many files", 409))["error"]["field"] == "outcome"
    assert (await show(gate, name))["request"]["days_left"] < 0


async def test_a_request_survives_a_restart_in_the_middle(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS) as gate:
        await fill(gate)
        name = await open_request(gate, "erasure", proof="pec/1")
        await step(gate, name, "assigned", "Maria")
        await execute(gate, name)
    async with world.serving(tmp_path / "dialgate.yaml", gate.hand) as app:
        client = app.config.keys[next(iter(app.config.keys))]
        file = await app.casework.show(client, name)
        assert (file.request.assignee, file.request.executed) == ("Maria", True)
        assert {item.done for item in file.items} >= {"erased", "kept"}


async def test_the_register_has_every_request_and_no_number(gate: World) -> None:
    answered, withdrawn = (
        await open_request(gate, "access", proof=f"call of {CLEAR}"),
        await open_request(gate, "erasure"),
    )
    await step(gate, answered, "answered", f"=1+1 sent to {CLEAR}")
    await step(gate, withdrawn, "withdrawn", "by telephone")
    await open_request(gate, "objection")
    async with gate.client.get("/v1/subject-register") as answer:
        assert answer.content_type == "text/csv"
        text = await answer.text()
    assert CLEAR[3:] not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {(row["kind"], row["state"], row["late"]) for row in rows} == {
        ("access", "answered", "no"), ("erasure", "withdrawn", "no"), ("objection", "open", "no"),
    }  # fmt: skip
    assert next(row["response"] for row in rows if row["kind"] == "access").startswith("'=1+1")
