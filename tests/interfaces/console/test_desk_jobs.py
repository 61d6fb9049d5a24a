"""The jobs of a desk, each done in the console alone, in a real Chromium. The page on the console says how many clicks each takes.

A click is a press of a button or link, also by the keyboard. Fields that are filled are not counted, and neither is signing in.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.interfaces.console.test_cases_browser import close, look_up, read_letter, record
from tests.interfaces.console.test_console_browser import Screen, open_page
from tests.project.test_docs import PAGES
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import ADMINISTRATOR, NUMBERS, check, running_console
from tests.support.world import LIST

pytestmark = [
    pytest.mark.torture,  # others walk the pages; this one counts
    needs_chromium,
]
Work: TypeAlias = Callable[[Screen, Page], Awaitable[None]]
CLICKS: Final = dict(
    re.findall(r"^\| ([^|]+?) \| [^|]+ \| (\d+) \|$", PAGES["docs/reference/console.md"], re.MULTILINE)
)
COUNT: Final = """
addEventListener("click", (event) => {
  if (event.target.closest("a, button, summary, input[type=checkbox], label.choice"))
    sessionStorage.setItem("clicks", Number(sessionStorage.getItem("clicks") ?? 0) + 1);
}, true);
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def screen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Screen]:
    async with (
        running_console(tmp_path_factory.mktemp("jobs"), checkpoint_seconds=0.001) as gate,
        running_chromium() as browser,
    ):
        yield Screen(gate, browser)


@asynccontextmanager
async def counted(screen: Screen) -> AsyncIterator[Page]:
    """Sign in, and count clicks from then on. Each job begins on the live board."""
    async with open_page(screen, ADMINISTRATOR) as page:
        await page.add_init_script(COUNT)
        await page.goto(screen.url)
        yield page


async def go(page: Page, name: str) -> None:
    await page.locator("nav.side").get_by_role("link", name=name, exact=True).click()


async def pause_a_campaign(_: Screen, page: Page) -> None:
    await go(page, "Campaigns")
    await page.get_by_role("link", name="acme-survey").click()
    await page.locator("[name=reason]").fill("wrong script")
    await page.get_by_role("button", name="Pause the campaign").click()
    await expect(page.get_by_role("main")).to_contain_text("wrong script")
    await page.reload()
    await expect(page.get_by_role("main")).to_contain_text("wrong script")


async def load_a_list(screen: Screen, page: Page, **fields: str) -> None:
    await go(page, "Call lists")
    file = Path(screen.gate.folder) / "list.csv"
    file.write_text("".join(f"+3906129900{at:02}\n" for at in range(60)), "ascii")
    for name, value in {"id": "winter", "collected_by": "Acme", "collected_on": "2026-10-01"}.items():
        await page.fill(f"form[aria-labelledby=h-load] [name={name}]", fields.get(name, value))
    if "replaces" in fields:
        await page.select_option("[name=replaces]", fields["replaces"])
    await page.set_input_files("[name=file]", file)
    await page.get_by_role("button", name="Load", exact=True).click()
    await expect(page.get_by_role("status")).to_contain_text("60")


async def replace_a_list(screen: Screen, page: Page) -> None:
    await screen.gate.post("/v1/lists", {**LIST, "id": "old", "numbers": NUMBERS})
    await load_a_list(screen, page, id="new", replaces="old")
    await expect(page.get_by_role("status")).to_contain_text("The list old was retired.")


async def count_a_list(screen: Screen, page: Page) -> None:
    await screen.gate.post(
        "/v1/lists",
        {**LIST, "id": "counted", "numbers": [*NUMBERS, *(f"+3906125500{at:02}" for at in range(20))]},
    )
    await go(page, "Call lists")
    await page.get_by_role("button", name="Preview counted").click()
    await expect(page.get_by_role("main")).to_contain_text("of 60 can be called now")


async def record_a_stop(screen: Screen, page: Page) -> None:
    await go(page, "Record an opt-out")
    await page.fill("[name=number]", NUMBERS[10])
    await page.get_by_role("button", name="Record the opt-out").click()
    await expect(page.get_by_role("status")).to_be_visible()
    assert (await check(screen.gate, NUMBERS[10]))["decision"] == "deny"


async def explain_a_refusal(screen: Screen, page: Page) -> None:
    await check(screen.gate, "+390688888888")
    await go(page, "Decisions")
    await page.get_by_role("row", name="88").get_by_role("link").first.click()
    await expect(page.get_by_role("main")).to_contain_text("registry.unknown")


async def look_at_a_day(screen: Screen, page: Page) -> None:
    await check(screen.gate, NUMBERS[11])
    await go(page, "History")
    await expect(page.get_by_role("main")).to_contain_text("By hour")
    await page.get_by_role("link", name="acme-fibre").first.click()
    await expect(page.get_by_role("main")).to_contain_text("acme-fibre")


async def read_a_report(_: Screen, page: Page) -> None:
    await go(page, "Reports")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("body")).to_contain_text("23")


async def answer_access(screen: Screen, page: Page) -> None:
    await work_off(screen, page, "access", NUMBERS[1])


async def answer_why(screen: Screen, page: Page) -> None:
    await work_off(screen, page, "why", NUMBERS[2])


async def answer_erasure(screen: Screen, page: Page) -> None:
    async def erase(number: str) -> None:
        form = page.get_by_role("listitem", name="Erase the data")
        await form.locator("[name=confirm]").fill(number[-4:])
        await form.get_by_role("button").click()
        await expect(page.get_by_role("status")).to_contain_text("Now write the letter")

    await work_off(screen, page, "erasure", NUMBERS[3], erase)


async def answer_objection(screen: Screen, page: Page) -> None:
    async def stop(_: str) -> None:
        await page.get_by_role("button", name="Stop the calls").click()
        await expect(page.get_by_role("status")).to_contain_text("Now write the letter")

    await work_off(screen, page, "objection", NUMBERS[4], stop)


async def work_off(
    screen: Screen,
    page: Page,
    kind: str,
    number: str,
    carry_out: Callable[[str], Awaitable[None]] | None = None,
) -> None:
    """Work off a request from its arrival to its end."""
    await go(page, "Data-subject requests")
    await record(page, screen, kind, number)
    if kind != "objection":
        await look_up(page, number)
    if carry_out:
        await carry_out(number)
    assert "Anna Esempio" in await read_letter(page)
    await close(page, "answered", "letter sent by PEC")


async def place_a_hold(_: Screen, page: Page) -> None:
    await go(page, "Legal holds")
    await page.fill("[name=number]", NUMBERS[5])
    await page.fill("[name=reason]", "Garante, case 4711")
    await page.get_by_role("button", name="Place the hold").click()
    await expect(page.get_by_role("status")).to_contain_text("in force")


async def see_who_looked(_: Screen, page: Page) -> None:
    await go(page, "Who looked at what")
    await expect(page.get_by_role("main")).to_contain_text("Look-ups")


async def rotate_a_key(_: Screen, page: Page) -> None:
    await go(page, "API keys")
    await page.get_by_label("Client").select_option("agent-7")
    await page.get_by_role("button", name="Make a key").click()
    await expect(page.get_by_role("status")).to_be_visible()
    row = page.get_by_role("row", name="agent-7").first
    await row.locator("summary").click()
    await row.get_by_role("button").click()
    await expect(page.get_by_role("main")).to_contain_text("Disabled")


async def invite_a_person(_: Screen, page: Page) -> None:
    await go(page, "Accounts")
    await page.get_by_label("Name").fill("carla.verdi")
    await page.get_by_role("button", name="Add a person").click()
    await expect(page.get_by_role("status")).to_contain_text("/console/invitation/carla.verdi/")


JOBS: Final[dict[str, Work]] = {
    "pause a campaign": pause_a_campaign,
    "load a call list": load_a_list,
    "replace a call list": replace_a_list,
    "count what is callable on a list, and why not": count_a_list,
    "record a person's stop": record_a_stop,
    "tell an agent why a call was refused": explain_a_refusal,
    "look at a day by hour and campaign": look_at_a_day,
    "read the report of yesterday": read_a_report,
    "answer an access request": answer_access,
    'answer "why was I called?"': answer_why,
    "answer an erasure": answer_erasure,
    "answer an objection": answer_objection,
    "place a legal hold": place_a_hold,
    "see who looked at what": see_who_looked,
    "rotate the key of a program": rotate_a_key,
    "invite a person": invite_a_person,
}


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_job_takes_as_many_clicks_as_the_page_says(screen: Screen, name: str) -> None:
    async with counted(screen) as page:
        await JOBS[name](screen, page)
        clicks = await page.evaluate("sessionStorage.getItem('clicks')")
    assert (name, clicks) == (name, CLICKS.get(name))


def test_the_page_names_no_other_job() -> None:
    assert CLICKS.keys() == JOBS.keys()
