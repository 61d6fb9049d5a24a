"""Evidence about an authority's list of numbers: one zip file, over HTTP and from the console in a real Chromium."""

import asyncio
import hashlib
import io
import re
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from playwright.async_api import expect

from tests.interfaces.console.test_console_browser import check_page
from tests.interfaces.console.test_officer_browser import Desk, open_desk
from tests.interfaces.console.test_officer_pages import api
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.console_world import NUMBERS, OFFICER, STRANGER, SUPERVISOR, check, running_console
from tests.support.people import join
from tests.support.world import CLEAR, LISTED, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASK = {"purpose": "Garante, case 4711", "addressee": "Garante\nRoma", "controller": "acme", "format": "zip"}
NAMES = {"evidence.json", "verify_evidence.py", "report.html", "letter.html"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("evidence")
    async with running_console(folder, checkpoint_seconds=0.001) as built:
        for number in (CLEAR, CLEAR, LISTED):
            await check(built, number)
        await built.app.tick()
        yield built


async def request_zip(gate: World, **changes: Any) -> dict[str, bytes]:
    headers = {"Authorization": f"Bearer {OFFICER}"}
    async with (
        ClientSession(f"http://127.0.0.1:{gate.port}", headers=headers) as session,
        session.post("/v1/evidence", json={**ASK, **changes}) as answer,
    ):
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip"), (
            await answer.text()
        )
        return unpacked(io.BytesIO(await answer.read()))


def unpacked(file: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def verify(packed: dict[str, bytes], folder: Path, key: str) -> tuple[int, str]:
    """Run the enclosed verifier on the enclosed bundle, as the authority does."""
    for name, body in packed.items():
        (folder / name).write_bytes(body)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "verify_evidence.py", "evidence.json", "--key", key,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def disclosed(gate: World, purpose: str) -> set[str]:
    found = (await api(gate, "GET", "/v1/lookups?what=disclosure", OFFICER, 200))["lookups"]
    return {lookup["number"][-2:] for lookup in found if lookup["purpose"] == purpose}


async def test_the_command_writes_the_same_zip_file(gate: World, tmp_path: Path) -> None:
    asked, out = tmp_path / "asked.txt", tmp_path / "evidence.zip"
    asked.write_text(f"{CLEAR}\n{LISTED}\n")
    words = (
        "log",
        "evidence",
        "--numbers",
        asked,
        "--purpose",
        "Garante, by command",
        "--controller",
        "acme",
    )
    for wrong in (("--out", out), ("--out", tmp_path / "e.json", "--addressee", "Garante")):
        refused = await gate.command(*words, *wrong)
        assert (refused.code, "a zip file needs" in refused.err) == (2, True)
    shown = await gate.output(*words, "--out", out, "--addressee", "Garante\nRoma", "--protocol", "7/2026")
    assert "Sign its letter" in shown
    packed = unpacked(out)
    assert packed.keys() == NAMES
    assert "7/2026" in packed["letter.html"].decode()
    assert out.stat().st_mode & 0o777 == 0o600
    assert await disclosed(gate, "Garante, by command") == {CLEAR[-2:], LISTED[-2:]}


async def test_an_authority_verifies_the_zip_file_with_nothing_else(gate: World, tmp_path: Path) -> None:
    packed = await request_zip(gate, numbers=[CLEAR, LISTED, NUMBERS[30]], language="en")
    assert packed.keys() == NAMES
    letter, report = packed["letter.html"].decode(), packed["report.html"].decode()
    key = re.search(r"--key</span> ([0-9a-f]{16})", letter)
    assert key
    status, output = await verify(packed, tmp_path, key[1])
    assert status == 0, output
    assert output.count(CLEAR) >= 2
    assert (await verify(packed, tmp_path, "0" * 16))[0] == 1  # the key of somebody else
    for name in NAMES - {"letter.html"}:
        assert hashlib.sha256(packed[name]).hexdigest() in letter
    assert "Garante<br>" in letter
    assert "Acme Telecomunicazioni" in letter
    first, second = report.index(f"<h2>{CLEAR}</h2>"), report.index(f"<h2>{LISTED}</h2>")
    assert report[first:second].count("<h3>") == 2
    assert "registry" in report[second:]
    assert report.endswith("</html>")
    assert "No decision about this number" in report[report.index(NUMBERS[30]) :]
    assert await disclosed(gate, ASK["purpose"]) == {CLEAR[-2:], LISTED[-2:], NUMBERS[30][-2:]}
    empty = await request_zip(gate, numbers=[CLEAR], until="2026-01-01T00:00:00Z", language="it")
    assert "alcuna decisione su questo numero" in empty["report.html"].decode()


@pytest.mark.parametrize(
    ("changes", "key", "status"),
    [
        ({"addressee": " "}, OFFICER, 400),
        ({"controller": ""}, OFFICER, 404),  # whose letterhead?
        ({"numbers": ["twelve"]}, OFFICER, 400),
        ({"numbers": [], "decision": "0123abcd-1"}, OFFICER, 400),
        ({}, SUPERVISOR, 403),
        ({}, STRANGER, 403),
    ],
)
async def test_what_is_refused_discloses_nothing(
    gate: World, changes: dict[str, Any], key: str, status: int
) -> None:
    ask = {**ASK, "numbers": [NUMBERS[31]], "purpose": f"refused {status}", **changes}
    await api(gate, "POST", "/v1/evidence", key, status, **ask)
    assert await disclosed(gate, f"refused {status}") == set()


@needs_chromium
async def test_an_officer_answers_an_authoritys_list_without_a_shell(gate: World, tmp_path: Path) -> None:
    officer = await join(gate.app.people, gate.hand(), "anna.rossi", "officer", "*")
    file = tmp_path / "asked.txt"
    file.write_text(f"{CLEAR}\n\n{LISTED}\n")
    async with (
        running_chromium() as chromium,
        open_desk(Desk(gate, chromium, officer), "/evidence", language="it-IT") as page,
    ):
        await page.fill("[name=numbers]", f"{CLEAR}\nuno\n{LISTED}\ndue")
        await page.fill("[name=purpose]", "Garante, fascicolo 4711")
        await page.fill("[name=addressee]", "Garante per la protezione dei dati\nRoma")
        await page.select_option("[name=controller]", "acme")
        await page.get_by_role("button", name="Scarica le prove").click()
        await expect(page.get_by_text("alla riga: 2, 4")).to_be_visible()
        await check_page(page)
        await page.set_input_files("input[type=file]", file)
        await expect(page.locator("[name=numbers]")).to_have_value(file.read_text())
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Scarica le prove").click()
        packed = unpacked(await (await downloading.value).path())
        await page.goto(f"{page.url.partition('/evidence')[0]}/look-ups?what=disclosure&client=anna.rossi")
        await expect(page.locator("tbody tr")).to_have_count(4)  # two numbers of two controllers
        await page.goto(f"{page.url.partition('/look-ups')[0]}/evidence")
        await check_page(page)
    assert packed.keys() == NAMES
    assert "prove su 2 numeri telefonici" in packed["letter.html"].decode()
