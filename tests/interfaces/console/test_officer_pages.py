"""The officer's pages over HTTP: what a form refuses, who may open them, and the same through the endpoints."""

import csv
import io
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from dialgate.audit.lookups import Lookups
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY
from tests.interfaces.console.test_console import browser, get, send
from tests.support import world
from tests.support.console_world import (
    NUMBERS,
    OFFICER,
    STRANGER,
    SUPERVISOR,
    clients,
    running_console,
)
from tests.support.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
AUDITOR = "key-auditor"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    auditor = world.client("auditor", AUDITOR, "watch", "read", "audit") | {"controllers": ["acme", "beta"]}
    folder = tmp_path_factory.mktemp("officer")
    async with running_console(folder, clients=[*clients(), auditor], checkpoint_seconds=0.001) as built:
        yield built


async def api(gate: World, method: str, path: str, key: str, status: int, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        ClientSession(f"http://127.0.0.1:{gate.port}", headers=headers) as session,
        session.request(method, path, json=body or None) as answer,
    ):
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_a_hold_is_placed_once_and_lifted_only_with_its_own_number(gate: World) -> None:
    held, other = NUMBERS[:2]
    place = {"reason": "Garante, case 4711", "number": held, "actor": "anna"}
    async with browser(gate, OFFICER) as session:
        text = await send(session, "/console/holds", 409, **{**place, "reason": f"call to {held[3:]}"})
        assert "console.number_in_reason" in text
        await send(session, "/console/holds", 400, **{**place, "number": "twelve"})
        await send(session, "/console/holds", 303, **place)
        assert "hold.refused" in await send(session, "/console/holds", 409, **place)
        await send(session, "/console/holds", 303, **{**place, "number": other})
        page = await get(session, "/console/holds")
        assert "In force (2)" in page
        assert held not in page
        first = (await api(gate, "GET", f"/v1/holds?number={quote(held)}", OFFICER, 200))["holds"][0]["id"]
        lifting = {"reason": "case closed", "number": other}
        assert "console.other_number" in await send(session, f"/console/holds/{first}/lift", 400, **lifting)
        await send(session, f"/console/holds/{first + 1}/lift", 303, **lifting)
        assert "console.other_number" in await send(
            session, f"/console/holds/{first + 1}/lift", 400, **lifting
        )
        await send(session, "/console/holds", 303, **{**place, "number": other})  # on hold again
    every = (await api(gate, "GET", "/v1/holds", OFFICER, 200))["holds"]
    holds = [hold for hold in every if hold["by"] == "anna"]
    assert [hold.get("lifted_because", "") for hold in holds] == ["", "case closed", ""]
    assert [hold.get("number", "") for hold in holds] == ["+39 ••••••••00", "", "+39 ••••••••01"]


async def test_holds_are_for_officers_of_the_whole_gate_and_an_auditor_reads_them(gate: World) -> None:
    body = {"number": NUMBERS[5], "reason": "a dispute"}
    for key in (SUPERVISOR, STRANGER, AUDITOR):
        await api(gate, "POST", "/v1/holds", key, 403, **body)
        async with browser(gate, key) as session:
            await get(session, "/console/holds", 200 if key == AUDITOR else 403)
    await api(gate, "POST", "/v1/holds", OFFICER, 201, **body)
    async with browser(gate, AUDITOR) as session:
        page = await get(session, "/console/holds")
        assert "a dispute" in page
        assert 'action="/console/holds' not in page
    lifted = await api(gate, "POST", "/v1/holds/lift", OFFICER, 201, **body)
    assert lifted["hold"]["lifted_by"] == "dpo"


# ---- look-ups --------------------------------------------------------------------------------------------------------


async def look_up(gate: World, key: str, purpose: str, *numbers: str, controller: str = "acme") -> None:
    for number in numbers:
        await gate.app.subjects.record_lookup(
            gate.app.config.keys[world.client("", key)["key_sha256"]], controller, number, "account", purpose
        )


async def test_pages_of_look_ups_show_each_once_also_within_one_millisecond(gate: World) -> None:
    stopped = gate.hand.at + DAY
    keys = gate.app.subjects.lookups
    client = gate.app.config.keys[world.client("", OFFICER)["key_sha256"]]
    for place in range(7):
        at = stopped + place // 3  # three look-ups in each millisecond
        frozen = Lookups(keys._store, keys._keys, partial(int, at), keys._metrics)
        await frozen.record_disclosure(client, "gate", "acme", [NUMBERS[place]], f"case {place}")
    span = f"since={rfc3339(stopped)}&until={rfc3339(stopped + 10)}"
    seen, before = [], ""
    for more in (True, True, True, False):
        page = await api(gate, "GET", f"/v1/lookups?{span}&limit=2{before}", AUDITOR, 200)
        assert page["more"] is more
        seen += [lookup["purpose"] for lookup in page["lookups"]]
        before = f"&before={quote(page['lookups'][-1]['id'])}"
    assert seen == [f"case {place}" for place in reversed(range(7))]


async def test_look_ups_are_found_by_person_controller_and_kind_without_a_number(gate: World) -> None:
    number = NUMBERS[9]
    await look_up(gate, OFFICER, f"complaint about {number}", number)
    await look_up(gate, STRANGER, "their own matter", number, controller="beta")
    async with browser(gate, OFFICER) as session:
        await send(session, "/console/lookup", 200, number=number, purpose="a letter", controller="acme")
        page = await get(session, "/console/look-ups?what=account&client=dpo&controller=acme")
        assert "a letter" in page
        assert "complaint about +•••" in page
        assert "their own matter" not in page
        assert number.removeprefix("+39") not in page
        assert "their own matter" in await get(session, "/console/look-ups")
        assert "request.invalid" in await get(session, "/console/look-ups?first=once", 400)
        assert "request.invalid" in await get(session, "/console/look-ups?before=x", 400)
        rows = list(csv.DictReader(io.StringIO(await get(session, "/console/look-ups?client=beta&csv=1"))))
    assert [(row["client"], row["number"], row["purpose"]) for row in rows] == [
        ("beta", "'+39 ••••••••09", "their own matter")
    ]
    own = await api(gate, "GET", "/v1/lookups", STRANGER, 200)
    assert {lookup["controller"] for lookup in own["lookups"]} == {"beta"}
    await api(gate, "GET", "/v1/lookups?controller=acme", STRANGER, 404)
    await api(gate, "GET", "/v1/lookups", SUPERVISOR, 403)
