"""A number has a maximum of consents, contracts and call requests. Stops are recorded beyond it."""

from io import BytesIO
from typing import Any

import msgspec
import pytest

from dialgate.config.clients import Client
from dialgate.core.ledger_events import ConsentGiven, ConsentWithdrawn, Entry, Revoked
from dialgate.core.refusal import Refused
from dialgate.ledger.entry_limit import MOST
from dialgate.ledger.import_reports import EntriesReport
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import (
    CallRequestRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    EntriesRequest,
    RevocationRequest,
    WithdrawalRequest,
)
from tests.support.world import CLEAR, LISTED

CRM = Client(name="crm", controllers=("acme",), scopes=("ledger", "revoke"))
HEADER = "number;id;collected_at;purposes;call_types"
COLLECTED = "2026-10-01T10:00:00+02:00"


def consent(key: str, number: str = CLEAR, **changes: Any) -> ConsentRequest:
    fields = {
        "number": number,
        "id": key,
        "collected_at": COLLECTED,
        "purposes": ["sale"],
        "goods": ["broadband"],
        "call_types": ["agent"],
    }
    return msgspec.convert(fields | changes, ConsentRequest)


CONTRACT = msgspec.convert({"number": CLEAR, "id": "web-0", "starts": "2026-10-01"}, ContractRequest)
ASKED = msgspec.convert(
    {"number": CLEAR, "id": "form-1", "requested_at": COLLECTED, "expires_at": "2026-12-01T10:00:00+01:00"},
    CallRequestRequest,
)


async def load(registrar: Registrar, *keys: str, number: str = CLEAR) -> EntriesReport:
    rows = [f"{number};{key};{COLLECTED};sale;agent" for key in keys]
    file = BytesIO("\n".join([HEADER, *rows]).encode())
    return await registrar.consents.record_all(CRM, EntriesRequest(kind="consent"), file)


async def load_most(registrar: Registrar, less: int = 0) -> None:
    report = await load(registrar, *(f"web-{key}" for key in range(MOST - less)))
    assert (report.recorded, report.over_limit) == (MOST - less, 0)


async def history(registrar: Registrar, number: str = CLEAR) -> list[Entry]:
    return await registrar.access.store.history(registrar.access.keys.subject("acme", number))


@pytest.mark.parametrize("ask", [consent("more"), consent("web-0", goods=["fibre"]), CONTRACT, ASKED])
async def test_the_last_entry_is_recorded_and_one_more_is_refused(
    registrar: Registrar, ask: ConsentRequest | ContractRequest | CallRequestRequest
) -> None:
    await load_most(registrar, less=1)
    await registrar.consents.record(CRM, consent("last"))
    with pytest.raises(Refused, match="which is the maximum") as refused:
        await registrar.consents.record(CRM, ask)
    assert (refused.value.code, refused.value.field, refused.value.status) == ("ledger.full", "number", 409)
    assert len(await history(registrar)) == MOST
    await registrar.consents.record(CRM, consent("more", LISTED))
    assert len(await history(registrar, LISTED)) == 1


async def test_a_rectification_that_a_person_requested_is_recorded(registrar: Registrar) -> None:
    await load_most(registrar)
    corrected = consent("web-0", goods=["fibre"], rectify=["goods"])
    await registrar.consents.record(CRM, corrected, rectifies=True)
    assert len(await history(registrar)) == MOST + 1


async def test_stops_withdrawals_and_ends_are_recorded_beyond_the_limit(registrar: Registrar) -> None:
    await registrar.consents.record(CRM, CONTRACT)
    await load_most(registrar, less=1)
    await registrar.consents.record(CRM, WithdrawalRequest(number=CLEAR, id="web-1"))
    await registrar.consents.record(
        CRM, msgspec.convert({"number": CLEAR, "id": "web-0", "ends": "2026-11-01"}, ContractEndRequest)
    )
    for _ in range(3):
        await registrar.revocations.revoke(CRM, RevocationRequest(number=CLEAR))
    events = [entry.event for entry in await history(registrar)]
    assert sum(isinstance(event, Revoked) for event in events) == 3
    assert sum(isinstance(event, ConsentWithdrawn) for event in events) == 1
    assert len(events) == MOST + 5


async def test_an_import_records_what_fits_and_counts_the_others(registrar: Registrar) -> None:
    await load_most(registrar, less=2)
    report = await load(registrar, "web-0", "one", "two", "three", "four")
    assert (report.rows, report.recorded, report.known, report.over_limit) == (5, 2, 1, 2)
    single = await load(registrar, "five")
    assert (single.recorded, single.known, single.over_limit) == (0, 0, 1)
    assert len(await history(registrar)) == MOST


async def test_a_repetition_gets_the_first_receipt_and_adds_no_entry(registrar: Registrar) -> None:
    """A client may send all its consents every night, for years."""
    asks = (consent("web-1"), CONTRACT, ASKED)
    first = [await registrar.consents.record(CRM, ask) for ask in asks]
    again = [await registrar.consents.record(CRM, ask) for ask in asks]
    assert [receipt.seq for receipt in again] == [receipt.seq for receipt in first]
    assert [receipt.note for receipt in again] == [receipt.note for receipt in first]
    assert len(await history(registrar)) == 3
    await registrar.consents.record(CRM, consent("web-1", goods=["fibre"]))
    events = [entry.event for entry in await history(registrar)]
    assert sum(isinstance(event, ConsentGiven) for event in events) == 2
