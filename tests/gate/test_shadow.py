"""Shadow mode: what the gate would refuse is let through, recorded as such, and stops bind."""

from datetime import date
from pathlib import Path
from typing import Any

from dialgate.core import local_time
from tests.support import world
from tests.support.world import CALL, LISTED, World

LAST_DAY = date(2026, 11, 30)
END = local_time.midnight("Europe/Rome", date(2026, 12, 1))
REFUSED = CALL | {"to": LISTED}


async def check(gate: World, **changes: str) -> dict[str, Any]:
    answer: dict[str, Any] = await gate.post("/v1/check", CALL | changes, 200)
    return answer


async def test_a_refused_call_goes_on_and_its_record_says_so(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY, **store_settings) as gate:
        await world.load_list(gate)
        refused, allowed = await check(gate, to=LISTED), await check(gate)
        assert (refused["decision"], refused["would"], refused["to"]) == ("allow", "deny", LISTED)
        assert [reason["code"] for reason in refused["reasons"]] == ["registry.listed"]
        assert (refused["reason_class"], "valid_until" in refused) == ("number", True)
        assert (allowed["decision"], allowed["would"], "reasons" in allowed) == ("allow", "allow", False)
        assert [(record.decision.allow, record.shadow) for record in gate.records()] == [
            (False, True),
            (True, True),
        ]


async def test_a_stop_binds_at_once(tmp_path: Path, store_settings: dict[str, Any]) -> None:
    async with world.running(tmp_path, shadow_until=LAST_DAY, **store_settings) as gate:
        first = await check(gate, to=LISTED, call_id="one")
        await gate.post("/v1/outcomes", {"decision_id": first["decision_id"], "outcome": "opt_out"}, 200)
        for call_id in ("one", "two"):
            answer = await check(gate, to=LISTED, call_id=call_id)
            assert (answer["decision"], answer.get("would")) == ("deny", None)
            assert "revocation.revoked" in [reason["code"] for reason in answer["reasons"]]
        assert [record.shadow for record in gate.records()] == [True, False, False]
