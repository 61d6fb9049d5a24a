"""A gate with data for every console page: controllers, campaigns, lists, caller IDs and data-subject requests.

Its clock starts at `NOW` and keeps running.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dialgate.core.model import DAY, SECOND
from tests.support import world, yaml_files
from tests.support.world import CALLER, CLEAR, LISTED, NOW, Hand, World

AGENT, SUPERVISOR, OFFICER, STRANGER = "key-agent", "key-supervisor", "key-officer", "key-of-beta"
ADMINISTRATOR = "key-administrator"
LANDLINE, BARE = "+390245678901", "+390245678902"
MARKUP = "<img src=x onerror=alert(1)>"
NUMBERS = [f"+3906123457{at:02}" for at in range(40)]
CAMPAIGNS = [
    {"id": "acme-mobile", "purpose": "sale", "sector": "telecommunications", "call_type": "agent"},
    {"id": "acme-survey", "purpose": "statistics", "call_type": "automated"},
]
BETA = {
    "id": "beta",
    "name": "Beta S.r.l.",
    "country": "IT",
    "campaigns": [
        {
            "id": "beta-loans",
            "purpose": "sale",
            "sector": "banking",
            "call_type": "agent",
            "caller_ids": ["+390844999999"],
            "trunk_country": "IT",
            "dial_region": "IT",
        }
    ],
}


class RunningClock(Hand):
    """A clock that starts at a set instant and keeps running."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()

    def __call__(self) -> int:
        return self.at + int((time.monotonic() - self._begun) * SECOND)


def clients() -> list[dict[str, Any]]:
    agent = ("simulate", "revoke")
    supervisor = (*agent, "watch", "lists")
    officer = (*supervisor, "read", "subjects", "officer")
    return [
        world.client("tests", world.KEY, *world.SCOPES, "subjects"),
        world.client("agent-7", AGENT, *agent),
        world.client("supervisor-2", SUPERVISOR, *supervisor),
        world.client("dpo", OFFICER, *officer) | {"controllers": ["acme", "beta"]},
        world.client("root", ADMINISTRATOR, *officer, "admin") | {"controllers": ["acme", "beta"]},
        world.client("beta", STRANGER, "check", *officer, "admin") | {"controllers": ["beta"]},
    ]


def write_controllers(folder: Path) -> None:
    """Write the sample controller with more campaigns, and a second controller."""
    path = folder / "controllers" / "acme.yaml"
    acme = yaml_files.read(path)
    shared = {"trunk_country": "IT", "dial_region": "IT"}
    numbers = ([CALLER, LANDLINE], [BARE])
    acme["campaigns"] += [
        {**campaign, **shared, "caller_ids": shown}
        for campaign, shown in zip(CAMPAIGNS, numbers, strict=True)
    ]
    yaml_files.write(path, acme)
    yaml_files.write(folder / "controllers" / "beta.yaml", BETA)


@asynccontextmanager
async def running_console(folder: Path, **changes: Any) -> AsyncIterator[World]:
    settings = {"clients": clients(), **changes}
    answers = {**world.ANSWERS, **dict.fromkeys(NUMBERS, False)}
    async with world.running(
        folder, RunningClock(), write_controllers, answers=answers, answered_at=NOW - 3 * DAY, **settings
    ) as made:
        await add_data(made)
        yield made


async def add_data(made: World) -> None:
    """Add a call list, a caller ID whose proof expires soon, and data-subject requests."""
    rows = {**world.LIST, "numbers": [CLEAR, LISTED, *NUMBERS]}
    await made.post("/v1/lists", {**rows, "campaigns": ["acme-fibre", "acme-mobile"]})
    proof = {"caller_id": LANDLINE, "kind": "probe", "evidence": "probe", "at": "2026-10-29T10:00:00+01:00"}
    await made.post("/v1/caller-ids/proofs", proof, 204)
    for kind, received in (("access", "2026-10-28T09:00:00+01:00"), ("erasure", "2026-11-12T09:00:00+01:00")):
        body = {
            "kind": kind,
            "identified": "code read back on a call",
            "channel": "pec",
            "received_at": received,
        }
        await made.post(f"/v1/subjects/{quote(CLEAR)}/requests", body)
    await made.app.tick()


async def check(made: World, to: str, campaign: str = "acme-fibre", from_: str = CALLER) -> dict[str, Any]:
    call = {"to": to, "from": from_, "campaign": campaign}
    async with made.client.post("/v1/check", json=call) as response:
        decision: dict[str, Any] = await response.json()
        return decision


async def pause(made: World, campaign: str, numbers: list[str]) -> None:
    """Report four abandoned calls. Four are enough to pause a campaign that has no answered calls."""
    for number in numbers[:4]:
        answer = await check(made, number, campaign)
        await made.post("/v1/outcomes", {"decision_id": answer["decision_id"], "outcome": "abandoned"}, 200)
    await made.app.tick()
