"""The pictures of the documentation's front page, taken in Chromium from `dialgate demo`. `make pictures` runs it."""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.support.chromium import running_chromium
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.running_gate import program
from tests.support.terminal import on_a_terminal

FOLDER: Final = ROOT / "docs"
WIDTH, HEIGHT = 1280, 860
_TRAFFIC: Final = 60_000  # milliseconds of traffic before the live board is worth a picture


async def take() -> None:
    """Write a picture of the live board, of a decision and of the API description."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        words = program(
            "demo", "--folder", str(Path(folder) / "demo"), "--port", str(port), "--numbers", "20000"
        )
        async with on_a_terminal(words, ROOT) as terminal, running_chromium() as browser:
            key = (await terminal.until(r"key: (\S+)"))[1]
            await terminal.until(r"calls · [1-9]\d*% allowed")
            console = f"http://127.0.0.1:{port}/console"
            page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB")
            await page.goto(f"{console}/login")
            await page.fill("[name=key]", key)
            await page.keyboard.press("Enter")
            await page.wait_for_selector("nav.side")
            await page.wait_for_timeout(_TRAFFIC)
            await page.screenshot(path=FOLDER / "console.png")
            denied = page.locator("main a[href*='/decisions/'], main a[href*='/decision']").first
            await page.goto(
                f"{console}/{(await denied.get_attribute('href') or '').removeprefix('/console/')}"
            )
            await page.screenshot(path=FOLDER / "decision.png")
            await page.set_extra_http_headers({"Authorization": f"Bearer {key}"})
            await page.goto(f"http://127.0.0.1:{port}/docs")
            await page.screenshot(path=FOLDER / "api.png")
            terminal.type("\x03")
            await terminal.wait_for_end()


if __name__ == "__main__":
    asyncio.run(take())
