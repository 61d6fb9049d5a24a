"""Tests of bulk imports.

An import with an invalid row writes nothing, unless `skip_bad` is set. Invalid rows are reported. An import can be
repeated safely.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.config import loader
from dialgate.config.clients import Client
from dialgate.core.ledger_events import CallRequested, ConsentGiven, ContractMade, Event
from dialgate.core.model import Purpose
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker, may_contain
from dialgate.ledger import bulk_import
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import (
    ConsentRequest,
    ContractEndRequest,
    EntriesRequest,
    LedgerRequest,
    WithdrawalRequest,
)
from dialgate.lists.call_list import RowProblem
from tests.lists.test_tabular import workbook
from tests.support.ledger import ledger_of
from tests.support.world import CLEAR, LISTED, NOW, World, write_folder

CRM = Client(name="crm", controllers=("acme",), scopes=("ledger",))
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CONSENTS = f"""\
numero;id;collected_at;purposes;call_types;goods;artefact;artefact_sha256;profiling;proof
{CLEAR};web-1;2026-10-01T10:00:00+02:00;sale statistics;agent;fibre|mobile plans;forms/1.pdf;{SHA};true;mail/1
06 12345679;web-2;2026-10-02T10:00:00+02:00;sale;agent;;;;;
"""
ASK = EntriesRequest(kind="consent", channel="crm", proof="exports/1.csv", actor="anna")
GIVEN = ConsentGiven(
    id="web-1",
    collected_at=1_790_841_600_000,
    purposes=("sale", "statistics"),
    call_types=("agent",),
    goods=("fibre", "mobile plans"),
    artefact="forms/1.pdf",
    artefact_sha256=SHA,
    profiling=True,
)


@pytest.fixture
def masker(tmp_path: Path) -> Masker:
    return Masker(Keys.open(tmp_path / "keys.json"), "acme")


async def _events(registrar: Registrar) -> dict[str, Event]:
    keys = registrar.access.keys
    return {keys.ledger.unseal(item.sealed): item.event for item in await registrar.access.store.since(0, 99)}


async def test_every_row_becomes_an_entry_with_the_values_of_its_columns(registrar: Registrar) -> None:
    report = await registrar.consents.record_all(CRM, ASK, BytesIO(CONSENTS.encode()))
    assert (report.rows, report.recorded, report.known, report.refused) == (2, 2, 0, 0)
    second = ConsentGiven(
        id="web-2", collected_at=1_790_928_000_000, purposes=("sale",), call_types=("agent",)
    )
    assert await _events(registrar) == {CLEAR: GIVEN, LISTED: second}
    entries = await registrar.access.store.since(0, 9)
    assert {(item.actor, item.channel, item.proof) for item in entries} == {
        ("anna", "crm", "mail/1"),
        ("anna", "crm", "exports/1.csv"),
    }


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("0123456789 +-.()x\u0663", max_size=30), max_size=4))
def test_fast_check_misses_no_text_with_the_number(masker: Masker, texts: list[str]) -> None:
    """`may_contain` must find every text that the masker would change."""
    for text in [*texts, "".join(texts), f"tel {CLEAR}", "06-1234.56 78"]:
        if not may_contain([text], [CLEAR]):
            assert masker.text(text, CLEAR) == text
    numbers = [CLEAR] * (len(texts) + 1)
    assert len(texts) in may_contain([*texts, "06-1234.56 78"], numbers)
    assert may_contain([*texts, "to 1234 "], ["1234"] * len(numbers))[-1:] == [len(texts)]


@pytest.mark.parametrize(
    ("goods", "line"), [("fibre", 4), ('"fibre"', 4), ('"fibre\n"', 5)], ids=["plain", "quoted", "two lines"]
)
async def test_the_line_of_an_invalid_row_counts_empty_lines_and_line_breaks(
    registrar: Registrar, goods: str, line: int
) -> None:
    reported: list[RowProblem] = []
    row = "%s,web-1,2026-10-01T10:00:00+02:00,sale,agent,%s\n"
    file = (
        "number,id,collected_at,purposes,call_types,goods\n" + row % (CLEAR, goods) + "\n" + row % ("12", "")
    )
    with pytest.raises(Refused, match=f"1 of 2 rows are invalid, and nothing was written. Line {line}: "):
        await registrar.consents.record_all(CRM, ASK, BytesIO(file.encode()), note=reported.append)
    assert [problem.line for problem in reported] == [line]


async def test_an_invalid_row_is_found_in_a_long_file(registrar: Registrar) -> None:
    """No two numbers are encrypted with the same nonce."""
    many = 33_000  # more than the rows of one part
    rows = (f"+39333{at:07},web-{at},2026-10-01T10:00:00+02:00,sale,agent\n" for at in range(many))
    head = "number,id,collected_at,purposes,call_types\n"
    text = head + "".join(rows) + "12,web-x,2026-10-01T10:00:00+02:00,sale,agent\n"
    problems: list[RowProblem] = []
    with pytest.raises(Refused, match="rows"):
        await registrar.consents.record_all(CRM, ASK, BytesIO(text.encode()), note=problems.append)
    assert [problem.line for problem in problems] == [many + 2]
    assert await registrar.access.store.since(0, 1) == []
    skipping = msgspec.structs.replace(ASK, skip_bad=True)
    report = await registrar.consents.record_all(CRM, skipping, BytesIO(text.encode()))
    assert (report.rows, report.recorded, report.refused) == (many + 1, many, 1)
    entries = await registrar.access.store.since(0, many)
    keys = registrar.access.keys
    for at in (0, many // 2, many - 1):
        e164 = f"+39333{at:07}"
        (entry,) = await registrar.access.store.history(keys.subject("acme", e164))
        assert (keys.ledger.unseal(entry.sealed), getattr(entry.event, "id", "")) == (e164, f"web-{at}")
    assert len({entry.sealed[:12] for entry in entries}) == many


@pytest.mark.parametrize(
    ("kind", "file", "event"),
    [
        (
            "contract",
            f"number,id,starts,ends,sector,marketing\n{CLEAR},c-1,2025-01-01,2026-12-31,telecommunications,1\n",
            '{"type":"contract","id":"c-1","starts":"2025-01-01","ends":"2026-12-31","sector":"telecommunications","marketing":true}',
        ),
        (
            "call_request",
            f"number,id,requested_at,expires_at,goods,own_interface\n{CLEAR},r-1,2026-11-24T08:00:00Z,2026-11-26T08:00:00Z,fibre,yes\n",
            None,
        ),
        (
            "call_request",
            f"number,id,requested_at,expires_at,goods,own_interface\n{CLEAR},r-1,2026-11-24T08:00:00Z,2026-11-26T08:00:00Z,fibre,true\n",
            '{"type":"call_request","id":"r-1","requested_at":1795507200000,"expires_at":1795680000000,"goods":"fibre","own_interface":true}',
        ),
    ],
    ids=["a contract", "a word for true that no program writes", "a call request"],
)
async def test_contracts_and_call_requests_are_imported_too(
    registrar: Registrar, kind: str, file: str, event: str | None
) -> None:
    ask = msgspec.convert({"kind": kind}, EntriesRequest)
    if event is None:
        with pytest.raises(Refused, match="no valid row"):
            await registrar.consents.record_all(CRM, ask, BytesIO(file.encode()))
        return
    await registrar.consents.record_all(CRM, ask, BytesIO(file.encode()))
    (entered,) = (await _events(registrar)).values()
    assert isinstance(entered, ContractMade | CallRequested)
    assert msgspec.json.encode(entered).decode() == event


async def test_repeated_import_adds_only_corrected_rows(
    registrar: Registrar,
) -> None:
    file = CONSENTS.encode()
    first = await registrar.consents.record_all(CRM, ASK, BytesIO(file))
    again = await registrar.consents.record_all(CRM, ASK, BytesIO(file))
    mended = await registrar.consents.record_all(
        CRM, ASK, BytesIO(file.replace(b"forms/1.pdf", b"forms/2.pdf"))
    )
    assert [(item.recorded, item.known) for item in (first, again, mended)] == [(2, 0), (0, 2), (1, 1)]


async def test_the_narrower_row_of_a_consent_stays_in_force_if_the_import_is_repeated(
    registrar: Registrar,
) -> None:
    row = f"{CLEAR},c1,2026-10-01T10:00:00+02:00,%s,sale,agent,a.pdf,{SHA}\n"
    header = "number,id,collected_at,expires_at,purposes,call_types,artefact,artefact_sha256\n"
    file = (header + row % "" + row % "2026-11-01T00:00:00+01:00").encode()
    subject = registrar.access.keys.subject("acme", CLEAR)
    for recorded in (2, 0):
        report = await registrar.consents.record_all(CRM, ASK, BytesIO(file))
        assert (report.recorded, report.known) == (recorded, 2 - recorded)
        (consent,) = (await registrar.access.store.read([subject])).known[0].consents
        assert consent.expires_at == 1_793_487_600_000


async def test_a_row_that_would_permit_more_is_recorded_and_counted(registrar: Registrar) -> None:
    header = "number,id,collected_at,goods,purposes,call_types,artefact,artefact_sha256,rectify\n"
    row = f"{CLEAR},c1,2026-10-01T10:00:00+02:00,%s,sale,agent,a.pdf,{SHA},%s\n"
    subject = registrar.access.keys.subject("acme", CLEAR)
    for goods, rectify, recorded, outranked, held in (
        ("broadband", "", 1, 0, ("broadband",)),
        ("", "", 1, 1, ("broadband",)),
        ("", "", 0, 0, ("broadband",)),
        ("", "goods", 1, 0, ()),
        ("broadband", "", 0, 0, ()),
        ("", "goods", 0, 0, ()),
    ):
        file = header + row % (goods, rectify)
        report = await registrar.consents.record_all(CRM, ASK, BytesIO(file.encode()))
        (consent,) = (await registrar.access.store.read([subject])).known[0].consents
        assert (report.recorded, report.outranked, consent.goods) == (recorded, outranked, held)


async def test_a_proof_that_an_earlier_import_lacked_is_recorded(registrar: Registrar) -> None:
    file = f"number,id,requested_at,expires_at,goods\n{CLEAR},r1,2026-11-24T08:00:00Z,2026-11-26T08:00:00Z,fibre\n"
    subject = registrar.access.keys.subject("acme", CLEAR)
    for proof, recorded, proved in (
        ("", 1, False),
        ("form/17.pdf", 1, True),
        ("form/17.pdf", 0, True),
        ("", 0, True),
    ):
        ask = EntriesRequest(kind="call_request", proof=proof)
        report = await registrar.consents.record_all(CRM, ask, BytesIO(file.encode()))
        (request,) = (await registrar.access.store.read([subject])).known[0].requests
        assert (report.recorded, request.proved) == (recorded, proved)


async def test_existing_entry_is_not_imported_again(registrar: Registrar) -> None:
    by_hand = ConsentRequest(
        number=CLEAR,
        id="web-1",
        collected_at=datetime.fromisoformat("2026-10-01T10:00:00+02:00"),
        purposes=("sale", "statistics"),
        call_types=("agent",),
        goods=("fibre", "mobile plans"),
        artefact="forms/1.pdf",
        artefact_sha256=SHA,
        profiling=True,
    )
    await registrar.consents.record(CRM, by_hand)
    report = await registrar.consents.record_all(CRM, ASK, BytesIO(CONSENTS.encode()))
    assert (report.recorded, report.known) == (1, 1)


BAD = f"""\
number,id,collected_at,purposes,call_types,artefact_sha256
{CLEAR},a,2026-10-01T10:00:00+02:00,sale,agent,
12,a,2026-10-01T10:00:00+02:00,sale,agent,
{CLEAR},,2026-10-01T10:00:00+02:00,sale,agent,
{CLEAR},a,2026-10-01T10:00:00,sale,agent,
{CLEAR},a,2030-10-01T10:00:00Z,sale,agent,
{CLEAR},a,2026-10-01T10:00:00Z,{CLEAR},agent,
{CLEAR},a,2026-10-01T10:00:00Z,sale,agent,abc
"""


async def test_invalid_rows_reject_the_file_and_are_reported_without_their_cells(
    registrar: Registrar,
) -> None:
    reported: list[RowProblem] = []
    with pytest.raises(
        Refused,
        match=r"6 of 7 rows are invalid, and nothing was written\. Line 3: is not a valid number, with or without",
    ):
        await registrar.consents.record_all(CRM, ASK, BytesIO(BAD.encode()), note=reported.append)
    assert await registrar.access.store.since(0, 9) == []
    assert [(item.line, item.problem) for item in reported[1:]] == [
        (4, "`id` is missing"),
        (5, "`collected_at` cannot be read: write it as 2026-11-24T10:00:00+01:00"),
        (6, "`collected_at`: This time is in the future. Send the time of the event."),
        (7, f"`purposes` cannot be read: one or more of {', '.join(get_args(Purpose))}"),
        (8, "`artefact_sha256` cannot be read: 64 hexadecimal digits"),
    ]
    assert CLEAR[1:] not in str(reported)
    skipping = EntriesRequest(kind="consent", skip_bad=True)
    report = await registrar.consents.record_all(CRM, skipping, BytesIO(BAD.encode()))
    assert (report.recorded, report.refused) == (1, 6)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (f"number,id,expires\n{CLEAR},a,2026-12-01T00:00:00Z\n", "Columns with a name that is not known: 3"),
        (f"number,id,controller\n{CLEAR},a,other\n", "Columns with a name that is not known: 3"),
        (f"number,id,id\n{CLEAR},a,b\n", "Two columns have the same name"),
        (f"{CLEAR},a\n", "The file has no header"),
        ("number,id,collected_at,purposes,call_types\n", "The file has no valid row"),
        (f"number,id\n{CLEAR},a\n", r"The file has no valid row\. Line 2: `collected_at` is missing"),
        ('number,id\n"0612345678', "not CSV"),
        ("", "no valid row|no header"),
    ],
)
async def test_rejected_file_leaves_the_ledger_unchanged(registrar: Registrar, file: str, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        await registrar.consents.record_all(CRM, ASK, BytesIO(file.encode()))
    assert refused.value.code == "list.unreadable"
    assert await registrar.access.store.since(0, 9) == []


async def test_import_for_the_controller_of_another_client_is_refused(registrar: Registrar) -> None:
    with pytest.raises(Refused, match="controllers"):
        await registrar.consents.record_all(
            Client(name="x", controllers=("other",), scopes=()), ASK, BytesIO(CONSENTS.encode())
        )


@pytest.mark.parametrize(
    ("command", "header", "row"),
    [
        (
            "consent",
            "number,id,collected_at,purposes,call_types",
            f"{CLEAR},a,2026-10-01T10:00:00Z,sale,agent",
        ),
        ("contract", "number,id,starts", f"{CLEAR},a,2026-10-01"),
        (
            "request",
            "number,id,requested_at,expires_at",
            f"{CLEAR},a,2026-11-01T10:00:00Z,2026-12-01T10:00:00Z",
        ),
    ],
)
async def test_command_imports_a_file_and_reports_skipped_rows(
    running: World, tmp_path: Path, command: str, header: str, row: str
) -> None:
    file, reasons = tmp_path / "export.csv", tmp_path / "bad.csv"
    file.write_text(f"{header}\n{row}\n12,,,,\n")
    words = (command, "import", file, "--reasons", reasons, "--json")
    refused = await running.command(*words)
    assert (refused.code, refused.json["error"]["code"]) == (1, "list.unreadable")
    assert reasons.read_text().splitlines()[1].startswith("3,")
    done = await running.command(*words, "--skip-bad")
    assert done.code == 0, done
    assert (done.json["rows"], done.json["recorded"], done.json["refused"]) == (2, 1, 1)


async def test_row_whose_number_lost_its_zero_is_skipped_and_counted(registrar: Registrar) -> None:
    """Excel stores 0331 234567 as 331234567, which is also a mobile number of another person."""
    header = ["number", "id", "collected_at", "purposes", "call_types"]
    cells = ["2026-10-01T10:00:00+02:00", "sale", "agent"]
    rows = [
        [number, f"c{at}", *cells] for at, number in enumerate(["+393331234567", 331234567, 393312345678])
    ]
    report = await registrar.consents.record_all(CRM, ASK, BytesIO(workbook([header, *rows])))
    assert (report.rows, report.recorded, report.refused, report.doubtful) == (3, 2, 0, 1)
    assert list(report.reasons.values()) == [1]
    assert report.note.startswith("Excel dropped the zero or the plus in 1 cells: format the column as text")
    assert set(await _events(registrar)) == {"+393331234567", "+393312345678"}
    with pytest.raises(Refused, match="Excel dropped the zero or the plus in 1 cells"):
        await registrar.consents.record_all(CRM, ASK, BytesIO(workbook([header, rows[1]])))


FILES = int(os.environ.get("DIALGATE_FILES", "8"))
ROWS = st.lists(
    st.tuples(
        st.sampled_from((CLEAR, LISTED)),
        st.sampled_from(("a", "b")),
        st.sampled_from(("2026-10-01", "2026-10-02")),
        st.sampled_from(("", "fibre", "fibre|gas")),
        st.sampled_from(("", "mail/1", "mail/2")),
        st.sampled_from(("", "goods")),
    ),
    max_size=8,
)
KIND_COLUMNS: dict[str, Callable[[str], dict[str, str]]] = {  # of each kind, its own columns with the values of a row
    "consent": lambda day: {
        "collected_at": f"{day}T10:00:00+02:00", "purposes": "sale", "call_types": "agent",
        "artefact": "f/1", "artefact_sha256": SHA,
    },
    "contract": lambda day: {"starts": day},
    "call_request": lambda day: {"requested_at": f"{day}T10:00:00+02:00", "expires_at": "2026-12-24T08:00:00Z"},
}  # fmt: skip
ENDS: dict[str, LedgerRequest] = {
    "consent": WithdrawalRequest(number=CLEAR, id="a"),
    "contract": ContractEndRequest(number=CLEAR, id="a", ends=date(2026, 11, 1)),
}


@pytest.mark.parametrize("kind", KIND_COLUMNS)
@hypothesis.settings(
    max_examples=FILES, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@given(files=st.lists(ROWS, min_size=1, max_size=3), ends=st.booleans())
def test_file_records_what_single_requests_record(
    tmp_path_factory: pytest.TempPathFactory, kind: str, files: list[list[tuple[str, ...]]], *, ends: bool
) -> None:
    """The same rows, sent in files or one by one, with an end between two files, leave the same entries, byte by byte."""

    def values(row: tuple[str, ...]) -> dict[str, str]:
        number, name, day, goods, proof, rectify = row
        goods = goods.partition("|")[0] if kind == "call_request" else goods
        own = KIND_COLUMNS[kind](day)
        return {"number": number, "id": name, "goods": goods, "proof": proof, "rectify": rectify, **own}

    async def play(*, bulk: bool) -> list[list[tuple[str, str]]]:
        config = loader.load(write_folder(tmp_path_factory.mktemp("ledger")))
        async with ledger_of(config, lambda: NOW) as opened:
            for rows in [[values(row) for row in file] for file in files]:
                if bulk and rows:
                    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
                    await opened.consents.record_all(
                        CRM,
                        msgspec.convert({"kind": kind}, EntriesRequest),
                        BytesIO("\n".join(lines).encode()),
                    )
                for row in [] if bulk else rows:
                    ask: dict[str, Any] = {name: text for name, text in row.items() if text}
                    for name in ("purposes", "call_types", "goods", "rectify"):
                        if name in ask and not (name == "goods" and kind == "call_request"):
                            ask[name] = ask[name].split("|")
                    request: Any = msgspec.convert(ask, bulk_import.KINDS[kind], strict=False)
                    await opened.consents.record(CRM, request)
                if ends and kind != "call_request":
                    with suppress(Refused):  # without an entry with this id there is nothing to end
                        await opened.consents.record(CRM, ENDS[kind])
            subjects = [opened.access.keys.subject("acme", number) for number in (CLEAR, LISTED)]
            histories = await opened.access.store.histories(subjects)
            return [
                [(entry.event, entry.proof) for entry in histories.get(subject, [])] for subject in subjects
            ]

    assert asyncio.run(play(bulk=True)) == asyncio.run(play(bulk=False))
