"""Tests of caller IDs that the gate chooses (`from: "auto"`)."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from msgspec import structs

from dialgate.core.decision import decide
from dialgate.core.model import AUTO, DAY, HOUR, MINUTE, Call
from dialgate.crypto.keys import Keys
from dialgate.gate.facts import Gatherer
from dialgate.gate.question import Question
from dialgate.store import CallerIdProof
from tests.support import world, yaml_files
from tests.support.world import CALLER, CLEAR, CONFIG, LISTED, NOW, World

LINE, OTHER_LINE, MOBILE = "+390612345670", "+390212345670", "+393331234500"
POOL = (CALLER, LINE, OTHER_LINE, MOBILE)


def add_numbers(folder: Path) -> None:
    path = folder / "controllers/acme.yaml"
    text = yaml_files.read(path)
    (campaign,) = text["campaigns"]
    yaml_files.write(path, text | {"campaigns": [campaign | {"caller_ids": list(POOL)}]})
    shutil.copytree(CONFIG / "webhooks", folder / "webhooks")


@pytest.fixture
def gatherer(tmp_path: Path) -> Gatherer:
    return world.open_gatherer(tmp_path, add_numbers)


def ask(gatherer: Gatherer, to: str = CLEAR, at: int = NOW, **changes: Any) -> Question:
    (client,) = gatherer.config.settings.clients
    call = Call(to=to, from_=AUTO, campaign="acme-fibre", call_id="call 1")
    question = gatherer.read(structs.replace(call, **changes), client)
    (chosen,) = gatherer.query(at, 0, [question]).questions
    return chosen


def shown(gatherer: Gatherer, to: str = CLEAR, at: int = NOW) -> str:
    return ask(gatherer, to, at).presentation.number


def proof(caller_id: str, at: int = NOW - HOUR, *, answered: bool = True) -> CallerIdProof:
    return CallerIdProof(
        controller="acme",
        caller_id=caller_id,
        at=at,
        kind="call_back",
        answered=answered,
        evidence="recording",
    )


def people(count: int) -> list[str]:
    return [f"+39061{number:07}" for number in range(count)]


# ---- in a gate -------------------------------------------------------------------------------------------------------


def test_only_caller_ids_with_a_valid_proof_are_chosen_until_it_ends(gatherer: Gatherer) -> None:
    assert {shown(gatherer, to) for to in people(20)} == {CALLER}  # the reserved prefix needs no proof
    gatherer.load_proofs([proof(LINE)])
    assert {shown(gatherer, to) for to in people(40)} == {CALLER, LINE}
    gatherer.load_proofs([proof(LINE), proof(OTHER_LINE, NOW - 800 * DAY)])
    assert {shown(gatherer, to) for to in people(40)} == {CALLER, LINE}
    gatherer.load_proofs([proof(LINE), proof(OTHER_LINE)])
    assert {shown(gatherer, to) for to in people(60)} == {CALLER, LINE, OTHER_LINE}
    gatherer.load_proofs([proof(LINE, answered=False)])
    assert {shown(gatherer, to) for to in people(40)} == {CALLER}


def test_the_reason_names_the_caller_ids_that_were_left_out(gatherer: Gatherer) -> None:
    reason = ask(gatherer).presentation.fact.chosen
    assert reason.startswith("1 of 4 fit; left out: ")
    assert f"{LINE} caller_id.not_recallable" in reason


def test_the_choice_follows_a_proof_that_ends_between_two_calls(gatherer: Gatherer) -> None:
    gatherer.load_proofs([proof(LINE)])
    person = next(to for to in people(40) if shown(gatherer, to) == LINE)
    days = range(1, 800)
    end = next(day for day in days if shown(gatherer, person, NOW + day * DAY) == CALLER)
    assert shown(gatherer, person, NOW + (end - 1) * DAY) == LINE
    assert shown(gatherer, person) == LINE  # also at an earlier time


def test_every_node_and_every_restart_choose_the_same(gatherer: Gatherer) -> None:
    other = Gatherer(gatherer.config, Keys.open(gatherer.config.data / "keys.json"))
    for each in (gatherer, other):
        each.load_proofs([proof(LINE), proof(OTHER_LINE)])
    assert [shown(gatherer, to) for to in people(50)] == [shown(other, to) for to in people(50)]


def test_a_call_without_a_campaign_gets_no_caller_id(gatherer: Gatherer) -> None:
    question = ask(gatherer, campaign="no-such")
    assert (question.presentation.number, question.presentation.fact.chosen) == ("", "")


@pytest.mark.parametrize("to", ["nonsense", "112"])
def test_caller_ids_for_a_number_that_may_not_be_called_are_not_judged(gatherer: Gatherer, to: str) -> None:
    fact = ask(gatherer, to).presentation.fact
    assert (fact.number, fact.chosen[:25]) == (CALLER, "0 of 4 fit; left out: +39")
    assert "not judged without a number" in fact.chosen


def test_a_proof_of_later_is_used_from_its_time_on(gatherer: Gatherer) -> None:
    """A simulation of an earlier time leaves no judgement behind that holds for the whole day."""
    gatherer.load_proofs([proof(LINE, NOW)])
    assert {shown(gatherer, to, NOW - MINUTE) for to in people(40)} == {CALLER}
    assert {shown(gatherer, to) for to in people(40)} == {CALLER, LINE}


def test_a_repeated_request_is_the_same_call_as_long_as_the_choice_is_the_same(gatherer: Gatherer) -> None:
    first = ask(gatherer)
    assert ask(gatherer, at=NOW + MINUTE).key == first.key
    # The answer to it may name no caller ID, as in plain text.
    assert ask(gatherer, from_=first.presentation.number).key != first.key
    gatherer.load_proofs([proof(LINE), proof(OTHER_LINE)])
    person = next(to for to in people(40) if shown(gatherer, to) != CALLER)
    before = ask(gatherer, person).key
    gatherer.load_proofs([])
    assert ask(gatherer, person).key != before


# ---- at the interfaces -----------------------------------------------------------------------------------------------


AUTO_CALL = {"to": CLEAR, "from": AUTO, "campaign": "acme-fibre", "call_id": "call 1"}
ADMIN = [world.client("tests", world.KEY, *world.SCOPES, "admin")]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, prepare=add_numbers, clients=ADMIN) as made:
        await world.load_list(made)
        yield made


async def test_answer_record_and_simulation_have_the_chosen_caller_id_and_the_reason(gate: World) -> None:
    answer = await gate.post("/v1/check", AUTO_CALL, 200)
    assert (answer["decision"], answer["from"]) == ("allow", CALLER)
    assert answer["caller_id_chosen"].startswith("1 of 4 fit; left out: ")
    assert await gate.post("/v1/check", AUTO_CALL, 200) == answer
    simulated = await gate.post("/v1/simulate", AUTO_CALL | {"to": LISTED}, 200)
    (record,) = gate.records()
    shown = record.facts.caller_id
    assert (shown.number, shown.chosen) == (CALLER, answer["caller_id_chosen"])
    assert (simulated["from"], simulated["caller_id_chosen"]) == (CALLER, shown.chosen)
    assert decide(record.facts, gate.app.config.laws["IT"]) == record.decision
    found = await gate.get(f"/v1/decisions/{answer['decision_id']}")
    assert (found["caller_id"], found["caller_id_chosen"]) == (CALLER, shown.chosen)


async def test_a_search_shows_a_chosen_caller_id_like_any_other(gate: World) -> None:
    chosen = await gate.post("/v1/check", AUTO_CALL, 200)
    (hit,) = (await gate.output("log", "search", "--campaign", "acme-fibre", "--json")).splitlines()
    assert [json.loads(hit)[name] for name in ("decision_id", "caller_id")] == [chosen["decision_id"], CALLER]


async def test_a_plain_answer_to_auto_is_not_the_word_that_other_dialplans_compare(gate: World) -> None:
    for path, expected in (("txt", f"allow {CALLER}"), ("form", f"from={quote_plus(CALLER)}")):
        async with gate.client.get(f"/v1/check.{path}", params=AUTO_CALL | {"call_id": path}) as response:
            assert expected in await response.text()
        async with gate.client.head(f"/v1/check.{path}", params=AUTO_CALL) as response:
            assert response.status == 400  # without a body, it cannot name the number
    assert len(gate.records()) == 2


async def test_a_webhook_whose_reply_names_no_caller_id_refuses_auto(gate: World) -> None:
    named = await gate.post("/v1/webhooks/generic", AUTO_CALL, 200)
    assert (named["allowed"], named["from"]) == (True, CALLER)
    refused = await gate.post("/v1/webhooks/cxone", AUTO_CALL, 200)
    assert (refused["suppress"], refused["reason"]) == ("yes", "request.invalid")
    assert len(gate.records()) == 1


def without_reserved_number(folder: Path) -> None:
    add_numbers(folder)
    path = folder / "controllers/acme.yaml"
    text = yaml_files.read(path)
    (campaign,) = text["campaigns"]
    yaml_files.write(path, text | {"campaigns": [campaign | {"caller_ids": [LINE, OTHER_LINE]}]})


async def test_if_none_fits_the_call_is_denied_with_what_the_first_lacks_also_in_shadow_mode(
    tmp_path: Path,
) -> None:
    async with world.running(tmp_path, prepare=without_reserved_number, shadow_until="2026-12-01") as gate:
        await world.load_list(gate)
        answer = await gate.post("/v1/check", AUTO_CALL, 200)
        itself = await gate.post("/v1/check", AUTO_CALL | {"from": LINE, "call_id": "2"}, 200)
    assert (answer["decision"], itself["decision"], itself["would"]) == ("deny", "allow", "deny")
    (reason,) = answer["reasons"]
    assert (reason["code"], answer["from"]) == ("caller_id.not_recallable", LINE)
    assert reason["text"] == "no proof, or none recent enough, that a call back to the caller ID is answered"
    assert answer["caller_id_chosen"] == (
        f"0 of 2 fit; left out: {LINE} caller_id.not_recallable, {OTHER_LINE} caller_id.not_recallable"
    )


async def test_test_numbers_answer_auto_with_a_caller_id(tmp_path: Path) -> None:
    clients = [world.client("tests", world.KEY, *world.SCOPES) | {"test_numbers": True}]
    call = AUTO_CALL | {"to": "+99900000000"}
    async with (
        world.running(tmp_path, prepare=add_numbers, clients=clients) as gate,
        gate.client.get("/v1/check.txt", params=call) as response,
    ):
        assert await response.text() == f"allow {CALLER}"
