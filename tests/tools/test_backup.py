"""Backup of a running gate: a gate started on the copy has all earlier decisions and a valid log."""

import asyncio
import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dialgate.core.decision_ids import log_of
from dialgate.core.model import DAY, SECOND
from dialgate.core.refusal import Refused
from dialgate.crypto.log_signing import public_keys
from dialgate.decision_log import chains, verify
from dialgate.interfaces.cli import main
from dialgate.runtime.clock import wall_clock
from dialgate.store.sqlite import SqliteStore
from dialgate.subjects.list_removal import remove_from_lists
from dialgate.tools.backup import back_up, last_backup, record_backup
from registry_sync import publication
from registry_sync.publication import PublishTarget
from tests.support import world, yaml_files
from tests.support.running_gate import serving
from tests.support.world import CALLER, write_folder

CALLED = [f"+3906{number}" for number in range(12340000, 12340400)]


async def test_gate_on_the_copy_has_all_earlier_decisions(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path, log_segment_mb=1, checkpoint_seconds=0.2, log_archive_hours=0.0003)
    data, out = tmp_path / "data", tmp_path / "copies" / "one"
    world.publish_answers(data, dict.fromkeys(CALLED, False), wall_clock() - DAY)
    ids, answers = count(), list[dict[str, Any]]()

    def question() -> dict[str, Any]:
        at = next(ids)
        return {"to": CALLED[at % 400], "from": CALLER, "campaign": "acme-fibre", "call_id": f"c{at}"}

    has_enough = asyncio.Event()

    def record_answer(_: dict[str, Any], answer: dict[str, Any]) -> None:
        answers.append(answer)
        if len(answers) >= 3_000:
            has_enough.set()

    async with serving(config) as gate:
        await gate.post("/v1/lists", {**world.LIST, "numbers": CALLED})
        await gate.post("/v1/revocations", {"number": CALLED[0]})
        load = gate.start_load(question, record_answer)
        await has_enough.wait()
        before = [answer["decision_id"] for answer in answers]
        backup = await asyncio.to_thread(
            CliRunner().invoke, main.app, ["backup", str(out), "--config", str(config), "--json"]
        )
        await load.stop()
    assert backup.exit_code == 0, backup.output
    report = json.loads(backup.stdout)
    assert (report["ok"], report["records"] >= len(before)) == (True, True)
    modes = {path.stat().st_mode & 0o077 for path in (out, *out.rglob("*"))}
    assert modes == {0}
    restored = yaml_files.read(config) | {"data": str(out)}
    yaml_files.write(config, restored)
    async with serving(config) as gate:
        seqs = [int(name.rpartition("-")[2]) for name in before]
        assert max(seqs) <= report["records"]
        answer = await gate.post("/v1/check", {"to": CALLED[0], "from": CALLER, "campaign": "acme-fibre"})
        assert answer["reasons"][0]["code"] == "revocation.revoked"
        assert log_of(answer["decision_id"]) not in set(map(log_of, before))
    logs = chains.folders(out)
    assert len(logs) == 2
    assert [verify(folder, keys=public_keys(out / "signing.json")).faults for folder in logs.values()] == [
        [],
        [],
    ]


def test_backup_refuses_an_existing_folder_and_an_empty_source(tmp_path: Path) -> None:
    config = write_folder(tmp_path)
    words = ["backup", str(tmp_path / "out"), "--config", str(config)]
    refused = CliRunner().invoke(main.app, words)
    assert (refused.exit_code, "has no keys.json" in refused.output) == (1, True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/keys.json").write_text("{}")
    with pytest.raises(Refused, match="already exists"):
        back_up(tmp_path / "data", tmp_path, lambda *_: None)


@pytest.mark.parametrize("registry", ["dncr", "rpo"])  # before and after `manifest.json` in the alphabet
def test_copied_manifest_names_only_copied_files(tmp_path: Path, registry: str) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    (data / "keys.json").write_text("{}")
    target = PublishTarget(folder=data / "snapshots")

    def publish(number: int) -> None:
        answers = publication.empty_answers(registry, "acme")
        one = answers._replace(numbers=np.array([number], np.uint64), tags=np.zeros(1, np.uint16))
        with publication.lock_folder(target.folder):
            publication.publish_answers(target, one, number)

    publish(1)

    def publish_again(*_: int) -> None:
        if (out / "snapshots").exists() and publication.current_manifest(target.folder).published_at == 1:
            publish(2)

    back_up(data, out, publish_again)
    assert publication.current_manifest(target.folder).published_at == 2
    named = {entry.file for entry in publication.current_manifest(out / "snapshots").files}
    assert named <= {path.name for path in (out / "snapshots").iterdir()}


def test_list_that_loses_a_number_during_the_backup_is_in_the_copy(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "lists").mkdir(parents=True)
    (data / "keys.json").write_text("{}")
    store = SqliteStore.open(data / "store.db")
    record = world.write_list(data / "lists")
    assert asyncio.run(store.add_list(record))

    def erase(*_: int) -> None:
        if (out / "store.db").exists():
            asyncio.run(remove_from_lists(store, data / "lists", record.controller, world.CLEAR))

    back_up(data, out, erase)
    assert not (data / "lists" / record.file).exists()
    copied = asyncio.run(SqliteStore.open(out / "store.db").lists())
    assert all((out / "lists" / each.file).exists() for each in copied)


def test_a_gate_that_was_never_backed_up_counts_from_its_signing_key(tmp_path: Path) -> None:
    assert last_backup(tmp_path) == 0
    (tmp_path / "signing.json").write_text("{}")
    os.utime(tmp_path / "signing.json", (0, (world.NOW - DAY) / SECOND))
    assert last_backup(tmp_path) == world.NOW - DAY
    record_backup(tmp_path, world.NOW)
    assert last_backup(tmp_path) == world.NOW
    (tmp_path / "last-backup").write_bytes(b"\xff\xff")
    assert last_backup(tmp_path) == world.NOW - DAY
