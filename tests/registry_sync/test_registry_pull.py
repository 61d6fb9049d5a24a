"""Copies of publications on nodes: accepted only if complete, signed, and not older than the local copy."""

import asyncio
import os
import ssl
import sys
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec import structs

from dialgate.core.model import DAY, MINUTE
from dialgate.crypto.publisher_signature import SnapshotSigner
from dialgate.lists.manifest import MANIFEST, read_manifest
from dialgate.lists.number_set import DamagedFile
from dialgate.lists.snapshot import PULLED, Pulled, Snapshot
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.clock import wall_clock
from registry_sync import snapshot_mirror, source_settings
from registry_sync.import_checks import ImportRefused
from registry_sync.publication import PublishTarget
from registry_sync.simulator import is_enrolled
from tests.registry_sync.test_registry_sources import make_certificate
from tests.support import world
from tests.support.registry_world import NUMBERS, JobWorld, load_list
from tests.support.world import NOW

CLEAR = next(number for number in NUMBERS if not is_enrolled(number[3:]))


class Node:
    def __init__(self, job: JobWorld) -> None:
        self.target = PublishTarget(folder=job.folder / "node")
        self.source = source_settings.FolderSource(inbox=str(job.plan.snapshots), settle_seconds=0)

    async def pull(self, key: str = "") -> str:
        return (await snapshot_mirror.pull(self.source, self.target, key, wall_clock())).version

    def published_files(self) -> dict[str, bytes]:
        paths = self.target.folder.glob("*.*[!k]")
        return {path.name: path.read_bytes() for path in paths if path.name != PULLED}


@pytest.fixture
async def job(tmp_path: Path) -> JobWorld:
    new_job = JobWorld(tmp_path)
    private = Ed25519PrivateKey.generate()
    write_file(
        tmp_path / "signing.pem", private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "signing.pem").chmod(0o600)
    new_job.configure(signing_key_file="signing.pem")
    await load_list(new_job)
    await new_job.run_once()
    await new_job.answer_and_run()
    return new_job


def public(job: JobWorld) -> str:
    return SnapshotSigner.open(job.folder / "signing.pem").public


async def test_pull_copies_the_publication_and_fetches_only_new_files(job: JobWorld) -> None:
    node = Node(job)
    assert await node.pull(public(job)) == read_manifest(job.plan.snapshots).version
    assert node.published_files() == job.published_files()
    done = await snapshot_mirror.pull(node.source, node.target, public(job), wall_clock())
    assert done.fetched == 0
    assert (
        Snapshot.open(node.target.folder, public(job)).answer("rpo", "acme", int(CLEAR[1:])).answer == "clear"
    )


def _truncate_set(job: JobWorld) -> None:
    (path,) = job.plan.snapshots.glob("*.numbers")
    path.write_bytes(path.read_bytes()[:-1])


def _replace_set(job: JobWorld) -> None:
    """Replace a number set with a different valid one."""
    (path,) = job.plan.snapshots.glob("*.numbers")
    world.publish_answers(job.folder / "elsewhere", {CLEAR: True}, NOW)
    (other,) = (job.folder / "elsewhere").rglob("*.numbers")
    path.write_bytes(other.read_bytes())


def _change_date(job: JobWorld) -> None:
    """Change a signed field."""
    path = job.plan.snapshots / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"published_at": 17', b'"published_at": 18'))


def _path_outside(job: JobWorld) -> None:
    path = job.plan.snapshots / MANIFEST
    manifest = read_manifest(job.plan.snapshots)
    files = tuple(msgspec.structs.replace(file, file="../x.numbers") for file in manifest.files)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))


SPOILT = {
    _truncate_set: (DamagedFile, "truncated"),
    _replace_set: (DamagedFile, "its sha256 differs"),
    _change_date: (ImportRefused, "not signed with the key"),
    _path_outside: (ImportRefused, "not signed with the key"),
    lambda job: (job.plan.snapshots / MANIFEST).write_bytes(b"{"): (DamagedFile, "not a manifest"),
}


@pytest.mark.parametrize("spoil", SPOILT)
async def test_damaged_or_unsigned_publication_is_refused(job: JobWorld, spoil: object) -> None:
    node = Node(job)
    await node.pull(public(job))
    before = node.published_files()
    (path,) = node.target.folder.glob("*.numbers")
    path.rename(job.folder / path.name)  # forces a fetch
    assert callable(spoil)
    spoil(job)
    kind, fault = SPOILT[spoil]
    with pytest.raises(kind, match=fault):
        await node.pull(public(job))
    (job.folder / path.name).rename(path)
    assert node.published_files() == before


async def test_manifest_with_a_path_outside_the_folder_is_refused(job: JobWorld) -> None:
    _path_outside(job)
    with pytest.raises(ImportRefused, match="is not a number set"):
        await Node(job).pull()


async def test_older_publication_is_refused(job: JobWorld) -> None:
    """Replaying an old signed publication would permit calls to people who have enrolled since."""
    node = Node(job)
    old = {path: path.read_bytes() for path in job.plan.snapshots.iterdir() if path.is_file()}
    job.clock.at += 13 * DAY
    await job.run_once()
    await job.answer_and_run()
    await node.pull(public(job))
    before = node.published_files()
    for path, content in old.items():
        path.write_bytes(content)
    with pytest.raises(ImportRefused, match="an older publication never replaces a newer one"):
        await node.pull(public(job))
    assert node.published_files() == before


async def test_gate_uses_only_publications_signed_with_its_key(tmp_path: Path, job: JobWorld) -> None:
    home = tmp_path / "gate"
    home.mkdir()
    async with world.running(home, snapshot_key=public(job)) as gate:
        await gate.app.tick()
        async with gate.client.get("/readyz") as answer:
            assert "not signed with the key" in await answer.text()
        node = Node(job)
        node.target = PublishTarget(folder=home / "data" / "snapshots")
        for path in node.target.folder.iterdir():
            path.unlink()
        gate.hand.at += MINUTE
        await node.pull(public(job))
        await gate.app.tick()
        async with gate.client.get("/readyz") as answer:
            assert "signed" not in await answer.text()


async def test_a_new_snapshot_key_applies_to_the_snapshot_in_use(tmp_path: Path, job: JobWorld) -> None:
    """The answers stay in use, but the gate is not ready, so that a wrong key is noticed before the next start."""
    home = tmp_path / "gate"
    home.mkdir()
    async with world.running(home) as gate:
        await gate.app.tick()
        for key, fault in [(public(job), "not signed with the key"), ("", "")]:
            settings = structs.replace(gate.app.config.settings, snapshot_key=key)
            gate.app.reload(structs.replace(gate.app.config, settings=settings))
            await gate.app.tick()
            problem = gate.app.gate.readiness().get("snapshot", "")
            assert fault in problem
            assert bool(problem) == bool(key)


async def test_node_without_a_recent_pull_is_not_ready(tmp_path: Path) -> None:
    async with world.running(tmp_path, snapshot_behind_minutes=10) as gate:
        seen = tmp_path / "data" / "snapshots" / PULLED
        for age, status in [(None, 200), (10 * MINUTE, 200), (10 * MINUTE + 1, 503), (0, 200)]:
            if age is not None:
                write_file(seen, msgspec.json.encode(Pulled(at=gate.hand.at - age, version="x")))
            await gate.app.tick()
            async with gate.client.get("/readyz") as answer:
                assert answer.status == status
        write_file(seen, b"{")
        await gate.app.tick()
        async with gate.client.get("/readyz") as answer:
            assert "not compared" in await answer.text()


async def test_pull_over_https_repeats_until_sigterm(job: JobWorld) -> None:
    context: ssl.SSLContext = await asyncio.to_thread(make_certificate, job.folder)
    app = web.Application()
    app.router.add_static("/snapshots/", job.plan.snapshots)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}/snapshots/"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "registry_sync.cli", "pull", "--from", url, "--snapshots", job.folder / "far",
        "--key", public(job), "--ca-file", job.folder / "ca.pem", "--every", "0.05", "--json",
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    first = msgspec.json.decode(await process.stdout.readline())
    assert (first["version"], first["fetched"]) == (read_manifest(job.plan.snapshots).version, 1)
    job.clock.at += 13 * DAY
    await job.run_once()
    await job.answer_and_run()
    second = msgspec.json.decode(await process.stdout.readline())
    assert second["version"] == read_manifest(job.plan.snapshots).version
    process.terminate()
    await process.communicate()
    await runner.cleanup()
    assert process.returncode == 0
