"""Entry ids on a shared gate: they reveal no counts, and clients can resume a stream with them on any node."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as some

from dialgate.core.entry_ids import EntryIds, is_plain
from dialgate.core.responses import Reason
from dialgate.crypto.keys import Keys
from dialgate.decision_log.records import Reader, Record
from tests.audit.test_decision_ids import check, send
from tests.audit.test_decision_ids import shared as shared  # noqa: PLC0414 - a fixture
from tests.gate.test_tenants import CAMPAIGNS, OWNERS, SCOPES, write_controllers
from tests.interfaces.console.test_console import browser
from tests.interfaces.console.test_console import send as send_form
from tests.interfaces.webhooks.test_stop_notices import delivering, hook, line, listening
from tests.support import redis_servers, world
from tests.support.world import CLEAR, LISTED, World

BASE = 2**52
IDS = EntryIds(bytes(32))
SEQS = some.integers(0, 2**36 - 1)
MISTAKE = {"ground": "error", "reason": "typed"}
CONSENT = {
    "number": CLEAR, "id": "paper-7", "collected_at": "2026-11-20T10:00:00+01:00", "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"],
}  # fmt: skip


# ---- the permutation -------------------------------------------------------------------------------------------------


@given(SEQS)
def test_id_is_an_exact_json_integer_and_maps_back(seq: int) -> None:
    shown, cursor = IDS.outside(seq), IDS.cursor(seq)
    assert BASE <= shown < 2 * BASE
    assert not is_plain(shown)
    assert IDS.inside(shown) == IDS.position(shown) == IDS.position(cursor) == seq
    assert IDS.inside(cursor) == cursor, "no entry has the id of a cursor"
    assert IDS.inside(seq) == IDS.position(seq) == seq, "a plain sequence is taken as it is"


def test_ids_are_unique_unordered_and_depend_on_the_key() -> None:
    shown = [IDS.outside(seq) for seq in range(1, 1001)]
    assert len(set(shown)) == 1000
    assert 400 < sum(a < b for a, b in pairwise(shown)) < 600
    assert EntryIds(bytes(31) + b"\1").outside(1) != shown[0]
    assert len({IDS.cursor(1) for _ in range(1000)}) == 1000
    with pytest.raises(ValueError, match="out of range"):
        IDS.outside(2**36)


def test_only_reasons_that_name_a_ledger_entry_get_its_id() -> None:
    stop = Reason("revocation.revoked", "statute", "", "the person told the caller to stop (entry 7)")
    other = Reason("list.void", "statute", "", "it says (entry 7)")
    worded = IDS.worded([stop, other])
    assert worded[0].text == f"the person told the caller to stop (entry {IDS.outside(7)})"
    assert worded[1] is other


# ---- responses to a tenant ---------------------------------------------------------------------------------------


def seqs_in(response: Any) -> list[int]:
    text = json.dumps(response)
    return [int(found) for found in re.findall(r'(?:"seq": |"of": |\bentry )(\d+)', text)]


def keys(gate: World) -> Keys:
    return Keys.open(gate.app.config.data / "keys.json")


async def post_ok(gate: World, owner: str, path: str, body: Any) -> dict[str, Any]:
    status, response = await send(gate, owner, path, body)
    assert status in {200, 201}, response
    answer: dict[str, Any] = response
    return answer


async def test_every_endpoint_shows_the_same_id_for_an_entry(shared: World) -> None:
    person, query = f"/v1/subjects/%2B{CLEAR[1:]}", f"number=%2B{CLEAR[1:]}&purpose=abc"
    await post_ok(shared, "acme", "/v1/consents", CONSENT)
    consent = await post_ok(shared, "beta", "/v1/consents", CONSENT)
    stop = await post_ok(shared, "beta", "/v1/revocations", {"number": CLEAR})
    assert keys(shared).entries.inside(stop["seq"]) == 3
    denied = await check(shared, "beta")
    texts = [reason["text"] for reason in denied["reasons"] if reason["code"] == "revocation.revoked"]
    assert texts == [f"the person told the caller to stop (entry {stop['seq']})"]
    call = {"to": CLEAR, "from": "+390844123457", "campaign": CAMPAIGNS["beta"]}
    simulated = await post_ok(shared, "beta", "/v1/simulate", call)
    assert seqs_in(simulated) == [stop["seq"]] * 2, "as a reason and as an outcome"
    account = (await send(shared, "beta", f"/v1/decisions/{denied['decision_id']}"))[1]
    assert seqs_in(account["reasons"]) == [stop["seq"]]
    everything = (await send(shared, "beta", f"{person}?purpose=abc"))[1]
    assert seqs_in(everything["ledger"]) == [consent["seq"], stop["seq"]]
    assert seqs_in(everything["decisions"]) == [stop["seq"]]
    lifted = await post_ok(shared, "beta", f"/v1/revocations/{stop['seq']}/lift", MISTAKE)
    assert await post_ok(shared, "beta", f"/v1/revocations/{stop['seq']}/lift", MISTAKE) == lifted
    history = (await send(shared, "beta", f"/v1/revocations?{query}"))[1]
    assert seqs_in(history) == [stop["seq"], lifted["seq"], stop["seq"]]
    allowed = await check(shared, "beta")
    assert allowed["decision"] == "allow", allowed
    body = {"decision_id": allowed["decision_id"], "outcome": "wrong_number"}
    wrong = (await post_ok(shared, "beta", "/v1/outcomes", body))["wrong_number"]
    assert (await post_ok(shared, "beta", "/v1/outcomes", body))["wrong_number"]["seq"] == wrong["seq"]
    confirmed = await post_ok(shared, "beta", f"/v1/wrong-numbers/{wrong['seq']}/lift", MISTAKE)
    again = await post_ok(shared, "beta", f"/v1/wrong-numbers/{wrong['seq']}/lift", MISTAKE)
    assert len({item["seq"] for item in (stop, lifted, wrong, confirmed)}) == 4
    assert again["seq"] == confirmed["seq"]
    history = (await send(shared, "beta", f"/v1/wrong-numbers?{query}"))[1]
    assert seqs_in(history) == [wrong["seq"], confirmed["seq"], wrong["seq"]]


async def test_rectification_and_erasure_show_ids(shared: World) -> None:
    person = f"/v1/subjects/%2B{CLEAR[1:]}"
    wrong = await post_ok(shared, "beta", "/v1/consents", CONSENT)
    stop = await post_ok(shared, "beta", "/v1/revocations", {"number": CLEAR})
    asked = {"identified": "id card", "channel": "pec"}
    request = (await post_ok(shared, "beta", f"{person}/requests", {"kind": "rectification", **asked}))["id"]
    body = {"request": request, "of": wrong["seq"], "fields": {"goods": ["broadband"]}}
    rectified = await post_ok(shared, "beta", f"{person}/rectification", body)
    case = (await send(shared, "beta", f"/v1/subject-requests/{request}"))[1]
    expected = [wrong["seq"], rectified["receipt"]["seq"]]
    assert seqs_in(case["steps"]) == seqs_in(rectified) == expected
    request = (await post_ok(shared, "beta", f"{person}/requests", {"kind": "erasure", **asked}))["id"]
    erased = await post_ok(shared, "beta", f"{person}/erasure", {"request": request})
    assert f"entry {stop['seq']}" in [item["name"] for item in erased["items"]]
    assert min(seqs_in(erased)) >= BASE
    again = (await post_ok(shared, "beta", f"{person}/requests", {"kind": "erasure", **asked}))["id"]
    assert min(seqs_in(await post_ok(shared, "beta", f"{person}/erasure", {"request": again}))) >= BASE


async def test_id_of_another_client_is_refused_like_an_unknown_one(shared: World) -> None:
    stop = (await post_ok(shared, "beta", "/v1/revocations", {"number": CLEAR}))["seq"]
    entries = keys(shared).entries
    for path in ("revocations", "wrong-numbers"):
        refused = [
            await send(shared, "acme", f"/v1/{path}/{given}/lift", MISTAKE)
            for given in (stop, entries.inside(stop), entries.outside(4711), 4711, 2 * BASE, BASE - 1)
        ]
        assert {status for status, _ in refused} == {404}
        assert all(item == refused[0] for item in refused)
    assert (await send(shared, "beta", f"/v1/revocations/{entries.cursor(1)}/lift", MISTAKE))[0] == 404
    plain = await post_ok(shared, "beta", f"/v1/revocations/{entries.inside(stop)}/lift", MISTAKE)
    assert plain["seq"] >= BASE


async def test_console_shows_ids_and_the_lifted_revocation(shared: World) -> None:
    stop = (await post_ok(shared, "beta", "/v1/revocations", {"number": CLEAR}))["seq"]
    denied = (await check(shared, "beta"))["decision_id"]
    async with browser(shared, "key-of-beta") as session:
        asked = {"number": CLEAR, "purpose": "a letter"}
        looked = await send_form(session, "/console/lookup", 200, **asked)
        assert f">{stop}</td>" in looked
        async with session.get(f"/console/decisions/{denied}") as page:
            assert f"(ledger entry {stop})" in await page.text()
        recorded = await send_form(session, "/console/revoke", 201, number=LISTED, scope="controller")
        assert re.search(r"\b[45-9]\d{15}\b", recorded)


# ---- the stream and the webhooks -------------------------------------------------------------------------------------


@asynccontextmanager
async def follow_stream(gate: World, owner: str, query: str = "") -> AsyncIterator[Any]:
    headers = {"Authorization": f"Bearer key-of-{owner}"}
    url = f"http://127.0.0.1:{gate.port}/v1/revocations/stream{query}"
    async with ClientSession(headers=headers) as session, session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        yield answer


async def numbers(gate: World, owner: str, after: int) -> list[str]:
    """Return the numbers of the next revocations, up to the first line without a number."""
    found = []
    async with follow_stream(gate, owner, f"?after={after}") as answer:
        while "number" in (response := await asyncio.wait_for(line(answer), 10)):
            found.append(response["number"])
            assert response["seq"] >= BASE
    return found


@asynccontextmanager
async def node(folder: Path, **changes: Any) -> AsyncIterator[World]:
    """Run a gate that two controllers share.

    Each controller has its own client. A third client has access to both controllers.
    """
    owners = write_controllers(folder / "owners")
    scopes = (*SCOPES, "stream")
    clients = [
        {**world.client(owner, f"key-of-{owner}", *scopes), "controllers": [owner]} for owner in OWNERS
    ]
    clients.append({**world.client("both", "key-of-both", *scopes), "controllers": list(OWNERS)})
    settings = {"clients": clients, "controllers": str(owners), "limits": {"idle_seconds": 3.0}, **changes}
    async with world.running(folder / "gate", **settings) as gate:
        yield gate


async def test_stream_resumes_at_an_id_or_cursor_on_another_node(tmp_path: Path) -> None:
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    async with AsyncExitStack() as opened:
        one = await opened.enter_async_context(node(tmp_path / "one", store=store, node="one"))
        share = partial(world.share_keys, tmp_path / "one" / "gate")
        two = await opened.enter_async_context(node(tmp_path / "two", store=store, node="two", prepare=share))
        stops = [
            (await post_ok(one, owner, "/v1/revocations", {"number": number}))["seq"]
            for owner, number in (("beta", CLEAR), ("acme", LISTED), ("beta", LISTED))
        ]
        async with follow_stream(one, "beta") as answer:
            cursor = (await line(answer))["seq"]
        await post_ok(one, "beta", "/v1/revocations", {"number": "+390612345671"})
        last = "+390612345671"
        assert await numbers(two, "beta", stops[0]) == [LISTED, last]
        assert await numbers(two, "beta", stops[2]) == await numbers(two, "beta", cursor) == [last]
        assert await numbers(two, "beta", 0) == [CLEAR, LISTED, last]


async def test_unknown_cursor_restarts_the_stream_without_revealing_counts(tmp_path: Path) -> None:
    async with node(tmp_path) as gate:
        for owner, number in (("acme", LISTED), ("beta", CLEAR), ("beta", LISTED)):
            await post_ok(gate, owner, "/v1/revocations", {"number": number})
        for after in (1, 2, 3, 10**6, EntryIds(bytes(32)).outside(2**35)):
            assert await numbers(gate, "beta", after) == [CLEAR, LISTED]
        assert await numbers(gate, "both", 2) == [LISTED], "it sees every entry anyway"


async def test_heartbeat_does_not_reveal_writes_of_others(tmp_path: Path) -> None:
    async with node(tmp_path) as gate, follow_stream(gate, "beta") as answer:
        idle = [(await line(answer))["seq"] for _ in range(2)]
        await post_ok(gate, "acme", "/v1/revocations", {"number": CLEAR})
        beats = [*idle, (await line(answer))["seq"]]
        assert len(set(beats)) == 3
        assert min(beats) >= BASE
        entries = keys(gate).entries
        assert [entries.position(beat) for beat in beats] == [0, 0, 1]


async def test_webhook_messages_contain_ids(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "secret").write_text("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
    async with listening() as (receiver, url):
        hooks = [hook(url, controllers=["beta"])]
        async with node(tmp_path, subscribers=hooks) as gate, delivering(gate):
            stop = (await post_ok(gate, "beta", "/v1/revocations", {"number": CLEAR}))["seq"]
            request, body = await receiver.next()
            assert request.headers["webhook-id"] == f"crm-{stop}-{stop}"
            assert seqs_in(body) == [stop]
            lifted = (await post_ok(gate, "beta", f"/v1/revocations/{stop}/lift", MISTAKE))["seq"]
            assert seqs_in((await receiver.next())[1]) == [lifted, stop]


# ---- where sequences are shown --------------------------------------------------------------------------------------------


async def test_commands_see_the_ids_that_clients_see(shared: World) -> None:
    stop = (await post_ok(shared, "beta", "/v1/revocations", {"number": CLEAR}))["seq"]
    assert not is_plain(stop)
    revoked = await shared.command("revoke", CLEAR, "--controller", "beta", "--json")
    lifted = [
        (
            await shared.command("revoke", "lift", given, "--ground", "error", "--reason", "typed", "--json")
        ).json["seq"]
        for given in (stop, 1)
    ]
    ids = keys(shared).entries
    assert (ids.inside(revoked.json["seq"]), [ids.inside(seq) for seq in lifted]) == (2, [3, 3])
    client = shared.app.config.settings.clients[1]
    found = await shared.app.subjects.report(client, "beta", CLEAR, "abc")
    assert [ids.inside(entry.seq) for entry in found.ledger] == [1, 2, 3]


async def test_decision_record_contains_the_sequence(shared: World) -> None:
    await post_ok(shared, "beta", "/v1/revocations", {"number": CLEAR})
    denied = await check(shared, "beta")
    entries = Reader(shared.app.config.data / "log").entries()
    (record,) = (entry for _, entry in entries if isinstance(entry, Record))
    assert record.decision.reasons[0].text == "the person told the caller to stop (entry 1)"
    assert denied["reasons"][0]["text"] != record.decision.reasons[0].text


async def test_gate_of_one_controller_shows_sequences(running: World) -> None:
    async with running.client.post("/v1/revocations", json={"number": CLEAR}) as answer:
        stop: Mapping[str, Any] = await answer.json()
    assert stop["seq"] == 1
    async with running.client.post("/v1/check", json=world.CALL | {"to": CLEAR}) as answer:
        assert "(entry 1)" in str(await answer.json())
    given = keys(running).entries.outside(1)
    async with running.client.post(f"/v1/revocations/{given}/lift", json=MISTAKE) as answer:
        assert (answer.status, (await answer.json())["seq"]) == (201, 2), (
            "an id of the time when it was shared"
        )
