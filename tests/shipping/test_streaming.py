"""Promise: every record reaches the stream, as stored, in the order of its log and once; and no call waits for that."""

import asyncio
import os
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from dialgate.config.loader import load
from dialgate.config.shipping import StreamTo
from dialgate.crypto.keys import Keys
from dialgate.decision_log import archive, chains, durable, entries
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.durable import publish_durable
from dialgate.observability import service_log
from dialgate.shipping.cursor import Cursors
from dialgate.shipping.shipper import Shipper
from dialgate.shipping.stream import StreamShipping
from tests.support import redis_servers
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.redis_servers import PASSWORD, SHIPPER, Node, node
from tests.support.sample_log import NOW
from tests.support.shipping_world import NUMBERS, both, closed, files, written
from tests.support.world import CALL, CLEAR, LISTED, World, write_folder

KILLS = int(os.environ.get("DIALGATE_SHIPPING_KILLS", "5"))


@pytest.fixture
def name() -> str:
    """Of streams that no other test has."""
    return f"t{random.getrandbits(40):x}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    both(tmp_path / "data")
    return tmp_path / "data"


def alone() -> str:
    """As the shipper's user, who may do what docs/how-to/ship-decisions.md lists; a consumer is the server's usual one."""
    return as_shipper(redis_servers.alone())


def as_shipper(url: str) -> str:
    return url.replace(f"//{redis_servers.USER}:", f"//{SHIPPER}:")


def streaming(data: Path, url: str, name: str, *, keep: int = 1_000_000) -> StreamShipping:
    (data / "shipping").mkdir(exist_ok=True)
    cursors = Cursors(data / "shipping" / "stream.json", url)
    return StreamShipping(data, "gate", StreamTo(url=url, name=name, keep=keep), url, cursors)


async def told(data: Path, url: str, name: str, **more: Any) -> StreamShipping:
    """All that is due, by a shipper of its own, which is ended."""
    made = streaming(data, url, name, **more)
    while await made.round():
        pass
    await made.close()
    return made


def consumer(url: str) -> Any:
    return Redis.from_url(url.replace(f"{SHIPPER}:{PASSWORD}@", ""), socket_timeout=30)


async def stream(url: str, name: str, log: str) -> list[tuple[int, str, bytes]]:
    """Sequence, hash and body of what a consumer reads."""
    client = consumer(url)
    found = await client.xrange(f"{{{name}}}:decisions:{log}")
    await client.aclose()
    return [
        (int(each.partition(b"-")[0]), fields[b"hash"].decode(), fields[b"entry"]) for each, fields in found
    ]


def log_of(data: Path, worker: int = 1) -> str:
    return Keys.open(data / "keys.json", worker).log


def stored(data: Path, worker: int = 1) -> list[tuple[int, str, bytes]]:
    lines = archive.Segments(chains.folder(data, worker)).lines()
    return [(line.seq, line.hash, line.body) for line in lines]


# ---- what is there -------------------------------------------------------------------------------------------------------


async def test_every_record_of_every_worker_is_there_as_stored_in_its_order_and_once(
    data: Path, name: str
) -> None:
    made = await told(data, alone(), name)
    for worker in (1, 2):
        found = await stream(alone(), name, log_of(data, worker))
        assert found == stored(data, worker)
        assert [seq for seq, _, _ in found] == list(range(1, len(found) + 1))
        assert (made.standings[worker].behind, made.standings[worker].last) == (0, len(found))
    client = consumer(alone())
    names = await client.hgetall(f"{{{name}}}:decisions")
    await client.aclose()
    assert names == {log_of(data, worker).encode(): f"gate/{worker}".encode() for worker in (1, 2)}


async def test_no_number_is_in_it(data: Path, name: str) -> None:
    await told(data, alone(), name)
    for worker in (1, 2):
        bodies = b"\n".join(body for _, _, body in await stream(alone(), name, log_of(data, worker)))
        assert bodies.count(b'"sealed":') == 120
        assert [number for number in NUMBERS if number[3:].encode() in bodies] == []


async def test_a_segments_records_follow_from_one_another(data: Path, name: str) -> None:
    """So a consumer can tell that none was changed, but for the headers between segments."""
    await told(data, alone(), name)
    found = await stream(alone(), name, log_of(data))
    firsts = {first for first, _ in archive.segments(data / "log")}
    linked = [each for each in pairwise(found) if each[1][0] not in firsts]
    assert len(linked) == len(found) - len(firsts) > 100
    assert [own for _, (_, own, _) in linked] == [
        sha256(bytes.fromhex(before) + body).hexdigest() for (_, before, _), (_, _, body) in linked
    ]


async def test_what_is_not_on_the_disk_yet_is_not_told(data: Path, name: str) -> None:
    """It could still be lost, and another record get its number."""
    whole = durable(data / "log")
    publish_durable(data / "log", whole - 7)
    made = await told(data, alone(), name)
    assert len(await stream(alone(), name, log_of(data))) == whole - 7
    assert made.standings[1].behind == 0
    publish_durable(data / "log", whole)
    await told(data, alone(), name)
    assert await stream(alone(), name, log_of(data)) == stored(data)


@pytest.mark.parametrize(
    "said", [b"", b"7", b"7 8\n", b"00000000000000000007 00000000000000000070\n", b"x y\n"]
)
def test_a_position_that_is_just_being_written_is_not_believed(tmp_path: Path, said: bytes) -> None:
    (tmp_path / ".durable").write_bytes(said)
    assert durable(tmp_path) == 0
    publish_durable(tmp_path, 7)
    assert durable(tmp_path) == 7


async def test_a_gate_says_how_far_its_log_is_on_the_disk(running: World, name: str) -> None:
    for number in (CLEAR, LISTED):
        async with running.client.post("/v1/check", json={**CALL, "to": number}) as answer:
            assert answer.status == 200
    data = running.app.config.data
    await running.app.tick()
    assert durable(data / "log") == len(list(entries(data / "log"))) > 0
    await told(data, alone(), name)
    assert await stream(alone(), name, log_of(data)) == stored(data)


async def test_it_keeps_about_as_many_as_it_is_told_to(tmp_path: Path, name: str) -> None:
    written(tmp_path / "data", 3_000)
    await told(tmp_path / "data", alone(), name, keep=1_000)
    found = await stream(alone(), name, log_of(tmp_path / "data"))
    assert 1_000 <= len(found) < 1_200
    assert found[-1] == stored(tmp_path / "data")[-1]


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_sentinel_and_cluster_serve_as_well(data: Path, name: str, kind: str) -> None:
    url = as_shipper(
        redis_servers.shared_sentinels() if kind == "sentinel" else redis_servers.shared_cluster()
    )
    made = await told(data, url, name)
    assert [each.problem for each in made.standings.values()] == ["", ""]
    assert {each.behind for each in made.standings.values()} == {0}
    again = await told(data, url, name)
    assert again.standings[1].last == len(stored(data))


# ---- going on ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", ["kept", "lost", "damaged", "old"])
async def test_a_restart_goes_on_where_the_stream_ends(data: Path, name: str, cursor: str) -> None:
    path = data / "shipping" / "stream.json"
    whole = durable(data / "log")
    publish_durable(data / "log", 40)
    await told(data, alone(), name)
    old = path.read_bytes()
    publish_durable(data / "log", 80)
    await told(data, alone(), name)
    if cursor == "lost":
        path.unlink()
    elif cursor == "damaged":
        path.write_bytes(b"{")
    elif cursor == "old":
        path.write_bytes(old)
    publish_durable(data / "log", whole)
    await told(data, alone(), name)
    for worker in (1, 2):
        assert await stream(alone(), name, log_of(data, worker)) == stored(data, worker)


async def test_a_log_that_grows_and_is_packed_meanwhile_is_followed(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    folder = written(data, packed=False)
    made = streaming(data, alone(), name)
    for packing in (False, True, False, True):
        while await made.round():
            pass
        if packing:
            for segment in closed(folder):
                if segment.suffix == ".ndjson":
                    pack(segment)
        written(data, 50, packed=False)
    while await made.round():
        pass
    await made.close()
    assert await stream(alone(), name, log_of(data)) == stored(data)


async def test_a_redis_that_is_away_is_caught_up_with(tmp_path: Path, name: str, redis: Node) -> None:
    data, url = tmp_path / "data", url_of(redis)
    written(data)
    made = streaming(data, url, name)
    while await made.round():
        pass
    redis.kill()
    written(data)
    assert not await made.round()
    assert made.standings[1].problem
    assert (made.standings[1].behind, made.standings[1].refused) == (
        len(stored(data)) - made.standings[1].last,
        False,
    )
    assert made.standings[1].since >= NOW
    redis.restart()
    while await made.round():
        pass
    await made.close()
    assert (made.standings[1].problem, made.standings[1].behind) == ("", 0)
    assert await stream(url, name, log_of(data)) == stored(data)


@pytest.fixture
async def redis() -> AsyncIterator[Node]:
    made = node()
    yield made
    if made.process is not None:
        made.kill()


def url_of(redis: Node) -> str:
    return f"redis://{SHIPPER}:{PASSWORD}@127.0.0.1:{redis.port}/0"


async def test_what_a_failover_lost_is_told_again(data: Path, name: str) -> None:
    """The new master has less than the old one acknowledged."""
    made = streaming(data, alone(), name)
    while await made.round():
        pass
    whole = await stream(alone(), name, log_of(data))
    client = consumer(alone())
    key = f"{{{name}}}:decisions:{log_of(data)}"
    await client.delete(key)
    for seq, own, body in whole[:50]:
        await client.xadd(key, {"hash": own, "entry": body}, f"{seq}-0")
    await client.aclose()
    written(data, 10)
    while await made.round():
        pass
    await made.close()
    assert await stream(alone(), name, log_of(data)) == stored(data)


async def test_of_a_stream_that_is_gone_as_much_is_told_again_as_it_held(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    written(data, 2_000)
    made = streaming(data, alone(), name, keep=1_000)
    while await made.round():
        pass
    client = consumer(alone())
    await client.delete(f"{{{name}}}:decisions:{log_of(data)}")
    await client.aclose()
    written(data, 10)
    while await made.round():
        pass
    await made.close()
    assert (await stream(alone(), name, log_of(data)))[-1_000:] == stored(data)[-1_000:]


async def test_another_redis_gets_the_whole_log(data: Path, name: str, redis: Node) -> None:
    await told(data, alone(), name)
    await told(data, url_of(redis), name)
    assert await stream(url_of(redis), name, log_of(data)) == stored(data)


async def test_killed_at_any_point_no_record_is_missing_or_there_twice(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    both(data, 1_000)
    wholes = {worker: durable(chains.folder(data, worker)) for worker in (1, 2)}
    shipping = {"stream": {"url": alone(), "name": name}}
    config = write_folder(tmp_path / "config", data=str(data), shipping=shipping)
    words = [sys.executable, "-m", "dialgate", "ship", "--config", str(config)]
    client, key = consumer(alone()), f"{{{name}}}:decisions:{log_of(data)}"
    reached = set[int]()
    for turn in range(1, KILLS + 1):
        for worker, whole in wholes.items():  # some of it more in each turn
            publish_durable(chains.folder(data, worker), whole * turn // KILLS)
        process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=DEVNULL, stderr=PIPE)
        assert process.stderr is not None
        await process.stderr.readline()  # it has begun
        if turn % 2 == 0:  # some of this turn has come
            assert await client.xread({key: f"{max(reached)}-0"}, block=20_000)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), random.random() * 0.05 * turn)  # a busy machine is slow
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        found = await stream(alone(), name, log_of(data))
        reached.add(found[-1][0] if found else 0)
    await client.aclose()
    assert len(reached) > 1
    done = await asyncio.create_subprocess_exec(*words, "--once", cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL)
    assert await done.wait() == 0
    for worker in (1, 2):
        assert await stream(alone(), name, log_of(data, worker)) == stored(data, worker)


async def test_it_follows_a_log_that_grows_until_it_is_told_to_end(tmp_path: Path, name: str) -> None:
    data, share = tmp_path / "data", tmp_path / "share"
    share.mkdir()
    written(data)
    shipping = {"to": str(share), "stream": {"url": alone(), "name": name}, "textfile": "ship.prom"}
    config = write_folder(tmp_path / "config", data=str(data), shipping=shipping)
    words = [sys.executable, "-m", "dialgate", "ship", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL)
    client = consumer(alone())
    key, seen = f"{{{name}}}:decisions:{log_of(data)}", list[int]()
    try:
        for more in (0, 60, 60):
            if more:
                written(data, more)
            while len(seen) < durable(data / "log"):
                ((_, entries),) = await client.xread({key: f"{seen[-1] if seen else 0}-0"}, block=20_000)
                seen += [int(each.partition(b"-")[0]) for each, _ in entries]
    finally:
        process.terminate()
        await client.aclose()
    assert await process.wait() == 0
    assert seen == list(range(1, durable(data / "log") + 1))
    text = (tmp_path / "config" / "ship.prom").read_text()
    assert f'dialgate_shipping_records{{to="stream",worker="1"}} {float(seen[-1])}' in text
    assert 'dialgate_shipping_behind_seconds{to="stream",worker="1"} 0.0' in text


# ---- what needs a person -------------------------------------------------------------------------------------------------


async def test_a_log_that_was_cut_is_refused_until_somebody_looks(data: Path, name: str) -> None:
    await told(data, alone(), name)
    publish_durable(data / "log", 50)
    made = await told(data, alone(), name)
    assert made.standings[1].refused
    assert "was cut" in made.standings[1].problem
    assert (made.standings[2].problem, made.standings[2].behind) == ("", 0)


async def test_a_log_that_was_begun_anew_under_its_name_is_refused(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    written(data)
    await told(data, alone(), name)
    for path in (data / "log").iterdir():
        path.unlink()
    written(data, 200)
    made = await told(data, alone(), name)
    assert made.standings[1].refused
    assert "was replaced" in made.standings[1].problem
    (data / "shipping" / "stream.json").unlink()
    for path in (data / "log").iterdir():
        path.unlink()
    written(data, 5)
    made = await told(data, alone(), name)
    assert made.standings[1].refused, "and without a cursor the stream itself shows it"
    assert "the stream of log" in made.standings[1].problem


async def test_records_that_left_the_log_before_they_were_told_are_counted(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    written(data)
    await told(data, alone(), name)
    last = durable(data / "log")
    written(data, 400)
    gone = closed(data / "log")[:3]
    for path in gone:
        path.unlink()
    first = archive.segments(data / "log")[0][0]
    service_log.configure()
    made = await told(data, alone(), name)
    assert made.standings[1].missed == first - last - 1 > 0
    assert (made.standings[1].problem, made.standings[1].behind) == ("", 0)
    assert "records were gone" in capsys.readouterr().err
    found = [seq for seq, _, _ in await stream(alone(), name, log_of(data))]
    assert found == [*range(1, last + 1), *range(first, durable(data / "log") + 1)]
    again = await told(data, alone(), name)
    assert again.standings[1].missed == made.standings[1].missed, "it stays told after a restart"


async def test_a_bad_address_is_said_and_its_password_is_not(data: Path, tmp_path: Path) -> None:
    url_file = tmp_path / "url"
    url_file.write_text(f"redis://:very-secret@127.0.0.1:{free_port()}/0\n")
    config = write_folder(
        tmp_path / "config", data=str(data), shipping={"stream": {"url_file": str(url_file)}}
    )
    shipper = Shipper(load(config), lambda: NOW)
    assert not await shipper.once()
    problems = [each.problem for each in shipper.standings().values()]
    assert len(problems) == 2
    assert all(problems)
    assert "very-secret" not in str(problems)
    kept = files(data)
    assert any(name.startswith("log/") for name in kept)
    assert not any(b"very-secret" in content for content in kept.values())


async def test_what_is_told_can_be_read_as_the_log_is(data: Path, name: str) -> None:
    await told(data, alone(), name)
    bodies = [msgspec.json.decode(body) for _, _, body in await stream(alone(), name, log_of(data))]
    assert {body["type"] for body in bodies} == {"grounds", "decision", "outcome"}
    assert all(body["id"] == f"{log_of(data)}-{body['seq']}" for body in bodies if body["type"] == "decision")
