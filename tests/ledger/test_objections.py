"""Tests that a withdrawal remains an objection to calls based on the directory."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dialgate.core.model import DAY
from tests.support import world
from tests.support.world import CALL, CLEAR, NOW, World

CONSENT: dict[str, Any] = {
    "number": CLEAR,  # on a list with the basis `directory`
    "id": "c",
    "collected_at": "2026-11-20T10:00:00+01:00",
    "purposes": ["sale"],
    "goods": ["broadband"],
    "call_types": ["agent"],
    "artefact": "recordings/1.wav",
    "artefact_sha256": "a" * 64,
}
LATER = {"collected_at": "2026-11-23T10:00:00+01:00"}
CLIENTS = [world.client("tests", world.KEY, *world.SCOPES, "subjects")]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS, storage={"daily": False}) as running:
        await world.load_list(running)
        yield running


@pytest.mark.parametrize(
    "changes",
    [
        {"purposes": ["statistics"]},
        {"goods": ["insurance"]},
        LATER | {"purposes": ["statistics"]},
        LATER | {"artefact": ""},
        LATER | {"double_opt_in": True},
        LATER | {"expires_at": "2026-11-24T09:00:00+01:00"},
    ],
)
async def test_a_withdrawal_objects_even_if_its_id_is_used_again(
    gate: World, changes: dict[str, Any]
) -> None:
    withdrawal = {"number": CLEAR, "id": "c", "at": "2026-11-22T10:00:00+01:00"}
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/consents/withdraw", withdrawal)
    assert (await gate.post("/v1/check", CALL, 200))["decision"] == "deny"
    await gate.post("/v1/consents", CONSENT | changes)
    answer = await gate.post("/v1/check", CALL, 200)
    assert answer["decision"] == "deny", answer


async def test_a_withdrawal_objects_after_its_consent_was_removed(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/consents/withdraw", {"number": CLEAR, "id": "c"})
    assert (await gate.post("/v1/check", CALL, 200))["decision"] == "deny"
    at = NOW + 1_827 * DAY
    world.store_time(gate.app.config.data, at)
    await gate.app.subjects.retire(at, drop=True)
    answer = await gate.post("/v1/check", CALL, 200)
    assert answer["decision"] == "deny", answer
