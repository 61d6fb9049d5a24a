"""An answer whose consultation is dated after the gate's clock was imported while a clock was wrong. It is void for good."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.core.model import DAY, SECOND, Instant
from dialgate.lists import void_consultations
from dialgate.runtime.clock import TOLERANCE
from tests.support import world
from tests.support.world import (
    CLEAR,
    NOW,
    Hand,
    ask,
    codes,
    load_list,
    publish_answers,
    running,
    store_time,
)


@pytest.mark.parametrize(
    ("consulted_at", "expected"),
    [
        (NOW - DAY, []),
        (NOW + TOLERANCE, []),  # the clocks of two machines differ
        (NOW + TOLERANCE + 1, ["registry.expired"]),
        (NOW + DAY, ["registry.expired"]),
        (NOW + 10 * DAY, ["registry.expired"]),
    ],
)
async def test_answer_dated_after_the_gates_clock_stays_void_when_its_date_has_come(
    tmp_path: Path, consulted_at: Instant, expected: list[str]
) -> None:
    hand = Hand()
    async with running(tmp_path, hand, answered_at=consulted_at) as gate:
        await load_list(gate)
        hand.at = max(NOW + DAY, consulted_at + SECOND)
        store_time(gate.app.config.data, hand.at)
        await gate.app.tick(patience=None)
        assert codes(await ask(gate.app)) == expected
        config = gate.app.config
    restarted = await App.open(config, registry=CollectorRegistry(), clock=hand)
    try:
        assert codes(await ask(restarted)) == expected
    finally:
        await restarted.close()


async def test_new_consultation_replaces_a_void_one(tmp_path: Path) -> None:
    """Only the void consultation is void. Its answer *enrolled* still denies."""
    async with running(tmp_path, answered_at=NOW + 10 * DAY) as gate:
        await load_list(gate)
        assert codes(await ask(gate.app)) == ["registry.expired"]
        assert codes(await ask(gate.app, to=world.LISTED)) == ["registry.listed"]
        assert void_consultations.read(gate.app.config.data) == {f"at-{NOW + 10 * DAY}"}
        gate.hand.at = NOW + 10 * DAY + SECOND
        store_time(gate.app.config.data, gate.hand.at)
        publish_answers(gate.app.config.data, {CLEAR: False}, gate.hand.at)
        await gate.app.tick(patience=None)
        assert codes(await ask(gate.app)) == []
