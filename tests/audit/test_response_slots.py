"""The time that a look-up takes does not show how many decisions other controllers have about a number."""

import asyncio
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dialgate.audit.response_slots import SLOT, rest_of_slot, whole_slots
from tests.audit.test_decision_ids import check, send, shared
from tests.support.world import CLEAR, World

__all__ = ["shared"]  # a fixture
LOOKUPS = {
    "the decisions about a number": f"/v1/decisions?number={quote(CLEAR)}&purpose=abc",
    "an access report": f"/v1/subjects/{quote(CLEAR)}?purpose=abc",
}


@given(some.floats(0, 60))
def test_a_block_ends_with_a_slot(elapsed: float) -> None:
    rest = rest_of_slot(elapsed)
    slots = (elapsed + rest) / SLOT
    assert 0 <= rest <= SLOT
    assert slots == pytest.approx(round(slots), abs=1e-6)


async def test_a_gate_of_one_controller_does_not_wait() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with whole_slots(shared=False):
        pass
    assert loop.time() - began < SLOT


@pytest.mark.parametrize("path", LOOKUPS.values(), ids=LOOKUPS.keys())
async def test_a_look_up_on_a_shared_gate_takes_whole_slots(shared: World, path: str) -> None:
    for number in range(5):
        await check(shared, "acme", call_id=str(number))
    loop = asyncio.get_running_loop()
    began = loop.time()
    status, _ = await send(shared, "beta", path)
    assert (status, loop.time() - began >= SLOT) == (200, True)
