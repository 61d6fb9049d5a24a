"""The history page, over HTTP and in a real Chromium: filters in the address, and no other controller's decisions."""

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

from dialgate.core.model import DAY, HOUR
from dialgate.interfaces.console.bar_chart import HEIGHT, bar_chart
from dialgate.report.history import HistoryRow
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

WATCHER = "key-watcher"
SPAN = "first=2026-11-24&last=2026-12-01"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Decide on calls of acme on 24 November and on 1 December, and on one of beta's on each of these days."""
    folder = tmp_path_factory.mktemp("history")
    watcher = world.client("watcher", WATCHER, "watch", "check")
    async with running_console(folder, clients=[*clients(), watcher]) as built:
        await decide(built, CLEAR, LISTED)
        built.hand.at += 7 * DAY
        await built.app.tick()
        await decide(built, *NUMBERS[:3], LISTED, LISTED)
        built.hand.at += HOUR  # the comparison with the week before ends with the hour of the calls
        await built.app.tick()
        yield built


async def decide(gate: World, *numbers: str) -> None:
    for number in numbers:
        await check(gate, number)
    call = {"to": CLEAR, "from": "+390844999999", "campaign": "beta-loans"}
    async with gate.client.post(
        "/v1/check", json=call, headers={"Authorization": f"Bearer {STRANGER}"}
    ) as answer:
        assert answer.status == 200


async def history(gate: World, query: str, key: str, status: int = 200) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        ClientSession(f"http://127.0.0.1:{gate.port}", headers=headers) as session,
        session.get(f"/v1/history?{query}") as answer,
    ):
        assert answer.status == status, await answer.text()
        body: dict[str, Any] = await answer.json()
        return body


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_gets_the_counts_of_its_controllers_only(gate: World) -> None:
    own = await history(gate, SPAN, WATCHER)
    assert (own["controller"], own["total"]["allowed"], own["total"]["denied"]) == ("acme", 4, 3)
    assert [row["name"] for row in own["campaigns"]] == ["acme-fibre"]
    assert "beta" not in str(own)
    other = await history(gate, SPAN, STRANGER)
    assert (other["controller"], other["total"]["allowed"] + other["total"]["denied"]) == ("beta", 2)
    assert [row["name"] for row in other["campaigns"]] == ["beta-loans"]
    assert (await history(gate, f"{SPAN}&controller=beta", WATCHER, 404))["error"][
        "code"
    ] == "controller.unknown"
    assert (await history(gate, f"{SPAN}&controller=beta", OFFICER))["total"] == other["total"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("first=2026-12-01&last=2026-11-24", "last"),
        ("first=2026-08-01&last=2026-12-01", "last"),
        (f"{SPAN}&from_hour=12&to_hour=12", "to_hour"),
        (f"{SPAN}&from_hour=x", "from_hour"),
        (f"{SPAN}&to_hour=25", "to_hour"),
        ("first=yesterday&last=2026-12-01", "first"),
    ],
)
async def test_an_impossible_period_is_refused_with_its_field(gate: World, query: str, field: str) -> None:
    problem = (await history(gate, query, WATCHER, 400))["error"]
    assert (problem["code"], problem["field"]) == ("request.invalid", field)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_and_its_csv_show_the_period_of_the_address(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        page = await get(session, "/console/history?period=range&first=2026-11-24&last=2026-11-24")
        assert "Enrolled with the registry" in page
        assert "beta" not in page
        assert CLEAR not in page
        table = await get(session, "/console/history?period=7d&csv=campaigns")
        (row,) = csv.DictReader(io.StringIO(table))
        assert (row["name"], row["allowed"], row["denied"], row["before"]) == ("acme-fibre", "3", "2", "2")
        for wrong in ("period=year", "period=range", "period=7d&controller=beta", "period=7d&to_hour=0"):
            status = 404 if "beta" in wrong else 400
            assert 'role="alert"' in await get(session, f"/console/history?{wrong}", status)
    async with browser(gate, STRANGER) as session:
        assert "acme" not in await get(session, "/console/history?period=30d")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_address_with_filters_survives_the_sign_in_and_a_switch_of_language(gate: World) -> None:
    address = "/console/history?period=30d&campaign=acme-fibre"
    async with browser(gate) as session:
        async with session.get(address) as answer:
            onward = re.findall(r'name="next" value="([^"]+)"', await answer.text())[-1]
        fields = {"key": SUPERVISOR, "next": onward.replace("&amp;", "&")}
        async with session.post("/console/login", data=fields) as answer:
            assert str(answer.url.relative()) == address
        places = {
            address: address,
            f"{address}\r\nX: y": "/console",
            "//evil.example/console/history?x": "/console",
            "/console/history?" + "x" * 3_000: "/console",
        }
        for onward, taken in places.items():
            fields = {"language": "it", "next": onward}
            async with session.post("/console/preferences", data=fields, allow_redirects=False) as answer:
                assert answer.headers["Location"] == taken, onward
        assert "Motivi di diniego" in await get(session, address)


@pytest.mark.asyncio(loop_scope="module")
@needs_chromium
async def test_a_supervisor_picks_a_period_reads_the_chart_and_downloads_a_table(gate: World) -> None:
    async with (
        running_chromium() as chromium,
        open_page(Screen(gate, chromium), SUPERVISOR, language="it-IT") as page,
    ):
        await page.get_by_role("link", name="Storico").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Storico")
        await page.select_option("[name=period]", "7d")
        await page.locator("[name=from_hour]").fill("8")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(r"period=7d&.*from_hour=8"))
        await expect(page.locator(".tile .figure").first).to_have_text("5")
        await expect(page.locator("svg.graph rect.deny[height='0.0']")).to_have_count(6)
        await page.get_by_role("button", name="EN, English").click()
        await expect(page).to_have_url(re.compile(r"period=7d&.*from_hour=8"))
        await expect(page.get_by_role("row").filter(has_text="registry.listed")).to_contain_text("100.0 %")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Reasons for denial as CSV").click()
        file = await download.value
        assert file.suggested_filename == "dialgate-acme-reasons-2026-11-25-2026-12-01.csv"
        assert "registry.listed,2,0,2" in await asyncio.to_thread((await file.path()).read_text, "utf-8")
        await check_page(page)


def test_one_high_bar_does_not_flatten_the_others() -> None:
    rows = [HistoryRow(name=f"{hour:02}", allowed=50, denied=50, before=120) for hour in range(24)]
    rows[3] = HistoryRow(name="03", denied=90_000)
    chart = bar_chart(rows)
    assert [bar.is_cut for bar in chart.bars].count(True) == 1
    assert chart.bars[3].is_cut
    assert chart.bars[3].denied == HEIGHT
    assert min(bar.allowed + bar.denied for bar in chart.bars) > HEIGHT / 3
    assert all(0 <= bar.before <= HEIGHT for bar in chart.bars)
    assert [number for _, number in chart.lines] == [0, 50, 100, 150, 200]


def test_a_chart_without_decisions_has_an_axis() -> None:
    chart = bar_chart([HistoryRow(name=f"2026-11-{day:02}") for day in range(1, 31)])
    assert [number for _, number in chart.lines] == [0, 1, 2, 3, 4]
    assert sum(bar.is_named for bar in chart.bars) == 15
