"""The officer's pages over HTTP: what a form refuses, who may open them, and the same through the endpoints."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientSession

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
