"""The origin of a call list, from its load to the calls that it permits."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dialgate.core.model import Origin, OriginKind, Transfer
from tests.support import yaml_files
from tests.support.world import CALLER, CLEAR, LIST, World, running, write_list

LEADS = "Leads S.r.l."
TOLD = {"by": LEADS, "to": "acme", "on": "2026-10-02", "subjects_told": True}


def gate(folder: Path, **changes: Any) -> AbstractAsyncContextManager[World]:
    """Run a gate. `changes` are made to its controller's file."""

    def prepare(written: Path) -> None:
        path = written / "controllers/acme.yaml"
        yaml_files.write(path, yaml_files.read(path) | changes)

    return running(folder, prepare=prepare)


async def reasons(made: World) -> list[str]:
    await made.app.tick(patience=None)
    answer = await made.post("/v1/simulate", {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}, 200)
    return [reason["code"] for reason in answer.get("reasons", [])]


LOADED: list[dict[str, Any]] = [
    {"collected_by": "acme"},
    {"collected_by": " ACME Telecomunicazioni S.p.A. "},
    {"collected_by": "leads s.r.l."},
    {"collected_by": LEADS, "origin": "own"},
    {"collected_by": "A publisher", "origin": "public_directory"},
    {"collected_by": LEADS, "origin": "acquired", "transfers": [TOLD]},
    {"collected_by": LEADS, "transfers": [TOLD]},
]


@pytest.mark.parametrize("origin", LOADED, ids=str)
async def test_a_list_of_a_known_origin_permits_calls(tmp_path: Path, origin: dict[str, Any]) -> None:
    async with gate(tmp_path, processors=[f" {LEADS}"]) as made:
        await made.post("/v1/lists", LIST | origin)
        assert await reasons(made) == []
        shown = (await made.get("/v1/lists/rome"))["origin"]
        assert shown.get("kind", "") == origin.get("origin", "")


@dataclass(frozen=True)
class Refusal:
    origin: dict[str, Any]
    field: str
    names: str


REFUSED = [
    Refusal({"collected_by": LEADS}, "origin", "`processors`"),
    Refusal({"collected_by": LEADS, "origin": "own"}, "origin", "`processors`"),
    Refusal({"collected_by": "acme", "origin": "acquired"}, "transfers", "`transfers`"),
    Refusal({"collected_by": LEADS, "origin": "acquired"}, "transfers", "`transfers`"),
    Refusal({"collected_by": "acme", "origin": "bought"}, "origin", "public_directory"),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: str(row.origin))
async def test_an_origin_that_permits_no_call_is_refused(tmp_path: Path, row: Refusal) -> None:
    async with gate(tmp_path, processors=["Calls S.r.l."]) as made:
        error = (await made.post("/v1/lists", LIST | row.origin, 400))["error"]
        assert (error["code"], error["field"]) == ("request.invalid", row.field)
        assert row.names in error["message"]
        assert (await made.get("/v1/lists"))["lists"] == []


async def test_where_the_law_does_not_ask_the_collector_alone_loads_a_list(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        path = folder / "countries/it.yaml"
        law = yaml_files.read(path)
        law["lists"] = [section for section in law["lists"] if not section.get("origin_stated")]
        yaml_files.write(path, law)

    async with running(tmp_path, prepare=prepare) as made:
        await made.post("/v1/lists", LIST | {"collected_by": LEADS})
        assert await reasons(made) == []


@pytest.mark.parametrize(
    ("kind", "transfers", "processors", "denied"),
    [
        ("", (), [], ["list.ceded", "consent.missing"]),
        ("", (), [LEADS], []),
        ("own", (), [], ["list.ceded", "consent.missing"]),
        ("acquired", (), [LEADS], ["list.ceded", "consent.missing"]),
        ("public_directory", (), [], []),
        ("", (Transfer(by=LEADS, to="acme", on=date(2026, 10, 2), subjects_told=True),), [], []),
    ],
)
async def test_calls_from_a_list_that_was_loaded_before(
    tmp_path: Path,
    kind: OriginKind,
    transfers: tuple[Transfer, ...],
    processors: list[str],
    denied: list[str],
) -> None:
    async with gate(tmp_path, processors=processors) as made:
        data = made.app.config.data
        (data / "lists").mkdir()
        origin = Origin(collected_by=LEADS, collected_on=date(2026, 10, 1), transfers=transfers, kind=kind)
        await made.app.registrar.access.store.add_list(write_list(data / "lists", origin=origin))
        assert await reasons(made) == denied
