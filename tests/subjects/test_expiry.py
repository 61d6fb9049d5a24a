"""Data is removed when its retention period ends, and not earlier. A preview shows what would be removed."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.core.local_time import day_in
from dialgate.core.model import DAY, Instant
from dialgate.store import factory
from dialgate.store.redis import RedisStore
from dialgate.subjects.expiry import Removal
from tests.support import redis_servers, world, yaml_files
from tests.support.world import CALL, CLEAR, LIST, NOW, World

CLIENTS = [world.client("tests", world.KEY, *world.SCOPES, "subjects")]
OTHER = "+390612345677"
DAYS = {
    "daily": False,
    "consents_days": 100,
    "contracts_days": 200,
    "call_requests_days": 300,
    "lists_days": 400,
    "attempts_days": 60,
    "lookups_days": 500,
    "subject_requests_days": 600,
}


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS, storage=DAYS) as running:
        await world.load_list(running)
        yield running


def when(at: Instant) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).isoformat()


async def counts(gate: World, at: Instant, *, drop: bool = False) -> dict[str, int]:
    if drop:
        world.store_time(gate.app.config.data, at)
    removed: list[Removal] = await gate.app.subjects.retire(at, drop=drop)
    return {item.kind: item.count for item in removed if item.count}


async def kinds(gate: World) -> list[str]:
    return [entry.kind for entry in await gate.app.registrar.views.history(_client(gate), "acme", CLEAR)]


def _client(gate: World) -> Any:
    return gate.app.config.settings.clients[0]


async def consent(gate: World, name: str = "c", **more: Any) -> None:
    body = {
        "number": CLEAR,
        "id": name,
        "collected_at": when(NOW - DAY),
        "purposes": ["sale"],
        "goods": ["broadband"],
        "call_types": ["agent"],
    }
    await gate.post("/v1/consents", {**body, **more})


async def consent_withdrawn(gate: World) -> None:
    await consent(gate)
    await gate.post("/v1/consents/withdraw", {"number": CLEAR, "id": "c", "at": when(NOW)})


async def consent_expired(gate: World) -> None:
    await consent(gate, expires_at=when(NOW))


async def contract_ended(gate: World) -> None:
    await gate.post(
        "/v1/contracts", {"number": CLEAR, "id": "k", "starts": "2026-01-01", "ends": "2026-11-23"}
    )


async def request_expired(gate: World) -> None:
    body = {"number": CLEAR, "id": "r", "requested_at": when(NOW - DAY), "expires_at": when(NOW)}
    await gate.post("/v1/call-requests", body)


async def list_retired(gate: World) -> None:
    await gate.post("/v1/lists/rome/retire", {}, 200)


async def call_attempted(gate: World) -> None:
    assert (await gate.post("/v1/check", CALL, 200))["decision"] == "allow"


async def looked_up(gate: World) -> None:
    await gate.post("/v1/simulate", CALL, 200)


async def request_closed(gate: World) -> None:
    path = "/v1/subjects/%2B390612345678/requests"
    case = await gate.post(path, {"kind": "access", "identified": "id card"})
    step = {"outcome": "answered", "reason": "sent"}
    await gate.post(f"/v1/subject-requests/{case['id']}", step, 200)


# The event at NOW, its kind in the result, and its retention in days.
ENDS = [
    (consent_withdrawn, "consents", 100),
    (consent_expired, "consents", 100),
    (contract_ended, "contracts", 200),  # ended the day before NOW; one day more for time zones
    (request_expired, "call_requests", 300),
    (list_retired, "lists", 400),
    (call_attempted, "attempts", 60),
    (looked_up, "lookups", 500),
    (request_closed, "subject_requests", 600),
]


@pytest.mark.parametrize(("happen", "kind", "days"), ENDS, ids=[row[0].__name__ for row in ENDS])
async def test_item_is_removed_after_its_term_and_not_before(
    gate: World, happen: Any, kind: str, days: int
) -> None:
    await happen(gate)
    gate.hand.at = NOW + days * DAY
    assert await counts(gate, gate.hand.at, drop=True) == {}
    after = gate.hand.at + (DAY if kind == "contracts" else 1)
    assert await counts(gate, after) == {kind: 1}
    assert await counts(gate, after, drop=True) == {kind: 1}
    assert await counts(gate, after, drop=True) == {}
    assert gate.sample("dialgate_retention_removed_total", kind=kind) == 1


async def old_consent_expired(gate: World, end: Instant) -> None:
    await consent(gate, collected_at=when(end - DAY), expires_at=when(end))


async def old_consent_withdrawn(gate: World, end: Instant) -> None:
    await consent(gate, collected_at=when(end - DAY))
    await gate.post("/v1/consents/withdraw", {"number": CLEAR, "id": "c", "at": when(end)})


async def old_contract_made(gate: World, end: Instant) -> None:
    body = {"number": CLEAR, "id": "k", "starts": "2026-01-01", "ends": str(day_in("UTC", end - DAY))}
    await gate.post("/v1/contracts", body)


async def old_contract_ended(gate: World, end: Instant) -> None:
    await gate.post("/v1/contracts", {"number": CLEAR, "id": "k", "starts": "2026-01-01"})
    body = {"number": CLEAR, "id": "k", "ends": str(day_in("UTC", end - DAY))}
    await gate.post("/v1/contracts/end", body)


async def old_request_expired(gate: World, end: Instant) -> None:
    body = {"number": CLEAR, "id": "r", "requested_at": when(end - DAY), "expires_at": when(end)}
    await gate.post("/v1/call-requests", body)


# The import at NOW of an item that ended at a time, its kind in the result, and its retention in days.
IMPORTS = [
    (old_consent_expired, "consents", 100),
    (old_consent_withdrawn, "consents", 100),
    (old_contract_made, "contracts", 200),
    (old_contract_ended, "contracts", 200),
    (old_request_expired, "call_requests", 300),
]


@pytest.mark.parametrize(("enter", "kind", "days"), IMPORTS, ids=[row[0].__name__ for row in IMPORTS])
async def test_term_of_an_imported_item_begins_at_its_own_end(
    gate: World, enter: Any, kind: str, days: int
) -> None:
    """GDPR art. 5(1)(e): the time of the import does not prolong the term."""
    await consent(gate, "without-end")
    await enter(gate, NOW - days * DAY)
    assert await counts(gate, NOW, drop=True) == {}
    after = NOW + (DAY if kind == "contracts" else 1)
    assert await counts(gate, after) == {kind: 1}
    assert await counts(gate, after, drop=True) == {kind: 1}
    assert await counts(gate, after, drop=True) == {}
    assert (await kinds(gate))[0] == "consent"


async def end_consent_late(gate: World) -> None:
    await consent(gate, expires_at="2021-01-01T00:00:00Z")


async def withdraw_consent_late(gate: World) -> None:
    await gate.post("/v1/consents/withdraw", {"number": CLEAR, "id": "c", "at": when(NOW - 300 * DAY)})


async def end_contract_late(gate: World) -> None:
    await gate.post("/v1/contracts/end", {"number": CLEAR, "id": "c", "ends": "2015-06-30"})


async def shorten_request_late(gate: World) -> None:
    body = {"number": CLEAR, "id": "c", "requested_at": "2021-01-01T00:00:00Z"}
    await gate.post("/v1/call-requests", {**body, "expires_at": "2021-02-01T00:00:00Z"})


# The path of an item entered at NOW, the entry of its earlier end ten days later, its kind in the result, its retention in
# days, and the number of entries removed.
LATE_ENDS = [
    ("consents", end_consent_late, "consents", 100, 2),
    ("consents", withdraw_consent_late, "consents", 100, 1),
    ("contracts", end_contract_late, "contracts", 200, 1),
    ("call-requests", shorten_request_late, "call_requests", 300, 2),
]


@pytest.mark.parametrize(
    ("path", "end", "kind", "days", "entries"), LATE_ENDS, ids=[row[1].__name__ for row in LATE_ENDS]
)
async def test_item_whose_end_is_entered_late_counts_as_in_use_until_then(
    gate: World, path: str, end: Any, kind: str, days: int, entries: int
) -> None:
    """GDPR art. 7(1): until its end is entered, the gate may allow calls on the item, and must be able to prove them."""
    common = {"number": CLEAR, "id": "c"}
    bodies: dict[str, dict[str, Any]] = {
        "consents": {
            "collected_at": "2020-01-01T00:00:00Z",
            "purposes": ["sale"],
            "goods": ["broadband"],
            "call_types": ["agent"],
        },
        "contracts": {"starts": "2012-01-01"},
        "call-requests": {"requested_at": "2021-01-01T00:00:00Z", "expires_at": when(NOW + 900 * DAY)},
    }
    await gate.post(f"/v1/{path}", {**common, **bodies[path]})
    gate.hand.at = late = NOW + 10 * DAY
    await end(gate)
    gate.hand.at += 5 * DAY
    if entries > 1:  # sending the ended item again does not extend its term
        for _ in range(2):
            await end(gate)
    assert await counts(gate, late + days * DAY, drop=True) == {}
    assert await counts(gate, late + days * DAY + 1, drop=True) == {kind: entries}


async def test_law_extends_a_shorter_term(tmp_path: Path) -> None:
    rule = {
        "source": "s",
        "from": date(2020, 1, 1),
        "what": ["consents"],
        "keep": "P1Y",
        "since": ["granted", "last_used"],
    }

    def demand(folder: Path) -> None:
        law = yaml_files.read(folder / "countries/it.yaml")
        yaml_files.write(folder / "countries/it.yaml", law | {"records": [rule]})

    async with world.running(tmp_path, prepare=demand, clients=CLIENTS, storage=DAYS) as gate:
        await consent_withdrawn(gate)
        await request_expired(gate)
        assert await counts(gate, NOW + 366 * DAY) == {"call_requests": 1}
        assert await counts(gate, NOW + 366 * DAY + 1) == {"call_requests": 1, "consents": 1}
        storage = gate.app.config.storage(NOW)
        assert (storage.consents_days, storage.contracts_days, storage.restricted_days) == (366, 200, 1826)


async def test_items_in_use_and_revocations_are_kept(gate: World) -> None:
    """A consent without an end date, a running contract and the record of a retired list are kept.

    Every revocation and every withdrawal is also kept. A withdrawn consent stays withdrawn even if an export sends that
    consent again.
    """
    await consent_withdrawn(gate)
    await consent(gate, "for-ever")
    await gate.post("/v1/contracts", {"number": CLEAR, "id": "k", "starts": "2026-01-01"})
    await gate.post("/v1/revocations", {"number": CLEAR})
    await list_retired(gate)
    at = NOW + 10_000 * DAY
    assert await counts(gate, at, drop=True) == {"consents": 1, "lists": 1}
    assert await kinds(gate) == ["consent_withdrawn", "consent", "contract", "revoked"]
    async with gate.client.get("/v1/lists") as answer:
        assert [call_list["id"] for call_list in (await answer.json())["lists"]] == ["rome"]
    await consent(gate)
    subject = gate.app.registrar.access.keys.subject("acme", CLEAR)
    known = (await gate.app._store.read([subject])).known[0]
    assert {item.id: bool(item.withdrawn_at) for item in known.consents} == {"for-ever": False, "c": True}


def lengthen_limits(gate: World, period: str) -> None:
    file = gate.folder / "countries" / "it.yaml"
    law = yaml_files.read(file)
    for limit in law["limits"]:
        limit["per"] = limit["per"].replace("30d", period)
    yaml_files.write(file, law)
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))


async def test_attempts_are_kept_as_long_as_a_limit_counts_them(gate: World) -> None:
    lengthen_limits(gate, "100d")
    assert (await gate.post("/v1/check", CALL, 200))["decision"] == "allow"
    assert "attempts" not in await counts(gate, NOW + 101 * DAY)
    assert (await counts(gate, NOW + 103 * DAY))["attempts"] == 1


async def test_redis_keeps_attempts_as_long_as_a_limit_counts_them(tmp_path: Path) -> None:
    shared = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    async with world.running(tmp_path / "one", store=shared) as gate:
        store = gate.app._store
        assert isinstance(store, RedisStore)
        assert store.commands.attempts_kept == 90 * DAY
        lengthen_limits(gate, "500d")
        assert store.commands.attempts_kept == 502 * DAY
        opened = await factory.open_store(gate.app.config)
        assert isinstance(opened, RedisStore)
        assert opened.commands.attempts_kept == 502 * DAY
        await opened.close()


async def test_all_entries_of_an_id_are_removed_for_every_subject(gate: World) -> None:
    """If a consent was recorded several times, retention removes every entry with its ID."""
    for name in ("a", "b"):
        for version in range(3):
            await consent(gate, name, expires_at=when(NOW), text_version=str(version))
    body = {
        "number": OTHER,
        "id": "c",
        "collected_at": when(NOW - DAY),
        "purposes": ["sale"],
        "goods": ["broadband"],
        "call_types": ["agent"],
    }
    await gate.post("/v1/consents", {**body, "expires_at": when(NOW)})
    await consent(gate, "still-good")
    at = NOW + 101 * DAY
    assert await counts(gate, at) == {"consents": 7}
    assert await counts(gate, at, drop=True) == {"consents": 7}
    assert await kinds(gate) == ["consent"]


async def test_gate_runs_retention_once_a_day(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS, storage={**DAYS, "daily": True}) as gate:
        await gate.post("/v1/lists", LIST)
        await looked_up(gate)
        gate.hand.at = NOW + 501 * DAY
        world.store_time(gate.app.config.data, gate.hand.at)
        await gate.app.tick()
        removing = gate.app.subjects._removing
        assert removing is not None
        await removing
        assert gate.sample("dialgate_retention_removed_total", kind="lookups") == 1
        await gate.app.tick()
        assert gate.app.subjects._removing is None


async def test_used_call_request_stays_used_until_it_expires(gate: World) -> None:
    """Most country files have no `max_age` for requests, so a request can outlive the attempt that used it."""
    file = gate.folder / "countries" / "it.yaml"
    law = yaml_files.read(file)
    yaml_files.write(file, law | {"requests": []})
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))
    mobile = "+393289876543"
    asked = {"requested_at": when(NOW - DAY), "expires_at": when(NOW + 365 * DAY), "goods": "broadband"}
    await gate.post("/v1/call-requests", {"number": mobile, "id": "r", **asked})
    call = {**CALL, "to": mobile}
    used = await gate.post("/v1/check", call, 200)
    assert used["decision"] == "allow"
    await gate.post("/v1/outcomes", {"decision_id": used["decision_id"], "outcome": "answered"}, 200)
    gate.hand.at = NOW + 91 * DAY
    await gate.app.tick()
    assert (await gate.post("/v1/check", call, 200))["decision"] == "deny"
    await counts(gate, gate.hand.at, drop=True)
    assert (await gate.post("/v1/check", call, 200))["decision"] == "deny"
    gate.hand.at = NOW + 366 * DAY
    assert (await counts(gate, gate.hand.at))["attempts"] == 1


async def test_consent_stays_withdrawn_if_the_withdrawal_is_dated_before_it(gate: World) -> None:
    await consent(gate)
    await gate.post("/v1/consents/withdraw", {"number": CLEAR, "id": "c", "at": when(NOW - 2 * DAY)})
    await counts(gate, NOW + 200 * DAY, drop=True)
    await consent(gate)
    subject = gate.app.registrar.access.keys.subject("acme", CLEAR)
    known = (await gate.app._store.read([subject])).known[0]
    assert [bool(item.withdrawn_at) for item in known.consents] == [True]
