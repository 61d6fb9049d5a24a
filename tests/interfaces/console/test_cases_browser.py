"""An officer closes data subjects' requests in a real Chromium, from the arrival to the letter, without a command."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.interfaces.console.test_console_browser import Screen, check_page, open_page
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import NUMBERS, OFFICER, check, running_console

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def screen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Screen]:
    async with running_console(tmp_path_factory.mktemp("cases")) as gate, running_chromium() as browser:
        yield Screen(gate, browser)


async def record(page: Page, screen: Screen, kind: str, number: str) -> None:
    """Record a request in the console. The page of the request opens."""
    await page.goto(f"{screen.url}/requests")
    await page.locator("summary").click()
    await page.fill("[name=number]", number)
    await page.select_option("[name=controller]", "acme")
    await page.select_option("[name=kind]", kind)
    await page.fill("[name=identified]", "code read back on a call")
    await page.fill("[name=addressee]", "Anna Esempio\nVia Prova 7, Roma")
    await page.locator("main form[action='/console/requests'] button.main").click()
    await expect(page.get_by_role("status")).to_contain_text("one-month time limit applies")


async def look_up(page: Page, number: str) -> None:
    await expect(page.get_by_text(number)).to_have_count(0)
    await page.get_by_role("button", name="Show the number").click()
    await expect(page.locator("dd.number")).to_have_text(number)


async def read_letter(page: Page, kind: str = "") -> str:
    """Open the letter in its tab, and return its text."""
    if kind:
        await page.select_option("[name=kind]", kind)
    async with page.context.expect_page() as opening:
        await page.get_by_role("button", name="Show the letter").click()
    letter = await opening.value
    await letter.wait_for_load_state()
    text = await letter.locator("main").inner_text()
    await letter.close()
    return text.replace("\N{NO-BREAK SPACE}", " ")


async def close(page: Page, outcome: str, reason: str) -> None:
    form = page.get_by_role("listitem", name="Close")
    await form.locator("[name=outcome]").select_option(outcome)
    await form.locator("[name=reason]").fill(reason)
    await form.get_by_role("button", name="Record the outcome").click()
    await expect(page.get_by_role("status")).to_contain_text("Closed")


async def test_an_access_request_from_its_arrival_to_the_letter(screen: Screen) -> None:
    number = NUMBERS[1]
    await check(screen.gate, number)
    async with open_page(screen, OFFICER) as page:
        await record(page, screen, "access", number)
        await check_page(page)
        await look_up(page, number)
        letter = await read_letter(page)
        for words in ("Acme Telecomunicazioni", "Anna Esempio", number, "Who receives the data", "signature for the controller"):  # fmt: skip
            assert words in letter
        assert "why you were called" in await read_letter(page, "why")
        sent = page.get_by_role("listitem", name="Send or print")
        await sent.locator("[name=reason]").fill("the letter, by PEC")
        await sent.get_by_role("button").click()
        await expect(page.get_by_role("status")).to_contain_text("Now close the request")
        await close(page, "answered", "letter sent by PEC")
        await expect(page.locator("#h-history ~ ul")).to_contain_text("the letter, by PEC")
        await page.reload()  # the result is a page of its own: nothing is sent again
        await expect(page.locator("#h-history ~ ul li")).to_have_count(3)
        await check_page(page)


async def test_an_access_request_arrives_with_a_letter_which_the_officer_downloads(
    screen: Screen, tmp_path: Path
) -> None:
    number, letter = NUMBERS[5], tmp_path / f"lettera di {NUMBERS[5]}, «perché».pdf"
    letter.write_bytes(b"%PDF-1.7 a letter")
    async with open_page(screen, OFFICER) as page:
        await record(page, screen, "access", number)
        attachments = page.get_by_role("region", name="Attachments")
        await expect(attachments).to_contain_text("No file is attached.")
        await attachments.get_by_label("File").set_input_files(letter)
        await attachments.get_by_role("button", name="Attach the file").click()
        await expect(page.get_by_role("status")).to_contain_text("File attached.")
        await expect(attachments.get_by_text("lettera di +•••, «perché».pdf")).to_be_visible()
        await expect(attachments.get_by_role("link")).to_have_count(0)  # the officer has not seen the number
        await look_up(page, number)
        await check_page(page)
        async with page.expect_download() as downloading:
            await attachments.get_by_role("link", name=letter.name).click()
        download = await downloading.value
        assert download.suggested_filename == letter.name
        await download.save_as(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == letter.read_bytes()
        await close(page, "answered", "letter sent by PEC")
        answer = tmp_path / "answer.txt"
        answer.write_bytes(b"the answer")
        await attachments.get_by_label("File").set_input_files(answer)
        await attachments.get_by_role("button", name="Attach the file").click()
        await expect(attachments.get_by_role("listitem")).to_have_count(2)
        await page.reload()
        await expect(page.locator("#h-history ~ ul")).to_contain_text("File attached: answer.txt")


async def test_an_erasure_shows_what_it_does_before_it_is_confirmed(screen: Screen) -> None:
    number = NUMBERS[2]
    await check(screen.gate, number)
    async with open_page(screen, OFFICER) as page:
        await record(page, screen, "erasure", number)
        erase = page.get_by_role("listitem", name="Erase the data")
        await expect(erase.get_by_role("button")).to_have_count(0)  # the officer has not seen the number
        await look_up(page, number)
        await expect(erase.get_by_role("row", name="call list")).to_contain_text("erased")
        await expect(erase.get_by_role("row", name="Decisions on calls")).to_contain_text("restricted")
        await check_page(page)
        await erase.locator("[name=confirm]").fill(number[-4:])
        await erase.get_by_role("button").click()
        await expect(page.get_by_role("status")).to_contain_text("Now write the letter")
        letter = await read_letter(page)
        assert "What we have erased" in letter
        assert "Why the number stays on a list" in letter
        await close(page, "answered", "letter sent")
    assert (await check(screen.gate, number))["decision"] == "deny"


async def test_an_objection_is_worked_off_with_the_keyboard(screen: Screen) -> None:
    number = NUMBERS[3]
    assert (await check(screen.gate, number))["decision"] == "allow"
    async with open_page(screen, OFFICER) as page:
        await record(page, screen, "objection", number)
        await page.get_by_role("button", name="Stop the calls").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("Now write the letter")
        await expect(page.get_by_role("status")).to_be_focused()
        assert (await check(screen.gate, number))["decision"] == "deny"
        assert "We have recorded your objection" in await read_letter(page)
        await close(page, "answered", "letter sent")


async def test_a_request_is_refused_in_italian(screen: Screen) -> None:
    async with open_page(screen, OFFICER, language="it-IT") as page:
        await screen.gate.post(
            f"/v1/subjects/{NUMBERS[4].replace('+', '%2B')}/requests",
            {"kind": "access", "identified": "nessun documento", "controller": "acme"},
        )
        await page.goto(f"{screen.url}/requests")
        await page.get_by_role("link", name="Accesso").last.click()
        await page.select_option("[name=kind]", "refusal")
        await page.fill("[name=reasons]", "Il numero non risulta Suo.")
        async with page.context.expect_page() as opening:
            await page.get_by_role("button", name="Mostra la lettera").click()
        letter = await opening.value
        await expect(letter.locator("main")).to_contain_text("Il numero non risulta Suo.")
        await letter.close()
        await check_page(page)
