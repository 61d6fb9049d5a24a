"""Times of events that a platform states inexactly, or not at all: what stops calls is in force, and what permits them is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interfaces.webhooks.test_incoming import EVENTS, gate, rewrite, send, verdict
from tests.support import world
from tests.support.world import World


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
