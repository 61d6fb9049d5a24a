"""A report about a past day shows the state of that day, whatever happens to campaigns, lists and pauses afterwards."""

import json
import shutil
from pathlib import Path
from typing import Any

from dialgate.config import loader
from dialgate.core.model import DAY, HOUR
from tests.observability.test_metrics import check
from tests.support import yaml_files
from tests.support.world import CLEAR, KEY, LIST, LISTED, SCOPES, World, client, load_list, running

ALL_SCOPES = (*SCOPES, "watch", "lists", "subjects")
PAUSE = {"reason": "script under review"}


async def reports(world: World) -> dict[str, Any]:
    """Return the report on the first day, without the time at which it was made, and the shadow mode report on it."""
    report = await world.get("/v1/report?day=2026-11-24&format=json")
    shadow = await world.post("/v1/report/shadow", {"day": "2026-11-24", "format": "json"}, 200)
    history = await world.get("/v1/history?first=2026-11-24&last=2026-11-24")
    for body in (report, shadow):
        body.pop("made_at")
    history.pop("compared_until")
    return {"report": report, "shadow": shadow, "history": history}


async def test_a_report_on_yesterday_does_not_change_with_todays_state(tmp_path: Path) -> None:
    clients = [client("tests", KEY, *ALL_SCOPES)]
    async with running(tmp_path, clients=clients) as world:
        await load_list(world)
        await check(world.client)
        await check(world.client, to=LISTED)
        await world.post("/v1/campaigns/acme-fibre/pause", PAUSE)
        await check(world.client)
        world.hand.at += DAY
        await world.app.tick()
        before = await reports(world)
        assert before["report"]["reasons"] == {"registry.listed": 1, "campaign.inactive": 1}
        assert [row["name"] for row in before["history"]["lists"]] == [LIST["id"]]

        await world.post("/v1/campaigns/acme-fibre/resume", {"reason": "reviewed"})
        await world.post(f"/v1/lists/{LIST['id']}/retire", {}, 200)
        await world.post("/v1/lists", {**LIST, "id": "winter", "numbers": [CLEAR]})
        await world.post("/v1/revocations", {"number": CLEAR, "channel": "mail", "proof": "mail/1"})
        await check(world.client)
        controller = world.folder / "controllers/acme.yaml"
        changed = yaml_files.read(controller)
        changed["campaigns"][0]["id"] = "acme-renamed"
        yaml_files.write(controller, changed)
        world.app.reload(loader.load(world.folder / "dialgate.yaml"))
        world.hand.at += HOUR
        shutil.rmtree(world.folder / "data/history")  # counts of past days are cached
        await world.app.tick()
        assert await reports(world) == before, json.dumps(before)
