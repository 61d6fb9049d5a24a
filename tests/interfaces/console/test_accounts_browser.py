"""A person in a real Chromium: invitation, authenticator, sign-in with keyboard only, and their name in the records."""

import re
from pathlib import Path

from playwright.async_api import Page, expect

from dialgate.core.model import MINUTE
from tests.interfaces.console.test_console_browser import Screen, check_page, open_page
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import AGENT, NUMBERS, running_console
from tests.support.people import PASSWORD, code_of
from tests.support.world import CALLER, CLEAR, World


async def make_and_disable_a_key(page: Page, gate: World) -> None:
    """Rotate a key on the page "API keys": the new one is shown once, and the old one is refused at once."""
    old, agent = {"Authorization": f"Bearer {AGENT}"}, page.locator("tr", has_text="agent-7")
    await page.select_option("form.panel [name=client]", "agent-7")
    await page.fill("form.panel [name=last_day]", "2027-12-01")
    await page.click("form.panel button.main")
    new = await page.get_by_role("status").locator("code").inner_text()
    await check_page(page)
    call = {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}
    await gate.post("/v1/simulate", call, 200, Authorization=f"Bearer {new}")
    await page.get_by_role("link", name="API keys").click()
    assert new not in await page.content()
    await expect(agent.filter(has_text="person:anna.rossi")).to_contain_text("01/12/2027")
    await agent.filter(has_text="dialgate.yaml").locator("summary").click()
    await agent.filter(has_text="dialgate.yaml").get_by_role("button", name="Disable").click()
    await expect(agent.filter(has_text="dialgate.yaml")).to_contain_text("Disabled")
    assert (await gate.post("/v1/simulate", call, 401, **old))["error"]["code"] == "auth.key_disabled"


@needs_chromium
async def test_a_person_accepts_an_invitation_signs_in_and_is_named_in_the_record(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate, running_chromium() as browser:
        screen = Screen(gate, browser)
        added = await gate.output("account", "add", "anna.rossi", "--role", "operator", "--controller", "*")
        link = re.search(r"/console(/invitation/\S+)", added)
        assert link
        async with open_page(screen, size="narrow") as page:
            await page.goto(screen.url + link[1])
            await expect(page.get_by_role("img", name=re.compile("QR code"))).to_be_visible()
            await check_page(page)
            secret = await page.locator("p code").inner_text()
            for text in (PASSWORD, PASSWORD, code_of(secret, gate.hand())):
                await page.keyboard.type(text)
                await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await expect(page.locator(".codes li")).to_have_count(10)
            await check_page(page)
            await page.get_by_role("link", name=re.compile("kept the codes")).click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Live board")
            for path in ("/account", "/accounts", "/keys"):
                await page.goto(screen.url + path)
                await check_page(page)
            await make_and_disable_a_key(page, gate)
            await page.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
            assert await page.locator("[name=key]").count() == 0
            await check_page(page)
            await gate.output("account", "change", "anna.rossi", "--role", "agent")
            gate.hand.at += MINUTE
            for text in ("anna.rossi", PASSWORD, code_of(secret, gate.hand())):
                await page.keyboard.type(text)
                await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Simulate a call")
            await page.get_by_role("link", name="Record an opt-out").click()
            await page.fill("[name=number]", NUMBERS[0])
            assert await page.locator("[name=actor]").count() == 0
            await page.click("main button.main")
            await expect(page.get_by_role("status")).to_contain_text("Opt-out recorded.")
        found = await gate.get(f"/v1/revocations?number={NUMBERS[0].replace('+', '%2B')}&purpose=audit")
        assert [entry["actor"] for entry in found["entries"]] == ["person:anna.rossi"]
