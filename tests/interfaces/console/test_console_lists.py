"""Tests of the console's pages for call lists: load, replace, retire and preview a list."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import ClientSession, FormData

from dialgate.core.model import MINUTE
from tests.interfaces.console.test_console import browser, get, send, token
from tests.support.console_world import NUMBERS, STRANGER, SUPERVISOR, check, running_console
from tests.support.world import CLEAR, LIST, LISTED, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
FORM = {
    "id": "first",
    "campaign": "acme-fibre",
    "basis": "directory",
    "collected_by": "Broker S.p.A.",
    "collected_on": "2026-10-01",
    "origin": "acquired",
    "transfer_by_1": "Broker S.p.A.",
    "transfer_to_1": "Acme",
    "transfer_on_1": "2026-10-20",
    "transfer_told_1": "yes",
}
FRESH = [f"+3906123499{at:02}" for at in range(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_console(tmp_path_factory.mktemp("lists")) as made:
        yield made


async def load(session: ClientSession, rows: list[str], status: int = 201, **fields: str) -> str:
    body = FormData({"token": await token(session, "/console/lists"), **FORM, **fields})
    body.add_field("file", "\n".join(rows).encode(), filename="list.csv")
    async with session.post("/console/lists", data=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.text()


async def test_an_acquired_list_is_loaded_with_its_chain_and_its_rejected_rows(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        shown = await load(session, [*FRESH, "no number", "+3961"])
        assert 'class="note warn"' in shown  # 2 of 62 rows
        assert 'Broker S.p.A. → Acme, <time datetime="2026-10-20">20/10/2026' in shown
        (link,) = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]+)" download="first-rej', shown)
        header, *rows = base64.b64decode(link).decode("utf-8-sig").splitlines()
        assert header == "row,problem"
        assert [row.split(",")[0] for row in rows] == ["61", "62"]
        assert 'class="note bad"' in await load(session, [*FRESH[:3], "a", "b"], id="second")
        info = await gate.get("/v1/lists/first")
        assert info["origin"]["transfers"] == [
            {"by": "Broker S.p.A.", "to": "Acme", "on": "2026-10-20", "subjects_told": True}
        ]


async def test_an_acquired_list_without_its_chain_is_refused(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        shown = await load(
            session, FRESH, 400, id="no-chain", transfer_by_1="", transfer_to_1="", transfer_on_1=""
        )
        assert "request.invalid" in shown
        await gate.get("/v1/lists/no-chain", 404)


async def test_a_replaced_list_is_retired_once_the_new_one_is_loaded(gate: World) -> None:
    await gate.post("/v1/lists", {**LIST, "id": "old", "numbers": [*FRESH[:2], CLEAR]})
    async with browser(gate, SUPERVISOR) as session:
        await load(session, ["no number"], 400, id="empty", replaces="old")
        assert not (await gate.get("/v1/lists/old"))["retired_at"]  # nothing was loaded
        await load(session, [CLEAR], 404, id="new", replaces="nothing")
        assert "The list old was retired." in await load(session, [CLEAR], id="new", replaces="old")
        await load(session, [CLEAR], 404, id="newer", replaces="old")  # which is retired
    assert (await gate.get("/v1/lists/old"))["retired_at"]
    await gate.get("/v1/lists/newer", 404)


async def test_a_list_is_retired_with_a_button_by_its_controllers_only(gate: World) -> None:
    number = "+390612349999"
    await gate.post("/v1/lists", {**LIST, "id": "short-lived", "numbers": [number]})
    assert "list.unknown" not in {reason["code"] for reason in (await check(gate, number))["reasons"]}
    async with browser(gate, STRANGER) as session:
        await send(session, "/console/lists/short-lived/retire", 404, controller="acme")
    async with browser(gate, SUPERVISOR) as session:
        await send(session, "/console/lists/short-lived/retire", 303, controller="acme")
        assert "retired" in await get(session, "/console/lists")
    assert "list.unknown" in {reason["code"] for reason in (await check(gate, number))["reasons"]}


async def test_a_preview_has_an_address_and_names_lists_with_the_same_numbers(gate: World) -> None:
    await gate.post("/v1/lists", {**LIST, "id": "neighbour", "numbers": FRESH[:20]})
    await gate.post("/v1/lists", {**LIST, "id": "counted", "numbers": [*NUMBERS, *FRESH[:12], LISTED]})
    page = "/console/lists/counted/preview?campaign=acme-fibre"
    async with browser(gate, SUPERVISOR) as session:
        await get(session, page, 404)  # not counted yet
        await send(session, "/console/lists/counted/preview", 303, campaign="acme-fibre")
        shown = await get(session, page)
        assert "of 53 can be called now" in shown
        assert re.search(r"<span>rome</span><strong>41</strong>", shown)  # `NUMBERS` and LISTED
        assert re.search(r"<span>neighbour</span><strong>12</strong>", shown)
        assert "<span>counted</span>" not in shown
        # answered three days before the clock's start, and valid for fifteen
        assert re.search(r"2026-12-06T[^<]*</time></span><strong>40</strong>", shown)
        assert shown == await get(session, page)
    async with browser(gate, STRANGER) as session:
        await get(session, page, 404)


async def test_a_count_is_renewed_while_somebody_looks_at_the_list(gate: World) -> None:
    await gate.post("/v1/lists", {**LIST, "id": "renewed", "numbers": [*NUMBERS, *FRESH[:12]]})
    async with browser(gate, SUPERVISOR) as session, browser(gate, STRANGER) as stranger:
        await send(session, "/console/lists/renewed/preview", 303, campaign="acme-fibre")
        await gate.post("/v1/revocations", {"number": NUMBERS[0], "controller": "acme"})
        before = _count(await get(session, "/console/lists"), "renewed")
        gate.hand.at += 15 * MINUTE
        assert _count(await get(session, "/console/lists"), "renewed") == before  # counted again from now on
        async with asyncio.timeout(60):
            while (now := _count(await get(session, "/console/lists"), "renewed")) == before:
                pass
        assert now == before - 1
        assert "renewed" not in await get(stranger, "/console/lists")
        await send(session, "/console/lists/renewed/retire", 303, controller="acme")
        assert _count(await get(session, "/console/lists"), "renewed") < 0


def _count(page: str, name: str) -> int:
    """Return how many numbers of a list are shown as callable, or -1."""
    found = re.search(rf"lists/{name}/preview\?campaign=acme-fibre\">(\d+) callable", page)
    return int(found[1]) if found else -1
