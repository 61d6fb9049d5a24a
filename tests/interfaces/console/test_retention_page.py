"""The page on retention: months whose term is over are destroyed one by one, and each run leaves a record."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import expect

from dialgate.core.model import HOUR
from dialgate.crypto.keys import Keys
from dialgate.subjects.removal_records import RemovalRecords
from tests.audit.test_retention import HELD, TERM, fill
from tests.interfaces.console.test_console import browser, get, send
from tests.interfaces.console.test_console_browser import check_page
from tests.interfaces.console.test_officer_browser import Desk, open_desk
from tests.interfaces.console.test_officer_pages import AUDITOR, api
from tests.support import world
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import OFFICER, STRANGER, SUPERVISOR, check, clients, running_console
from tests.support.people import join
from tests.support.world import World


@pytest_asyncio.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate with decisions of January and February 2020, of which the first has only decisions whose term is over."""
    auditor = world.client("auditor", AUDITOR, "watch", "read", "audit") | {"controllers": ["acme", "beta"]}
    fill(tmp_path / "data")
    async with running_console(
        tmp_path, clients=[*clients(), auditor], retention=[TERM], storage={"lookups_days": 1}
    ) as built:
        yield built
    shutil.rmtree(tmp_path / "data/kept")  # it lacks the configuration that the sample's decisions name


def keyed_months(gate: World) -> set[str]:
    return set(Keys.open(gate.folder / "data/keys.json").hashes(HELD))


async def test_a_month_is_destroyed_alone_once_its_name_is_entered(gate: World) -> None:
    before = keyed_months(gate)
    assert {"2020-01", "2020-02"} <= before
    newest = max(before)
    async with browser(gate, OFFICER) as session:
        path = "/console/retention/months"
        for month, confirm in (("2020-01", "2020-02"), ("", "")):
            assert "console.month" in await send(session, path, 400, month=month, confirm=confirm)
        assert "console.not_over" in await send(session, path, 409, month="2020-02", confirm="2020-02")
        wrong = ["2020-02", newest, "2019-12"]  # not over, in use, unknown
        refused = await api(gate, "POST", "/v1/log/retire", OFFICER, 200, dry_run=False, months=wrong)
        assert refused["months"] == []
        assert keyed_months(gate) == before
        await send(session, path, 303, month="2020-01", confirm="2020-01")
        assert keyed_months(gate) == before - {"2020-01"}
        assert "console.not_over" in await send(session, path, 409, month="2020-01", confirm="2020-01")
        page = await get(session, "/console/retention?destroyed=2020-01")
        assert "The keys of 2020-01 are destroyed." in page
        assert "2020-02 are destroyed" not in await get(session, "/console/retention?destroyed=2020-02")
    runs = (await api(gate, "GET", "/v1/retention", AUDITOR, 200))["runs"]
    assert [(run["actor"], run["months"]) for run in runs if run["months"]] == [("dpo", ["2020-01"])]
    await api(gate, "POST", "/v1/log/retire", OFFICER, 200, dry_run=False)  # none is over
    assert keyed_months(gate) == before - {"2020-01"}


async def test_each_run_is_recorded_and_counting_is_not(gate: World) -> None:
    await gate.app.subjects.record_lookup(
        gate.app.config.keys[world.client("", OFFICER)["key_sha256"]], "acme", HELD, "account", "a letter"
    )
    for _ in range(2):  # a jump of more than a day would suspend retention
        gate.hand.at += 13 * HOUR
        await check(gate, HELD)
        await gate.app.tick()
    for _ in range(2):
        await gate.app.subjects.retire(gate.app.gate.now(), drop=False)  # counts only
    await gate.app.subjects.retire(gate.app.gate.now(), drop=True)
    for key in (SUPERVISOR, STRANGER, AUDITOR):
        await api(gate, "POST", "/v1/retention", key, 403, dry_run=True)
    await api(gate, "POST", "/v1/retention", OFFICER, 200, dry_run=False)
    runs = (await api(gate, "GET", "/v1/retention", OFFICER, 200))["runs"]
    assert {run["actor"] for run in runs[1:]} == {""}  # the gate's own, of today and the explicit one
    assert runs[0]["actor"] == "dpo"
    gone = [removal for run in runs for removal in run["kinds"] if removal["kind"] == "lookups"]
    assert [removal["count"] for removal in gone] == [1]
    async with browser(gate, AUDITOR) as session:
        page = await get(session, "/console/retention?count=1")
        assert "look-ups: 1" in page
        assert "/console/retention/months" not in page
    kept = RemovalRecords(gate.folder / "data").read()  # as after a restart
    assert [run.actor for run in kept] == [run["actor"] for run in reversed(runs)]


@needs_chromium
async def test_an_officer_destroys_the_keys_of_a_month(gate: World) -> None:
    officer = await join(gate.app.people, gate.hand(), "anna.rossi", "officer", "*")
    async with running_chromium() as chromium, open_desk(Desk(gate, chromium, officer), "/holds") as page:
        await page.get_by_role("link", name="Retention").click()
        await page.get_by_role("button", name="Count what would go now").click()
        row = page.get_by_role("row", name="2020-01")
        await expect(row).to_contain_text("Term over")
        await expect(page.get_by_role("row", name="consents").first).to_be_visible()
        await row.get_by_text("Destroy the keys of 2020-01").click()
        await row.locator("[name=confirm]").fill("2020-02")
        await row.get_by_role("button").click()
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was destroyed")
        await check_page(page)
        await row.get_by_text("Destroy the keys of 2020-01").click()
        await row.locator("[name=confirm]").fill("2020-01")
        await row.get_by_role("button").click()
        await expect(page.get_by_role("status")).to_contain_text("The keys of 2020-01 are destroyed")
        await expect(page.locator("#h-runs ~ div")).to_contain_text("person:anna.rossi")
        await page.get_by_role("button", name="IT, italiano").click()
        await expect(page.get_by_role("row", name="person:anna.rossi")).to_contain_text("chiavi di 2020-01")
        await check_page(page)
