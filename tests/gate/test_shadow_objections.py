"""In shadow mode the person's own word binds, also where the reasons of the decision do not say so."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.core.model import HOUR
from tests.support import world, yaml_files
from tests.support.world import CALL, CLEAR, World

CONSENT: dict[str, Any] = {
    "number": CLEAR,
    "id": "a",
    "collected_at": "2026-11-24T09:30:00Z",
    "purposes": ["sale"],
    "call_types": ["agent"],
    "goods": ["broadband"],
    "artefact": "a.pdf",
    "artefact_sha256": "0" * 64,
}


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, shadow_until=date(2026, 11, 30)) as made:
        await world.load_list(made)
        yield made


async def verdict(gate: World) -> tuple[str, str]:
    answer = await gate.post("/v1/check", CALL, 200)
    return answer["decision"], answer.get("would", "")


async def withdraw_early(gate: World) -> None:
    """Record a withdrawal that arrives before its consent, as a webhook does."""
    client = gate.app.config.settings.clients[0]
    await gate.app.registrar.consents.withdraw(client, {"number": CLEAR, "id": "a"}, early=True)


def change_campaign(gate: World, **changes: Any) -> None:
    file = gate.folder / "controllers/acme.yaml"
    data = yaml_files.read(file)
    for campaign in data["campaigns"]:
        campaign.update(changes)
    yaml_files.write(file, data)
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))


async def test_a_withdrawal_binds_before_its_consent_arrives(gate: World) -> None:
    await withdraw_early(gate)
    assert await verdict(gate) == ("deny", "")


async def test_a_revocation_binds_again_when_the_consent_that_lifted_it_expires(gate: World) -> None:
    stop = await gate.post("/v1/revocations", {"number": CLEAR})
    gate.hand.at += HOUR
    await gate.post("/v1/consents", CONSENT | {"expires_at": "2026-11-24T12:00:00Z"})
    lift = {"ground": "new_consent", "reason": "asked again", "consent": "a"}
    await gate.post(f"/v1/revocations/{stop['seq']}/lift", lift)
    assert await verdict(gate) == ("allow", "allow")
    gate.hand.at += 2 * HOUR
    assert await verdict(gate) == ("deny", "")


INACTIVE: list[dict[str, Any]] = [{"paused": True}, {"ends": "2026-11-23"}, {"starts": "2026-11-25"}]


@pytest.mark.parametrize("change", INACTIVE, ids=lambda change: next(iter(change)))
async def test_stops_bind_in_a_campaign_that_is_not_active(gate: World, change: dict[str, Any]) -> None:
    change_campaign(gate, **change)
    assert await verdict(gate) == ("allow", "deny")
    stop = await gate.post("/v1/revocations", {"number": CLEAR})
    assert await verdict(gate) == ("deny", "")
    await gate.post(f"/v1/revocations/{stop['seq']}/lift", {"ground": "error", "reason": "another's"})
    assert await verdict(gate) == ("allow", "deny")
    await withdraw_early(gate)
    assert await verdict(gate) == ("deny", "")


async def test_who_consented_again_did_not_object(gate: World) -> None:
    await withdraw_early(gate)
    gate.hand.at += HOUR
    await gate.post("/v1/consents", CONSENT)
    assert await verdict(gate) == ("allow", "allow")
    change_campaign(gate, paused=True)
    assert await verdict(gate) == ("allow", "deny")
