"""Times of events that a platform states inexactly, or not at all: what stops calls is in force, and what permits them is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dialgate.core.model import HOUR, MINUTE
from tests.interfaces.webhooks.test_incoming import (
    EVENTS,
    MOBILE,
    correct,
    gate,
    history,
    rewrite,
    rfc3339,
    send,
    verdict,
)
from tests.support import world
from tests.support.world import CLEAR, NOW, World


@pytest.fixture
async def crm(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate with a webhook whose times are local."""
    async with gate(tmp_path, "generic") as made:
        await world.load_list(made)
        rewrite(made, lambda data: data.update(zone="Europe/Rome"))
        yield made


@pytest.mark.parametrize("given_first", [True, False])
async def test_a_withdrawal_in_the_hour_that_occurs_twice_is_the_later_one(
    crm: World, *, given_first: bool
) -> None:
    events = [EVENTS[0] | {"at": "2026-10-25 02:50:00"}, EVENTS[1] | {"at": "2026-10-25 02:10:00"}]
    for event in events if given_first else reversed(events):
        await send(crm, event)
    assert await verdict(crm) == "deny"
    await send(crm, EVENTS[2] | {"at": "2026-10-25 03:00:00"})
    assert await verdict(crm) == "allow"


@pytest.mark.parametrize("at", ["2026-11-24", "24 November"])
async def test_a_second_stop_on_the_day_is_recorded_after_the_first_was_lifted(crm: World, at: str) -> None:
    stop = {"type": "stop", "number": CLEAR, "at": at}
    await send(crm, stop)
    (entry,) = await history(crm, CLEAR)
    await crm.post(f"/v1/revocations/{entry.seq}/lift", {"ground": "error", "reason": "another's number"})
    assert await verdict(crm, CLEAR) == "allow"
    crm.hand.at += HOUR
    await send(crm, stop)
    assert await verdict(crm, CLEAR) == "deny"


async def test_a_stop_on_an_earlier_day_is_recorded_once(crm: World) -> None:
    for _ in range(2):
        await send(crm, {"type": "stop", "number": CLEAR, "at": "2026-11-23"})
    assert len(await history(crm, CLEAR)) == 1


async def test_a_replayed_confirmation_does_not_confirm_what_was_given_after_it_arrived(crm: World) -> None:
    rewrite(crm, lambda data: data["write"]["consent"].update(double_opt_in=["=true"]))
    await send(crm, EVENTS[0])
    confirmed = {"id": "8", "type": "confirmed", "number": MOBILE, "entry": "c"}
    await send(crm, confirmed, status=202)
    crm.hand.at += HOUR
    await send(crm, EVENTS[0] | {"id": "9", "at": rfc3339(NOW + MINUTE)})
    correct(crm, confirmed="confirmation")
    await crm.post("/v1/dead-letters/replay", {}, 200)
    assert await verdict(crm) == "deny"
    await send(crm, confirmed)
    assert await verdict(crm) == "allow"
