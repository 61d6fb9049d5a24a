"""Tests of the processes that read files: on both stores, with the gate's own configuration, and without a trace for other users."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from python_calamine import load_workbook

from dialgate.ledger.file_jobs import JobLimits, JobRunner
from dialgate.ledger.job_kinds import ImportRevocations
from dialgate.ledger.schemas import RevocationsRequest
from dialgate.store.encoded_entries import AnyDraft
from tests.support import yaml_files
from tests.support.child_processes import descendants
from tests.support.commands import run_command
from tests.support.world import KEY, LIST, NOW, SCOPES, World, client, publish_answers, running

NUMBERS = [f"+390612344{last:03}" for last in range(60)]
ROWS = ("number,note\n" + "".join(f"{number},x\n" for number in NUMBERS)).encode()
CONSENTS = (
    "number,id,collected_at,purposes,goods,call_types,artefact,artefact_sha256\n"
    + "".join(f"{number},c{number[1:]},2026-01-01T10:00:00Z,sale,broadband,agent,a.pdf,{'a' * 64}\n" for number in NUMBERS)
).encode()  # fmt: skip


async def send(gate: World, path: str, body: bytes = ROWS, **query: str) -> tuple[int, str]:
    async with asyncio.timeout(60):
        headers = {"Content-Type": "text/csv"}
        async with gate.client.post(path, params=query, data=body, headers=headers) as answer:
            return answer.status, await answer.text()


@pytest.mark.parametrize("store_settings", ["redis"], indirect=True)  # other tests have SQLite
async def test_every_job_ends_and_its_entries_are_in_the_store(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    clients = [client("tests", KEY, *SCOPES, "admin")]
    async with running(tmp_path, clients=clients, **store_settings) as gate:
        publish_answers(gate.app.config.data, dict.fromkeys(NUMBERS, False), NOW)
        await gate.post("/v1/lists", LIST | {"numbers": NUMBERS})
        await gate.app.tick(patience=None)
        rows = tmp_path / "rows.csv"
        rows.write_bytes(ROWS)
        for path, body, counted in (
            ("/v1/consents/import", CONSENTS, '"recorded":60'),
            ("/v1/revocations/import", ROWS, '"revoked":60'),
            ("/v1/revocations/import", ROWS, '"revoked":0'),
        ):
            status, text = await send(gate, path, body, channel="crm", proof="p" * 500)
            assert (status, counted in text.replace(" ", "")) == (201, True), text
        status, text = await send(gate, "/v1/scrub", campaign="acme-fibre", proof="ticket-1")
        assert status == 200, text
        assert text.count("revocation.revoked") == 60
        out = tmp_path / "out.xlsx"
        words = (
            "scrub",
            rows,
            "--campaign",
            "acme-fibre",
            "--out",
            out,
            "--yes",
            "--config",
            gate.app.config.path,
        )
        done = await asyncio.to_thread(run_command, "dialgate", *map(str, words))
        assert done.code == 0, done
        cells = load_workbook(str(out)).get_sheet_by_index(0).to_python()
        assert [row[3] for row in cells].count("revocation.revoked") == 60
        async with asyncio.timeout(60):
            await gate.post("/v1/lists/rome/preview", {"campaign": "acme-fibre"}, 200)
        assert len(await gate.app._store.since(0, 999)) >= 120


async def test_a_job_with_another_configuration_than_the_gate_is_refused(tmp_path: Path) -> None:
    """Another data folder has other keys: entries under them would bind no call."""
    async with running(tmp_path) as gate:
        path = tmp_path / "dialgate.yaml"
        original = path.read_bytes()
        yaml_files.write(path, yaml_files.read(path) | {"data": "elsewhere"})
        status, text = await send(gate, "/v1/revocations/import", channel="crm")
        assert (status, "differs from the gate's" in text) == (503, True), text
        assert await gate.app._store.since(0, 9) == []
        assert not (tmp_path / "elsewhere").exists()
        path.write_bytes(original)
        assert (await send(gate, "/v1/revocations/import", channel="crm"))[0] == 201


def command_lines() -> list[str]:
    """Return the command line of each process that the tests have started."""
    found = []
    for process in descendants():
        with suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
            found.append(Path(f"/proc/{process}/cmdline").read_text())
    return found


async def test_the_command_line_of_a_job_shows_nothing_of_its_request(tmp_path: Path) -> None:
    """Every user of the machine can read it."""
    lines = list[str]()

    async with running(tmp_path) as gate:
        access = gate.app.registrar.access

        async def append(drafts: Sequence[AnyDraft]) -> Sequence[int]:
            lines.extend(command_lines())
            return await access.append_all(drafts)

        job = ImportRevocations(RevocationsRequest(channel="crm", proof="secret" * 100, actor="anna"))
        jobs = JobRunner(gate.app.config, append, access.clock, JobLimits(1 << 30, 600))
        with TemporaryFile() as file:
            file.write(f"number\n{NUMBERS[0]}\n".encode())
            file.flush()
            await jobs.run(gate.app.config.settings.clients[0], job, file)
        (entry,) = await access.store.since(0, 9)
    assert (entry.actor, entry.proof) == ("anna", "secret" * 100)
    assert any("forkserver" in line for line in lines)
    assert not any(text in line for line in lines for text in ("secret", "anna", "acme"))
