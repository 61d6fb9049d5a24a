"""Times that a program left empty or stored as a number are no times: what they would permit is refused."""

from typing import Any

import msgspec
import pytest

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Revoked
from dialgate.core.refusal import Refused
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import CallRequestRequest, ConsentRequest
from tests.support.world import CLEAR, NOW

CLIENT = Client(name="crm", controllers=("acme",), scopes=("revoke", "ledger"))
CONSENT: dict[str, Any] = {
    "number": CLEAR,
    "id": "a",
    "collected_at": "2026-11-20T10:00:00Z",
    "purposes": ["sale"],
    "call_types": ["agent"],
}
ASKED: dict[str, Any] = {
    "number": CLEAR,
    "id": "a",
    "requested_at": "2026-11-20T10:00:00Z",
    "expires_at": "2026-12-01T10:00:00Z",
}


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00Z", "0", "46350", "46350.5", "20261101"])
@pytest.mark.parametrize(
    ("kind", "fields", "name"),
    [(ConsentRequest, CONSENT, "expires_at"), (CallRequestRequest, ASKED, "begins")],
)
async def test_a_time_in_1970_is_refused(
    registrar: Registrar,
    kind: type[ConsentRequest | CallRequestRequest],
    fields: dict[str, Any],
    name: str,
    at: str,
) -> None:
    request = msgspec.convert(
        fields | {name: at}, kind, strict=False
    )  # as cells of a file and values of a webhook
    with pytest.raises(Refused, match="before 1971") as refusal:
        await registrar.consents.record(CLIENT, request)
    assert refusal.value.field == name
    assert await registrar.access.store.since(0, 9) == []


async def test_a_stop_in_1970_is_in_force_from_now(registrar: Registrar) -> None:
    await registrar.revocations.stop(CLIENT, {"number": CLEAR, "at": "1970-01-01T00:00:00Z"})
    (entry,) = await registrar.access.store.since(0, 9)
    assert isinstance(entry.event, Revoked)
    assert entry.event.at == NOW
