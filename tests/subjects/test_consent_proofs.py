"""Files that prove consents: what happens to one from its upload to the end of the last entry that names it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dialgate.core.model import DAY, HOUR, Instant
from dialgate.crypto.keys import Keys
from dialgate.store.proof_files import ProofFiles
from dialgate.tools.backup import back_up
from tests.cluster.test_peers import two_gates
from tests.support import console_world, redis_servers, world
from tests.support.damage import flip
from tests.support.ports import free_port
from tests.support.world import CALL, CLEAR, LISTED, NOW, World

CLIENTS = [world.client("tests", world.KEY, *world.SCOPES, "subjects", "admin")]
FORM = b"%PDF-1.7 signed by +390612345678"
SHA256 = sha256(FORM).hexdigest()
MOST = 16 << 20
CONSENT = {
    "number": CLEAR, "id": "form-1", "collected_at": "2026-11-20T10:00:00+01:00", "purposes": ["sale"],
    "goods": ["broadband"], "call_types": ["agent"], "artefact": "forms/1.pdf", "artefact_sha256": SHA256,
}  # fmt: skip


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


@asynccontextmanager
async def running(folder: Path, *, is_restored: bool = False, **settings: Any) -> AsyncIterator[World]:
    storage = {"daily": False, "consents_days": 100, "restricted_days": 200, "lookups_days": 1000}
    async with world.running(folder, clients=CLIENTS, storage=storage, **settings) as made:
        if not is_restored:
            await world.load_list(made)
        yield made


async def upload(gate: World, content: bytes = FORM, status: int = 201, **options: Any) -> Any:
    async with gate.client.post("/v1/proofs", data=BytesIO(content), **options) as response:
        answer = await response.json()
    assert response.status == status, answer
    return answer


async def find(gate: World, digest: str = SHA256, number: str = CLEAR, **more: Any) -> tuple[int, Any]:
    """Return the status, and the file or the code of the error."""
    headers = more.pop("headers", {})
    query = {"number": number, "purpose": "case 7", **more}
    async with gate.client.get(f"/v1/proofs/{digest}", params=query, headers=headers) as response:
        if response.status != 200:
            return response.status, (await response.json())["error"]["code"]
        assert response.headers["Content-Disposition"].startswith("attachment")
        return 200, await response.read()


async def retire(gate: World, at: Instant) -> int:
    """Remove at a time what is over then. Return how many files were removed. A preview must agree."""
    gate.hand.at = at
    world.store_time(gate.app.config.data, at)
    counts = [
        {item.kind: item.count for item in await gate.app.subjects.retire(at, drop=drop)}["proof_files"]
        for drop in (False, True, True)
    ]
    assert counts == [counts[0], counts[0], 0]
    return counts[0]


def stored(gate: World) -> list[Path]:
    return sorted((gate.app.config.data / "proofs").glob("*"))


UNKNOWN = (404, "proof.unknown")


# ---- uploads -----------------------------------------------------------------------------------------------------------


async def test_a_file_is_kept_encrypted_and_given_back_for_its_consent(gate: World) -> None:
    assert await upload(gate) == {
        "sha256": SHA256,
        "bytes": len(FORM),
        "record_by": "2026-11-25T09:00:00.000Z",
    }
    assert await find(gate) == UNKNOWN  # no consent names it yet
    await gate.post("/v1/consents", {**CONSENT, "artefact_sha256": SHA256.upper()})
    assert await find(gate) == await find(gate, SHA256.upper()) == (200, FORM)
    assert await find(gate, number=LISTED) == UNKNOWN  # that person's consent does not name it
    (path,) = stored(gate)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for secret in (b"PDF", SHA256.encode(), CLEAR[1:].encode()):
        assert secret not in path.read_bytes()
        assert secret not in path.name.encode()
    found = (await gate.get(f"/v1/subjects/{quote(CLEAR)}?purpose=check"))["lookups"]
    assert [(lookup["what"], lookup["purpose"]) for lookup in found[:2]] == [("consent", "case 7")] * 2


async def test_a_file_sent_twice_is_kept_once_and_for_another_day(gate: World) -> None:
    await upload(gate)
    gate.hand.at = NOW + 20 * HOUR
    assert (await upload(gate))["record_by"] == "2026-11-26T05:00:00.000Z"
    assert len(stored(gate)) == 1
    assert await retire(gate, NOW + 44 * HOUR) == 0
    assert await retire(gate, NOW + 44 * HOUR + 1) == 1
    assert stored(gate) == []


async def test_a_file_that_no_consent_named_within_a_day_must_be_sent_again(gate: World) -> None:
    await upload(gate)
    assert await retire(gate, NOW + DAY + 1) == 1
    await gate.post("/v1/consents", CONSENT)
    query = {"number": CLEAR, "purpose": "case 7"}
    async with gate.client.get(f"/v1/proofs/{SHA256}", params=query) as response:
        message = (await response.json())["error"]["message"]
    assert message.endswith("A file that no consent names within a day is removed: upload it again.")
    await upload(gate)
    assert await retire(gate, NOW + 3 * DAY) == 0
    assert await find(gate) == (200, FORM)


async def test_the_size_of_a_file_is_limited(gate: World) -> None:
    assert (await upload(gate, b"", 400))["error"]["code"] == "request.broken"
    assert (await upload(gate, b"0" * MOST))["bytes"] == MOST
    refused = await upload(gate, b"1" * (MOST + 1), 413)
    assert refused["error"]["code"] == "request.too_large"
    assert "16 MiB" in refused["error"]["message"]
    assert len(stored(gate)) == 1


async def test_a_file_is_refused_while_the_disk_is_nearly_full(small_disk: Path, tmp_path: Path) -> None:
    """The spool is on another disk, which has space."""
    spool = str(tmp_path / "spool")
    async with running(tmp_path, data=str(small_disk / "data"), uploads={"folder": spool}) as gate:
        refused = await upload(gate, b"0" * (4 << 20), 507)
        assert refused["error"]["code"] == "upload.no_space"
        assert stored(gate) == []
        await upload(gate)
        assert len(stored(gate)) == 1


async def test_a_file_that_cannot_be_written_is_not_acknowledged(gate: World) -> None:
    (gate.app.config.data / "proofs").write_bytes(b"in the way")
    refused = await upload(gate, status=503)
    assert refused["error"]["code"] == "gate.unavailable"
    assert "cannot write to its data folder: File exists" in refused["error"]["message"]


async def test_concurrent_uploads_of_the_same_file_leave_one(gate: World) -> None:
    await asyncio.gather(*(upload(gate) for _ in range(6)))
    await gate.post("/v1/consents", CONSENT)
    assert len(stored(gate)) == 1
    assert await find(gate) == (200, FORM)


async def test_a_file_of_another_controller_is_unknown(tmp_path: Path) -> None:
    """Two controllers send the same form. Each has a copy, which ends on its own."""
    tenants = [
        {**world.client(name, f"key-{name}", *world.SCOPES, "subjects"), "controllers": [name]}
        for name in ("acme", "beta")
    ]
    clients = [*CLIENTS, *tenants]
    async with console_world.running_console(tmp_path, clients=clients) as gate:
        acme, beta = ({"Authorization": f"Bearer key-{name}"} for name in ("acme", "beta"))
        await upload(gate, headers=acme)
        await gate.post("/v1/consents", CONSENT, 201, **acme)
        await gate.post("/v1/consents", CONSENT, 201, **beta)
        assert await find(gate, headers=acme) == (200, FORM)
        assert await find(gate, headers=beta) == UNKNOWN
        assert await find(gate, headers=beta, controller="acme") == (404, "controller.unknown")
        refused = await upload(gate, status=404, headers=beta, params={"controller": "acme"})
        assert refused["error"]["code"] == "controller.unknown"
        await upload(gate, headers=beta)
        assert len(stored(gate)) == 2
        assert await find(gate, headers=beta) == (200, FORM)
        await erase(gate, **acme)
        assert await retire(gate, NOW + 2 * DAY) == 1
        assert await find(gate, headers=acme) == UNKNOWN
        assert await find(gate, headers=beta) == (200, FORM)


# ---- the end of a file ---------------------------------------------------------------------------------------------------


async def erase(gate: World, **headers: str) -> Any:
    path = f"/v1/subjects/{quote(CLEAR)}"
    case = await gate.post(f"{path}/requests", {"kind": "erasure", "identified": "id card"}, 201, **headers)
    return await gate.post(f"{path}/erasure", {"request": case["id"]}, 200, **headers)


async def record(gate: World) -> None:
    await upload(gate)
    await gate.post("/v1/consents", CONSENT)


async def test_the_file_of_a_withdrawn_consent_ends_with_the_consent(gate: World) -> None:
    await record(gate)
    await gate.post("/v1/consents/withdraw", {"number": CLEAR, "id": "form-1"})
    assert await retire(gate, NOW + 100 * DAY) == 0
    assert await find(gate) == (200, FORM)
    assert await retire(gate, NOW + 100 * DAY + 1) == 1
    assert stored(gate) == []


async def test_both_files_of_a_rectified_consent_are_kept(gate: World) -> None:
    """The wrong entry stays in the history."""
    await record(gate)
    corrected = await upload(gate, b"the right form")
    wrong = (await gate.get(f"/v1/consents?number={quote(CLEAR)}&purpose=check"))["entries"][0]["seq"]
    path = f"/v1/subjects/{quote(CLEAR)}"
    case = await gate.post(f"{path}/requests", {"kind": "rectification", "identified": "id card"})
    fields = {"artefact_sha256": corrected["sha256"]}
    await gate.post(f"{path}/rectification", {"request": case["id"], "of": wrong, "fields": fields})
    assert await retire(gate, NOW + 50 * DAY) == 0
    assert await find(gate) == (200, FORM)
    assert await find(gate, corrected["sha256"]) == (200, b"the right form")


async def test_the_file_of_an_erased_consent_is_removed_the_next_day(gate: World) -> None:
    await record(gate)
    await erase(gate)
    assert await find(gate) == UNKNOWN
    assert await retire(gate, NOW + DAY + 1) == 1
    assert stored(gate) == []


async def test_a_file_that_proves_two_persons_consents_is_kept_for_the_other(gate: World) -> None:
    await record(gate)
    await gate.post("/v1/consents", {**CONSENT, "number": LISTED})
    await erase(gate)
    assert await retire(gate, NOW + 2 * DAY) == 0
    assert await find(gate, number=LISTED) == (200, FORM)
    assert await find(gate) == UNKNOWN


async def test_a_file_that_an_erasure_restricts_ends_with_the_restriction(gate: World) -> None:
    await record(gate)
    await gate.post("/v1/check", CALL, 200)
    assert (await erase(gate))["items"][0]["done"] == "restricted"
    end = NOW + 200 * DAY
    assert await retire(gate, end) == 0
    assert await find(gate) == (200, FORM)
    gate.hand.at = end + 1
    world.store_time(gate.app.config.data, end + 1)
    await gate.app.subjects.retire(end + 1, drop=True)  # also removes the restricted entry
    assert stored(gate) == []


async def test_a_legal_hold_keeps_the_file_of_an_erased_person(gate: World) -> None:
    await record(gate)
    await gate.post("/v1/holds", {"number": CLEAR, "reason": "case 4711"})
    assert (await erase(gate))["items"][0]["done"] == "restricted"
    assert await retire(gate, NOW + 500 * DAY) == 0
    assert await find(gate) == (200, FORM)
    await gate.post("/v1/holds/lift", {"number": CLEAR, "reason": "closed"})
    gate.hand.at = NOW + 501 * DAY
    world.store_time(gate.app.config.data, gate.hand.at)
    await gate.app.subjects.retire(gate.hand.at, drop=True)
    assert stored(gate) == []


async def test_a_file_stays_for_what_another_gate_restricted(tmp_path: Path) -> None:
    """The erasure runs on one gate, and the file is on the other."""
    async with two_gates(tmp_path) as (rome, milan):
        await record(rome)
        await rome.app.tick()
        assert (await rome.post("/v1/check", CALL, 200))["decision"] == "allow"
        assert (await erase(milan))["items"][0]["done"] == "restricted"
        assert await find(milan) == UNKNOWN  # it is on the gate that received it
        assert await retire(rome, NOW + 2 * DAY) == 0
        assert len(stored(rome)) == 1


async def test_files_stay_until_every_gate_answers(tmp_path: Path) -> None:
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    peers = {name: f"http://127.0.0.1:{free_port()}" for name in ("rome", "milan")}
    async with running(tmp_path, node="rome", store=store, peers=peers) as gate:
        await upload(gate)
        assert await retire(gate, NOW + 2 * DAY) == 0
        assert len(stored(gate)) == 1


def test_a_file_sent_again_while_retention_runs_stays(tmp_path: Path) -> None:
    files = ProofFiles(tmp_path, Keys.open(tmp_path / "keys.json"))
    files.keep("acme", FORM, NOW)
    unused = files.uploaded_before(NOW + DAY)
    files.keep("acme", FORM, NOW + DAY)
    files.remove(unused, NOW + DAY)
    assert files.read("acme", SHA256) == FORM
    files.remove(unused, NOW + DAY + 1)
    assert files.read("acme", SHA256) is None
    files.remove(unused, NOW + DAY + 1)


async def test_what_a_crash_left_of_an_upload_is_removed(gate: World) -> None:
    await record(gate)
    (path,) = stored(gate)
    left = path.with_name(f"{path.name}.new")
    left.write_bytes(b"a part")
    os.utime(left, (NOW / 1000, NOW / 1000))
    assert await retire(gate, NOW + DAY + 1) == 1
    assert stored(gate) == [path]


# ---- damage and loss -------------------------------------------------------------------------------------------------------


async def test_a_damaged_file_is_reported_and_repaired_by_sending_it_again(gate: World) -> None:
    await record(gate)
    (path,) = stored(gate)
    flip(path, 20)
    assert await find(gate) == (500, "proof.damaged")
    await upload(gate)
    assert await find(gate) == (200, FORM)


async def test_files_of_two_controllers_cannot_be_exchanged(gate: World) -> None:
    """Somebody with access to the folder renames one file to another's name."""
    await record(gate)
    (first,) = stored(gate)
    await upload(gate, b"another form")
    (second,) = set(stored(gate)) - {first}
    second.replace(first)
    assert await find(gate) == (500, "proof.damaged")


async def test_a_backup_brings_the_files_back(tmp_path: Path) -> None:
    async with running(tmp_path) as gate:
        await record(gate)
        out = tmp_path / "copy"
        await asyncio.to_thread(back_up, gate.app.config.data, out, lambda *_: None)
    files = ProofFiles(out, Keys.open(out / "keys.json"))
    assert files.read("acme", SHA256) == FORM
    (tmp_path / "restored").mkdir()
    async with running(tmp_path / "restored", is_restored=True, data=str(out)) as restored:
        assert await find(restored) == (200, FORM)
        assert await retire(restored, NOW + 50 * DAY) == 0
        assert await find(restored) == (200, FORM)


# ---- commands ------------------------------------------------------------------------------------------------------------


async def test_commands_send_a_file_record_its_consent_and_bring_it_back(gate: World, tmp_path: Path) -> None:
    form, out = tmp_path / "form.pdf", tmp_path / "back.pdf"
    form.write_bytes(FORM)
    shown = await gate.output("consent", "prove", form, "--controller", "acme")
    assert f"SHA-256: {SHA256}" in shown
    assert f"before 2026-11-25T09:00:00.000Z, with `--artefact-sha256 {SHA256}`" in shown
    entry = [
        "consent", "add", CLEAR, "--id", "form-1", "--collected-at", "2026-11-20T10:00:00+01:00", "--purpose", "sale",
        "--goods", "broadband", "--call-type", "agent", "--file", form,
    ]  # fmt: skip
    (other := tmp_path / "other.pdf").write_bytes(b"another form")
    kept = sorted((gate.app.config.data / "proofs").rglob("*"))
    refused = await gate.command(*entry[:-1], other, "--artefact-sha256", SHA256)
    assert (refused.code, f"{other} has the SHA-256" in refused.err) == (2, True)
    assert sorted((gate.app.config.data / "proofs").rglob("*")) == kept, "nothing was sent"
    await gate.output(*entry)
    (consent,) = (await gate.get(f"/v1/consents?number={quote(CLEAR)}&purpose=check"))["entries"]
    assert [consent["details"][name] for name in ("artefact", "artefact_sha256")] == ["form.pdf", SHA256]
    wanted = ["consent", "download", CLEAR, "--purpose", "case 7", "--out", out, "--sha256"]
    await gate.output(*wanted, SHA256)
    assert (out.read_bytes(), out.stat().st_mode & 0o777) == (FORM, 0o600)
    unknown = await gate.command(*wanted, "c" * 64)
    assert (unknown.code, "This gate has no file with this SHA-256" in unknown.err) == (1, True)


async def test_a_command_refuses_a_file_that_the_gate_would_refuse(gate: World, tmp_path: Path) -> None:
    large = tmp_path / "long.wav"
    for size in (0, MOST + 1):
        with large.open("wb") as file:
            file.truncate(size)
        refused = await gate.command("consent", "prove", large)
        assert (refused.code, "is empty, or has more than 16 MiB" in refused.err) == (2, True)
    assert stored(gate) == []
