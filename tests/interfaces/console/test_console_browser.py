"""Tests of the console in a real Chromium. An agent, a supervisor and an officer work with mouse and keyboard.

One gate and one browser serve all tests. A test fails if its page logs an error or a warning, or requests anything from
another host. The content security policy forbids evaluated scripts. Only `check_page` evaluates scripts,
through the DevTools protocol.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import axe_playwright_python.base
import pytest
import pytest_asyncio
from msgspec import Struct
from playwright.async_api import Browser, Page, expect

from dialgate.core.model import HOUR
from dialgate.core.rules import RULES
from tests.subjects.test_consent_proofs import CONSENT, FORM, upload
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import (
    AGENT,
    MARKUP,
    NUMBERS,
    OFFICER,
    SUPERVISOR,
    check,
    pause,
    running_console,
)
from tests.support.ports import free_port
from tests.support.world import CALLER, CLEAR, LIST, LISTED, World

AXE = Path(axe_playwright_python.base.__file__).with_name("axe.min.js").read_text("utf-8")
SEVERE = {"serious", "critical"}
_REFUSED = re.compile(r"status of 4\d\d")  # a page that explains what a form lacks is not a fault
SIZES = {"wide": (1280, 860), "narrow": (390, 844)}
# Other tests here check the live board and the pages of campaigns, in Italian too.
PLACES = (
    "/revoke",
    "/lists",
    "/caller-ids",
    "/law?since=2026-01-01",
    "/reports",
    "/reports/view?day=2026-11-24",
    "/lookup",
    "/requests",
    "/breaches",
    "/records-of-processing?document=assessment",
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]


class Screen(Struct, frozen=True):
    gate: World
    browser: Browser

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gate.port}/console"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def screen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Screen]:
    async with (
        running_console(tmp_path_factory.mktemp("console"), checkpoint_seconds=0.001) as gate,
        running_chromium() as browser,
    ):
        await gate.post(
            "/v1/lists",
            {**LIST, "id": "marked", "origin": "public_directory", "collected_by": MARKUP, "source": MARKUP},
        )
        yield Screen(gate, browser)


@asynccontextmanager
async def open_page(
    screen: Screen, key: str = "", *, size: str = "wide", theme: str = "light", language: str = "en-GB"
) -> AsyncIterator[Page]:
    """Open a page in a new browser context; sign in if a key is given."""
    width, height = SIZES[size]
    context = await screen.browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        locale=language,
        reduced_motion="reduce",
    )
    context.set_default_timeout(30_000)
    page, problems = await context.new_page(), list[str]()
    page.on("console", lambda line: problems.append(line.text) if line.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.on(
        "request",
        lambda request: (
            problems.append(request.url) if urlsplit(request.url).hostname != "127.0.0.1" else None
        ),
    )
    try:
        await page.goto(f"{screen.url}/login")
        if key:
            await page.fill("[name=key]", key)
            await page.keyboard.press("Enter")
            await page.wait_for_selector("nav.side")
        yield page
        assert [text for text in problems if not _REFUSED.search(text)] == []
    finally:
        await context.close()


async def simulate(page: Page, screen: Screen, to: str) -> str:
    """Simulate a call and return the decision that the page shows."""
    await page.goto(f"{screen.url}/try")
    await page.fill("[name=to]", to)
    await page.fill("[name=from]", CALLER)
    await page.select_option("[name=campaign]", "acme-fibre")
    await page.click("main button.main")
    return (await page.locator(".outcome .verdict").inner_text()).strip()


async def test_a_supervisor_signs_in_and_sees_live_decisions(screen: Screen) -> None:
    async with open_page(screen, SUPERVISOR) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("Live board")
        await expect(page.locator("#state")).to_contain_text("Live")
        before = int((await page.locator("#denied").inner_text()).replace(",", ""))
        for _ in range(3):
            await check(screen.gate, LISTED)
        await expect(page.locator("#denied")).to_have_text(str(before + 3))
        row = page.locator("#rows tr").first
        await expect(row).to_contain_text("Enrolled with the registry")
        await expect(row.locator(".number")).to_have_text("+39 ••••••••79")
        await expect(page.locator("#reasons")).to_contain_text("Enrolled with the registry")
        await expect(page.locator("#rate-chart path.line.allow")).to_have_attribute("d", re.compile("^M"))
        await row.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Decision")
        await expect(page.locator(".sentences")).to_contain_text(
            "The number is enrolled with the opposition registry"
        )
        await expect(page.locator("tr.deny")).to_contain_text("D.P.R. 26/2022 art. 8")


async def test_the_board_does_not_change_while_it_is_frozen(screen: Screen) -> None:
    async with open_page(screen, SUPERVISOR) as page:
        await expect(page.locator("#state")).to_contain_text("Live")
        await page.get_by_role("button", name="Freeze").click()
        await expect(page.locator("#state")).to_contain_text("Frozen")
        shown = await page.locator("#denied").inner_text()
        await check(screen.gate, LISTED)
        async with open_page(
            screen, SUPERVISOR
        ) as other:  # its page shows the call, so the frozen page has received it too
            await expect(other.locator("#denied")).not_to_have_text(shown)
        await expect(page.locator("#denied")).to_have_text(shown)
        await page.get_by_role("button", name="Unfreeze").click()
        await expect(page.locator("#denied")).not_to_have_text(shown)


async def test_a_board_reconnects_after_a_restart_of_the_gate(screen: Screen, tmp_path: Path) -> None:
    listen = {"host": "127.0.0.1", "port": free_port()}
    page = await screen.browser.new_page()
    async with running_console(tmp_path / "one", listen=listen) as gate:
        await page.goto(f"http://127.0.0.1:{gate.port}/console/login")
        await page.fill("[name=key]", SUPERVISOR)
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_contain_text("Live")
    await expect(page.locator("#state")).to_have_text("Connection lost. Reconnecting")
    await expect(page.locator("#board")).to_have_class("stale")
    async with running_console(tmp_path / "two", listen=listen):  # which does not know the session
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in", timeout=20_000)
    await page.close()


async def test_a_gate_that_hangs_is_not_shown_as_live(screen: Screen) -> None:
    """The connection of a process that hangs stays open, and no message arrives."""
    async with open_page(screen, SUPERVISOR) as page:
        await page.route("**/console/events", lambda _: None)
        await page.clock.install()
        await page.reload()
        await page.clock.fast_forward(7_000)
        await expect(page.locator("#state")).to_have_text("No news from the gate: it may hang")
        await expect(page.locator("#board")).to_have_class("stale")


async def test_the_menu_is_a_drawer_on_a_telephone(screen: Screen) -> None:
    async with open_page(screen, SUPERVISOR, size="narrow") as page:
        link = page.get_by_role("link", name="Simulate a call")
        await expect(link).to_be_hidden()
        await page.get_by_label("Menu").press("Space")
        await link.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Simulate a call")
        await expect(link).to_be_hidden()


async def test_an_agent_simulates_a_call_records_an_opt_out_and_sees_its_effect(screen: Screen) -> None:
    number = NUMBERS[0]
    async with open_page(screen, AGENT) as page:
        assert await simulate(page, screen, number) == "Allowed"
        await expect(page.locator("table.rules tbody tr")).not_to_have_count(0)
        assert (await check(screen.gate, number))["decision"] == "allow"
        await page.get_by_role("link", name="Record an opt-out").click()
        await page.fill("[name=number]", number)
        await page.fill("[name=proof]", "recording 1")
        await page.click("main button.main")
        await expect(page.get_by_role("status")).to_contain_text("Opt-out recorded.")
        assert await simulate(page, screen, number) == "Denied"
        await expect(page.locator("tr.deny").first).to_contain_text("Opted out")
        await expect(page.locator("tr.deny").first).to_contain_text("GDPR")
        assert (await check(screen.gate, number))["reasons"][0]["code"] == "revocation.revoked"


async def test_an_officer_looks_up_a_number_and_downloads_the_evidence(screen: Screen) -> None:
    await check(screen.gate, CLEAR)
    await screen.gate.app.tick()
    async with open_page(screen, OFFICER) as page:
        await page.get_by_role("link", name="Look up a number").click()
        await page.fill("[name=number]", CLEAR)
        await page.fill("[name=purpose]", "letter of 24 November")
        await page.keyboard.press("Enter")
        await expect(page.locator(".whose h2")).to_have_text(CLEAR)
        await page.get_by_role("link", name="All rules and facts").first.click()
        await page.fill("[name=purpose]", "Garante, case 4711")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download").click()
        assert (await download.value).suggested_filename.startswith("evidence-")


async def test_an_officer_downloads_the_file_that_proves_a_consent(screen: Screen) -> None:
    await upload(screen.gate)
    await screen.gate.post("/v1/consents", {**CONSENT, "number": NUMBERS[30]})
    async with open_page(screen, OFFICER) as page:
        await page.goto(f"{screen.url}/lookup")
        await page.fill("[name=number]", NUMBERS[30])
        await page.fill("[name=purpose]", "letter of 24 November")
        await page.keyboard.press("Enter")
        button = page.get_by_role("button", name="Download the file: forms/1.pdf")
        await expect(button).to_be_visible()
        await check_page(page)
        async with page.expect_download() as download:
            await button.click()
        file = await (await download.value).path()
        assert await asyncio.to_thread(file.read_bytes) == FORM


async def test_every_rule_is_on_the_page_of_a_decision(screen: Screen) -> None:
    """Rules that do not apply are visible too. Their rows once had the same CSS class as the hidden skip link."""
    decision_id = (await check(screen.gate, CLEAR))["decision_id"]
    await screen.gate.app.tick()
    async with open_page(screen, OFFICER) as page:
        await page.goto(f"{screen.url}/decisions/{decision_id}")
        rows = page.locator("table.rules tbody tr")
        boxes = [await row.bounding_box() for row in await rows.all()]
        assert len(boxes) == len([name for name, _ in RULES if name != "ai_disclosed"])  # about AI voices
        assert [box for box in boxes if box is None or box["height"] < 20 or box["width"] < 200] == []
        assert await rows.filter(has=page.locator(".result.skip")).count() > 0


async def test_a_supervisor_loads_a_list_and_sees_the_callable_numbers(
    screen: Screen, tmp_path: Path
) -> None:
    file = tmp_path / "milan.csv"
    numbers = [CLEAR, LISTED, "12", "13", "=A1", *(f"+390612344{at:03}" for at in range(60))]
    file.write_text("number,basis\n" + "".join(f"{number},directory\n" for number in numbers))
    async with open_page(screen, SUPERVISOR) as page:
        await page.goto(f"{screen.url}/lists")
        for name, value in {"id": "milan", "collected_by": "Acme", "collected_on": "2026-10-01"}.items():
            await page.fill(f"[name={name}]", value)
        await page.set_input_files("[name=file]", file)
        await page.get_by_role("button", name="Load").click()
        await expect(page.get_by_role("status")).to_contain_text("Rows loaded: 62 of 65")
        totals = page.get_by_role("status").locator(".states li")
        await expect(totals).to_have_text(
            [re.compile(r"^The number is neither.*2$"), re.compile(r"^Is a formula.*1$")]
        )
        await expect(page.locator("table")).to_contain_text(MARKUP)
        await screen.gate.app.tick()
        await page.get_by_role("button", name="Preview milan").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Preview of milan", timeout=30_000)
        await expect(page.locator(".figure")).to_contain_text("of 62 can be called now")
        await expect(page.locator(".bars")).to_contain_text("Enrolled with the registry")


@pytest.mark.parametrize(
    ("language", "campaign", "numbers", "shown", "ground", "done"),
    [
        pytest.param("en-GB", "acme-mobile", NUMBERS[20:24], "4 abandoned calls for 0 answered", "one line each", "Pause lifted.", marks=pytest.mark.torture),
        ("it-IT", "acme-fibre", NUMBERS[24:28], "4 chiamate mute su 0", "una linea per operatore", "Sospensione revocata."),
    ],
)  # fmt: skip
async def test_an_officer_sees_a_paused_campaign_on_the_board_and_lifts_its_pause(  # noqa: PLR0913, PLR0917 - the parameters
    screen: Screen, language: str, campaign: str, numbers: list[str], shown: str, ground: str, done: str
) -> None:
    async with open_page(screen, OFFICER, language=language) as page:
        await expect(page.locator("#state")).not_to_have_text("")
        await expect(page.locator("#paused")).to_be_hidden()
        await pause(screen.gate, campaign, numbers)
        await expect(page.locator("#paused li")).to_contain_text(shown, timeout=15_000)
        await expect(page.locator("#paused li")).to_contain_text(campaign)
        await check_page(page)
        await page.locator("#paused a").click()
        paused = page.locator("article.case")
        await expect(paused.get_by_role("heading")).to_contain_text(campaign)
        await check_page(page)
        await paused.locator("[name=ground]").fill(ground)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text(done)
        await expect(paused).to_have_count(0)
        await expect(page.get_by_role("row").filter(has_text=campaign)).to_contain_text(ground)
        assert (await check(screen.gate, NUMBERS[30], campaign))["decision"] == "allow"
        await page.goto(screen.url)
        await expect(page.locator("#paused")).to_be_hidden()


@pytest.mark.parametrize(
    ("language", "campaign", "pause_it", "resume_it", "who"),
    [
        pytest.param("en-GB", "acme-mobile", "Pause the campaign", "Resume the campaign", "paused by anna", marks=pytest.mark.torture),
        ("it-IT", "acme-fibre", "Sospendi la campagna", "Riprendi la campagna", "sospesa da anna"),
    ],
)  # fmt: skip
async def test_a_supervisor_pauses_a_campaign_and_the_next_check_is_denied(
    screen: Screen, language: str, campaign: str, pause_it: str, resume_it: str, who: str
) -> None:
    async with (
        open_page(screen, SUPERVISOR, language=language) as page,
        open_page(screen, OFFICER, language=language) as board,
    ):
        await page.goto(f"{screen.url}/campaigns")
        await page.get_by_role("link", name=campaign).first.click()
        await page.locator("[name=reason]").fill("wrong price")
        await page.locator("[name=actor]").fill("anna")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name=resume_it)).to_be_visible()
        answer = await check(screen.gate, NUMBERS[38], campaign)
        assert [reason["code"] for reason in answer["reasons"]] == ["campaign.inactive"]
        await expect(page.locator(".case .facts")).to_contain_text("wrong price")
        await check_page(page)
        await expect(board.locator("#paused li")).to_contain_text(who, timeout=15_000)
        await page.goto(f"{screen.url}/campaigns")
        await expect(page.locator("article.case")).to_contain_text("wrong price")
        await check_page(page)
        await page.locator("article.case").get_by_role("link").click()
        await page.get_by_role("button", name=resume_it).click()
        await expect(page.get_by_role("button", name=pause_it)).to_be_visible()
        assert (await check(screen.gate, NUMBERS[38], campaign))["decision"] == "allow"
        await expect(board.locator("#paused")).to_be_hidden(timeout=15_000)


async def test_language_and_theme_can_be_switched_and_are_kept(screen: Screen) -> None:
    async with open_page(screen) as page:
        await page.get_by_role("button", name="IT, italiano").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Accedi")
        await page.fill("[name=key]", OFFICER)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Monitor in diretta")
        await page.goto(f"{screen.url}/requests")
        await page.get_by_role("button", name="Scuro").click()
        await expect(page).to_have_url(f"{screen.url}/requests")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await expect(page.locator("html")).to_have_attribute("lang", "it")
        await expect(page.locator("body")).to_have_css("background-color", "rgb(18, 20, 23)")


async def test_the_console_can_be_used_with_the_keyboard_alone(screen: Screen) -> None:
    async with open_page(screen) as page:
        await expect(page.locator("[name=key]")).to_be_focused()
        await page.keyboard.type(AGENT)
        await page.keyboard.press("Enter")
        await expect(page.locator("[name=to]")).to_be_focused()
        await page.keyboard.type(LISTED)
        await page.keyboard.press("Tab")
        await page.keyboard.press("Control+A")
        await page.keyboard.type(CALLER)
        await page.keyboard.press("Enter")
        await expect(page.locator("#answer")).to_be_focused()
        await expect(page.locator(".outcome .verdict")).to_have_text("Denied")
        await page.goto(f"{screen.url}/revoke")
        await page.locator(".skip-link").focus()
        await expect(page.locator(".skip-link")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()


async def test_no_page_has_a_serious_accessibility_fault_or_is_wider_than_the_screen(screen: Screen) -> None:
    """In Italian, whose words are the longer ones."""
    decision_id = (await check(screen.gate, LISTED))["decision_id"]
    async with open_page(screen, language="it-IT") as page:
        await check_page(page)
        await page.fill("[name=key]", OFFICER)
        await page.keyboard.press("Enter")
        await page.wait_for_selector('#board[data-messages="2"]')
        for place in PLACES:
            await page.goto(f"{screen.url}{place}")
            await check_page(page)
        await simulate(page, screen, LISTED)
        await check_page(page)
        await page.goto(f"{screen.url}/decisions/{decision_id}")
        await check_page(page)


async def check_page(page: Page) -> None:
    """Check accessibility with axe, and the width of the document: narrow in light colours, and wide in dark ones."""
    session = await page.context.new_cdp_session(page)
    await session.send("Runtime.evaluate", {"expression": AXE})
    for (width, height), dark in ((SIZES["narrow"], False), (SIZES["wide"], True)):
        await page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        await page.set_viewport_size({"width": width, "height": height})
        script = "axe.run({resultTypes: ['violations']}).then(r => JSON.stringify(r.violations.map(v => [v.impact, v.id, v.nodes[0].html.slice(0, 120)])))"
        response = await session.send("Runtime.evaluate", {"expression": script, "awaitPromise": True})
        violations = json.loads(response["result"]["value"])
        assert [violation for violation in violations if violation[0] in SEVERE] == [], (page.url, width)
        script = "document.documentElement.scrollWidth - innerWidth"
        response = await session.send("Runtime.evaluate", {"expression": script})
        assert response["result"]["value"] <= 0, (page.url, width)
    await session.detach()


async def test_the_board_explains_a_problem_in_the_language_of_the_page(
    screen: Screen, tmp_path: Path
) -> None:
    context = await screen.browser.new_context(locale="it-IT")
    page = await context.new_page()
    async with running_console(tmp_path) as gate:
        gate.hand.at -= HOUR
        await gate.app.tick()
        await page.goto(f"http://127.0.0.1:{gate.port}/console/login")
        await page.fill("[name=key]", SUPERVISOR)
        await page.keyboard.press("Enter")
        await expect(page.locator("#problems")).to_contain_text(
            "L'orologio non è affidabile. Va regolato. clock"
        )
    await context.close()
