"""Promise: a call list that was retired opens no call from the next look on, whatever was asked while it was looked up."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dialgate import settings
from dialgate.model import Call
from tests.world import CALL, CALLER, CLEAR, load_list, running

CAMPAIGNS = 3_000  # so that it takes a while to arrange their lists


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def with_campaigns(folder: Path) -> None:
    path = folder / "controllers" / "acme.yaml"
    written = yaml.safe_load(path.read_text())
    first = written["campaigns"][0]
    written["campaigns"] += [{**first, "id": f"other-{n}"} for n in range(CAMPAIGNS)]
    path.write_text(yaml.safe_dump(written))


@pytest.mark.usefixtures("often")
async def test_a_retired_list_opens_no_call_however_many_asked_while_it_was_taken_away(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as made:
        with_campaigns(tmp_path)
        made.gate.reload(settings.load(tmp_path / "dialgate.yaml"))
        await load_list(made)
        gatherer = made.gate._gatherer
        question = gatherer.read(
            Call(to=CLEAR, from_=CALLER, campaign="acme-fibre"), made.gate.config.settings.clients[0]
        )
        assert gatherer.files(question).listings
        async with made.client.post("/v1/lists/rome/retire", json={}) as answer:
            assert answer.status == 200
        looking = asyncio.create_task(made.gate.tick())
        while not looking.done():
            gatherer.files(question)
            await asyncio.sleep(0)
        async with made.client.post("/v1/check", json=CALL) as answer:
            told = await answer.json()
        assert told["decision"] == "deny", told
        assert told["reasons"][0]["code"] == "list.unknown"
