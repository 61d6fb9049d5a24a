"""Every record is delivered to the stream once, as stored and in order, and no call waits for it."""

import asyncio
import os
import random
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from dialgate.config.loader import load
from dialgate.config.shipping import StreamTo
from dialgate.crypto.keys import Keys
from dialgate.decision_log import archive, chains, durable
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.durable import publish_durable
from dialgate.observability import service_log
from dialgate.shipping.cursor import Cursors
from dialgate.shipping.redis_stream import StreamShipping
from dialgate.shipping.shipper import Shipper
from tests.support import redis_servers
from tests.support.commands import run_command
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.redis_servers import PASSWORD, SHIPPER, Node, node
from tests.support.sample_log import NOW
from tests.support.shipping_world import NUMBERS, both, files, list_closed_segments, write_log
from tests.support.world import CALL, CLEAR, LISTED, World, write_folder

KILLS = int(os.environ.get("DIALGATE_SHIPPING_KILLS", "2"))


@pytest.fixture
def name() -> str:
    """Return a stream name that no other test uses."""
    return f"t{random.getrandbits(40):x}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    both(tmp_path / "data")
    return tmp_path / "data"


def shipper_url() -> str:
    """Return a URL for a user with the rights in docs/how-to/ship-decisions.md. Consumers use the default user."""
    return as_shipper(redis_servers.alone())


def as_shipper(url: str) -> str:
    return url.replace(f"//{redis_servers.USER}:", f"//{SHIPPER}:")


def new_shipping(data: Path, url: str, name: str, *, keep: int = 1_000_000) -> StreamShipping:
    (data / "shipping").mkdir(exist_ok=True)
    cursors = Cursors(data / "shipping" / "stream.json", url)
    return StreamShipping(data, "gate", StreamTo(url=url, name=name, keep=keep), url, cursors)


async def deliver_all(data: Path, url: str, name: str, **more: Any) -> StreamShipping:
    """Deliver everything with a new shipper, and close it."""
    shipper = new_shipping(data, url, name, **more)
    while await shipper.round():
        pass
    await shipper.close()
    return shipper


def consumer(url: str) -> Any:
    return Redis.from_url(url.replace(f"{SHIPPER}:{PASSWORD}@", ""), socket_timeout=30)


async def stream(url: str, name: str, log: str) -> list[tuple[int, str, bytes]]:
    """Return the sequence number, hash and body of each entry that a consumer reads."""
    client = consumer(url)
    entries = await client.xrange(f"{{{name}}}:decisions:{log}")
    await client.aclose()
    return [
        (int(entry_id.partition(b"-")[0]), fields[b"hash"].decode(), fields[b"entry"])
        for entry_id, fields in entries
    ]


def log_of(data: Path, worker: int = 1) -> str:
    return Keys.open(data / "keys.json", worker).log


def stored_lines(data: Path, worker: int = 1) -> list[tuple[int, str, bytes]]:
    lines = archive.Segments(chains.folder(data, worker)).lines()
    return [(line.seq, line.hash, line.body) for line in lines]


# ---- content -------------------------------------------------------------------------------------------------------------


async def test_every_record_of_every_worker_is_delivered_once_in_order_as_stored(
    data: Path, name: str
) -> None:
    shipper = await deliver_all(data, shipper_url(), name)
    for worker in (1, 2):
        delivered = await stream(shipper_url(), name, log_of(data, worker))
        assert delivered == stored_lines(data, worker)
        assert [seq for seq, _, _ in delivered] == list(range(1, len(delivered) + 1))
        assert (shipper.standings[worker].behind, shipper.standings[worker].last) == (0, len(delivered))
    client = consumer(shipper_url())
    names = await client.hgetall(f"{{{name}}}:decisions")
    await client.aclose()
    assert names == {log_of(data, worker).encode(): f"gate/{worker}".encode() for worker in (1, 2)}


async def test_the_stream_contains_no_number(data: Path, name: str) -> None:
    await deliver_all(data, shipper_url(), name)
    for worker in (1, 2):
        bodies = b"\n".join(body for _, _, body in await stream(shipper_url(), name, log_of(data, worker)))
        assert bodies.count(b'"sealed":') == 120
        assert [number for number in NUMBERS if number[3:].encode() in bodies] == []


async def test_records_not_on_disk_are_not_delivered(data: Path, name: str) -> None:
    """A crash could lose a record that is not on disk, and a new record could get the same sequence number."""
    whole = durable(data / "log")
    publish_durable(data / "log", whole - 7)
    shipper = await deliver_all(data, shipper_url(), name)
    assert len(await stream(shipper_url(), name, log_of(data))) == whole - 7
    assert shipper.standings[1].behind == 0
    publish_durable(data / "log", whole)
    await deliver_all(data, shipper_url(), name)
    assert await stream(shipper_url(), name, log_of(data)) == stored_lines(data)


@pytest.mark.parametrize(
    "said", [b"", b"7", b"7 8\n", b"00000000000000000007 00000000000000000070\n", b"x y\n"]
)
def test_a_half_written_durable_position_is_ignored(tmp_path: Path, said: bytes) -> None:
    (tmp_path / ".durable").write_bytes(said)
    assert durable(tmp_path) == 0
    publish_durable(tmp_path, 7)
    assert durable(tmp_path) == 7


async def test_a_gate_publishes_how_far_its_log_is_durable(running: World, name: str) -> None:
    for number in (CLEAR, LISTED):
        async with running.client.post("/v1/check", json={**CALL, "to": number}) as answer:
            assert answer.status == 200
    data = running.app.config.data
    await running.app.tick()
    assert durable(data / "log") == len(stored_lines(data)) > 0
    await deliver_all(data, shipper_url(), name)
    assert await stream(shipper_url(), name, log_of(data)) == stored_lines(data)


async def test_the_stream_keeps_about_the_configured_number_of_records(tmp_path: Path, name: str) -> None:
    write_log(tmp_path / "data", 3_000)
    await deliver_all(tmp_path / "data", shipper_url(), name, keep=1_000)
    delivered = await stream(shipper_url(), name, log_of(tmp_path / "data"))
    assert 1_000 <= len(delivered) < 1_200
    assert delivered[-1] == stored_lines(tmp_path / "data")[-1]


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_sentinel_and_cluster_work_too(data: Path, name: str, kind: str) -> None:
    url = as_shipper(
        redis_servers.shared_sentinels() if kind == "sentinel" else redis_servers.shared_cluster()
    )
    shipper = await deliver_all(data, url, name)
    assert [standing.problem for standing in shipper.standings.values()] == ["", ""]
    assert {standing.behind for standing in shipper.standings.values()} == {0}
    again = await deliver_all(data, url, name)
    assert again.standings[1].last == len(stored_lines(data))


# ---- continuing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", ["kept", "lost", "damaged", "old"])
async def test_a_restart_continues_where_the_stream_ends(data: Path, name: str, cursor: str) -> None:
    path = data / "shipping" / "stream.json"
    whole = durable(data / "log")
    publish_durable(data / "log", 40)
    await deliver_all(data, shipper_url(), name)
    old = path.read_bytes()
    publish_durable(data / "log", 80)
    await deliver_all(data, shipper_url(), name)
    if cursor == "lost":
        path.unlink()
    elif cursor == "damaged":
        path.write_bytes(b"{")
    elif cursor == "old":
        path.write_bytes(old)
    publish_durable(data / "log", whole)
    await deliver_all(data, shipper_url(), name)
    for worker in (1, 2):
        assert await stream(shipper_url(), name, log_of(data, worker)) == stored_lines(data, worker)


async def test_a_log_that_is_written_and_packed_concurrently_is_followed(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    folder = write_log(data, packed=False)
    shipper = new_shipping(data, shipper_url(), name)
    for packing in (False, True, False, True):
        while await shipper.round():
            pass
        if packing:
            for segment in list_closed_segments(folder):
                if segment.suffix == ".ndjson":
                    pack(segment)
        write_log(data, 50, packed=False)
    while await shipper.round():
        pass
    await shipper.close()
    assert await stream(shipper_url(), name, log_of(data)) == stored_lines(data)


async def test_delivery_catches_up_after_redis_was_down(tmp_path: Path, name: str, redis: Node) -> None:
    data, url = tmp_path / "data", url_of(redis)
    write_log(data)
    shipper = new_shipping(data, url, name)
    while await shipper.round():
        pass
    redis.kill()
    write_log(data)
    assert not await shipper.round()
    assert shipper.standings[1].problem
    assert (shipper.standings[1].behind, shipper.standings[1].refused) == (
        len(stored_lines(data)) - shipper.standings[1].last,
        False,
    )
    assert shipper.standings[1].since >= NOW
    redis.restart()
    while await shipper.round():
        pass
    await shipper.close()
    assert (shipper.standings[1].problem, shipper.standings[1].behind) == ("", 0)
    assert await stream(url, name, log_of(data)) == stored_lines(data)


@pytest.fixture
async def redis() -> AsyncIterator[Node]:
    server = node()
    yield server
    if server.process is not None:
        server.kill()


def url_of(redis: Node) -> str:
    return f"redis://{SHIPPER}:{PASSWORD}@127.0.0.1:{redis.port}/0"


async def test_records_lost_in_a_failover_are_delivered_again(data: Path, name: str) -> None:
    """The new master has fewer records than the old one acknowledged."""
    shipper = new_shipping(data, shipper_url(), name)
    while await shipper.round():
        pass
    whole = await stream(shipper_url(), name, log_of(data))
    client = consumer(shipper_url())
    key = f"{{{name}}}:decisions:{log_of(data)}"
    await client.delete(key)
    for seq, own, body in whole[:50]:
        await client.xadd(key, {"hash": own, "entry": body}, f"{seq}-0")
    await client.aclose()
    write_log(data, 10)
    while await shipper.round():
        pass
    await shipper.close()
    assert await stream(shipper_url(), name, log_of(data)) == stored_lines(data)


async def test_a_deleted_stream_is_refilled_with_as_many_records_as_it_kept(
    tmp_path: Path, name: str
) -> None:
    data = tmp_path / "data"
    write_log(data, 2_000)
    shipper = new_shipping(data, shipper_url(), name, keep=1_000)
    while await shipper.round():
        pass
    client = consumer(shipper_url())
    await client.delete(f"{{{name}}}:decisions:{log_of(data)}")
    await client.aclose()
    write_log(data, 10)
    while await shipper.round():
        pass
    await shipper.close()
    assert (await stream(shipper_url(), name, log_of(data)))[-1_000:] == stored_lines(data)[-1_000:]


async def test_a_new_redis_gets_the_whole_log(data: Path, name: str, redis: Node) -> None:
    await deliver_all(data, shipper_url(), name)
    await deliver_all(data, url_of(redis), name)
    assert await stream(url_of(redis), name, log_of(data)) == stored_lines(data)


async def test_no_kill_loses_or_duplicates_a_record(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    both(data, 1_000)
    wholes = {worker: durable(chains.folder(data, worker)) for worker in (1, 2)}
    shipping = {"stream": {"url": shipper_url(), "name": name}}
    config = write_folder(tmp_path / "config", data=str(data), shipping=shipping)
    words = [sys.executable, "-m", "dialgate", "ship", "--config", str(config)]
    client, key = consumer(shipper_url()), f"{{{name}}}:decisions:{log_of(data)}"
    reached = set[int]()
    for turn in range(1, KILLS + 1):
        for worker, whole in wholes.items():  # a longer part in each run
            publish_durable(chains.folder(data, worker), whole * turn // KILLS)
        process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=DEVNULL, stderr=PIPE)
        assert process.stderr is not None
        await process.stderr.readline()  # it has started
        if turn % 2 == 0:  # part of this run has been delivered
            assert await client.xread({key: f"{max(reached)}-0"}, block=20_000)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), random.random() * 0.05 * turn)  # slow on a busy machine
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        delivered = await stream(shipper_url(), name, log_of(data))
        reached.add(delivered[-1][0] if delivered else 0)
    await client.aclose()
    assert len(reached) > 1
    done = await asyncio.to_thread(run_command, "dialgate", "ship", "--once", "--config", config)
    assert done.code == 0
    for worker in (1, 2):
        assert await stream(shipper_url(), name, log_of(data, worker)) == stored_lines(data, worker)


async def test_the_command_follows_a_growing_log_until_it_is_stopped(tmp_path: Path, name: str) -> None:
    data, share = tmp_path / "data", tmp_path / "share"
    share.mkdir()
    write_log(data)
    shipping = {"to": str(share), "stream": {"url": shipper_url(), "name": name}, "textfile": "ship.prom"}
    config = write_folder(tmp_path / "config", data=str(data), shipping=shipping)
    words = [sys.executable, "-m", "dialgate", "ship", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL)
    client = consumer(shipper_url())
    key, seen = f"{{{name}}}:decisions:{log_of(data)}", list[int]()
    try:
        for more in (0, 60, 60):
            if more:
                write_log(data, more)
            while len(seen) < durable(data / "log"):
                ((_, entries),) = await client.xread({key: f"{seen[-1] if seen else 0}-0"}, block=20_000)
                seen += [int(entry_id.partition(b"-")[0]) for entry_id, _ in entries]
    finally:
        process.terminate()
        await client.aclose()
    assert await process.wait() == 0
    assert seen == list(range(1, durable(data / "log") + 1))
    text = (tmp_path / "config" / "ship.prom").read_text()
    found = re.search(r'dialgate_shipping_records\{to="stream",worker="1"\} (\d+)', text)
    assert found is not None
    assert seen[-1] - 120 <= int(found[1]) <= seen[-1]  # what was sent last may be read before it is counted
    assert 'dialgate_shipping_behind_seconds{to="stream",worker="1"}' in text


# ---- refusals ------------------------------------------------------------------------------------------------------------


async def test_a_truncated_log_is_refused(data: Path, name: str) -> None:
    await deliver_all(data, shipper_url(), name)
    publish_durable(data / "log", 50)
    shipper = await deliver_all(data, shipper_url(), name)
    assert shipper.standings[1].refused
    assert "was truncated" in shipper.standings[1].problem
    assert (shipper.standings[2].problem, shipper.standings[2].behind) == ("", 0)


async def test_a_new_log_with_the_same_name_is_refused(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    write_log(data)
    await deliver_all(data, shipper_url(), name)
    for path in (data / "log").iterdir():
        path.unlink()
    write_log(data, 200)
    shipper = await deliver_all(data, shipper_url(), name)
    assert shipper.standings[1].refused
    assert "was replaced" in shipper.standings[1].problem
    (data / "shipping" / "stream.json").unlink()
    for path in (data / "log").iterdir():
        path.unlink()
    write_log(data, 5)
    shipper = await deliver_all(data, shipper_url(), name)
    assert shipper.standings[1].refused, "the stream itself shows it without a cursor"
    assert "the stream for log" in shipper.standings[1].problem


async def test_records_deleted_before_delivery_are_counted(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    write_log(data)
    await deliver_all(data, shipper_url(), name)
    last = durable(data / "log")
    write_log(data, 400)
    deleted = list_closed_segments(data / "log")[:3]
    for path in deleted:
        path.unlink()
    first = archive.segments(data / "log")[0][0]
    service_log.configure()
    shipper = await deliver_all(data, shipper_url(), name)
    assert shipper.standings[1].missed == first - last - 1 > 0
    assert (shipper.standings[1].problem, shipper.standings[1].behind) == ("", 0)
    assert "records were deleted" in capsys.readouterr().err
    delivered = [seq for seq, _, _ in await stream(shipper_url(), name, log_of(data))]
    assert delivered == [*range(1, last + 1), *range(first, durable(data / "log") + 1)]
    again = await deliver_all(data, shipper_url(), name)
    assert again.standings[1].missed == shipper.standings[1].missed, "it is still reported after a restart"


async def test_a_bad_url_is_reported_without_its_password(data: Path, tmp_path: Path) -> None:
    url_file = tmp_path / "url"
    url_file.write_text(f"redis://:very-secret@127.0.0.1:{free_port()}/0\n")
    config = write_folder(
        tmp_path / "config", data=str(data), shipping={"stream": {"url_file": str(url_file)}}
    )
    shipper = Shipper(load(config), lambda: NOW)
    assert not await shipper.once()
    problems = [standing.problem for standing in shipper.standings().values()]
    assert len(problems) == 2
    assert all(problems)
    assert "very-secret" not in str(problems)
    before = files(data)
    assert any(name.startswith("log/") for name in before)
    assert not any(b"very-secret" in content for content in before.values())
