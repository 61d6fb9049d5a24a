"""An unassigned caller ID is stored like a called number, because a dialer may have swapped the two."""

import asyncio
from typing import Any

import msgspec
from typer.testing import CliRunner

from dialgate.core.decision import decide
from dialgate.core.model import CallerId
from dialgate.crypto.keys import Keys
from dialgate.interfaces.cli import main
from tests.support.world import CALL, CALLER, CLEAR, LISTED, World

PERSON = "+393331234567"
SWAPPED = {**CALL, "to": CALLER, "from": PERSON}


async def check(world: World, **asked: str) -> dict[str, Any]:
    async with world.client.post("/v1/check", json={**SWAPPED, **asked}) as answer:
        assert answer.status == 200, await answer.text()
        body: dict[str, Any] = await answer.json()
    return body


async def test_an_unassigned_caller_id_is_stored_as_pseudonym_and_ciphertext(running: World) -> None:
    for fields in ({}, {"from": "39 333-1234567"}, {"campaign": "a stranger's"}):
        response = await check(running, **fields)
        assert (response["decision"], response["from"]) == ("deny", PERSON)
    data = running.app.config.data
    month = Keys.open(data / "keys.json").month(running.hand.at)
    assert len(running.records()) == 3
    for record in running.records():
        assert record.caller == month.pseudonym(PERSON)
        assert month.unseal(record.caller_sealed) == PERSON
        assert record.caller_id == ""
        assert record.facts.caller_id == CallerId(number="", form="number", kind="mobile", region="IT")
        law = running.app.config.laws["IT"]
        assert decide(record.facts, law) == record.decision
    paths = [*data.glob("log/*"), *data.glob("store.db*")]
    assert {path.suffix for path in paths} >= {".ndjson", ".db"}
    for path in paths:
        assert PERSON[3:].encode() not in path.read_bytes()


async def test_an_assigned_caller_id_a_short_code_and_a_withheld_one_are_stored_as_before(
    running: World,
) -> None:
    for shown, stored in ((CALLER, CALLER), ("4112", "4112"), ("anonymous", ""), ("333 12", "")):
        await check(running, **{"to": CLEAR, "from": shown})
        record = running.records()[-1]
        assert (record.caller_id, record.caller, record.caller_sealed) == (stored, b"", b"")


async def test_a_reserved_prefix_is_kept_so_that_its_rule_decides_the_same(running: World) -> None:
    await check(running, **{"to": CLEAR, "from": "+390843999999"})
    record = running.records()[-1]
    assert (record.facts.caller_id.number, record.caller_id) == ("+390843", "")
    assert "caller_id.wrong_class" in {reason.code for reason in record.decision.reasons}


async def test_unassigned_caller_ids_share_their_grounds(running: World) -> None:
    first, second = await check(running), await check(running, **{"from": "+393331234568"})
    assert (first["from"], second["from"]) == (PERSON, "+393331234568")
    one, other = running.records()
    assert one.grounds == other.grounds
    assert one.caller != other.caller


async def test_a_repeated_request_gets_the_complete_response(running: World) -> None:
    first = await check(running, call_id="a-1")
    assert await check(running, call_id="a-1") == first
    running.app.gate._upkeep.reload(running.app.config)  # and from the store alone
    assert (await check(running, call_id="a-1"))["from"] == PERSON


async def test_the_command_shows_the_caller_id(running: World) -> None:
    await check(running, to=LISTED)
    words = ["why", LISTED, "--purpose", "a complaint", "--json"]
    path = str(running.folder / "dialgate.yaml")
    done = await asyncio.to_thread(CliRunner().invoke, main.app, [*words, "--config", path])
    decisions = msgspec.json.decode(done.stdout)["decisions"]
    assert [decision["caller_id"] for decision in decisions] == [PERSON]
    assert not any("333" in word for decision in decisions for word in decision["words"])
    async with running.client.get("/v1/decisions/" + decisions[0]["decision_id"]) as answer:
        assert (await answer.json())["caller_id"] == ""


async def test_a_list_with_one_of_its_numbers_in_a_text_is_refused(running: World) -> None:
    settings = {
        "campaigns": ["acme-fibre"],
        "basis": "directory",
        "collected_by": "Acme",
        "collected_on": "2026-10-01",
    }
    for name, text in (
        ("id", "lead-06-1234-5678"),
        ("source", "of 24/11/2026, 06 1234 5678"),
        ("actor", "+39 06 12345678"),
    ):
        body = {"id": "a", **settings, "numbers": [CLEAR], name: text}
        async with running.client.post("/v1/lists", json=body) as answer:
            response = await answer.json()
            assert (answer.status, response["error"]["field"]) == (400, name), response
    body = {"id": "of-2026-11-24", **settings, "source": "0612345679", "numbers": [CLEAR]}
    async with running.client.post("/v1/lists", json=body) as answer:
        assert answer.status == 201, "the digits are not a number of this list"
