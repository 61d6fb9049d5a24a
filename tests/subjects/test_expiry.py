"""Storage limitation, to the day; and what is shown of it before anything goes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dialgate.core.model import DAY, Instant
from dialgate.subjects.expiry import Removal
from tests.support import world
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
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS, storage=DAYS) as running:
        await world.load_list(running)
        yield running


def when(at: Instant) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).isoformat()


async def send(made: World, path: str, body: dict[str, Any], status: int = 201) -> Any:
    async with made.client.post(path, json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def counts(made: World, at: Instant, *, drop: bool = False) -> dict[str, int]:
    if drop:
        world.confirm_clock(made.app.config.data, at)
    removed: list[Removal] = await made.app.subjects.retire(at, drop=drop)
    return {each.kind: each.count for each in removed if each.count}


async def kinds(made: World) -> list[str]:
    return [each.kind for each in await made.app.registrar.views.history(_client(made), "acme", CLEAR)]


def _client(made: World) -> Any:
    return made.app.config.settings.clients[0]


async def consent(made: World, name: str = "c", **more: Any) -> None:
    body = {
        "number": CLEAR,
        "id": name,
        "collected_at": when(NOW - DAY),
        "purposes": ["sale"],
        "call_types": ["agent"],
    }
    await send(made, "/v1/consents", {**body, **more})


async def consent_withdrawn(made: World) -> None:
    await consent(made)
    await send(made, "/v1/consents/withdraw", {"number": CLEAR, "id": "c", "at": when(NOW)})


async def consent_expired(made: World) -> None:
    await consent(made, expires_at=when(NOW))


async def contract_ended(made: World) -> None:
    await send(
        made, "/v1/contracts", {"number": CLEAR, "id": "k", "starts": "2026-01-01", "ends": "2026-11-23"}
    )


async def request_expired(made: World) -> None:
    body = {"number": CLEAR, "id": "r", "requested_at": when(NOW - DAY), "expires_at": when(NOW)}
    await send(made, "/v1/call-requests", body)


async def list_retired(made: World) -> None:
    await send(made, "/v1/lists/rome/retire", {}, 200)


async def call_attempted(made: World) -> None:
    assert (await send(made, "/v1/check", CALL, 200))["decision"] == "allow"


async def looked_up(made: World) -> None:
    await send(made, "/v1/simulate", CALL, 200)


async def request_closed(made: World) -> None:
    path = "/v1/subjects/%2B390612345678/requests"
    asked = await send(made, path, {"kind": "access", "identified": "id card"})
    step = {"outcome": "answered", "reason": "sent"}
    await send(made, f"/v1/subject-requests/{asked['id']}", step, 200)


# What happens at NOW, what it is counted as, and on which day it is past its time: the day after its last.
ENDS = [
    (consent_withdrawn, "consents", 100),
    (consent_expired, "consents", 100),
    (contract_ended, "contracts", 200),  # the day before NOW was its last; a day more, for wherever that is
    (request_expired, "call_requests", 300),
    (list_retired, "lists", 400),
    (call_attempted, "attempts", 60),
    (looked_up, "lookups", 500),
    (request_closed, "subject_requests", 600),
]


@pytest.mark.parametrize(("happen", "kind", "days"), ENDS, ids=[row[0].__name__ for row in ENDS])
async def test_a_thing_goes_when_its_time_is_over_and_not_before(
    made: World, happen: Any, kind: str, days: int
) -> None:
    await happen(made)
    made.hand.at = NOW + days * DAY
    assert await counts(made, made.hand.at, drop=True) == {}
    after = made.hand.at + (DAY if kind == "contracts" else 1)
    assert await counts(made, after) == {kind: 1}
    assert await counts(made, after, drop=True) == {kind: 1}
    assert await counts(made, after, drop=True) == {}
    assert made.sample("dialgate_retention_removed_total", kind=kind) == 1


async def test_what_is_in_use_and_what_forbids_calls_stays_for_ever(made: World) -> None:
    """A consent without an end, a contract that runs, a retired list's record; each stop and each withdrawal: an
    export that sends the consent again finds it withdrawn."""
    await consent_withdrawn(made)
    await consent(made, "for-ever")
    await send(made, "/v1/contracts", {"number": CLEAR, "id": "k", "starts": "2026-01-01"})
    await send(made, "/v1/revocations", {"number": CLEAR})
    await list_retired(made)
    at = NOW + 10_000 * DAY
    assert await counts(made, at, drop=True) == {"consents": 1, "lists": 1}
    assert await kinds(made) == ["consent_withdrawn", "consent", "contract", "revoked"]
    async with made.client.get("/v1/lists") as answer:
        assert [each["id"] for each in (await answer.json())["lists"]] == ["rome"]
    await consent(made)
    subject = made.app.registrar.access.keys.subject("acme", CLEAR)
    known = (await made.app._store.read([subject])).known[0]
    assert {each.id: bool(each.withdrawn_at) for each in known.consents} == {"for-ever": False, "c": True}


async def test_everything_of_one_id_goes_together_and_every_person_is_looked_at(made: World) -> None:
    """More than one page of the ledger, with the same consent entered again and again."""
    for name in ("a", "b"):
        for _ in range(3):
            await consent(made, name, expires_at=when(NOW))
    body = {
        "number": OTHER,
        "id": "c",
        "collected_at": when(NOW - DAY),
        "purposes": ["sale"],
        "call_types": ["agent"],
    }
    await send(made, "/v1/consents", {**body, "expires_at": when(NOW)})
    await consent(made, "still-good")
    at = NOW + 101 * DAY
    assert await counts(made, at) == {"consents": 7}
    assert await counts(made, at, drop=True) == {"consents": 7}
    assert await kinds(made) == ["consent"]


async def test_the_gate_removes_once_a_day(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS, storage={**DAYS, "daily": True}) as made:
        await send(made, "/v1/lists", LIST)
        await looked_up(made)
        made.hand.at = NOW + 501 * DAY
        world.confirm_clock(made.app.config.data, made.hand.at)
        await made.app.tick()
        removing = made.app.subjects._removing
        assert removing is not None
        await removing
        assert made.sample("dialgate_retention_removed_total", kind="lookups") == 1
        await made.app.tick()
        assert made.app.subjects._removing is None
