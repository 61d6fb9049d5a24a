"""Tests of revocation imports.

Every row with a number takes effect, whatever else is wrong with it. An import takes effect at once and can be repeated
safely.
"""

import csv
import json
import os
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.config.clients import Client
from dialgate.core.ledger_events import Revoked
from dialgate.core.model import DAY, Instant
from dialgate.core.refusal import Refused
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import ConsentRequest, LiftRequest, RevocationRequest, RevocationsRequest
from dialgate.lists.call_list import RowProblem
from tests.lists.test_tabular import workbook
from tests.support.ledger import ledger_of
from tests.support.world import CALL, CLEAR, LISTED, NOW, World, write_folder


def instant(text: str) -> Instant:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


DPO = Client(name="dpo", controllers=("acme",), scopes=("revoke", "ledger", "admin"))
FILE = f"numero;at\n{CLEAR};2026-11-20T10:00:00+01:00\n06 12345679;\n{CLEAR};2026-11-19T10:00:00+01:00\n"
GOOD = RevocationsRequest(channel="crm", proof="exports/1.csv", actor="anna")


async def test_every_row_becomes_an_entry_with_its_own_instant(registrar: Registrar) -> None:
    report = await registrar.revocations.revoke_all(DPO, GOOD, BytesIO(FILE.encode()))
    assert (report.rows, report.revoked, report.known, report.duplicates, report.refused) == (3, 2, 0, 1, 0)
    entries = await registrar.access.store.since(0, 9)
    keys = registrar.access.keys
    assert {keys.ledger.unseal(item.sealed): item.event for item in entries} == {
        CLEAR: Revoked(at=1_763_629_200_000 + 31_536_000_000),
        LISTED: Revoked(at=NOW),
    }
    assert {(item.actor, item.channel, item.proof) for item in entries} == {("anna", "crm", "exports/1.csv")}


async def test_number_with_a_revocation_of_this_scope_is_not_revoked_again(registrar: Registrar) -> None:
    stop = await registrar.revocations.revoke(DPO, RevocationRequest(number=CLEAR))
    campaign = RevocationsRequest(scope="campaign", campaign="acme-fibre")
    file = FILE.encode()
    reports = [
        await registrar.revocations.revoke_all(DPO, ask, BytesIO(file))
        for ask in (campaign, GOOD, campaign, GOOD)
    ]
    assert [(item.revoked, item.known) for item in reports] == [(1, 1), (2, 0), (0, 2), (0, 2)]
    await registrar.revocations.lift(DPO, stop.seq, LiftRequest(ground="error", reason="another's"))
    again = await registrar.revocations.revoke_all(DPO, campaign, BytesIO(file))
    assert (again.revoked, again.known) == (1, 1)


async def test_import_for_an_unknown_campaign_revokes_for_the_controller(registrar: Registrar) -> None:
    renamed = RevocationsRequest(scope="campaign", campaign="acme-fibre-2025")
    report = await registrar.revocations.revoke_all(DPO, renamed, BytesIO(FILE.encode()))
    assert "applies to all campaigns of the controller" in report.note
    entries = await registrar.access.store.since(0, 9)
    scopes = [(item.event.scope, item.event.campaign) for item in entries if isinstance(item.event, Revoked)]
    assert scopes == [("controller", "")] * report.revoked


async def test_imported_revocation_remains_when_that_of_another_channel_is_lifted(
    registrar: Registrar,
) -> None:
    mistake = await registrar.revocations.revoke(DPO, RevocationRequest(number=CLEAR))
    await registrar.revocations.revoke_all(DPO, GOOD, BytesIO(FILE.encode()))
    await registrar.revocations.lift(DPO, mistake.seq, LiftRequest(ground="error", reason="another's"))
    subject = registrar.access.keys.subject("acme", CLEAR)
    in_force = [
        stop
        for stop in (await registrar.access.store.read([subject])).known[0].revocations
        if not stop.lifted
    ]
    assert [stop.channel for stop in in_force] == ["crm"]


JANUARY, MARCH, JUNE = (f"2026-{month:02}-01T10:00:00+01:00" for month in (1, 3, 6))


@pytest.mark.parametrize(
    ("files", "revoked"),
    [
        ([[JANUARY], [JUNE], [JANUARY], [JUNE], [""], [JUNE]], [1, 1, 0, 0, 1, 0]),
        ([[JANUARY, JUNE, ""], [JUNE]], [1, 0]),
        ([["", JUNE, JANUARY]], [1]),
        ([[JUNE], [JANUARY]], [1, 0]),
    ],
)
async def test_the_latest_revocation_is_recorded_and_not_lifted_by_an_earlier_consent(
    registrar: Registrar, files: list[list[str]], revoked: list[int]
) -> None:
    reports = [
        await registrar.revocations.revoke_all(
            DPO, GOOD, BytesIO(("number,at\n" + "".join(f"{CLEAR},{at}\n" for at in file)).encode())
        )
        for file in files
    ]
    assert [report.revoked for report in reports] == revoked
    consent = ConsentRequest(
        number=CLEAR, id="new", collected_at=datetime.fromisoformat(MARCH), purposes=("sale",), goods=("broadband",), call_types=("agent",),
        artefact="a.pdf", artefact_sha256="a" * 64,
    )  # fmt: skip
    await registrar.consents.record(DPO, consent)
    lift = LiftRequest(ground="new_consent", reason="form", consent="new")
    newest = max(
        entry.seq for entry in await registrar.access.store.since(0, 9) if isinstance(entry.event, Revoked)
    )
    with pytest.raises(Refused, match="a consent that was collected after the revocation"):
        await registrar.revocations.lift(DPO, newest, lift)


@pytest.mark.parametrize("undated", ["", "soon", "2030-01-01T00:00:00Z"])
@pytest.mark.parametrize("earlier", [[], [JANUARY], ["consent", JANUARY], ["together"]])
async def test_a_row_without_a_time_is_in_force_from_its_import(
    tmp_path: Path, undated: str, earlier: list[str]
) -> None:
    """A revocation or consent with an earlier time does not weaken it, and each night's repetition adds nothing."""
    now = NOW
    async with ledger_of(loader.load(write_folder(tmp_path)), lambda: now) as registrar:
        consent = ConsentRequest(
            number=CLEAR, id="new", collected_at=datetime.fromisoformat(JUNE), purposes=("sale",), goods=("broadband",),
            call_types=("agent",), artefact="a.pdf", artefact_sha256="a" * 64,
        )  # fmt: skip

        async def send(*at: str) -> int:
            file = BytesIO(("number,at\n" + "".join(f"{CLEAR},{one}\n" for one in at)).encode())
            return (await registrar.revocations.revoke_all(DPO, GOOD, file)).revoked

        for step in earlier:
            if step == "consent":
                await registrar.consents.record(DPO, consent)
            elif step != "together":
                assert await send(step) == 1
        rows = [undated, JANUARY] if "together" in earlier else [undated]
        counts = []
        for _ in range(3):
            counts.append(await send(*rows))
            now += DAY
        assert counts == [1, 0, 0]
        await registrar.consents.record(DPO, consent)
        entries = [
            entry
            for entry in await registrar.access.store.since(0, 9)
            if isinstance(entry.event, Revoked) and entry.event.at == NOW
        ]
        with pytest.raises(Refused, match="a consent that was collected after the revocation"):
            await registrar.revocations.lift(
                DPO, entries[0].seq, LiftRequest(ground="new_consent", reason="form", consent="new")
            )


async def test_a_row_without_a_time_is_recorded_again_after_a_later_consent(tmp_path: Path) -> None:
    now = NOW
    async with ledger_of(loader.load(write_folder(tmp_path)), lambda: now) as registrar:
        counts = []
        for night in range(4):
            report = await registrar.revocations.revoke_all(DPO, GOOD, BytesIO(f"number\n{CLEAR}\n".encode()))
            counts.append(report.revoked)
            now += DAY
            if night == 1:
                at = datetime.fromtimestamp((now - 1) / 1_000, UTC)
                await registrar.consents.record(DPO, ConsentRequest(
                    number=CLEAR, id="new", collected_at=at, purposes=("sale",), goods=("broadband",),
                    call_types=("agent",), artefact="a.pdf", artefact_sha256="a" * 64,
                ))  # fmt: skip
        assert counts == [1, 0, 1, 0]


BAD = (
    "number,at\n0612345678,\n12,\n0612345679,2030-01-01T00:00:00Z\n0612345680,2026-01-01T00:00:00\n0612345681,soon\n"
    '0612345682\n,0612345683\n"0612345684,\n0612345685" x,\n0612345686,2026-01-01,x,y\ntel:+39 (0)6 12345687,\n'
)


async def test_no_row_with_a_number_is_lost_and_none_rejects_the_file(registrar: Registrar) -> None:
    reports: list[RowProblem] = []
    report = await registrar.revocations.revoke_all(DPO, GOOD, BytesIO(BAD.encode()), note=reports.append)
    assert (report.rows, report.revoked, report.refused) == (11, 10, 1)
    assert [item.line for item in reports] == [3]
    assert "1 rows have no readable number and were skipped. Line 3: is not a valid number" in report.note
    assert "The times in 3 rows cannot be read or lie in the future" in report.note
    keys = registrar.access.keys
    at = {
        keys.ledger.unseal(item.sealed): item.event.at
        for item in await registrar.access.store.since(0, 99)
        if isinstance(item.event, Revoked)
    }
    january = instant("2026-01-01T00:00:00-12:00")
    assert at == {
        **{f"+39061234{last}": NOW for last in (5678, 5679, 5681, 5682, 5683, 5684, 5685, 5687)},
        "+390612345680": january,  # without an offset: the latest time that it can mean
        "+390612345686": january + DAY,  # a day: its end
    }


async def test_first_row_with_a_number_is_no_header(registrar: Registrar) -> None:
    """The labels of the numbers are also names of columns."""
    file = f"mobile;{CLEAR}\ntel;{LISTED}\n".encode()
    report = await registrar.revocations.revoke_all(DPO, GOOD, BytesIO(file))
    assert (report.rows, report.revoked, report.refused, report.layout.header) == (2, 2, 0, ())


@pytest.mark.parametrize("raw", [b"", b"name\nRossi\n", b"PK\x03\x04", b'number\n"06'])
async def test_file_without_revocations_is_rejected(registrar: Registrar, raw: bytes) -> None:
    with pytest.raises(Refused) as refused:
        await registrar.revocations.revoke_all(DPO, RevocationsRequest(skip_bad=True), BytesIO(raw))
    assert (refused.value.code, refused.value.field) == ("list.unreadable", "file")
    assert await registrar.access.store.since(0, 9) == []


@pytest.mark.parametrize("head", [b"", b"number,at\n0612345678,\n", b"PK\x03\x04"])
async def test_file_of_5_gb_is_refused_at_once(registrar: Registrar, tmp_path: Path, head: bytes) -> None:
    file = tmp_path / "list"
    file.write_bytes(head)
    os.truncate(file, 5 << 30)
    with file.open("rb") as opened, pytest.raises(Refused, match="more than 2 GiB; split it"):
        await registrar.revocations.revoke_all(DPO, RevocationsRequest(skip_bad=True), opened)
    assert await registrar.access.store.since(0, 9) == []


@pytest.mark.parametrize(
    ("ask", "scopes", "code"),
    [
        (RevocationsRequest(scope="everyone"), ("revoke",), "auth.scope"),
        (RevocationsRequest(controller="another"), ("revoke",), "controller.unknown"),
    ],
)
async def test_client_cannot_revoke_beyond_its_scope(
    registrar: Registrar, ask: RevocationsRequest, scopes: Any, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        await registrar.revocations.revoke_all(
            Client(name="c", controllers=("acme",), scopes=scopes), ask, BytesIO(FILE.encode())
        )
    assert refused.value.code == code


@pytest.mark.parametrize("channel", ["agent", "recall_line", "web_form", "mail", "crm", "registry"])
async def test_revocation_from_every_channel_takes_effect(running: World, channel: str) -> None:
    body = {"number": CLEAR, "channel": channel, "proof": "p"}
    async with running.client.post("/v1/revocations", json=body) as answer:
        assert answer.status == 201
    async with running.client.post("/v1/check", json=CALL) as answer:
        assert (await answer.json())["reasons"][0]["code"] == "revocation.revoked"
    assert running.sample("dialgate_revocation_effect_seconds_count") == 1


async def test_command_reports_as_text_as_json_and_for_each_row(running: World, tmp_path: Path) -> None:
    command = running.command
    file, reasons = tmp_path / "stops.csv", tmp_path / "reasons.csv"
    file.write_text(BAD)
    taken = await command("revoke", "import", file, "--reasons", reasons, "--json")
    assert taken.code == 0
    assert json.loads(taken.out)["revoked"] == 10
    with reasons.open(newline="") as opened:
        written = list(csv.reader(opened))
    assert [line for line, _ in written] == ["line", "3"]
    assert "0612345" not in reasons.read_text()
    again = await command("revoke", "import", file, "--skip-bad")
    assert "revoked before" in again.out
    assert "1 rows have no readable number" in again.err
    assert (await command("revoke", "import", file, "--column", "nine")).code == 1
    assert (await command("revoke", "import", tmp_path / "none.csv")).code == 2
    # `add` may be left out
    assert (await command("revoke", CLEAR, "--json")).code == 0
    assert (await command("revoke", "add", CLEAR, "--json")).code == 0


async def test_doubtful_cell_revokes_every_number_that_it_can_mean(registrar: Registrar) -> None:
    file = BytesIO(workbook([["number"], [331234567], [393331234567], ["+390612345679"]]))
    report = await registrar.revocations.revoke_all(DPO, GOOD, file)
    assert (report.rows, report.revoked, report.refused, report.doubtful) == (3, 4, 0, 1)
    assert "every number that they can mean is revoked" in report.note
    keys = registrar.access.keys
    assert {keys.ledger.unseal(item.sealed) for item in await registrar.access.store.since(0, 9)} == {
        "+39331234567", "+390331234567", "+393331234567", "+390612345679",
    }  # fmt: skip
