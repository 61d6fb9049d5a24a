"""Two people in a real Chromium release an import that changes too much. Neither can do it alone."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from dialgate.core.model import MINUTE
from dialgate.lists import release_holds
from dialgate.lists.release_holds import ReleaseRequired
from tests.interfaces.console.test_console_browser import Screen, check_page, open_page
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import running_console
from tests.support.people import PASSWORD, Person, join
from tests.support.world import World

SUBJECT, WHY = ("rpo", "acme", "consultation-7"), "30 per cent of the known answers changed"


async def sign_in(page: Page, gate: World, person: Person) -> None:
    gate.hand.at += MINUTE  # a one-time code is valid once
    for name, text in (("name", person.name), ("password", PASSWORD), ("code", person.code(gate.hand()))):
        await page.fill(f"[name={name}]", text)
    await page.keyboard.press("Enter")
    await expect(page.locator(".title h1")).to_be_visible()


@needs_chromium
async def test_two_people_release_a_held_import(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate, running_chromium() as browser:
        snapshots = gate.app.config.data / "snapshots"
        with pytest.raises(ReleaseRequired):
            release_holds.require_release(snapshots, SUBJECT, WHY, gate.hand())
        screen, people = Screen(gate, browser), gate.app.people
        anna = await join(people, gate.hand(), "anna.rossi", "officer")
        ben = await join(people, gate.hand(), "ben.bianchi", "operator", "*")
        sue = await join(people, gate.hand(), "sue.verdi", "supervisor")
        async with open_page(screen) as page:
            await sign_in(page, gate, anna)
            await page.get_by_role("link", name="An import of RPO waits for its release").click()
            await check_page(page)
            await page.locator("main summary").click()
            await page.get_by_role("button", name="Release", exact=True).click()
            await expect(page.locator("main")).to_contain_text("Another person must, too.")
            await page.reload()
            assert await page.get_by_role("button", name="Release", exact=True).count() == 0
            await check_page(page)
        async with open_page(screen) as page:
            await sign_in(page, gate, sue)
            await page.get_by_role("link", name="Registries").click()
            await expect(page.locator("main")).to_contain_text("person:anna.rossi")
            assert await page.locator("main form").count() == 0
        with pytest.raises(ReleaseRequired, match="one more person"):
            release_holds.require_release(snapshots, SUBJECT, WHY, gate.hand())
        async with open_page(screen, size="narrow", language="it-IT", theme="dark") as page:
            await sign_in(page, gate, ben)
            await page.goto(f"{screen.url}/registries")
            await page.locator("main summary").click()
            await check_page(page)
            await page.get_by_role("button", name="Rilascia", exact=True).click()
            await expect(page.locator("main")).to_contain_text("Rilasciata da due persone")
            await check_page(page)
        release_holds.require_release(snapshots, SUBJECT, WHY, gate.hand())
        (hold,) = release_holds.list_holds(snapshots)
        assert [approval.actor for approval in hold.approvals] == ["person:anna.rossi", "person:ben.bianchi"]
