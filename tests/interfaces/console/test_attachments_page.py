"""Attachments on the page of a data-subject request, over HTTP."""

from collections.abc import AsyncIterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import ClientSession, FormData

from dialgate.core.model import HOUR
from tests.interfaces.console.test_console import browser, get, open_requests, send, token
from tests.support.console_world import ADMINISTRATOR, OFFICER, STRANGER, running_console
from tests.support.world import World


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with running_console(tmp_path) as made:
        yield made


async def attach(
    session: ClientSession, path: str, content: bytes, status: int, name: str = "letter.pdf"
) -> str:
    body = FormData({"token": await token(session)}, quote_fields=False)  # as browsers send it
    body.add_field("file", BytesIO(content), filename=name, content_type="application/pdf")
    async with session.post(f"{path}/attachments", data=body, allow_redirects=False) as answer:
        assert answer.status == status, await answer.text()
        return await answer.text()


async def test_an_attachment_is_opened_within_an_hour_of_a_look_up(gate: World) -> None:
    access, letter = (await open_requests(gate))["access"], b"a letter of +390612345678"
    path = f"/console/requests/{access['id']}"
    link = f"{path}/attachments/{sha256(letter).hexdigest()}"
    async with browser(gate, OFFICER) as session:
        assert "No file is attached." in await get(session, path)
        await attach(session, path, letter, 303, "letter of 06 12345678.pdf")
        page_text = await get(session, f"{path}?done=attached")
        assert all(words in page_text for words in ("File attached.", "letter of •••.pdf", "25 B"))
        assert link not in page_text
        assert "console.look_first" in await get(session, link, 403)
        await send(session, f"{path}/look-up", 303, purpose="to answer the request")
        page_text = await get(session, path)
        assert f'href="{link}">letter of 06 12345678.pdf</a>' in page_text
        async with session.get(link) as answer:
            assert await answer.read() == letter
            assert answer.headers["Content-Disposition"].startswith("attachment;")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "attachment.unknown" in await get(session, f"{path}/attachments/{'0' * 64}", 404)
    async with browser(gate, ADMINISTRATOR) as session:  # another person has not looked it up
        assert "console.look_first" in await get(session, link, 403)
    async with browser(gate, STRANGER) as session:
        assert "subject.unknown" in await get(session, link, 404)
        assert "subject.unknown" in await get(session, path, 404)
    gate.hand.at += HOUR
    async with browser(gate, OFFICER) as session:
        assert link not in await get(session, path)
        assert "console.look_first" in await get(session, link, 403)


async def test_a_file_that_cannot_be_attached_is_refused_on_the_page(gate: World) -> None:
    access = (await open_requests(gate))["access"]
    path = f"/console/requests/{access['id']}"
    async with browser(gate, OFFICER) as session:
        assert "Choose a file." in await attach(session, path, b"", 400, "")
        assert "The file is empty" in await attach(session, path, b"", 400)
        assert "more than 8 MiB" in await attach(session, path, b"0" * (8 << 20 | 1), 413)
        assert "No file is attached." in await get(session, path)
        assert "request.invalid" in await send(session, f"{path}/attachments", 400, file="letter")
