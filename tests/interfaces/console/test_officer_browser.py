"""An officer, signed in with an authenticator, works in a real Chromium, in English and Italian."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from dialgate.core.model import MINUTE
from tests.interfaces.console.test_console_browser import Screen, check_page, open_page
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import NUMBERS, running_console
from tests.support.people import PASSWORD, Person, join

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]


class Desk(Screen, frozen=True):
    officer: Person


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    async with running_console(folder, checkpoint_seconds=0.001) as gate, running_chromium() as browser:
        officer = await join(gate.app.people, gate.hand(), "anna.rossi", "officer", "*")
        yield Desk(gate, browser, officer)


@asynccontextmanager
async def open_desk(desk: Desk, path: str, language: str = "en-GB") -> AsyncIterator[Page]:
    """Sign in with a password and the authenticator's code, and open a page."""
    desk.gate.hand.at += MINUTE  # a code is valid once
    async with open_page(desk, language=language) as page:
        code = desk.officer.code(desk.gate.hand())
        for name, text in (("name", "anna.rossi"), ("password", PASSWORD), ("code", code)):
            await page.fill(f"[name={name}]", text)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("nav.side")
        await page.goto(desk.url + path)
        yield page


async def test_an_officer_places_and_lifts_a_hold_under_her_own_name(desk: Desk) -> None:
    number = NUMBERS[0]
    async with open_desk(desk, "/requests") as page:
        await page.get_by_role("link", name="Legal holds").click()
        await expect(page.get_by_text("No number is on hold.")).to_be_visible()
        await page.fill("[name=number]", number)
        await page.fill("[name=reason]", f"call to {number}")
        await page.get_by_role("button", name="Place the hold").click()
        await expect(page.get_by_role("alert")).to_contain_text("Write a case number instead")
        await check_page(page)
        await page.fill("[name=reason]", "Garante, case 4711")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("in force")
        row = page.get_by_role("row", name="Garante, case 4711")
        await expect(row).to_contain_text("person:anna.rossi")
        await page.reload()
        await expect(page.locator("tbody tr")).to_have_count(1)  # nothing was sent again
        await row.get_by_text("Lift hold 1").click()
        await row.locator("[name=number]").fill(NUMBERS[1])
        await row.locator("[name=reason]").fill("case closed")
        await row.get_by_role("button").click()
        await expect(page.get_by_role("alert")).to_contain_text("not the number of this hold")
        await check_page(page)
        await row.locator("[name=number]").fill(number)
        await row.get_by_role("button").click()
        await expect(page.get_by_role("status")).to_contain_text("lifted")
    async with open_desk(desk, "/holds", language="it-IT") as page:
        await page.get_by_text("Revocati (1)").click()
        await expect(page.locator("details table")).to_contain_text("case closed")
        await check_page(page)


async def test_an_officer_sees_who_looked_at_what_and_passes_the_address_on(desk: Desk) -> None:
    async with open_desk(desk, "/lookup") as page:
        await page.fill("[name=number]", NUMBERS[2])
        await page.select_option("[name=controller]", "acme")
        await page.fill("[name=purpose]", "letter of 24 November")
        await page.keyboard.press("Enter")
        await expect(page.locator(".whose h2")).to_have_text(NUMBERS[2])
        await page.get_by_role("link", name="Who looked at what").click()
        await page.get_by_label("Person or key").fill("anna.rossi")
        await page.locator("[name=what]").select_option("account")
        await page.get_by_role("button", name="Show").click()
        row = page.get_by_role("row", name="letter of 24 November")
        await expect(row).to_contain_text("person:anna.rossi")
        await expect(row).to_contain_text("+39 ••••••••02")
        await page.reload()
        await expect(page.get_by_label("Person or key")).to_have_value("anna.rossi")
        await expect(row).to_be_visible()
        await check_page(page)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="CSV").click()
        assert (await download.value).suggested_filename.startswith("look-ups-")
        await page.get_by_role("button", name="IT, italiano").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Chi ha consultato cosa")
        await expect(row).to_be_visible()


async def test_an_officer_proves_the_log_and_sees_it_on_the_board(desk: Desk) -> None:
    async with open_desk(desk, "/board") as page:
        await expect(page.locator("#state")).to_contain_text("Live")
        await expect(page.locator("#proof-row")).to_be_hidden()
        await page.get_by_role("link", name="Evidence").click()
        await expect(page.get_by_text("Not verified yet.")).to_be_visible()
        await check_page(page)
        await page.get_by_role("button", name="Verify now").click()
        await expect(page.get_by_text("Proved: no byte was changed")).to_be_visible()
        await check_page(page)
        await page.reload()
        await expect(page.get_by_text("Proved: no byte was changed")).to_be_visible()
        await page.goto(f"{desk.url}/board")
        await expect(page.locator("#proof")).to_contain_text("proved", timeout=15_000)
        await page.get_by_role("button", name="IT, italiano").click()
        await expect(page.locator("#proof")).to_contain_text("registrazioni", timeout=15_000)
