"""Subscribers that choose events get each change once or more, in the order of the ledger, and only those of their controllers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from standardwebhooks.webhooks import Webhook

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.config.webhook_targets import EventType
from dialgate.core.model import DAY, HOUR, SECOND
from dialgate.interfaces.webhooks import deliveries
from dialgate.ledger.change_events import ChangeFeed
from dialgate.runtime.clock import wall_clock
from tests.interfaces.webhooks.test_incoming import rfc3339
from tests.interfaces.webhooks.test_stop_notices import WRITTEN, Receiver, delivering, hook, listening
from tests.support import world
from tests.support.world import CALL, CLEAR, LISTED, NOW, World, publish_answers

MOBILE = "+393281234567"
EVERY = list(get_args(EventType))
CONSENT = {
    "number": MOBILE, "id": "crm-4711", "purposes": ["sale"], "call_types": ["agent"], "goods": ["broadband"],
    "collected_at": rfc3339(NOW - HOUR), "artefact": "a.pdf", "artefact_sha256": "0" * 64,
}  # fmt: skip


@asynccontextmanager
async def subscribed(
    folder: Path, events: list[str] = EVERY, **settings: Any
) -> AsyncIterator[tuple[World, Receiver]]:
    (folder / "secret").write_text(WRITTEN)
    clients = [world.client("tests", world.KEY, *world.SCOPES, "admin", "subjects")]
    async with listening() as (receiver, url):
        subscribers = [hook(url, events=events)]
        async with (
            world.running(folder, subscribers=subscribers, clients=clients, **settings) as made,
            delivering(made),
        ):
            yield made, receiver


async def received(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    """Return the next events, from as many messages as they take."""
    events: list[dict[str, Any]] = []
    while len(events) < count:
        events += (await receiver.next())[1]["events"]
    assert len(events) == count, events
    return events


async def test_each_change_in_the_ledger_is_sent_with_the_ids_of_the_crm(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    async with subscribed(tmp_path, **store_settings) as (made, receiver):
        await made.post("/v1/consents", CONSENT)
        await made.post("/v1/consents/withdraw", {"number": MOBILE, "id": "crm-4711", "channel": "crm"})
        stop = await made.post("/v1/revocations", {"number": MOBILE, "channel": "call"})
        await made.post(f"/v1/revocations/{stop['seq']}/lift", {"ground": "error", "reason": "another's"})
        first, second, third = await received(receiver, 3)
        assert first == {
            "type": "consent_withdrawn", "at": first["at"], "controller": "acme", "number": MOBILE, "seq": 2, "channel": "crm",
            "consent": "crm-4711", "ids": ["crm-4711"],
        }  # fmt: skip
        assert (second["type"], second["scope"], second["ids"]) == ("stop", "controller", ["crm-4711"])
        assert (third["type"], third["of"]) == ("lift", stop["seq"])


async def test_wrong_numbers_erasures_and_voided_consents_are_sent(tmp_path: Path) -> None:
    async with subscribed(tmp_path) as (made, receiver):
        await world.load_list(made)
        await made.post("/v1/consents", CONSENT)
        ask = {
            "numbers": [MOBILE],
            "registry": "rpo",
            "listed_by": rfc3339(NOW),
            "proof": "receipt",
            "channel": "registry",
        }
        await made.post("/v1/consents/void", ask)
        decision = (await made.post("/v1/check", CALL, 200))["decision_id"]
        await made.post("/v1/outcomes", {"decision_id": decision, "outcome": "wrong_number"}, 200)
        case = await made.post(
            f"/v1/subjects/{MOBILE}/requests", {"kind": "erasure", "identified": "id card"}
        )
        await made.post(f"/v1/subjects/{MOBILE}/erasure", {"request": case["id"]}, 200)
        events = await received(receiver, 4)
        assert [(event["type"], event["number"]) for event in events] == [
            ("listed", MOBILE), ("wrong_number", CLEAR), ("stop", MOBILE), ("erased", MOBILE),
        ]  # fmt: skip
        assert events[0]["registry"] == "rpo"


async def test_a_consent_that_expires_is_sent_once_within_a_day(tmp_path: Path) -> None:
    async with subscribed(tmp_path) as (made, receiver):
        ends = NOW + 2 * DAY
        await made.post("/v1/consents", {**CONSENT, "expires_at": rfc3339(ends)})
        await made.post("/v1/consents", {**CONSENT, "id": "b", "number": CLEAR, "expires_at": rfc3339(ends)})
        await made.post("/v1/consents/withdraw", {"number": CLEAR, "id": "b", "channel": "crm"})
        assert [event["type"] for event in await received(receiver, 1)] == ["consent_withdrawn"]
        receiver.statuses = [500]
        for _ in range(4):
            made.hand.at += DAY
            made.app.registrar.notices.wake()
            await asyncio.sleep(0)
        names = set()
        for _ in range(2):  # refused, then again
            request, body = await receiver.next()
            names.add(request.headers["webhook-id"])
            (event,) = body["events"]
            assert (event["type"], event["consent"], event["ids"]) == (
                "consent_expired",
                "crm-4711",
                ["crm-4711"],
            )
            assert event["at"].startswith(rfc3339(ends)[:-1])
        assert len(names) == 1
        await made.post("/v1/revocations", {"number": CLEAR, "channel": "call"})
        assert [event["type"] for event in await received(receiver, 1)] == ["stop"]


async def test_numbers_on_call_lists_that_a_registry_listed_are_sent_in_pages(tmp_path: Path) -> None:
    async with subscribed(tmp_path) as (made, receiver):
        many = [f"+39061{at:07}" for at in range(1_200)]
        await world.load_numbers(made.app, [CLEAR, LISTED, *many])
        await made.app.tick(patience=None)
        data = made.app.config.data
        await asyncio.sleep(0)
        delivery = await until_listed(made, 1)
        publish_answers(
            data, {CLEAR: True, "+390699999999": True, **dict.fromkeys(many, True)}, NOW - 2 * HOUR
        )
        await made.app.tick(patience=None)
        receiver.statuses = [204, 500]
        numbers: list[str] = []
        names: list[str] = []
        while len(set(numbers)) < 1_201:
            request, body = await receiver.next()
            assert {(event["type"], event["registry"]) for event in body["events"]} == {("listed", "rpo")}
            assert len(body["events"]) <= 512
            numbers += [event["number"] for event in body["events"]]
            names.append(request.headers["webhook-id"])
        assert set(numbers) == {CLEAR, *many}, "no number that is on no list, and none that was listed before"
        assert names[0] == names[2], "after a failure from the first page, with the same ids"
        assert await until_listed(made, delivery + 1) > delivery


async def until_listed(made: World, least: int) -> int:
    async with asyncio.timeout(10):
        while (state := await made.app.registrar.notices.delivery("crm")).listed_until < least:
            await made.app.registrar.notices.wait(0.01)
    return state.listed_until


async def test_a_subscriber_gets_only_the_events_it_chose(tmp_path: Path) -> None:
    async with subscribed(tmp_path, ["lift"]) as (made, receiver):
        stop = await made.post("/v1/revocations", {"number": MOBILE, "channel": "call"})
        await made.post(f"/v1/revocations/{stop['seq']}/lift", {"ground": "error", "reason": "another's"})
        assert [event["type"] for event in await received(receiver, 1)] == ["lift"]


async def test_one_controller_never_sees_anothers_changes_or_ids(tmp_path: Path) -> None:
    def add_partner(folder: Path) -> None:
        text = (folder / "controllers/acme.yaml").read_text()
        partner = text.replace("acme", "partner").replace("844123456", "844123457")
        (folder / "controllers/partner.yaml").write_text(partner)

    clients = [
        {**world.client("tests", world.KEY, *world.SCOPES, "admin"), "controllers": ["acme", "partner"]}
    ]
    async with world.running(tmp_path, prepare=add_partner, clients=clients) as made:
        for controller in ("acme", "partner"):
            await made.post("/v1/consents", {**CONSENT, "controller": controller, "id": f"of-{controller}"})
            await made.post(
                "/v1/revocations", {"number": MOBILE, "channel": "call", "controller": controller}
            )
        await made.post("/v1/revocations", {"number": MOBILE, "scope": "everyone", "controller": "acme"})
        access = made.app.registrar.access
        feed = ChangeFeed(access.store, access.keys)
        for controller in ("acme", "partner"):
            events, _ = await feed.after(0, [controller], EVERY, 100)
            assert [event.controller for event in events] == [controller, "*"]
            assert {event.ids for event in events} == {(f"of-{controller}",)}


async def test_the_published_library_verifies_what_is_sent(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(WRITTEN)
    async with (
        listening() as (receiver, url),
        world.running(tmp_path, subscribers=[hook(url, events=["stop"])]) as made,
    ):
        await made.app.registrar.notices.delivery("crm")
        task = asyncio.create_task(deliveries.run(made.app, wall_clock))
        await made.post("/v1/revocations", {"number": MOBILE, "channel": "call"})
        request, body = await asyncio.wait_for(receiver.got.get(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    verified = Webhook(WRITTEN.strip()).verify(body, dict(request.headers))
    assert verified == json.loads(body)
    assert [event["number"] for event in verified["events"]] == [MOBILE]
    assert abs(int(request.headers["webhook-timestamp"]) - wall_clock() // SECOND) < 60


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"events": ["stops"]}, "events"),
        ({"events": ["stop"], "kind": "vicidial", "user": "api"}, "a dialer's list only takes revocations"),
    ],
)
def test_wrong_events_are_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (tmp_path / "secret").write_text(WRITTEN)
    path = world.write_folder(tmp_path, subscribers=[hook("https://example.com/hook", **changes)])
    with pytest.raises(ConfigError, match=problem):
        loader.load(path)
