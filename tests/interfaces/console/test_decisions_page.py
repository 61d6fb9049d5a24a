"""The search for decisions, over HTTP and in a real Chromium: filters in the address, masked numbers, own controllers only."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from playwright.async_api import expect

from dialgate.core.model import DAY, MINUTE
from dialgate.crypto.masking import mask_number
from tests.interfaces.console.test_console import browser, get
from tests.interfaces.console.test_console_browser import Screen, check_page, open_page
from tests.support import world
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import (
    NUMBERS,
    OFFICER,
    STRANGER,
    SUPERVISOR,
    check,
    clients,
    running_console,
)
from tests.support.world import CLEAR, LISTED, World

READER = "key-reader"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Decide on 2 calls of acme yesterday and 104 today, and on one of beta's on each day and one for a campaign of none."""
    reader = world.client("reader", READER, "read", "check")
    folder = tmp_path_factory.mktemp("decisions")
    async with running_console(folder, clients=[*clients(), reader]) as built:
        await decide(built, CLEAR, LISTED)
        built.hand.at += DAY
        await built.app.tick()
        await decide(built, *NUMBERS[:4], *[LISTED] * 100)
        built.hand.at += MINUTE
        await built.app.tick()
        yield built


async def decide(gate: World, *numbers: str) -> None:
    for number in numbers:
        answer = await check(gate, number)
        if number == NUMBERS[0]:
            body = {"decision_id": answer["decision_id"], "outcome": "abandoned"}
            await gate.post("/v1/outcomes", body, 200)
    call = {"to": CLEAR, "from": "+390844999999", "campaign": "beta-loans"}
    for campaign in ("beta-loans", "nobodys"):
        async with gate.client.post(
            "/v1/check",
            json={**call, "campaign": campaign},
            headers={"Authorization": f"Bearer {STRANGER}"},
        ) as answered:
            assert answered.status == 200


async def search(gate: World, query: str, key: str = READER, status: int = 200) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        ClientSession(f"http://127.0.0.1:{gate.port}", headers=headers) as session,
        session.get(f"/v1/decisions/search?{query}") as answer,
    ):
        assert answer.status == status, await answer.text()
        body: dict[str, Any] = await answer.json()
        return body


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_finds_its_decisions_page_by_page(gate: World) -> None:
    found, query = [], "limit=60"
    while True:
        page = await search(gate, query)
        found += page["decisions"]
        if not page["more"]:
            break
        query = f"limit=60&before={page['decisions'][-1]['decision_id']}"
    assert len({row["decision_id"] for row in found}) == len(found) == 106
    assert [row["at"] for row in found] == sorted((row["at"] for row in found), reverse=True)
    assert {row["campaign"] for row in found} == {"acme-fibre"}
    assert CLEAR[1:] not in str(found)
    silent = (await search(gate, "outcome=abandoned"))["decisions"]
    assert [row["number"] for row in silent] == [mask_number(NUMBERS[0])]
    assert len((await search(gate, "reason=registry&decision=deny&limit=1000"))["decisions"]) == 101
    assert (await search(gate, "decision=let_through"))["decisions"] == []
    assert (await search(gate, "list=none"))["decisions"] == []
    (oldest,) = (await search(gate, "decision=allow&until=2026-11-25T00:00:00Z"))["decisions"]
    async with gate.client.get(
        f"/v1/decisions/{oldest['decision_id']}", headers={"Authorization": f"Bearer {READER}"}
    ) as answer:
        assert (await answer.json())["at"] == oldest["at"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_finds_nothing_of_another_controller(gate: World) -> None:
    own = await search(gate, "", OFFICER)
    beta = (await search(gate, "controller=beta", OFFICER))["decisions"]
    assert {row["campaign"] for row in beta} == {"beta-loans"}
    assert len(own["decisions"]) == 100
    for query in (f"before={beta[0]['decision_id']}", "controller=beta"):
        await search(gate, query, READER, 404)
    assert (await search(gate, "campaign=beta-loans"))["decisions"] == []
    everything = (await search(gate, "limit=1000", OFFICER))["decisions"]
    assert [row["reasons"][0] for row in everything if not row["controller"]] == ["campaign.unknown"] * 2
    for wrong, field in (("to_hour=0", "to_hour"), ("from_hour=9&to_hour=9", "to_hour"), ("since=today", "since"),
                         ("decision=maybe", "decision"), ("limit=1001", "limit")):  # fmt: skip
        assert (await search(gate, wrong, READER, 400))["error"]["field"] == field
    await search(gate, "", SUPERVISOR, 403)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_shows_the_filters_of_its_address_and_gives_them_as_csv(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        yesterday = await get(session, "/console/decisions?period=range&first=2026-11-24&last=2026-11-24")
        assert set(re.findall(r"\+39 •+\d\d", yesterday)) == {mask_number(CLEAR), mask_number(LISTED)}
        assert "beta" not in yesterday
        assert CLEAR not in yesterday
        text = await get(session, "/console/decisions?period=7d&decision=deny&csv=1")
        rows = [*csv.DictReader(io.StringIO(text))]
        assert len(rows) == 101
        assert {row["reasons"] for row in rows} == {"registry.listed"}
        link = re.search(r'href="(/console/decisions/[^"]+)"', yesterday)
        assert link
        assert "registry.listed" in await get(session, link[1])
        for wrong in ("period=year", "period=range&first=x", "controller=beta", "from_hour=25", "before=x"):
            status = 404 if "beta" in wrong else 400
            assert 'role="alert"' in await get(session, f"/console/decisions?{wrong}", status)
    async with browser(gate, STRANGER) as session:
        page = await get(session, "/console/decisions?period=30d")
        assert "beta-loans" in page
        assert "acme" not in page


@pytest.mark.asyncio(loop_scope="module")
@needs_chromium
async def test_a_supervisor_goes_from_a_reason_to_its_decisions_and_to_one_of_them(gate: World) -> None:
    async with (
        running_chromium() as chromium,
        open_page(Screen(gate, chromium), SUPERVISOR, language="it-IT") as page,
    ):
        await page.get_by_role("link", name="Storico").click()
        await page.select_option("[name=period]", "7d")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Mostra").click()
        await page.get_by_role("link", name="registry.listed").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Decisioni")
        await expect(page).to_have_url(re.compile(r"period=7d.*reason=registry\.listed"))
        await expect(page.locator("tbody tr")).to_have_count(100)
        await page.get_by_role("link", name="Decisioni più vecchie").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_role("button", name="EN, English").click()
        await expect(page.get_by_role("heading", name="Decisions: 1")).to_be_visible()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="CSV").click()
        file = await (await download.value).path()
        assert (await asyncio.to_thread(file.read_text, "utf-8")).count("registry.listed") == 1
        await check_page(page)  # with one row: the check of a hundred takes two seconds
        await page.get_by_role("link", name="Newest").click()
        await expect(page.locator("[name=reason]")).to_have_value("registry.listed")
        await page.locator("tbody th a").first.click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Decision")
