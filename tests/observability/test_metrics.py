"""Tests of the metrics of a real gate, parsed as Prometheus parses them."""

import shutil
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from dialgate.config import loader
from dialgate.core.model import DAY, SECOND
from tests.support import yaml_files
from tests.support.world import CALL, CALLER, CLEAR, LISTED, NOW, World, load_list, running

OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}
LINE = "+390645678901"  # not of a reserved class: it must be called back


async def check(client: ClientSession, **changes: str) -> dict[str, Any]:
    async with client.post("/v1/check", json={**CALL, **changes}) as answer:
        response: dict[str, Any] = await answer.json()
        return response


async def scraped(world: World) -> list[Sample]:
    """Return the gate's metrics, parsed with the strict OpenMetrics parser of `prometheus_client`."""
    async with world.client.get("/metrics", headers=OPEN) as answer:
        text = await answer.text()
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # it has no types
    return [sample for family in families for sample in family.samples]


def exemplar(samples: list[Sample], name: str, **labels: str) -> str:
    return next(
        sample.exemplar.labels["decision_id"]
        for sample in samples
        if sample.name == name and sample.exemplar and labels.items() <= sample.labels.items()
    )


def change_controller(folder: Path, **changes: Any) -> None:
    path = folder / "controllers" / "acme.yaml"
    response = yaml_files.read(path)
    response["campaigns"][0] |= changes
    yaml_files.write(path, response)


async def test_an_exemplar_leads_from_a_count_to_the_newest_decision(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await load_list(world)
        allowed = await check(world.client)
        await check(world.client, to=LISTED)
        denied = await check(world.client, to=LISTED)
        samples = await scraped(world)
    name = "dialgate_decisions_total"
    assert exemplar(samples, name, decision="allow") == allowed["decision_id"]
    assert exemplar(samples, name, code="registry.listed") == denied["decision_id"]
    known = {allowed["decision_id"], denied["decision_id"].rpartition("-")[0]}
    latest = exemplar(samples, "dialgate_latency_seconds_bucket", interface="http")
    assert latest in known or latest.rpartition("-")[0] in known


async def test_an_undecided_call_has_no_exemplar(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        world.hand.at -= DAY  # a clock that stepped back decides nothing
        assert "decision_id" not in await check(world.client)
        samples = await scraped(world)
    assert any(sample.name == "dialgate_latency_seconds_count" and sample.value == 1 for sample in samples)
    assert not any(sample.exemplar for sample in samples)


async def test_consecutive_invented_numbers_are_counted_but_an_ordered_list_is_not(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await load_list(world)
        for number in (CLEAR, LISTED, CLEAR, LISTED):  # neighbours, both on the list
            await check(world.client, to=number)
        name = "dialgate_unlisted_neighbours_total"
        assert world.sample(name, client="tests") == 0
        for last in range(10, 20):
            await check(world.client, to=f"+3906123499{last}")
        for hundred in range(10, 20):
            await check(world.client, to=f"+39061234{hundred}00")
        assert world.sample(name, client="tests") == 9


async def test_outcomes_are_counted_by_campaign(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await load_list(world)
        assert world.sample("dialgate_outcomes_total", campaign="acme-fibre", result="abandoned") is None
        response = await check(world.client)
        assert world.sample("dialgate_outcomes_total", campaign="acme-fibre", result="abandoned") == 0
        report = {"decision_id": response["decision_id"], "outcome": "abandoned"}
        async with world.client.post("/v1/outcomes", json=report) as answer:
            assert answer.status == 200
        assert world.sample("dialgate_outcomes_total", campaign="acme-fibre", result="abandoned") == 1


async def test_a_caller_id_shows_when_its_proof_ends_until_it_is_no_longer_used(tmp_path: Path) -> None:
    name = "dialgate_caller_id_proof_end_timestamp_seconds"
    async with running(tmp_path) as world:
        assert world.sample(name, controller="acme", caller_id=CALLER) is None  # 0844 needs none
        change_controller(tmp_path, caller_ids=[CALLER, LINE])
        world.app.reload(loader.load(tmp_path / "dialgate.yaml"))
        await world.app.tick()
        assert world.sample(name, controller="acme", caller_id=LINE) == 0
        proof = {"caller_id": LINE, "kind": "probe", "evidence": "call back 1"}
        async with world.client.post("/v1/caller-ids/proofs", json=proof) as answer:
            assert answer.status == 204
        await world.app.tick()
        assert world.sample(name, controller="acme", caller_id=LINE) == (NOW + 30 * DAY) / SECOND
        change_controller(tmp_path, caller_ids=[CALLER])
        world.app.reload(loader.load(tmp_path / "dialgate.yaml"))
        await world.app.tick()
        assert world.sample(name, controller="acme", caller_id=LINE) is None


async def test_a_campaign_is_open_until_it_is_paused_and_the_law_is_named_by_its_hash(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        assert world.sample("dialgate_campaign_open", campaign="acme-fibre") == 1
        before = world.app.config.law_hash["IT"]
        assert world.sample("dialgate_law_info", country="IT", hash=before) == 1
        change_controller(tmp_path, paused=True)
        with (tmp_path / "countries" / "it.yaml").open("a") as law:
            law.write("# another file\n")
        world.app.reload(loader.load(tmp_path / "dialgate.yaml"))
        await world.app.tick()
        assert world.sample("dialgate_campaign_open", campaign="acme-fibre") == 0
        assert world.sample("dialgate_law_info", country="IT", hash=before) is None
        assert world.sample("dialgate_law_info", country="IT", hash=world.app.config.law_hash["IT"]) == 1


async def test_the_disk_is_that_of_the_data_folder(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        assert world.sample("dialgate_data_size_bytes") == shutil.disk_usage(world.folder / "data").total
        assert (world.sample("dialgate_data_free_bytes") or 0) > 0
