"""The verification of the logs each night, what it leaves behind, and who is told of a fault."""

import json
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dialgate.audit.log_proof import NightlyProof, last_proof, prove_logs
from dialgate.core.local_time import instant_of
from dialgate.core.model import DAY, HOUR, Instant
from dialgate.runtime.own_process import run_apart
from tests.support.console_world import (
    ADMINISTRATOR,
    OFFICER,
    STRANGER,
    SUPERVISOR,
    check,
    running_console,
)
from tests.support.world import CLEAR, NOW, World

NIGHT = instant_of("2026-11-25T02:40:00+01:00")


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with running_console(tmp_path, checkpoint_seconds=0.001, verify_log_nightly=True) as built:
        await check(built, CLEAR)
        await built.app.tick()
        yield built


async def pass_hour(nightly: NightlyProof, gate: World, now: Instant) -> str:
    """Let the gate look once whether a verification is due, and return the time of the last one."""
    task = nightly.tick(now)
    assert task is not None
    await task
    proof = last_proof(gate.app.config.data)
    return proof.at if proof else ""


async def test_a_gate_proves_its_log_at_night_once_and_by_day_after_two_days(gate: World) -> None:
    nightly = NightlyProof(lambda: gate.app.config, NOW)
    assert nightly.tick(NOW + HOUR - 1) is None  # it looks once an hour
    assert await pass_hour(nightly, gate, NOW + HOUR) == ""
    assert await pass_hour(nightly, gate, NIGHT) == "2026-11-25T01:40:00.000Z"
    assert await pass_hour(nightly, gate, NIGHT + HOUR) == "2026-11-25T01:40:00.000Z"
    assert await pass_hour(nightly, gate, NIGHT + DAY - HOUR // 2) == "2026-11-26T01:10:00.000Z"
    noon = NIGHT + 2 * DAY + 10 * HOUR  # the machine was off at night
    assert await pass_hour(nightly, gate, noon) == "2026-11-26T01:10:00.000Z"
    assert await pass_hour(nightly, gate, noon + DAY) == "2026-11-28T11:40:00.000Z"
    proof = last_proof(gate.app.config.data)
    assert proof is not None
    assert proof.ok
    assert proof.records > 0
    await nightly.close()


async def test_a_gate_that_may_not_verify_and_one_that_is_closed_leave_no_result(gate: World) -> None:
    config = gate.app.config
    off = replace(config, settings=replace(config.settings, verify_log_nightly=False))
    assert await pass_hour(NightlyProof(lambda: off, NOW), gate, NIGHT) == ""
    closing = NightlyProof(lambda: config, NOW)
    assert closing.tick(NIGHT) is not None
    await closing.close()
    assert last_proof(config.data) is None


async def tasks(gate: World, key: str) -> list[tuple[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    async with gate.client.get("/v1/tasks", headers=headers) as answer:
        found = (await answer.json())["tasks"]
    return [(task["kind"], task.get("days_left")) for task in found if task["kind"].startswith("log_")]


async def test_a_changed_byte_is_a_task_until_the_log_is_whole_again(gate: World) -> None:
    data = gate.app.config.data
    (segment,) = data.glob("log/0*.ndjson")
    whole = segment.read_bytes()
    changed = whole.replace(b'"acme-fibre"', b'"acme-fibrE"')
    assert changed != whole
    segment.write_bytes(changed)
    proof = await run_apart(partial(prove_logs, data, gate.app.gate.now()))
    assert not proof.ok
    assert segment.name in proof.faults[0]
    assert await tasks(gate, OFFICER) == [("log_damaged", None)]
    assert await tasks(gate, SUPERVISOR) == await tasks(gate, STRANGER) == []
    segment.write_bytes(whole)
    result = json.loads(await gate.output("log", "verify", "--json"))
    assert result["ok"]
    assert await tasks(gate, OFFICER) == []  # the command's result counts, too


async def test_a_log_that_was_not_verified_for_two_days_is_a_task(gate: World) -> None:
    seconds = gate.hand() / 1000
    os.utime(gate.app.config.data / "signing.json", (seconds, seconds - 3 * 86_400))
    assert await tasks(gate, OFFICER) == [("log_unproved", -1.0)]
    headers = {"Authorization": f"Bearer {ADMINISTRATOR}"}
    async with gate.client.post("/v1/log/verification", headers=headers) as answer:
        assert (await answer.json())["last"]["ok"]
    assert await tasks(gate, OFFICER) == []
    async with gate.client.post(
        "/v1/log/verification", headers={"Authorization": f"Bearer {SUPERVISOR}"}
    ) as answer:
        assert answer.status == 403
