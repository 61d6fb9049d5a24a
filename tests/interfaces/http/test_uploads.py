"""Uploaded files must not delay the gate, exhaust its memory, or fill the disk that holds its log."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from dialgate.config.listeners import Uploads as Settings
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.uploads import UploadSlots, from_memory
from tests.lists.test_tabular import distant_cells, styles
from tests.support.child_processes import descendants, start_server
from tests.support.world import (
    CALL,
    CLEAR,
    KEY,
    LIST,
    LISTED,
    NOW,
    SCOPES,
    World,
    client,
    load_list,
    publish_answers,
    running,
)

ROWS = "".join(f"+3906{number}\n" for number in range(10_000_000, 10_010_000)).encode()
# The area code does not exist. Each row is parsed in every way before it is skipped, which takes half a minute.
SLOW = b"\n".join(map(b"+%d".__mod__, range(392_001_000_000, 392_001_200_000)))
FIELDS = {name: value for name, value in LIST.items() if name not in {"id", "numbers"}}
CSV = {"Content-Type": "text/csv"}


async def upload(made: World, name: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    query = {**FIELDS, "id": name, "campaigns": "acme-fibre"}
    body = BytesIO(body) if isinstance(body, bytes) else body
    async with made.client.post("/v1/lists", params=query, data=body, headers=CSV | headers) as answer:
        response: dict[str, Any] = await answer.json()
        return answer.status, response


def code(response: dict[str, Any]) -> str:
    return str(response["error"]["code"])


_OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
async def _others() -> None:
    """Record the processes that run before the test, such as a Redis and the server that forks the others."""
    await start_server()
    _OTHERS.clear()
    _OTHERS.update(descendants())


def children() -> set[int]:
    """Return the running processes that this test has started."""
    return descendants() - _OTHERS


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if what():
                return
            await asyncio.sleep(0)


# ---- over HTTP ----------------------------------------------------------------------------------------------------------


async def test_upkeep_revocations_and_retirements_work_while_lists_are_built(tmp_path: Path) -> None:
    """Each change must take effect before the last upload is finished. The test does not measure time."""
    async with running(tmp_path) as made:
        await load_list(made)
        async with made.client.post("/v1/check", json=CALL) as answer:
            allowed = await answer.json()
        async with ClientSession(
            made.client._base_url, headers={"Authorization": f"Bearer {KEY}"}
        ) as patient:
            query = {**FIELDS, "campaigns": "acme-fibre"}
            sent = [
                asyncio.create_task(
                    patient.post("/v1/lists", params=query | {"id": f"n{n}"}, data=ROWS, headers=CSV)
                )
                for n in range(4)
            ]
            await until(lambda: bool(children()))
            publish_answers(made.app.config.data, {CLEAR: True, LISTED: True}, NOW)
            await made.app.tick()
            assert await denied(made) == "registry.listed"
            await made.post(
                "/v1/outcomes", {"decision_id": allowed["decision_id"], "outcome": "opt_out"}, 200
            )
            assert (await denied(made)).startswith("revocation.")
            await made.post("/v1/lists/rome/retire", {}, 200)
            assert not all(task.done() for task in sent)
            answers = await asyncio.gather(*sent)
            assert [answer.status for answer in answers] == [201] * 4


async def test_a_process_builds_the_list_that_the_gate_builds_of_a_short_file(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        rows = ROWS[: 14 * 200]
        short, _ = await upload(made, "short", rows), await upload(made, "long", b"no number\n" * 200 + rows)
        files = [path.read_bytes() for path in (tmp_path / "data/lists").iterdir()]
    assert short[1]["accepted"] == 200
    assert len(files) == 2
    assert files[0] == files[1]


async def test_a_file_that_needs_too_much_memory_is_refused_with_the_reason(tmp_path: Path) -> None:
    rows = "".join(f"+3902{number}\n" for number in range(10_000_000, 10_600_000)).encode()
    async with running(tmp_path, uploads={"memory_mb": 64}) as made:
        status, response = await upload(made, "large", rows)
        assert (status, code(response)) == (400, "list.unreadable")
        assert "too much memory" in response["error"]["message"]


async def denied(made: World) -> str:
    async with made.client.post("/v1/check", json=CALL) as answer:
        return str((await answer.json())["reasons"][0]["code"])


async def test_the_process_of_a_disconnected_client_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        sending = asyncio.create_task(upload(made, "large", SLOW))
        await until(lambda: bool(children()))
        sending.cancel()
        await asyncio.wait([sending])
        await until(lambda: not children())
        assert await made.app._store.lists() == []
        await until(lambda: not list((tmp_path / "data/lists").iterdir()))


async def test_a_killed_process_is_reported_and_the_next_upload_accepted(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        sending = asyncio.create_task(upload(made, "large", SLOW))
        await until(lambda: bool(children()))
        for process in children():
            os.kill(process, signal.SIGKILL)
        status, response = await sending
        assert (status, code(response)) == (503, "upload.failed")
        assert (await upload(made, "large", ROWS))[0] == 201


async def test_a_killed_scrub_leaves_no_number_in_the_spool(tmp_path: Path) -> None:
    """A spreadsheet is written through a file of its own, whose name the gate does not know."""
    async with running(tmp_path, clients=[client("tests", KEY, *SCOPES, "admin")]) as made:
        spool, query = tmp_path / "data/spool", {"campaign": "acme-fibre", "format": "xlsx"}
        sending = asyncio.create_task(
            made.client.post("/v1/scrub", params=query, data=BytesIO(ROWS * 20), headers=CSV)
        )
        await until(lambda: bool(list(spool.glob("upload-*/*"))))
        for process in children():
            os.kill(process, signal.SIGKILL)
        async with await sending as answer:
            assert answer.status == 503
        await until(lambda: not list(spool.iterdir()))


async def test_a_closing_gate_kills_its_reading_processes(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        sending = asyncio.create_task(upload(made, "large", SLOW))
        await until(lambda: bool(children()))
    await asyncio.gather(sending, return_exceptions=True)
    assert not children()


@pytest.mark.parametrize("made_of", [lambda: styles(8 << 20), distant_cells], ids=["styles", "distant cells"])
async def test_a_spreadsheet_that_would_fill_the_memory_is_refused(
    tmp_path: Path, made_of: Callable[[], bytes]
) -> None:
    async with running(tmp_path) as made:
        status, response = await upload(made, "book", made_of())
        assert (status, code(response)) == (400, "list.unreadable")


# ---- the spool ----------------------------------------------------------------------------------------------------------


async def expect_refusal(uploads: UploadSlots, client: str, body: bytes) -> tuple[int, str]:
    with pytest.raises(Fault) as fault:
        async with uploads.received(client, from_memory(BytesIO(body)), lambda: False):
            raise AssertionError("it was received")
    assert fault.value.headers.get("Retry-After") or fault.value.status not in {429, 503}
    return fault.value.status, fault.value.problem.code


MIB = b"0" * (1 << 20)


async def test_a_file_has_a_size_limit(tmp_path: Path) -> None:
    uploads = UploadSlots(Settings(file_mb=2), tmp_path, 10.0)
    assert await expect_refusal(uploads, "one", MIB * 3) == (413, "request.too_large")
    async with uploads.received("one", from_memory(BytesIO(MIB * 2)), lambda: False):
        pass


async def test_concurrent_uploads_are_limited_per_client_and_in_total(tmp_path: Path) -> None:
    uploads = UploadSlots(Settings(), tmp_path, 10.0)
    async with AsyncExitStack() as received:
        for client in ("one", "two", "three", "four"):
            for _ in range(8):
                byte = from_memory(BytesIO(b"1"))
                await received.enter_async_context(uploads.received(client, byte, lambda: False))
            if client == "one":
                assert await expect_refusal(uploads, "one", b"1") == (429, "upload.busy")
        assert await expect_refusal(uploads, "five", b"1") == (503, "upload.full")
    async with uploads.received("five", from_memory(BytesIO(b"1")), lambda: False):
        pass


async def test_nothing_is_received_while_the_disk_is_nearly_full(small_disk: Path, tmp_path: Path) -> None:
    """On a small disk, a tenth must stay free."""
    uploads = UploadSlots(Settings(folder=str(small_disk / "spool")), tmp_path, 10.0)
    size = os.statvfs(small_disk)
    assert await expect_refusal(uploads, "one", b"0" * (size.f_blocks * size.f_frsize)) == (
        507,
        "upload.no_space",
    )
    assert os.statvfs(small_disk).f_bavail * 10 >= size.f_bavail * 9  # the space was freed
    async with uploads.received("one", from_memory(BytesIO(b"1")), lambda: False):
        pass


async def test_the_spool_can_be_elsewhere_and_is_emptied_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "upload-left").write_bytes(b"1")
    (folder / "upload-copy").mkdir()
    (folder / "upload-copy/file").write_bytes(b"1")
    (folder / "not-ours").write_bytes(b"1")
    uploads = UploadSlots(Settings(folder=str(folder)), tmp_path, 10.0)
    assert [path.name for path in folder.iterdir()] == ["not-ours"]
    async with uploads.received("one", from_memory(BytesIO(MIB)), lambda: False):
        assert not (tmp_path / "spool").exists()
    UploadSlots(Settings(), tmp_path, 10.0)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
