"""Writes to the ledger have limits. An error message says what to do, but does not contain the telephone number."""

import asyncio
import re
import threading
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.clients import Client
from dialgate.core.ledger_state import fold
from dialgate.core.location import Addresses
from dialgate.core.model import Origin, Transfer
from dialgate.core.refusal import Refused
from dialgate.gate.facts import _open_list
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.request_fields import fields_of
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    EntriesRequest,
    LiftRequest,
    ListRequest,
    OutcomeRequest,
    Request,
    RevocationRequest,
    RevocationsRequest,
    WithdrawalRequest,
)
from dialgate.ledger.scrub import verdict_now
from dialgate.lists import call_list
from dialgate.lists.call_list import RowProblem
from dialgate.lists.tabular import from_lines
from tests.support import yaml_files
from tests.support.call_lists import built_from
from tests.support.ledger import ledger_of
from tests.support.world import CALLER, CLEAR, LIST, NOW, write_folder

DIALER = Client(name="dialer", controllers=("acme",), scopes=("revoke", "ledger", "lists"))
AT = "2026-11-23T10:00:00+01:00"
CONSENT = {
    "number": CLEAR,
    "id": "c",
    "collected_at": AT,
    "purposes": ["sale"],
    "goods": ["broadband"],
    "call_types": ["agent"],
}
CONTRACT = {"number": CLEAR, "id": "k", "starts": "2026-01-01"}
OURS = {"sector": "telecommunications", "marketing": True}
PROOF = {"artefact": "forms/c.pdf", "artefact_sha256": "0" * 64}
ASKED = {"number": CLEAR, "id": "r", "requested_at": AT, "expires_at": "2026-12-01T10:00:00+01:00"}
UPLOAD = {key: value for key, value in LIST.items() if key != "numbers"}
STEP = {"by": "broker", "to": "acme", "on": "2026-11-20", "subjects_told": True}
ORIGIN = {"collected_by": "broker", "collected_on": "2026-11-01", "transfers": [STEP]}


SAMPLES: list[tuple[type[Any], dict[str, Any]]] = [
    (RevocationRequest, {"number": CLEAR}),
    (LiftRequest, {"ground": "error", "reason": "x"}),
    (ConsentRequest, CONSENT),
    (WithdrawalRequest, {"number": CLEAR, "id": "c"}),
    (ConfirmationRequest, {"number": CLEAR, "id": "c"}),
    (ContractRequest, CONTRACT),
    (ContractEndRequest, {"number": CLEAR, "id": "k", "ends": "2026-11-24"}),
    (CallRequestRequest, ASKED),
    (CallerIdProofRequest, {"caller_id": CLEAR, "kind": "probe"}),
    (OutcomeRequest, {"decision_id": "a-1", "outcome": "busy"}),
    (ListRequest, UPLOAD),
]
TEXTS = [
    (kind, sample, field.name)
    for kind, sample in SAMPLES
    for field in fields_of(kind)
    if field.shape in {"text", "telephone"}
]


@pytest.mark.parametrize(
    ("kind", "sample", "name"), TEXTS, ids=[f"{kind.__name__}.{name}" for kind, _, name in TEXTS]
)
def test_stored_texts_have_a_maximum_length(kind: type[Any], sample: dict[str, Any], name: str) -> None:
    msgspec.convert(sample, kind)
    with pytest.raises(msgspec.ValidationError, match=rf"(length <= \d+|matching regex).*\$\.{name}"):
        msgspec.convert({**sample, name: "1" * 1025}, kind)


@pytest.mark.parametrize(
    ("kind", "sample", "place"),
    [
        (ConsentRequest, CONSENT | {"purposes": []}, "$.purposes"),
        (ConsentRequest, CONSENT | {"call_types": []}, "$.call_types"),
        (ConsentRequest, CONSENT | {"id": ""}, "$.id"),
        (ConsentRequest, CONSENT | {"goods": ["x"] * 65}, "$.goods"),
        (ConsentRequest, CONSENT | {"goods": ["x" * 129]}, "$.goods[0]"),
        (ConsentRequest, CONSENT | {"artefact_sha256": "0" * 63}, "$.artefact_sha256"),
        (ConsentRequest, CONSENT | {"collected_at": AT[:19]}, "$.collected_at"),
        (ConsentRequest, CONSENT | {"expires_at": AT[:19]}, "$.expires_at"),
        (ConsentRequest, CONSENT | {"origin": ORIGIN | {"source": "x" * 257}}, "$.origin.source"),
        (ConsentRequest, CONSENT | {"origin": ORIGIN | {"transfers": [STEP] * 65}}, "$.origin.transfers"),
        (CallRequestRequest, ASKED | {"requested_at": AT[:19]}, "$.requested_at"),
        (RevocationRequest, {"number": CLEAR, "at": AT[:19]}, "$.at"),
        (ListRequest, UPLOAD | {"transfers": [STEP | {"by": "x" * 257}]}, "$.transfers[0].by"),
        (ListRequest, UPLOAD | {"campaigns": ["x"] * 1025}, "$.campaigns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_field_is_refused_with_its_path(kind: type[Any], sample: dict[str, Any], place: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf" - at `{re.escape(place)}`$"):
        msgspec.convert(sample, kind)


async def act(registrar: Registrar, ask: Request | OutcomeRequest) -> None:
    match ask:
        case RevocationRequest():
            await registrar.revocations.revoke(DIALER, ask)
        case LiftRequest():
            await registrar.revocations.lift(DIALER, 1, ask)
        case ListRequest():
            await registrar.call_lists.load_from(DIALER, ask, built_from(from_lines(["12"])))
        case CallerIdProofRequest():
            await registrar.caller_ids.prove_caller_id(DIALER, ask)
        case OutcomeRequest():
            await registrar.outcomes.result(DIALER, ask)
        case (
            ConsentRequest()
            | ConfirmationRequest()
            | WithdrawalRequest()
            | ContractRequest()
            | ContractEndRequest()
            | CallRequestRequest()
        ):
            await registrar.consents.record(DIALER, ask)
        case _:
            raise AssertionError(ask)


OLD, COMING = "1969-12-31T23:59:59Z", "2026-11-24T09:00:00.001Z"
REFUSED: list[tuple[type[Any], dict[str, Any], str, str]] = [
    (RevocationRequest, {"number": "12A"}, "number.invalid", "number"),
    (RevocationRequest, {"number": CLEAR, "controller": "other"}, "controller.unknown", "controller"),
    (RevocationRequest, {"number": CLEAR, "scope": "everyone"}, "auth.scope", "scope"),
    (LiftRequest, {"ground": "error", "reason": "x"}, "revocation.unknown", "seq"),
    (ConsentRequest, CONSENT | {"collected_at": COMING}, "request.invalid", "collected_at"),
    (ConsentRequest, CONSENT | {"collected_at": OLD}, "request.invalid", "collected_at"),
    (ConsentRequest, CONSENT | {"expires_at": OLD}, "request.invalid", "expires_at"),
    (WithdrawalRequest, {"number": CLEAR, "id": "c"}, "ledger.unknown", "id"),
    (ConfirmationRequest, {"number": CLEAR, "id": "c"}, "ledger.unknown", "id"),
    (ContractRequest, CONTRACT | {"sector": "electricty"}, "request.invalid", "sector"),
    (ConsentRequest, CONSENT | {"place": "US-NX"}, "request.invalid", "place"),
    (ContractRequest, CONTRACT | {"rectify": ["end"]}, "request.invalid", "rectify"),
    (CallRequestRequest, ASKED | {"rectify": ["id"]}, "request.invalid", "rectify"),
    (ContractRequest, CONTRACT | {"place": "Florida"}, "request.invalid", "place"),
    (CallRequestRequest, ASKED | {"place": "us-fl"}, "request.invalid", "place"),
    (ContractEndRequest, {"number": CLEAR, "id": "k", "ends": "2026-11-24"}, "ledger.unknown", "id"),
    (CallRequestRequest, ASKED | {"requested_at": COMING}, "request.invalid", "requested_at"),
    (CallRequestRequest, ASKED | {"expires_at": OLD}, "request.invalid", "expires_at"),
    (CallerIdProofRequest, {"caller_id": "anonymous", "kind": "probe"}, "caller_id.invalid", "caller_id"),
    (OutcomeRequest, {"decision_id": "a-1", "outcome": "busy"}, "decision.unknown", "decision_id"),
    (ListRequest, UPLOAD, "list.unreadable", "numbers"),
    (ListRequest, UPLOAD | {"id": "a/b"}, "request.invalid", "id"),
    (ListRequest, UPLOAD | {"id": ".."}, "request.invalid", "id"),
    (ListRequest, UPLOAD | {"id": "\N{KELVIN SIGN}"}, "request.invalid", "id"),  # in lower case an ASCII k
    (ListRequest, UPLOAD | {"campaigns": []}, "campaign.unknown", "campaigns"),
    (ListRequest, UPLOAD | {"collected_by": " "}, "request.invalid", "collected_by"),
    (ListRequest, UPLOAD | {"collected_by": "Leads S.r.l."}, "request.invalid", "origin"),
    (ListRequest, UPLOAD | {"collected_by": "Leads S.r.l.", "origin": "own"}, "request.invalid", "origin"),
    (ListRequest, UPLOAD | {"origin": "acquired"}, "request.invalid", "transfers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "sample", "code", "field"), REFUSED, ids=[f"{row[0].__name__}.{row[3]}" for row in REFUSED]
)
async def test_refusal_names_the_field_and_contains_no_number(
    registrar: Registrar, kind: type[Any], sample: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(Refused) as refused:
        await act(registrar, msgspec.convert(sample, kind))
    assert (refused.value.code, refused.value.field) == (code, field)
    assert re.fullmatch(r"[A-Z`].*\.", refused.value.message)
    assert not re.search(r"\d{5}", refused.value.message.replace("like +390612345600", ""))


async def test_refusal_of_an_unknown_name_lists_only_names_of_this_client(tmp_path: Path) -> None:
    config = write_folder(tmp_path)
    acme = yaml_files.read(tmp_path / "controllers/acme.yaml")
    for name in ("beta", "zeta"):
        campaigns = [acme["campaigns"][0] | {"id": f"{name}-{place}"} for place in range(2)]
        yaml_files.write(tmp_path / f"controllers/{name}.yaml", acme | {"id": name, "campaigns": campaigns})
    client = Client(name="two", controllers=("acme", "beta"), scopes=("lists",))
    async with ledger_of(loader.load(config), lambda: NOW) as registrar:
        for ask, reported in (
            ({"controller": "zeta"}, "Use one of your controllers: acme, beta."),
            ({}, "Use one of your controllers: acme, beta."),
            (
                {"controller": "beta", "campaigns": ["zeta-0"]},
                "Use campaigns of this controller: beta-0, beta-1.",
            ),
        ):
            with pytest.raises(Refused) as refused:
                await registrar.call_lists.load_from(
                    client, msgspec.convert(UPLOAD | ask, ListRequest), built_from(from_lines(["1"]))
                )
            assert refused.value.message == reported
        with pytest.raises(Refused, match=r"^Use one of your campaigns: acme-fibre, beta-0, beta-1\.$"):
            await registrar.list_exports.judge(client, "zeta-0", verdict_now)
        nobody = Client(name="none", controllers=(), scopes=("lists",))
        with pytest.raises(Refused, match=r"^Use one of your controllers: none available\.$"):
            await registrar.call_lists.load_from(
                nobody, msgspec.convert(UPLOAD, ListRequest), built_from(from_lines(["1"]))
            )


IDLE: list[tuple[type[Any], dict[str, Any], str]] = [
    (ConsentRequest, CONSENT, "no artefact with its SHA-256 proves it."),
    (ConsentRequest, CONSENT | PROOF | {"double_opt_in": True}, "its double opt-in has not been confirmed."),
    (ConsentRequest, CONSENT | PROOF | {"expires_at": AT}, "it has expired."),
    (ConsentRequest, CONSENT | PROOF | {"purposes": ["debt"]}, "no campaign has one of its purposes. Campaigns have: sale."),
    (ConsentRequest, CONSENT | PROOF | {"goods": ["solar"]}, "no campaign has its goods. Campaigns have: broadband."),
    (ContractRequest, CONTRACT, "no campaign is in its sector. Campaigns are in: telecommunications."),
    (ContractRequest, CONTRACT | {"sector": "telecommunications"}, "it includes no consent to commercial calls."),
    (ContractRequest, CONTRACT | OURS | {"ends": "2020-01-01"}, "the contract ended before its first day."),
    (ContractRequest, CONTRACT | OURS | {"goods": ["solar"]}, "no campaign has its goods. Campaigns have: broadband."),
    (CallRequestRequest, ASKED | {"goods": "solar"}, "no campaign has its goods. Campaigns have: broadband."),
    (CallRequestRequest, ASKED, "no campaign has its goods. Campaigns have: broadband."),
    (CallRequestRequest, ASKED | {"expires_at": AT, "goods": "broadband"}, "it has expired."),
]  # fmt: skip
OPENING: list[tuple[type[Any], dict[str, Any]]] = [
    (ConsentRequest, CONSENT | PROOF),
    (ConsentRequest, CONSENT | PROOF | {"goods": ["broadband", "solar"]}),
    (ContractRequest, CONTRACT | OURS | {"proof": "scan 7"}),
    (CallRequestRequest, ASKED | {"goods": "broadband"}),
]


@pytest.mark.parametrize(
    ("kind", "sample", "why"), IDLE, ids=[f"{row[0].__name__}: {row[2]}" for row in IDLE]
)
async def test_entry_without_effect_gets_a_note(
    registrar: Registrar, kind: type[Any], sample: dict[str, Any], why: str
) -> None:
    receipt = await registrar.consents.record(DIALER, msgspec.convert(sample, kind))
    assert receipt.note.startswith(f"No call can rely on this entry yet, because {why}")
    (entry,) = await registrar.views.history(DIALER, "", CLEAR)
    assert entry.opens_nothing


@pytest.mark.parametrize(("kind", "sample"), OPENING, ids=[row[0].__name__ for row in OPENING])
async def test_entry_that_permits_calls_gets_no_note(
    registrar: Registrar, kind: type[Any], sample: dict[str, Any]
) -> None:
    receipt = await registrar.consents.record(DIALER, msgspec.convert(sample, kind))
    assert msgspec.to_builtins(receipt).keys() == {"seq", "at"}
    (entry,) = await registrar.views.history(DIALER, "", CLEAR)
    assert not entry.opens_nothing


@pytest.mark.parametrize(
    ("changes", "is_noted"), [({}, True), ({"proof": "scan 7"}, False), ({"marketing": False}, False)]
)
async def test_receipt_of_a_contract_says_that_the_consent_within_it_lacks_a_proof(
    registrar: Registrar, changes: dict[str, Any], *, is_noted: bool
) -> None:
    ask = msgspec.convert(CONTRACT | OURS | changes, ContractRequest)
    note = (await registrar.consents.record(DIALER, ask)).note
    assert ("permits no call to a number that a registry lists" in note) is is_noted


WIDER = CONSENT | PROOF | {"goods": ["broadband"]}
OUTRANKED: list[tuple[type[Any], dict[str, Any], dict[str, Any], str]] = [
    (ConsentRequest, WIDER, {"goods": []}, "goods"),
    (ConsentRequest, WIDER, {"double_opt_in": False, "goods": []}, "goods"),
    (ConsentRequest, WIDER, {"collected_at": "2020-01-01T00:00:00Z"}, "collected_at"),
    (ConsentRequest, WIDER, {"goods": [], "rectify": ["goods"]}, ""),
    (ConsentRequest, WIDER, {}, ""),
    (ContractRequest, CONTRACT | OURS | {"marketing": False}, {"marketing": True}, "marketing"),
    (ContractRequest, CONTRACT | OURS | {"ends": "2029-01-01"}, {"ends": None}, "ends"),
    (CallRequestRequest, ASKED | {"goods": "broadband"}, {"own_interface": True}, "own_interface"),
]


@pytest.mark.parametrize(("kind", "first", "changes", "fields"), OUTRANKED)
async def test_receipt_names_the_fields_that_earlier_entries_outrank(
    registrar: Registrar, kind: type[Any], first: dict[str, Any], changes: dict[str, Any], fields: str
) -> None:
    await registrar.consents.record(DIALER, msgspec.convert(first, kind))
    receipt = await registrar.consents.record(DIALER, msgspec.convert(first | changes, kind))
    outranked = f"outrank this one, which must not permit more calls, in: {fields}." in receipt.note
    assert outranked == bool(fields), receipt.note
    assert ("name them in `rectify`" in receipt.note) == bool(fields)


async def test_a_later_end_of_a_contract_is_recorded_and_has_no_effect(registrar: Registrar) -> None:
    await registrar.consents.record(DIALER, msgspec.convert(CONTRACT | OURS, ContractRequest))
    for day, outranked in (("2026-06-30", False), ("2027-06-30", True)):
        ended = ContractEndRequest(number=CLEAR, id="k", ends=date.fromisoformat(day))
        receipt = await registrar.consents.record(DIALER, ended)
        assert ("in: ends." in receipt.note) is outranked


async def test_confirmed_consent_permits_calls_and_an_unused_caller_id_gets_a_note(
    registrar: Registrar,
) -> None:
    await registrar.consents.record(
        DIALER, msgspec.convert(CONSENT | PROOF | {"double_opt_in": True}, ConsentRequest)
    )
    confirmed = await registrar.consents.record(DIALER, ConfirmationRequest(number=CLEAR, id="c"))
    assert not confirmed.note
    assert [item.opens_nothing for item in await registrar.views.history(DIALER, "", CLEAR)] == ["", ""]
    proof = CallerIdProofRequest(caller_id="+390299000000", kind="probe")
    reported = await registrar.caller_ids.prove_caller_id(DIALER, proof)
    assert (
        reported.note
        == "No call can rely on this entry yet, because no campaign shows this caller ID. Campaigns show: +390844123456."
    )
    assert not (
        await registrar.caller_ids.prove_caller_id(DIALER, structs.replace(proof, answered=False))
    ).note
    assert not (
        await registrar.caller_ids.prove_caller_id(DIALER, structs.replace(proof, caller_id=CALLER))
    ).note


async def test_lift_needs_a_reason(registrar: Registrar) -> None:
    receipt = await registrar.revocations.revoke(
        DIALER, msgspec.convert({"number": CLEAR}, RevocationRequest)
    )
    with pytest.raises(Refused, match=r"^Give a reason for lifting the revocation\.$"):
        await registrar.revocations.lift(DIALER, receipt.seq, LiftRequest(ground="error", reason="  "))


STOPPED = "2026-11-23T12:00:00+01:00"
ANEW = CONSENT | PROOF | {"collected_at": "2026-11-23T12:00:01+01:00"}


@pytest.mark.parametrize(
    ("consent", "withdrawn", "code"),
    [
        (None, False, "ledger.unknown"),
        (ANEW, False, ""),
        (ANEW | {"id": "another"}, False, "ledger.unknown"),
        (ANEW | {"collected_at": STOPPED}, False, "request.invalid"),
        (ANEW | {"artefact": ""}, False, "request.invalid"),
        (ANEW | {"double_opt_in": True}, False, "request.invalid"),
        (ANEW | {"expires_at": "2026-11-24T10:00:00+01:00"}, False, "request.invalid"),
        (ANEW | {"expires_at": "2026-11-24T10:00:01+01:00"}, False, ""),
        (ANEW, True, "request.invalid"),
    ],
)
@pytest.mark.parametrize("scope", ["controller", "everyone"])
async def test_revocation_is_lifted_only_for_a_proved_new_consent(
    registrar: Registrar, scope: str, consent: dict[str, Any] | None, withdrawn: bool, code: str
) -> None:
    client = structs.replace(DIALER, scopes=(*DIALER.scopes, "admin"))
    stop = msgspec.convert({"number": CLEAR, "at": STOPPED, "scope": scope}, RevocationRequest)
    receipt = await registrar.revocations.revoke(client, stop)
    if consent is not None:
        await registrar.consents.record(client, msgspec.convert(consent, ConsentRequest))
    if withdrawn:
        await registrar.consents.record(client, WithdrawalRequest(number=CLEAR, id="c"))
    lift = LiftRequest(ground="new_consent", reason="signed again", consent="c")
    if code:
        with pytest.raises(Refused) as refused:
            await registrar.revocations.lift(client, receipt.seq, lift)
        assert (refused.value.code, refused.value.field) == (code, "consent")
    else:
        await registrar.revocations.lift(client, receipt.seq, lift)
    (held,) = fold(await registrar.access.store.since(0, 9)).revocations
    assert held.lifted == ("" if code else "new_consent")


async def test_two_loads_do_not_replace_the_same_list(registrar: Registrar) -> None:
    """The second is refused, as if it had come after the first, and not left in force beside it."""
    lists, client = registrar.call_lists, DIALER
    await lists.load_from(client, msgspec.convert(UPLOAD, ListRequest), built_from(from_lines([CLEAR])))
    loads = [
        lists.load_from(
            client,
            msgspec.convert({**UPLOAD, "id": name, "replaces": "rome"}, ListRequest),
            built_from(from_lines([CLEAR])),
        )
        for name in ("one", "two")
    ]
    done = await asyncio.gather(*loads, return_exceptions=True)
    (refused,) = [result for result in done if isinstance(result, Refused)]
    assert (refused.code, refused.field) == ("list.unknown", "replaces")
    assert sum(not info.retired_at for info in await lists.lists(client)) == 1


async def test_repeated_withdrawal_confirmation_or_lift_writes_one_entry(registrar: Registrar) -> None:
    await registrar.consents.record(
        DIALER, msgspec.convert(CONSENT | {"double_opt_in": True}, ConsentRequest)
    )
    stop = await registrar.revocations.revoke(DIALER, RevocationRequest(number=CLEAR))
    lift = LiftRequest(ground="error", reason="another's")
    for _ in range(2):
        receipts = [
            await registrar.consents.record(DIALER, ConfirmationRequest(number=CLEAR, id="c")),
            await registrar.consents.record(DIALER, WithdrawalRequest(number=CLEAR, id="c")),
            await registrar.revocations.lift(DIALER, stop.seq, lift),
        ]
        assert [receipt.seq for receipt in receipts] == [3, 4, 5]
    with pytest.raises(Refused, match="with a different `ground`"):
        await registrar.revocations.lift(DIALER, stop.seq, structs.replace(lift, ground="new_consent"))
    assert len(await registrar.views.history(DIALER, "", CLEAR)) == 5


async def test_confirmation_before_its_consent_is_refused(registrar: Registrar) -> None:
    await registrar.consents.record(
        DIALER, msgspec.convert(CONSENT | {"double_opt_in": True}, ConsentRequest)
    )
    early = {"number": CLEAR, "id": "c", "at": "2026-11-23T09:59:59+01:00"}
    with pytest.raises(Refused, match="collected later than this"):
        await registrar.consents.record(DIALER, msgspec.convert(early, ConfirmationRequest))


async def test_instants_keep_their_milliseconds(registrar: Registrar) -> None:
    """A revocation and a consent at the same instant must compare as equal."""
    for millisecond in range(0, 1000, 7):
        at = f"2026-11-24T09:00:00.{millisecond:03}+01:00"
        await registrar.consents.record(
            DIALER, msgspec.convert(CONSENT | {"collected_at": at}, ConsentRequest)
        )
    reported = await registrar.views.history(DIALER, "", CLEAR)
    assert [item.details["collected_at"][20:23] for item in reported] == [
        f"{n:03}" for n in range(0, 1000, 7)
    ]


async def test_origin_of_a_consent_reaches_the_rules(registrar: Registrar) -> None:
    await registrar.consents.record(DIALER, msgspec.convert(CONSENT | {"origin": ORIGIN}, ConsentRequest))
    held = fold(await registrar.access.store.since(0, 9)).consents[0]
    step = Transfer(by="broker", to="acme", on=date(2026, 11, 20), subjects_told=True)
    assert held.origin == Origin(collected_by="broker", collected_on=date(2026, 11, 1), transfers=(step,))


@pytest.mark.parametrize(
    "raw",
    [b"PK\x03\x04 and no more", b'0612345678\n"0298765432\n', b"\x00\x01\x02", b"x\n" * 9],
    ids=range(4),
)
async def test_unreadable_list_changes_nothing(registrar: Registrar, raw: bytes) -> None:
    with pytest.raises(Refused) as refused:
        await registrar.call_lists.load_from(
            DIALER, msgspec.convert(UPLOAD, ListRequest), built_from(BytesIO(raw))
        )
    assert refused.value.code == "list.unreadable"
    assert await registrar.call_lists.lists(DIALER) == []
    assert list((registrar.config.data / "lists").iterdir()) == []


async def test_skipped_rows_are_reported_with_their_lines(registrar: Registrar) -> None:
    reported: list[RowProblem] = []
    rows = from_lines(["number", CLEAR, "12", CLEAR, '=A1&"1"'])
    ask = msgspec.convert(UPLOAD, ListRequest)
    report = await registrar.call_lists.load_from(DIALER, ask, built_from(rows, reported.append))
    assert [item.line for item in reported] == [3, 4, 5]
    assert [item.problem for item in reported[1:]] == [
        "is already on the list", "is a formula; save the list with values instead of formulas",
    ]  # fmt: skip
    assert (report.accepted, report.duplicates, report.refused) == (1, 1, 2)
    assert report.layout is not None
    assert report.layout.header == ("number",)


async def test_list_stores_the_legal_bases_of_its_rows(registrar: Registrar) -> None:
    for name, row in (("one", CLEAR), ("two", "number,basis\n06 12345679,consent\n0612345678,")):
        ask = msgspec.convert(UPLOAD | {"id": name}, ListRequest)
        await registrar.call_lists.load_from(DIALER, ask, built_from(from_lines(row.splitlines())))
    assert {item.id: item.bases for item in await registrar.access.store.lists()} == {
        "one": ("directory",),
        "two": ("directory", "consent"),
    }


async def test_list_stores_the_places_of_its_rows(registrar: Registrar) -> None:
    rows = ["number,place", "+12122345678,us-fl", "+13052345678,", f"{CLEAR},DE-BY"]
    await registrar.call_lists.load_from(
        DIALER, msgspec.convert(UPLOAD, ListRequest), built_from(from_lines(rows))
    )
    (stored,) = await registrar.access.store.lists()
    assert sorted(stored.places) == ["", "DE-BY", "US-FL"]
    assert stored.bases == ("directory",) * 3


@pytest.mark.parametrize(
    ("kind", "sample"), [(ConsentRequest, CONSENT), (ContractRequest, CONTRACT), (CallRequestRequest, ASKED)]
)
async def test_the_declared_place_is_part_of_the_entry(
    registrar: Registrar, kind: type[Any], sample: dict[str, Any]
) -> None:
    await act(registrar, msgspec.convert(sample | {"place": "US-FL"}, kind))
    subject = registrar.access.keys.subject("acme", CLEAR)
    (known,) = (await registrar.access.store.read([subject])).known
    assert Addresses.from_listings((), known).places == {"US-FL"}


async def test_mobiles_without_directory_in_their_row_are_counted(
    registrar: Registrar,
) -> None:
    """A call list from an earlier version permits no calls to mobile numbers.

    The record of an earlier list does not state which rows themselves contain the basis `directory`.
    """
    ask = msgspec.convert({name: value for name, value in LIST.items() if name != "numbers"}, ListRequest)
    rows = ["number,basis", f"{CLEAR},", "+393331234567,", "+393331234568,directory"]
    report = await registrar.call_lists.load_from(
        registrar.config.settings.clients[0], ask, built_from(from_lines(rows))
    )
    assert (report.accepted, report.unstated) == (3, 1)
    (record,) = await registrar.access.store.lists()
    folder = registrar.config.data / "lists"
    for stated, said in ((record.stated, [False, True]), ((), [False, False])):
        loaded = _open_list(structs.replace(record, stated=stated), folder)
        assert not isinstance(loaded, str)
        assert [item.stated for item in loaded.listings] == said
        loaded.numbers.close()


@pytest.fixture
async def abroad(registrar: Registrar) -> Registrar:
    """Add a campaign that calls France from Italy. Its dialer writes French numbers without a country code."""
    path = registrar.config.folder / "controllers/acme.yaml"
    written = yaml_files.read(path)
    french = written["campaigns"][0] | {"id": "acme-france", "dial_region": "FR"}
    yaml_files.write(path, written | {"campaigns": [*written["campaigns"], french]})
    registrar.reload(loader.load(registrar.config.folder / "dialgate.yaml"))
    return registrar


TWO_COUNTRIES = "06 12 34 56 78"  # in Rome, or a mobile in France


async def test_consent_of_a_number_of_two_countries_is_not_recorded_for_another_person(
    abroad: Registrar,
) -> None:
    ask = msgspec.convert(CONSENT | {"number": TWO_COUNTRIES}, ConsentRequest)
    with pytest.raises(Refused, match="more than one way"):
        await abroad.consents.record(DIALER, ask)
    assert (await abroad.consents.record(DIALER, structs.replace(ask, number="+33612345678"))).seq
    assert (
        await abroad.consents.record(DIALER, structs.replace(ask, number="333 1234567"))
    ).seq  # only in Italy
    subjects = [abroad.access.keys.subject("acme", number) for number in ("+33612345678", "+393331234567")]
    assert (await abroad.access.store.histories(subjects)).keys() == set(subjects)


async def test_file_with_a_number_of_two_countries_is_rejected(abroad: Registrar) -> None:
    file = BytesIO(f"number,id,starts\n{TWO_COUNTRIES},k,2026-01-01\n".encode())
    with pytest.raises(Refused, match="more than one way"):
        await abroad.consents.record_all(DIALER, EntriesRequest(kind="contract"), file)


@pytest.mark.parametrize("is_file", [False, True])
async def test_revocation_of_a_number_of_two_countries_binds_in_both(
    abroad: Registrar, *, is_file: bool
) -> None:
    """Nothing says which of the two persons objected, and none of them may be called on a guess."""
    if is_file:
        file = BytesIO(f"number\n{TWO_COUNTRIES}\n".encode())
        report = await abroad.revocations.revoke_all(DIALER, RevocationsRequest(), file)
        assert (report.revoked, report.doubtful) == (2, 1)
    else:
        receipt = await abroad.revocations.revoke(DIALER, RevocationRequest(number=TWO_COUNTRIES))
        assert "in force for each of them" in receipt.note
    subjects = [abroad.access.keys.subject("acme", number) for number in ("+33612345678", "+390612345678")]
    assert (await abroad.access.store.histories(subjects)).keys() == set(subjects)


@pytest.mark.parametrize(
    ("campaign", "number"), [("acme-fibre", "+390612345678"), ("acme-france", "+33612345678")]
)
async def test_numbers_of_a_list_belong_to_its_campaign(
    abroad: Registrar, campaign: str, number: str
) -> None:
    ask = msgspec.convert(UPLOAD | {"campaigns": [campaign]}, ListRequest)
    await abroad.call_lists.load_from(DIALER, ask, built_from(from_lines([TWO_COUNTRIES])))
    (record,) = await abroad.access.store.lists()
    assert call_list.names_one_of(abroad.config.data / "lists" / record.file, number, "IT")


async def test_closing_the_gate_ends_the_registrars_threads(tmp_path: Path) -> None:
    config = loader.load(write_folder(tmp_path))
    earlier = set(threading.enumerate())
    app = await App.open(config, registry=CollectorRegistry(), clock=lambda: NOW)
    registrar = app.registrar
    await registrar.call_lists.load_from(
        DIALER, msgspec.convert(UPLOAD, ListRequest), built_from(from_lines([CLEAR]))
    )
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("registrar")]
    threads = [thread for thread in threads if thread not in earlier]
    assert threads
    await app.close()
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
