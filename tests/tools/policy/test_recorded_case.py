"""Tests of `dialgate policy new`: the case has no personal data, and gives the recorded decision."""

from pathlib import Path

from tests.support import world
from tests.support.world import CALL, CLEAR, LISTED

MOBILE = "+393331234567"


async def test_each_decision_becomes_a_green_case_without_its_number_and_ids(tmp_path: Path) -> None:
    calls = [
        {},
        {"to": LISTED},
        {"to": MOBILE, "call_type": "automated"},
        {"to": "nonsense"},
        {"from": "+390612345678"},
        {"from": "anonymous"},
    ]
    async with world.running(tmp_path) as gate:
        await world.load_list(gate)
        consent = {"id": "private-4711", "number": CLEAR, "purposes": ["sale"], "call_types": ["agent"], "collected_at": "2026-11-01T10:00:00+01:00", "proof": {"ref": "archive/4711", "sha256": "0" * 64}}  # fmt: skip
        await gate.client.post("/v1/consents", json={"controller": "acme", **consent})
        answers = [await gate.post("/v1/check", CALL | change, 200) for change in calls]
        await gate.post("/v1/revocations", {"controller": "acme", "number": CLEAR, "channel": "call"}, 201)
        answers.append(await gate.post("/v1/check", CALL, 200))
        cases = tmp_path / "policy"
        cases.mkdir()
        for place, answer in enumerate(answers):
            text = await gate.output("policy", "new", answer["decision_id"])
            assert not any(part in text for part in (CLEAR, LISTED, MOBILE, "4711", answer["decision_id"]))
            (cases / f"{place}.yaml").write_text(text)
        assert await gate.output("policy", "test", str(cases)) == f"{len(answers)} cases, 0 red, 0 invalid\n"
