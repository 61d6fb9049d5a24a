"""Tests of scrubbing.

Each row gets the same verdict as a check of its number. No attempt is reserved, and every export is recorded.
"""

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from msgspec import convert, structs
from python_calamine import load_workbook

from dialgate.config import loader
from dialgate.config.clients import Client, Scope
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, HOUR, MINUTE, Call
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.ledger import list_exports
from dialgate.ledger.export_requests import ScrubRequest
from dialgate.ledger.schemas import RevocationRequest
from dialgate.ledger.scrub import verdict_now
from dialgate.lists.tabular import NO_HINTS
from dialgate.store import factory
from dialgate.texts import texts_in
from tests.lists.test_tabular import workbook
from tests.support import world
from tests.support.ledger import on_store
from tests.support.registry_world import NUMBERS, JobWorld, load_list, registrar
from tests.support.world import CALL, CALLER, CLEAR, LISTED, NOW, World, publish_answers

# A row states the end set by law. The answer to a check is valid for at most 15 minutes.
ANSWER_ENDS = when(NOW + 15 * MINUTE)

OPERATOR = Client(name="ops", controllers=("acme",), scopes=())
WHOLE = Client(name="head", controllers=("acme",), scopes=get_args(Scope))
STRANGER = Client(name="other", controllers=("another",), scopes=())
ORDER = ScrubRequest(campaign="acme-fibre", actor="anna", proof="ticket-1")
ASKED, EXPIRED, REVOKED = "+390698765432", "+390698765433", "+390698765434"
MANY = [f"+390612344{at:03}" for at in range(60)]
ROWS = [CLEAR, "06 12345679", "12", ASKED, REVOKED, ""]


async def scrub_text(gate: World, out: Path, text: str, order: ScrubRequest = ORDER) -> list_exports.Scrubbed:
    exports = gate.app.registrar.list_exports
    return await exports.scrub(OPERATOR, order, BytesIO(text.encode()), out, NO_HINTS)


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def read(path: Path, separator: str = ",") -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=separator))


async def test_each_row_gets_the_verdict_of_its_call(running: World, tmp_path: Path) -> None:
    async with running.client.post("/v1/revocations", json={"number": REVOKED}) as answer:
        assert answer.status == 201
    out = tmp_path / "out.csv"
    result = await scrub_text(running, out, "numero;nome\n" + "".join(f"{row};x\n" for row in ROWS))
    rows = read(out, ";")
    assert rows[0] == ["numero", "nome", "verdict", "code", "valid_until", "not_before"]
    assert out.read_bytes().startswith(b"\xef\xbb\xbfnumero;nome;")
    assert [row[0] for row in rows[1:]] == ROWS
    for row in rows[1:]:
        async with running.client.post("/v1/simulate", json=CALL | {"to": row[0]}) as answer:
            asked = await answer.json()
        assert row[2] == asked["decision"]
        assert row[3] == (asked["reasons"][0]["code"] if asked["reasons"] else "")
        assert (min(row[4], ANSWER_ENDS) if row[4] else "", row[5]) == (
            asked["valid_until"],
            asked["not_before"],
        )
    assert [row[3] for row in rows[1:]] == [
        "", "registry.listed", "number.invalid", "registry.unknown", "revocation.revoked", "number.invalid",
    ]  # fmt: skip
    assert (result.rows, result.allow, result.later, result.deny) == (6, 1, 0, 5)
    assert result.codes == {
        "number.invalid": 2, "registry.listed": 1, "registry.unknown": 1, "revocation.revoked": 1,
    }  # fmt: skip


@pytest.mark.parametrize("is_sheet", [True, False])
@pytest.mark.parametrize("header", [["numero", "nome"], []])
async def test_a_spreadsheet_has_numbers_in_e164_and_only_text(
    running: World, tmp_path: Path, *, is_sheet: bool, header: list[str]
) -> None:
    rows: list[list[Any]] = [
        [CLEAR, "=1+1"], ["06 12345679", "Niccolò"], [LISTED, "-5"], ["12", "" if is_sheet else "\u0007"], [CLEAR, ""]
    ]  # fmt: skip
    content = "".join(f"{';'.join(row)}\n" for row in ([header] if header else []) + rows).encode()
    if is_sheet:
        rows[1][0] = int(LISTED[1:])  # a number, without its plus
        content = workbook([header, *rows] if header else rows)
    out, order = tmp_path / "out.xlsx", structs.replace(ORDER, format="xlsx")
    done = await running.app.registrar.list_exports.scrub(OPERATOR, order, BytesIO(content), out, NO_HINTS)
    read = load_workbook(str(out)).get_sheet_by_index(0).to_python(skip_empty_area=False)
    named, cells = (read[:1], read[1:]) if header else ([], read)
    assert named == ([[*header, "verdict", "code", "reason", "valid_until", "not_before"]] if header else [])
    assert all(type(cell) is str for row in cells for cell in row)
    numbers = [CLEAR, LISTED if is_sheet else "+390612345679", LISTED, "12", CLEAR]
    assert [row[0] for row in cells] == numbers
    names = ["" if is_sheet else "=1+1", "Niccolò", "-5", "" if is_sheet else "\u0007", ""]
    assert [row[1] for row in cells] == names
    assert [row[2] for row in cells] == ["allow", "deny", "deny", "deny", "allow"]
    reasons = texts_in("it").reasons  # the controller is Italian
    assert [row[4] for row in cells] == [reasons.get(str(row[3]), "") for row in cells]
    assert done.sha256 == sha256(out.read_bytes()).hexdigest()
    assert not out.with_name("out.xlsx.new").exists()


async def test_more_rows_than_a_sheet_holds_are_refused(running: World, tmp_path: Path) -> None:
    out, text = tmp_path / "out.xlsx", f"number\n{f'{CLEAR}{chr(10)}' * (1 << 20)}"
    with pytest.raises(Refused, match=r"at most 1,048,576 rows\. Ask for CSV") as refused:
        await scrub_text(running, out, text, structs.replace(ORDER, format="xlsx"))
    assert refused.value.field == "format"
    assert not out.exists()


async def test_verdicts_equal_the_gates_for_many_numbers(running: World) -> None:
    gate, numbers = running.app, [f"+3906{number:08}" for number in range(52_000_000, 52_004_200)]
    publish_answers(gate.config.data, dict.fromkeys(numbers, False), NOW - DAY)
    async with running.client.post(
        "/v1/lists", json={**world.LIST, "id": "all", "numbers": numbers}
    ) as result:
        assert result.status == 201
    await gate.tick()
    await revoke_all(running, numbers[::200])
    await revoke_all(running, numbers[101::200])
    for number in numbers[7::300]:
        for times in range(len(number)):
            async with running.client.post("/v1/check", json=CALL | {"to": number, "call_id": f"{times}"}):
                pass
    await gate.registrar.access.store.positions()  # the calls are recorded
    reader = await factory.open_reader(gate.config)
    beside = on_store(gate.config, reader, running.hand)
    judge, _ = await beside.list_exports.judge(OPERATOR, "acme-fibre", verdict_now, NOW)
    judged = await judge.judge(np.array([int(number) for number in numbers], np.uint64))
    verdicts = [judge.verdicts[index] for index in judged]
    for number, verdict in zip(numbers, verdicts, strict=True):
        asked = await gate.gate.simulate(Call(to=number, from_=CALLER, campaign="acme-fibre"), OPERATOR, NOW)
        codes = [reason.code for reason in asked.reasons] or [""]
        ends = when(verdict.valid_until)
        assert (verdict.code, min(ends, ANSWER_ENDS) if ends else "") == (codes[0], asked.valid_until)
    assert Counter(verdict.code for verdict in verdicts) == {
        "": 4_200 - 42 - 14, "revocation.revoked": 42, "frequency.exceeded": 14,
    }  # fmt: skip
    judge.close()
    beside.close()
    await reader.close()


async def revoke_all(gate: World, numbers: list[str]) -> None:
    """Record a revocation for each number. The scopes `controller` and `everyone` alternate."""
    for number, scope in zip(numbers, cycle(("controller", "everyone")), strict=False):
        stop = convert({"number": number, "scope": scope}, RevocationRequest)
        await gate.app.registrar.revocations.revoke(WHOLE, stop)


@pytest.mark.parametrize(
    ("at", "word", "code"),
    [
        (NOW + 12 * HOUR - 1, "later", "hours.outside"),
        (NOW, "allow", ""),
        (NOW + 14 * DAY, "deny", "registry.expired"),
        (NOW + 13 * DAY, "allow", ""),
    ],
)
async def test_verdicts_are_for_the_requested_instant(tmp_path: Path, at: int, word: str, code: str) -> None:
    async with world.running(tmp_path / "gate") as gate:
        await world.load_list(gate)
        use_code_of_conduct_hours(gate)
        await scrub_text(
            gate, tmp_path / "out.csv", CLEAR, ScrubRequest(campaign="acme-fibre", at=moment(at))
        )
    ((_, *result),) = read(tmp_path / "out.csv")
    assert result[:2] == [word, code]
    assert bool(result[3]) == (word == "later")


async def test_numbers_of_a_paused_campaign_are_not_allowed(running: World, tmp_path: Path) -> None:
    """After four silent calls the gate denies all calls of the campaign, so an export must not allow them either."""
    decisions = []
    for call_id in "abcd":
        async with running.client.post("/v1/check", json=CALL | {"call_id": call_id}) as answer:
            decisions.append((await answer.json())["decision_id"])
    for decision in decisions:
        silent = {"decision_id": decision, "outcome": "abandoned"}
        async with running.client.post("/v1/outcomes", json=silent) as answer:
            assert answer.status == 200, await answer.text()
    async with running.client.post(
        "/v1/lists", json=world.LIST | {"id": "more", "numbers": [ASKED]}
    ) as answer:
        assert answer.status == 201
    publish_answers(running.folder / "data", {ASKED: False}, NOW - HOUR)
    await running.app.tick()
    async with running.client.post("/v1/simulate", json=CALL | {"to": ASKED}) as answer:
        assert [reason["code"] for reason in (await answer.json())["reasons"]] == ["pacing.abandoned"]
    await scrub_text(running, tmp_path / "out.csv", ASKED)
    ((_, *result),) = read(tmp_path / "out.csv")
    assert result[:2] == ["later", "pacing.abandoned"]


def use_code_of_conduct_hours(gate: World) -> None:
    """Apply the calling hours of the code of conduct to the controller."""
    file = gate.folder / "controllers" / "acme.yaml"
    file.write_text(
        file.read_text().replace("adheres_to: [own_hours]", "adheres_to: [codice_condotta_telemarketing]")
    )
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))


async def test_export_is_recorded_before_the_file_exists(running: World, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = await scrub_text(running, out, f"{CLEAR}\n{LISTED}\n")
    (entry,) = await running.app.registrar.list_exports.exports(OPERATOR)
    assert (entry.seq, entry.kind, entry.actor, entry.proof) == (result.seq, "exported", "anna", "ticket-1")
    digest = sha256(out.read_bytes()).hexdigest()
    assert entry.details == {"campaign": "acme-fibre", "rows": 2, "allowed": 1, "sha256": digest}
    assert await running.app.registrar.list_exports.exports(STRANGER) == []


async def test_failed_ledger_write_leaves_no_file(running: World, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("an older one")
    for text, order, code in (
        ('"', ORDER, "list.unreadable"),
        (CLEAR, ScrubRequest(campaign="another"), "campaign.unknown"),
    ):
        with pytest.raises(Refused) as refused:
            await scrub_text(running, out, text, order)
        assert refused.value.code == code
    assert out.read_text() == "an older one"
    assert not out.with_name("out.csv.new").exists()
    assert await running.app.registrar.list_exports.exports(OPERATOR) == []


async def test_scrub_reserves_no_attempts(running: World, tmp_path: Path) -> None:
    """Six calls to one number would exceed the limit."""
    for _ in range(3):
        result = await scrub_text(running, tmp_path / "out.csv", f"{CLEAR}\n" * 6)
        assert result.allow == 6


async def test_formulas_are_quoted(running: World, tmp_path: Path) -> None:
    cells = ['=HYPERLINK("x")', "@SUM(1)", "+cmd|x", "-2+3", "+39 06 1234", "-5", "plain"]
    out = tmp_path / "out.csv"
    quoted = [f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in cells]
    await scrub_text(running, out, f"number,a,b,c,d,e,f,g\n{CLEAR},{','.join(quoted)}\n")
    assert read(out)[1][1:8] == [
        '\'=HYPERLINK("x")', "'@SUM(1)", "'+cmd|x", "'-2+3", "+39 06 1234", "-5", "plain",
    ]  # fmt: skip


async def test_preview_counts_numbers_callable_now_and_later(tmp_path: Path) -> None:
    async with world.running(tmp_path) as gate:
        numbers = [CLEAR, LISTED, EXPIRED, *MANY]
        async with gate.client.post("/v1/lists", json={**world.LIST, "numbers": numbers}) as answer:
            assert answer.status == 201
        publish_answers(gate.app.config.data, {EXPIRED: False}, NOW - 15 * DAY)
        use_code_of_conduct_hours(gate)
        result = {at: await preview(gate, at) for at in (NOW, NOW + 12 * HOUR)}
        recorded = await gate.app.registrar.list_exports.exports(OPERATOR)
    day, night = result[NOW], result[NOW + 12 * HOUR]
    assert (day.numbers, day.callable, day.later) == (63, 1, ())
    assert {group.code: group.numbers for group in day.groups} == {
        "registry.listed": 1, "registry.unknown": 60, "registry.expired": 1,
    }  # fmt: skip
    opening = rfc3339(NOW + 23 * HOUR)  # nine in the morning
    assert (night.callable, [(item.at, item.numbers) for item in night.later]) == (0, [(opening, 1)])
    assert [(entry.channel, entry.actor, entry.proof) for entry in recorded] == [
        ("preview", "ops", "rome")
    ] * 2
    assert recorded[0].details == {"campaign": "acme-fibre", "rows": 63, "allowed": 1, "sha256": ""}


async def test_a_short_list_has_no_preview(running: World) -> None:
    """Its counts would reveal the verdict on a single number, without a look-up."""
    with pytest.raises(Refused, match="at least 50 numbers") as refused:
        await preview(running, NOW)
    assert refused.value.code == "list.too_short"
    assert await running.app.registrar.list_exports.exports(OPERATOR) == []


async def preview(gate: World, at: int) -> list_exports.Preview:
    return await gate.app.registrar.list_exports.preview(OPERATOR, "rome", "acme-fibre", at)


async def test_list_of_another_client_is_not_found(running: World) -> None:
    for client, name, code in ((STRANGER, "rome", "campaign.unknown"), (OPERATOR, "none", "list.unknown")):
        with pytest.raises(Refused) as refused:
            await running.app.registrar.list_exports.preview(client, name, ORDER.campaign, 0)
        assert refused.value.code == code


async def test_list_id_belongs_to_the_controller_of_the_campaign(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    other = (tmp_path / "controllers/acme.yaml").read_text()
    (tmp_path / "controllers/beta.yaml").write_text(
        other.replace("id: acme", "id: beta").replace('"+390844123456"', '"+390844654321"')
    )
    job.configure()
    await load_list(job, NUMBERS[:2], controller="acme")
    await load_list(job, NUMBERS[:5], controller="beta", campaigns=("beta-fibre",), origin="public_directory")
    async with registrar(job.plan.gate) as (ledger, client):
        for campaign, numbers in (("acme-fibre", 2), ("beta-fibre", 5)):
            assert len(await ledger.call_lists.numbers_of(client, "rome", campaign)) == numbers
        assert await ledger.call_lists.campaigns_of(client, "rome") == ["acme-fibre", "beta-fibre"]
        with pytest.raises(Refused, match="Set `controller` to one of them") as refused:
            await ledger.call_lists.retire_list(client, "rome")
        assert (refused.value.code, refused.value.field) == ("controller.unknown", "controller")
        await ledger.call_lists.retire_list(client, "rome", "beta")
        assert [bool(item.retired_at) for item in await ledger.call_lists.lists(client)] == [False, True]


async def test_commands_report_as_text_and_json(tmp_path: Path) -> None:
    async with world.running(tmp_path / "gate") as gate:
        await report_as_text_and_json(gate, tmp_path)


async def report_as_text_and_json(gate: World, tmp_path: Path) -> None:
    command = gate.command
    file, out = tmp_path / "list.csv", tmp_path / "out.csv"
    file.write_text("\n".join(["number", CLEAR, "12", *MANY]))
    load = (
        "--campaign",
        "acme-fibre",
        "--basis",
        "directory",
        "--collected-by",
        "Acme",
        "--collected-on",
        "2026-10-01",
    )
    assert (await command("list", "load", file, "--id", "rome", *load)).code == 0
    scrub: tuple[Any, ...] = ("scrub", file, "--campaign", "acme-fibre", "-o", out, "--at", rfc3339(NOW))
    result = json.loads((await command(*scrub, "--json")).out)
    assert (result["allow"], result["codes"]) == (1, {"number.invalid": 1, "registry.unknown": 60})
    assert "number.invalid" in (await command(*scrub)).out
    assert len(json.loads((await command("list", "exports", "--json")).out)) == 2
    assert "acme-fibre" in (await command("list", "exports")).out
    preview: tuple[Any, ...] = ("list", "preview", "rome", "--at", rfc3339(NOW))
    one = json.loads((await command(*preview, "--campaign", "acme-fibre", "--json")).out)
    assert json.loads((await command(*preview, "--json")).out) == [one]  # of every campaign
    assert (one["campaign"], one["callable"]) == ("acme-fibre", 1)
    shown = (await command(*preview)).out
    assert "acme-fibre: of 61 numbers" in shown
    assert "callable now" in shown
    assert "list.unknown" in (await command("list", "preview", "none")).err
    assert (await command(*scrub[:-1], "yesterday")).code == 2
    assert (await command("scrub", file, "--campaign", "none", "-o", out)).code == 1
    assert (await command("scrub", file, "--campaign", "acme-fibre", "-o", tmp_path / "no" / "out")).code == 2
