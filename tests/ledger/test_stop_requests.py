"""A revocation is never refused for a detail of its form: if its number can be read, it is in force, and a note says the rest."""

import random
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Revoked
from dialgate.core.model import SECOND, Instant
from dialgate.core.phone import NotANumber
from dialgate.ledger import stop_requests
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import RevocationsRequest
from tests.support import world
from tests.support.world import CALL, CLEAR, NOW, World

DPO = Client(name="dpo", controllers=("acme",), scopes=("revoke", "ledger", "admin"))
AHEAD = "lies in the future or cannot be used: the entry is in force from now"


def when(at: Instant) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).isoformat()


async def revocations(registrar: Registrar) -> dict[str, Revoked]:
    entries = await registrar.access.store.since(0, 99)
    keys = registrar.access.keys
    return {
        keys.ledger.unseal(item.sealed): item.event for item in entries if isinstance(item.event, Revoked)
    }


@pytest.mark.parametrize(
    ("ahead", "at", "note"),
    [
        (-SECOND, NOW - SECOND, ""),
        (0, NOW, ""),
        (1, NOW, AHEAD),
        (SECOND, NOW, AHEAD),
        (900 * SECOND, NOW, AHEAD),
    ],
)
async def test_revocation_dated_ahead_binds_now(
    registrar: Registrar, ahead: Instant, at: Instant, note: str
) -> None:
    receipt = await registrar.revocations.stop(DPO, {"number": CLEAR, "at": when(NOW + ahead)})
    assert note in receipt.note
    assert bool(note) == bool(receipt.note)
    assert (await revocations(registrar))[CLEAR].at == at


@pytest.mark.parametrize("ahead", [SECOND, 900 * SECOND, 86_400 * SECOND])
async def test_imported_revocation_dated_ahead_binds_now(registrar: Registrar, ahead: Instant) -> None:
    file = f"number,at\n{CLEAR},{when(NOW + ahead)}\n"
    report = await registrar.revocations.revoke_all(DPO, RevocationsRequest(), BytesIO(file.encode()))
    assert (report.revoked, report.refused) == (1, 0)
    assert "are in force from now" in report.note
    assert (await revocations(registrar))[CLEAR].at == NOW


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"at": "yesterday"}, "`at` cannot be read"),
    ({"at": "2026-11-24T10:00:00"}, "`at` cannot be read"),
    ({"at": 4711}, "`at` cannot be read"),
    ({"at": "1960-01-01T00:00:00Z"}, AHEAD),
    ({"scope": "planet"}, "`scope` cannot be read"),
    ({"scope": "campaign"}, "applies to all campaigns"),
    ({"scope": "campaign", "campaign": "gone"}, "applies to all campaigns"),
    ({"scope": "campaign", "campaign": 7}, "applies to all campaigns"),
    ({"channel": ["fax"]}, "`channel` cannot be read"),
    ({"channel": "x" * 500}, "`channel` cannot be read"),
    ({"channel": "erasure"}, "`channel` cannot be read"),  # reserved for the stop of an erasure
    ({"proof": {"file": "a.pdf"}}, "`proof` cannot be read"),
    ({"actor": None}, "`actor` cannot be read"),
    ({"colour": "red"}, "fields that this endpoint does not know"),
    ({"controller": 1}, "`controller` cannot be read"),
]


@pytest.mark.parametrize(("fault", "note"), FAULTS, ids=[str(fault)[:40] for fault, _ in FAULTS])
async def test_faulty_detail_is_ignored_and_noted(
    registrar: Registrar, fault: dict[str, Any], note: str
) -> None:
    receipt = await registrar.revocations.stop(DPO, {"number": CLEAR, **fault})
    assert note in receipt.note
    assert (await revocations(registrar))[CLEAR].scope == "controller"


@pytest.mark.parametrize(
    ("raw", "home", "expected"),
    [
        ("06 12345678", "IT", {"+390612345678"}),
        ("+39 (0)6 12345678", "IT", {"+390612345678"}),
        ("+44 (0)20 7946 0018", "IT", {"+442079460018"}),
        ("tel:+390612345678", "IT", {"+390612345678"}),
        ("sip:+390612345678@192.168.10.20:5060", "IT", {"+390612345678"}),
        ("+390612345678;ext=1", "IT", {"+390612345678"}),
        ("Tel. 06/12345678 (ufficio)", "IT", {"+390612345678"}),
        ("+39\u200b0612345678", "IT", {"+390612345678"}),
        ("\uff10\uff16\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18", "IT", {"+390612345678"}),
        ("06\u201312345678", "IT", {"+390612345678"}),
        ("0612345678 \u2013 Rossi", "IT", {"+390612345678"}),
        ("0612345678 ; 3331234567", "IT", {"+390612345678", "+393331234567"}),
        ("0612345678 / 3331234567", "IT", {"+390612345678", "+393331234567"}),
        ("+39612345678", "IT", {"+390612345678"}),  # its zero is missing
        ("612345678", "IT", {"+390612345678"}),
        ("+3903331234567", "IT", {"+393331234567"}),  # a zero too many
        ("612345678", "ES IT", {"+34612345678"}),
        ("612345678", "ES FR", {"+34612345678", "+33612345678"}),
        ("390612345678.0", "IT", {"+390612345678"}),
        ("0612345678,00", "IT", {"+390612345678"}),
        ("612345678.0", "IT", {"+390612345678"}),  # its zero is missing, too
        ("3,90612345678E+11", "IT", {"+390612345678"}),
        ("3,90612E+11", "IT", set()),  # Excel showed only the first digits
        ("Rossi", "IT", set()),
        ("12", "IT", set()),
        ("", "IT", set()),
    ],
)
def test_number_is_found_in_an_odd_text(raw: str, home: str, expected: set[str]) -> None:
    if expected:
        assert stop_requests.numbers(raw, home) == expected
    else:
        with pytest.raises(NotANumber):
            stop_requests.numbers(raw, home)


async def test_json_number_may_have_lost_its_zero(registrar: Registrar) -> None:
    receipt = await registrar.revocations.stop(DPO, {"number": 331234567})
    assert "in force for each of them" in receipt.note
    assert set(await revocations(registrar)) == {"+39331234567", "+390331234567"}


async def test_file_of_decimal_numbers_stops_the_numbers_that_they_were(registrar: Registrar) -> None:
    file = "number;name\n390612345678.0;Rossi\n393281234567.0;Bianchi\n3,90612E+11;Verdi\n"
    report = await registrar.revocations.revoke_all(DPO, RevocationsRequest(), BytesIO(file.encode()))
    assert set(await revocations(registrar)) == {"+390612345678", "+393281234567"}
    assert (report.revoked, report.refused) == (2, 1)
    assert "Line 4: is in scientific notation" in report.note


JUNK: list[Any] = [
    None,
    True,
    -1,
    3.5,
    "",
    "x",
    "x" * 3_000,
    "\ud7ff",
    "2026-13-45",
    [],
    [[]],
    {},
    {"a": 1},
    "everyone ",
    "+39",
]
FIELDS = ["at", "scope", "campaign", "channel", "proof", "actor", "x", "number_", "At", ""]


async def test_no_random_fault_keeps_a_revocation_from_taking_effect(running: World) -> None:
    rng = random.Random(42)
    for at in range(200):
        number = f"+3906{12_000_000 + at}"
        body = {"number": number} | {name: rng.choice(JUNK) for name in rng.sample(FIELDS, rng.randint(1, 5))}
        await running.post("/v1/revocations", body)
        async with running.client.post("/v1/check", json=CALL | {"to": number}) as answer:
            assert "revocation.revoked" in [reason["code"] for reason in (await answer.json())["reasons"]], (
                body
            )


async def test_opt_out_with_unknown_fields_is_in_force(running: World) -> None:
    allow = await running.post("/v1/check", CALL | {"call_id": "1"}, 200)
    body = {"decision_id": allow["decision_id"], "outcome": "opt_out", "agent": "17", "at": "soon"}
    receipt = await running.post("/v1/outcomes", body, 200)
    assert "does not know" in receipt["revocation"]["note"]
    assert (await running.post("/v1/check", CALL, 200))["reasons"][0]["code"] == "revocation.revoked"
    await running.post("/v1/outcomes", body | {"outcome": "answered"}, 400)


async def test_withdrawal_dated_ahead_binds_now(running: World) -> None:
    consent = {
        "number": CLEAR, "id": "c", "collected_at": when(NOW - SECOND), "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"],
    }  # fmt: skip
    await running.post("/v1/consents", consent)
    body = {"number": CLEAR, "id": "c", "at": when(NOW + 900 * SECOND), "colour": "red"}
    receipt = await running.post("/v1/consents/withdraw", body)
    assert AHEAD in receipt["note"]
    assert "does not know" in receipt["note"]
    history = await running.get(f"/v1/consents?number={CLEAR.replace('+', '%2B')}&purpose=test")
    assert history["consents"][0]["withdrawn_at"]


@pytest.mark.parametrize(
    ("options", "note"),
    [(["--at", "soon"], "`at` cannot be read"), (["--at", when(NOW + 10**10)], AHEAD), (["--scope", "planet"], "`scope` cannot be read")],
)  # fmt: skip
async def test_command_records_a_revocation_with_a_faulty_option(
    running: World, options: list[str], note: str
) -> None:
    done = await running.command("revoke", "add", world.CLEAR, *options)
    assert done.code == 0
    assert note in done.out + done.err
