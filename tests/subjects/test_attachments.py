"""Attachments of data-subject requests: what happens to one from its arrival to the end of its request."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from dialgate.core.model import DAY, HOUR, Instant
from dialgate.store.subjects import SubjectStore
from dialgate.tools.backup import back_up
from tests.cluster.test_peers import two_gates
from tests.subjects.test_letters import open_request, plain
from tests.subjects.test_subjects import PERSON
from tests.support import console_world, world
from tests.support.world import CLEAR, NOW, World

CLIENTS = [world.client("tests", world.KEY, *world.SCOPES, "subjects", "admin")]
LETTER = b"%PDF-1.7 I want to know why you called +390612345678"
SHA256 = sha256(LETTER).hexdigest()
MOST = 8 << 20
UNKNOWN = (404, "attachment.unknown")


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[World]:
    storage = {"daily": False, "subject_requests_days": 600, "lookups_days": 5000}
    async with world.running(folder, clients=CLIENTS, storage=storage, **settings) as made:
        yield made


async def attach(
    gate: World,
    request: str,
    content: bytes = LETTER,
    status: int = 201,
    *,
    name: str = "letter.pdf",
    **more: Any,
) -> Any:
    url = f"/v1/subject-requests/{request}/attachments"
    async with gate.client.post(url, data=BytesIO(content), params={"name": name}, **more) as response:
        answer = await response.json()
    assert response.status == status, answer
    return answer if status == 201 else answer["error"]["code"]


async def download(gate: World, request: str, digest: str = SHA256, **more: Any) -> tuple[int, Any]:
    """Return the status, and the content or the code of the error."""
    url = f"/v1/subject-requests/{request}/attachments/{digest}"
    async with gate.client.get(url, params={"purpose": "case 7"}, **more) as response:
        if response.status != 200:
            return response.status, (await response.json())["error"]["code"]
        assert response.headers["Content-Disposition"].startswith("attachment")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        return 200, await response.read()


async def show(gate: World, request: str, query: str = "") -> Any:
    return await gate.get(f"/v1/subject-requests/{request}{query}")


async def steps(gate: World, request: str) -> list[str]:
    return [step["step"] for step in (await show(gate, request))["steps"]]


async def close(gate: World, request: str, outcome: str) -> None:
    await gate.post(f"/v1/subject-requests/{request}", {"outcome": outcome, "reason": "done"}, 200)


async def retire(gate: World, at: Instant) -> int:
    """Remove at a time what is over then, and return how many requests were removed."""
    gate.hand.at = at
    world.store_time(gate.app.config.data, at)
    removed = await gate.app.subjects.retire(at, drop=True)
    return {item.kind: item.count for item in removed}["subject_requests"]


def stored(data: Path) -> int:
    with closing(sqlite3.connect(data / "subjects.db")) as db:
        (count,) = db.execute("SELECT count(*) FROM attachment").fetchone()
        return int(count)


# ---- arrival -------------------------------------------------------------------------------------------------------


async def test_a_letter_is_kept_encrypted_listed_and_given_back(gate: World) -> None:
    request = await open_request(gate, "access")
    attached = await attach(gate, request, headers={"Content-Type": "application/octet-stream"})
    expected = {
        "sha256": SHA256,
        "name": "letter.pdf",
        "bytes": len(LETTER),
        "at": "2026-11-24T09:00:00.000Z",
    }
    assert attached == {**expected, "actor": "tests"}
    file = await show(gate, request)
    assert file["attachments"] == [attached]
    assert [(step["step"], step["text"]) for step in file["steps"]][1:] == [("attached", "letter.pdf")]
    assert await download(gate, request) == await download(gate, request, SHA256.upper()) == (200, LETTER)
    found = (await gate.get(f"/v1/subjects/{PERSON}?purpose=check"))["lookups"]
    assert [(lookup["what"], lookup["purpose"]) for lookup in found[:2]] == [("request", "case 7")] * 2
    disk = b"".join(path.read_bytes() for path in gate.app.config.data.glob("subjects.db*"))
    assert b"why you called" not in disk


async def test_a_number_in_the_name_of_a_file_is_shown_only_after_a_look_up(gate: World) -> None:
    request = await open_request(gate, "access")
    name = "lettera di 06 1234 5678, «perché».pdf"
    assert (await attach(gate, request, name=name))["name"] == name  # the client has just sent it
    disk = b"".join(path.read_bytes() for path in gate.app.config.data.glob("subjects.db*"))
    assert b"1234 5678" not in disk
    file = await show(gate, request)
    assert "5678" not in str(file)
    assert file["attachments"][0]["name"] == "lettera di •••, «perché».pdf"
    file = await show(gate, request, "?purpose=to%20answer")
    assert file["attachments"][0]["name"] == name
    url = f"/v1/subject-requests/{request}/attachments/{SHA256}?purpose=case"
    async with gate.client.get(url) as response:
        header = response.headers["Content-Disposition"]
    assert unquote(header.partition("UTF-8''")[2]) == name
    assert header.isascii()


async def test_the_access_report_and_its_letter_list_the_attachments(gate: World) -> None:
    first, second = await open_request(gate, "access"), await open_request(gate, "erasure")
    await attach(gate, first, name=f"letter of {CLEAR}.pdf")
    gate.hand.at += HOUR
    await attach(gate, second, b"sent", name="answer.pdf")
    listed = (await gate.get(f"/v1/subjects/{PERSON}?purpose=access"))["attachments"]
    assert [(file["request"], file["name"], file["at"], file["bytes"]) for file in listed] == [
        (first, f"letter of {CLEAR}.pdf", "2026-11-24T09:00:00.000Z", len(LETTER)),
        (second, "answer.pdf", "2026-11-24T10:00:00.000Z", 4),
    ]
    for language, heading in (("en", "Files kept with your requests"), ("it", "File conservati con le Sue")):
        async with gate.client.get(f"/v1/subjects/{PERSON}?purpose=access&language={language}") as answer:
            words = plain(await answer.text())
        assert heading in words
        assert "answer.pdf 4 byte" in words


async def test_the_same_file_attached_again_changes_nothing(gate: World) -> None:
    request = await open_request(gate, "access")
    first = await attach(gate, request)
    gate.hand.at += HOUR
    assert await attach(gate, request, name="again.pdf") == first
    answers = await asyncio.gather(*(attach(gate, request, b"an identity card") for _ in range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert await steps(gate, request) == ["received", "attached", "attached"]
    other = await open_request(gate, "erasure")
    assert await download(gate, other) == UNKNOWN
    await attach(gate, other)  # each request has its own copy, which ends with it
    assert stored(gate.app.config.data) == 3


async def test_the_size_and_the_number_of_attachments_are_limited(gate: World) -> None:
    request = await open_request(gate, "access")
    assert await attach(gate, request, b"", 400) == "request.broken"
    assert await attach(gate, request, b"0" * (MOST + 1), 413) == "attachment.too_large"
    assert await attach(gate, request, name="", status=400) == "request.invalid"
    assert await attach(gate, request, name="x" * 257, status=400) == "request.invalid"
    assert (await attach(gate, request, b"0" * MOST))["bytes"] == MOST
    for page in range(19):
        await attach(gate, request, b"page %d" % page)
    before = await steps(gate, request)
    assert await attach(gate, request, status=409) == "attachment.too_many"
    await attach(gate, request, b"page 1")  # it is already there
    assert await steps(gate, request) == before
    assert len((await show(gate, request))["attachments"]) == 20


async def test_a_file_is_refused_while_the_disk_is_nearly_full(small_disk: Path, tmp_path: Path) -> None:
    spool = str(tmp_path / "spool")  # on another disk, which has space
    async with running(tmp_path, data=str(small_disk / "data"), uploads={"folder": spool}) as gate:
        request = await open_request(gate, "access")
        assert await attach(gate, request, b"0" * (4 << 20), 507) == "upload.no_space"
        await attach(gate, request)


@pytest.mark.parametrize("outcome", ["answered", "refused", "withdrawn"])
async def test_a_closed_request_still_takes_what_was_sent(gate: World, outcome: str) -> None:
    request = await open_request(gate, "access")
    await attach(gate, request)
    await close(gate, request, outcome)
    await attach(gate, request, b"the answer", name="answer.pdf")
    assert await steps(gate, request) == ["received", "attached", outcome, "attached"]
    assert (await show(gate, request))["request"]["closed_at"] == "2026-11-24T09:00:00.000Z"
    assert await download(gate, request) == (200, LETTER)


async def test_an_erasure_leaves_the_letter_that_asked_for_it(gate: World) -> None:
    request = await open_request(gate, "erasure")
    await attach(gate, request)
    await gate.post(f"/v1/subject-requests/{request}/execution", {}, 200)
    await close(gate, request, "answered")
    assert await download(gate, request) == (200, LETTER)


# ---- who and where -----------------------------------------------------------------------------------------------


async def test_a_request_of_another_controller_or_an_unknown_one_has_no_attachments(tmp_path: Path) -> None:
    tenants = [
        {**world.client(name, f"key-{name}", *world.SCOPES, "subjects"), "controllers": [name]}
        for name in ("acme", "beta")
    ]
    async with console_world.running_console(tmp_path, clients=[*CLIENTS, *tenants]) as gate:
        acme, beta = ({"Authorization": f"Bearer key-{name}"} for name in ("acme", "beta"))
        request = await open_request(gate, "access", controller="acme")
        await attach(gate, request, headers=acme)
        assert await download(gate, request, headers=acme) == (200, LETTER)
        assert await download(gate, request, headers=beta) == (404, "subject.unknown")
        assert await attach(gate, request, b"another", 404, headers=beta) == "subject.unknown"
        assert await attach(gate, "none", status=404) == "subject.unknown"
        assert stored(gate.app.config.data) == 1


async def test_attachments_are_on_the_gate_that_received_the_request(tmp_path: Path) -> None:
    async with two_gates(tmp_path) as (rome, milan):
        request = await open_request(rome, "access")
        await attach(rome, request)
        assert await attach(milan, request, status=404) == "subject.unknown"
        assert await download(milan, request) == (404, "subject.unknown")
        error = (await milan.get(f"/v1/subject-requests/{request}", 404))["error"]["message"]
        assert error.endswith("or ask the gate that received the request.")
        assert await download(rome, request) == (200, LETTER)


# ---- the end ---------------------------------------------------------------------------------------------------------


async def test_attachments_are_removed_with_their_request(gate: World) -> None:
    request, still_open = await open_request(gate, "access"), await open_request(gate, "erasure")
    await attach(gate, request)
    await attach(gate, still_open)
    await close(gate, request, "answered")
    gate.hand.at += 100 * DAY
    await attach(gate, request, b"a later letter")  # does not prolong the term, as a note does not
    assert await retire(gate, NOW + 600 * DAY) == 0
    assert await download(gate, request) == (200, LETTER)
    assert await retire(gate, NOW + 600 * DAY + 1) == 1
    assert await download(gate, request) == (404, "subject.unknown")
    assert stored(gate.app.config.data) == 1
    assert await attach(gate, request, status=404) == "subject.unknown"
    assert await download(gate, still_open) == (200, LETTER)


async def test_a_file_that_arrives_while_its_request_is_removed_is_not_stored(gate: World) -> None:
    request = await open_request(gate, "access")
    file = SubjectStore.open(gate.app.config.data / "subjects.db")
    (opening,) = await file.case(request)
    await attach(gate, request)
    (attached,) = await file.attachments(request)
    await close(gate, request, "answered")
    assert await retire(gate, NOW + 700 * DAY) == 1
    assert await file.attach(attached, opening, 20) == []
    assert await file.case(request) == []
    await file.close()


async def test_a_legal_hold_keeps_the_attachments(gate: World) -> None:
    request = await open_request(gate, "complaint")
    await attach(gate, request)
    await close(gate, request, "refused")
    await gate.post("/v1/holds", {"number": CLEAR, "reason": "case 4711"})
    assert await retire(gate, NOW + 700 * DAY) == 0
    assert await download(gate, request) == (200, LETTER)
    await gate.post("/v1/holds/lift", {"number": CLEAR, "reason": "closed"})
    assert await retire(gate, NOW + 701 * DAY) == 1
    assert stored(gate.app.config.data) == 0


# ---- damage and loss -------------------------------------------------------------------------------------------------


async def test_a_damaged_attachment_is_reported_and_the_others_are_readable(gate: World) -> None:
    request = await open_request(gate, "access")
    await attach(gate, request)
    card = (await attach(gate, request, b"an identity card"))["sha256"]
    with closing(sqlite3.connect(gate.app.config.data / "subjects.db", isolation_level=None)) as db:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute("UPDATE attachment SET name = 'another'")
        db.execute("DROP TRIGGER attachment_stays")
        db.execute("UPDATE attachment SET content = zeroblob(80) WHERE sha256 = ?", (SHA256,))
    assert await download(gate, request) == (500, "attachment.damaged")
    assert await download(gate, request, card) == (200, b"an identity card")


async def test_the_contents_of_two_requests_cannot_be_exchanged(gate: World) -> None:
    """Somebody with access to the file moves a letter to another person's request."""
    request, other = await open_request(gate, "access"), await open_request(gate, "erasure")
    await attach(gate, request)
    with closing(sqlite3.connect(gate.app.config.data / "subjects.db", isolation_level=None)) as db:
        db.execute("DROP TRIGGER attachment_stays")
        db.execute("UPDATE attachment SET id = ?", (other,))
    assert await download(gate, request) == UNKNOWN
    assert await download(gate, other) == (500, "attachment.damaged")


async def test_a_backup_brings_the_attachments_back(tmp_path: Path) -> None:
    async with running(tmp_path) as gate:
        request = await open_request(gate, "access")
        await attach(gate, request)
        out = tmp_path / "copy"
        await asyncio.to_thread(back_up, gate.app.config.data, out, lambda *_: None)
    (tmp_path / "restored").mkdir()
    async with running(tmp_path / "restored", data=str(out)) as restored:
        assert await download(restored, request) == (200, LETTER)
        await attach(restored, request, b"another")
        assert await steps(restored, request) == ["received", "attached", "attached"]


async def test_a_database_of_the_first_format_keeps_its_requests(tmp_path: Path) -> None:
    data, again = str(tmp_path / "data"), tmp_path / "again"
    async with running(tmp_path, data=data) as gate:
        request = await open_request(gate, "access")
    with closing(sqlite3.connect(f"{data}/subjects.db", isolation_level=None)) as db:
        db.execute("DROP TABLE attachment")
        db.execute("PRAGMA user_version=1")
    again.mkdir()
    async with running(again, data=data) as gate:
        await attach(gate, request)
        assert await steps(gate, request) == ["received", "attached"]


# ---- commands ------------------------------------------------------------------------------------------------------


async def test_commands_attach_a_file_list_it_and_bring_it_back(gate: World, tmp_path: Path) -> None:
    letter, out = tmp_path / "letter.pdf", tmp_path / "back.pdf"
    letter.write_bytes(LETTER)
    request = await open_request(gate, "access")
    shown = await gate.output("subject", "attach", request, letter, "--actor", "anna")
    assert f"SHA-256: {SHA256}" in shown
    shown = await gate.output("subject", "case", request)
    for words in ("letter.pdf", SHA256, "anna"):
        assert words in shown
    wanted = ["subject", "attachment", request, "--purpose", "case 7", "--out", out, "--sha256"]
    assert f"{len(LETTER)} bytes" in await gate.output(*wanted, SHA256)
    assert (out.read_bytes(), out.stat().st_mode & 0o777) == (LETTER, 0o600)
    unknown = await gate.command(*wanted, "c" * 64)
    assert (unknown.code, "has no attachment with this SHA-256" in unknown.err) == (1, True)
    with letter.open("wb") as file:
        file.truncate(MOST + 1)
    refused = await gate.command("subject", "attach", request, letter)
    assert (refused.code, "is empty, or has more than 8 MiB" in refused.err) == (2, True)
    assert stored(gate.app.config.data) == 1
