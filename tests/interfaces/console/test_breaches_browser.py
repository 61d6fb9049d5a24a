"""An officer with a one-time code works on a breach in a real Chromium, from its opening to the draft and the decisions."""

import re
from pathlib import Path

from playwright.async_api import Page, expect

from tests.interfaces.console.test_console_browser import Screen, check_page, open_page
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import NUMBERS, check, running_console
from tests.support.people import PASSWORD, code_of
from tests.support.world import LISTED


async def join_as_officer(page: Page, screen: Screen) -> None:
    added = await screen.gate.output("account", "add", "anna.rossi", "--role", "officer", "--controller", "*")
    link = re.search(r"/console(/invitation/\S+)", added)
    assert link
    await page.goto(screen.url + link[1])
    secret = await page.locator("p code").inner_text()
    for text in (PASSWORD, PASSWORD, code_of(secret, screen.gate.hand())):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name=re.compile("kept the codes")).click()


async def open_breach(page: Page, screen: Screen) -> None:
    await page.goto(f"{screen.url}/breaches")
    await check_page(page)
    await page.locator("summary").click()
    await page.select_option("[name=controller]", "acme")
    for name, at in (
        ("aware_at", "2026-11-24T09:30"),
        ("since", "2026-11-24T00:00"),
        ("until", "2026-11-23T23:00"),
    ):
        await page.fill(f"[name={name}]", at)
    await page.fill("[name=client]", "tests")
    await page.fill("[name=nature]", "The key of the dialer was in a public repository.")
    await page.get_by_role("button", name="Open the breach").click()
    await expect(page.get_by_role("alert")).to_contain_text(re.compile(r"invalid.* Breach to"))
    await expect(page.locator("[aria-invalid=true]")).to_have_attribute("name", "until")
    await check_page(page)
    await page.fill("[name=until]", "2026-11-24T23:00")
    await page.get_by_role("button", name="Open the breach").click()
    await expect(page.get_by_role("status")).to_contain_text("Now compute what was exposed")


async def correct_time(page: Page) -> None:
    clock = page.locator("section:has(#h-clock)")
    await clock.locator("summary").click()
    await clock.locator("[name=at]").fill("2026-11-24T09:15")
    await clock.locator("[name=reason]").fill("The mail came earlier.")
    await check_page(page)
    await clock.get_by_role("button", name="Correct the time").click()
    await expect(page.get_by_role("status")).to_contain_text("The clock is corrected")
    history = page.locator("#h-history ~ ul > li")
    for place, at in ((0, "09:30"), (1, "09:15")):
        await expect(history.nth(place)).to_contain_text(re.compile(f"Aware since .*{at}"))


async def decide(page: Page, item: str, outcome: str, reason: str) -> None:
    form = page.get_by_role("listitem", name=item)
    await form.locator("[name=outcome]").select_option(outcome)
    await form.locator("[name=reason]").fill(reason)
    await form.get_by_role("button").click()
    await expect(page.get_by_role("status")).to_contain_text("ecorded")


@needs_chromium
async def test_a_breach_from_its_opening_to_the_draft_and_the_decisions(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate, running_chromium() as browser:
        screen = Screen(gate, browser)
        for number in (*NUMBERS[:3], LISTED):
            await check(gate, number)
        async with open_page(screen) as page:
            await join_as_officer(page, screen)
            await open_breach(page, screen)
            await expect(page.locator(".days").first).to_have_text(re.compile(r"7[01] hours left"))
            await correct_time(page)
            await page.get_by_role("button", name="Compute what was exposed").click()
            await expect(page.get_by_role("status")).to_have_text("Computed.")
            await expect(page.get_by_role("listitem", name="What was exposed")).to_contain_text(
                "Telephone numbers4"
            )
            await page.fill("[name=consequences]", "Unwanted calls.")
            await page.get_by_role("button", name="Save the texts").click()
            await expect(page.get_by_role("status")).to_have_text("Saved.")
            await check_page(page)
            async with page.context.expect_page() as opening:
                await page.get_by_role("button", name="Show the draft").click()
            draft = await opening.value
            await expect(draft.locator("main")).to_contain_text("Data subjects, approximately4")
            await expect(draft.locator("main")).to_contain_text("Unwanted calls.")
            await expect(draft.locator(".blank").first).to_contain_text("to be completed")
            await draft.close()
            await page.goto(screen.url)
            task = page.get_by_role("link", name=re.compile("Notify the authority of the breach"))
            await task.click()
            await page.locator("article h2 a").click()
            await decide(page, "Notification to the authority", "notified", "protocol 2026/4711")
            await decide(page, "Communication to the people", "not_communicated", "The numbers are public.")
            await page.reload()
            await expect(page.locator("#h-history ~ ul")).to_contain_text("person:anna.rossi")
            await expect(page.locator("#h-history ~ ul > li")).to_have_count(6)
            await page.locator("form[action='/console/preferences'] [name=language][value=it]").first.click()
            await expect(page.get_by_role("heading", level=1)).to_contain_text("Violazione")
            await check_page(page)
