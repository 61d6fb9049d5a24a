"""From one publisher to many nodes: a copy is whole, signed and never older than what it replaces, or it is not taken."""

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

from dialgate.core.model import DAY, MINUTE
from dialgate.crypto.publisher_signature import Signer
from dialgate.lists.number_set import DamagedFile
from dialgate.lists.snapshot import MANIFEST, PULLED, Pulled, Snapshot, read_manifest
from dialgate.runtime.atomic_write import write_file
from registry_sync import config, nightly_job
from registry_sync.import_checks import Refused
from registry_sync.publication import Press
from registry_sync.simulator import enrolled
from tests.registry_sync.test_registry_sources import certificate
from tests.support import world
from tests.support.registry_world import NUMBERS, Night, load_list
from tests.support.world import NOW

CLEAR = next(number for number in NUMBERS if not enrolled(number[3:]))


class Node:
    def __init__(self, night: Night) -> None:
        self.press = Press(folder=night.folder / "node")
        self.source = config.FolderSource(inbox=str(night.plan.snapshots), settle_seconds=0)

    async def pull(self, key: str = "") -> str:
        return (await nightly_job.pull(self.source, self.press, key)).version

    def held(self) -> dict[str, bytes]:
        found = self.press.folder.glob("*.*[!k]")
        return {path.name: path.read_bytes() for path in found if path.name != PULLED}


@pytest.fixture
async def night(tmp_path: Path) -> Night:
    made = Night(tmp_path)
    private = Ed25519PrivateKey.generate()
    write_file(
        tmp_path / "signing.pem", private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "signing.pem").chmod(0o600)
    made.configure(signing_key_file="signing.pem")
    await load_list(made)
    await made.part()
    await made.night()
    return made


def public(night: Night) -> str:
    return Signer.open(night.folder / "signing.pem").public


async def test_a_node_has_what_is_published_and_only_fetches_what_is_new(night: Night) -> None:
    node = Node(night)
    assert await node.pull(public(night)) == read_manifest(night.plan.snapshots).version
    assert node.held() == night.published()
    done = await nightly_job.pull(node.source, node.press, public(night))
    assert done.fetched == 0
    assert (
        Snapshot.open(node.press.folder, public(night)).answer("rpo", "acme", int(CLEAR[1:])).answer
        == "clear"
    )


def _cut(night: Night) -> None:
    (path,) = night.plan.snapshots.glob("*.numbers")
    path.write_bytes(path.read_bytes()[:-1])


def _other_contents(night: Night) -> None:
    """A good set under the name of another."""
    (path,) = night.plan.snapshots.glob("*.numbers")
    world.publish_answers(night.folder / "elsewhere", {CLEAR: True}, NOW)
    (other,) = (night.folder / "elsewhere").rglob("*.numbers")
    path.write_bytes(other.read_bytes())


def _later(night: Night) -> None:
    """Signed things changed."""
    path = night.plan.snapshots / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"published_at": 17', b'"published_at": 18'))


def _path_outside(night: Night) -> None:
    path = night.plan.snapshots / MANIFEST
    manifest = read_manifest(night.plan.snapshots)
    files = tuple(msgspec.structs.replace(file, file="../x.numbers") for file in manifest.files)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))


SPOILT = {
    _cut: (DamagedFile, "truncated"),
    _other_contents: (DamagedFile, "its sha256 differs"),
    _later: (Refused, "not signed with the key"),
    _path_outside: (Refused, "not signed with the key"),
    lambda night: (night.plan.snapshots / MANIFEST).write_bytes(b"{"): (DamagedFile, "not a manifest"),
}


@pytest.mark.parametrize("spoil", SPOILT)
async def test_what_is_damaged_or_not_signed_is_not_taken(night: Night, spoil: object) -> None:
    node = Node(night)
    await node.pull(public(night))
    before = node.held()
    (path,) = node.press.folder.glob("*.numbers")
    path.rename(night.folder / path.name)  # so that it has to be fetched
    assert callable(spoil)
    spoil(night)
    kind, fault = SPOILT[spoil]
    with pytest.raises(kind, match=fault):
        await node.pull(public(night))
    (night.folder / path.name).rename(path)
    assert node.held() == before


async def test_a_manifest_that_leads_outside_the_folder_is_refused_signed_or_not(night: Night) -> None:
    _path_outside(night)
    with pytest.raises(Refused, match="no set of numbers"):
        await Node(night).pull()


async def test_an_old_publication_is_not_taken_for_new(night: Night) -> None:
    """Whoever replays it, signed as it is, would free those who enrolled since."""
    node = Node(night)
    old = {path: path.read_bytes() for path in night.plan.snapshots.iterdir() if path.is_file()}
    night.hand.at += 13 * DAY
    await night.part()
    await night.night()
    await node.pull(public(night))
    before = node.held()
    for path, content in old.items():
        path.write_bytes(content)
    with pytest.raises(Refused, match="an old one is not taken for new"):
        await node.pull(public(night))
    assert node.held() == before


async def test_a_gate_serves_only_what_its_key_signed(tmp_path: Path, night: Night) -> None:
    home = tmp_path / "gate"
    home.mkdir()
    async with world.running(home, snapshot_key=public(night)) as made:
        await made.app.tick()
        async with made.client.get("/readyz") as answer:
            assert "not signed with the key" in await answer.text()
        node = Node(night)
        node.press = Press(folder=home / "data" / "snapshots")
        for path in node.press.folder.iterdir():
            path.unlink()
        made.hand.at += MINUTE
        await node.pull(public(night))
        await made.app.tick()
        async with made.client.get("/readyz") as answer:
            assert "signed" not in await answer.text()


async def test_a_node_that_has_not_looked_for_too_long_is_not_ready(tmp_path: Path) -> None:
    async with world.running(tmp_path, snapshot_behind_minutes=10) as made:
        seen = tmp_path / "data" / "snapshots" / PULLED
        for age, status in [(None, 200), (10 * MINUTE, 200), (10 * MINUTE + 1, 503), (0, 200)]:
            if age is not None:
                write_file(seen, msgspec.json.encode(Pulled(at=made.hand.at - age, version="x")))
            await made.app.tick()
            async with made.client.get("/readyz") as answer:
                assert answer.status == status
        write_file(seen, b"{")
        await made.app.tick()
        async with made.client.get("/readyz") as answer:
            assert "not compared" in await answer.text()


async def test_a_node_pulls_over_https_by_the_command_until_it_is_told_to_stop(night: Night) -> None:
    context: ssl.SSLContext = await asyncio.to_thread(certificate, night.folder)
    app = web.Application()
    app.router.add_static("/snapshots/", night.plan.snapshots)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}/snapshots/"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "registry_sync.cli", "pull", "--from", url, "--snapshots", night.folder / "far",
        "--key", public(night), "--ca-file", night.folder / "ca.pem", "--every", "0.05", "--json",
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    first = msgspec.json.decode(await process.stdout.readline())
    assert (first["version"], first["fetched"]) == (read_manifest(night.plan.snapshots).version, 1)
    night.hand.at += 13 * DAY
    await night.part()
    await night.night()
    second = msgspec.json.decode(await process.stdout.readline())
    assert second["version"] == read_manifest(night.plan.snapshots).version
    process.terminate()
    await process.communicate()
    await runner.cleanup()
    assert process.returncode == 0
