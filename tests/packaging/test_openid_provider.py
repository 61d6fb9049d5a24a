"""Sign-in at oidc-provider, a certified OpenID provider for Node.js, in a real Chromium. Needs the index of npm."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import expect

from dialgate.runtime.clock import wall_clock
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import running_console
from tests.support.paths import ROOT
from tests.support.ports import free_port

pytestmark = [pytest.mark.package, needs_chromium]
PACKAGE = "oidc-provider@9.13.3"


@asynccontextmanager
async def running_oidc_provider(folder: Path, redirect: str) -> AsyncIterator[str]:
    """Install and run the provider, and yield its issuer."""
    await asyncio.to_thread(folder.mkdir)
    shutil.copy(ROOT / "tests/support/openid_provider.mjs", folder)
    npm = await asyncio.create_subprocess_exec(
        "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE, cwd=folder
    )
    assert await npm.wait() == 0
    issuer = f"http://127.0.0.1:{free_port()}"
    node = await asyncio.create_subprocess_exec(
        "node", "openid_provider.mjs", issuer, redirect, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    assert node.stdout
    try:
        assert await node.stdout.readline() == b"ready\n"
        yield issuer
    finally:
        node.kill()
        await node.wait()


async def test_a_person_signs_in_at_a_certified_provider(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with running_oidc_provider(tmp_path / "provider", f"{url}/console/openid/callback") as issuer:
        folder = tmp_path / "gate"
        await asyncio.to_thread(folder.mkdir)
        await asyncio.to_thread((folder / "openid.secret").write_text, "a-secret-of-the-tests\n")
        openid = {
            "issuer": issuer,
            "client_id": "dialgate",
            "client_secret_file": "openid.secret",
            "role_claim": "groups",
            "roles": {"dialgate-officers": "officer"},
        }
        settings = {"listen": {"host": "127.0.0.1", "port": port}, "accounts": {"url": url, "openid": openid}}
        async with running_console(folder, **settings) as gate, running_chromium() as browser:
            gate.hand.at = wall_clock() - (gate.hand() - gate.hand.at)
            page = await browser.new_page()
            await page.goto(f"{url}/console/lookup")
            await page.get_by_role("link", name="company's account").click()
            await page.fill("[name=login]", "248289761001")
            await page.fill("[name=password]", "anything")
            await page.get_by_role("button", name="Sign-in").click()
            await page.get_by_role("button", name="Continue").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Look up a number")
            await expect(page.locator(".who .name")).to_have_text("anna.rossi")
            await expect(page.locator(".who .role")).to_have_text("DPO")
