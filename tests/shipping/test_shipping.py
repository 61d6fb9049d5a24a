"""Tests of the copies of closed log segments that are shipped to a target.

The copies are complete, can be verified without the original log, and are never replaced.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
from aiohttp import web
from msgspec import Struct
from typer.testing import CliRunner

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.config.shipping import Shipping
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import renew
from dialgate.decision_log import archive, signed_checkpoints
from dialgate.decision_log.archive import Segments
from dialgate.decision_log.archive.packing import pack
from dialgate.interfaces.cli import main
from dialgate.shipping.cursor import Cursors
from dialgate.shipping.fetching import fetch
from dialgate.shipping.segments import SegmentShipping
from dialgate.shipping.shipper import shipping_lock
from dialgate.shipping.status import LogProgress, metrics_of
from dialgate.shipping.target import (
    PART,
    Objects,
    StorageRefused,
    Target,
    TargetFailed,
    TargetFolder,
    credentials,
)
from tests.support import shipping_world as of
from tests.support.commands import run_command
from tests.support.damage import flip
from tests.support.sample_log import NOW
from tests.support.shipping_world import (
    ACCESS,
    NUMBERS,
    both,
    bucket,
    die_at,
    fetched,
    files,
    list_closed_segments,
    store,
    write_log,
)
from tests.support.world import write_folder

KILLS = int(os.environ.get("DIALGATE_SHIPPING_KILLS", "3"))


class Place(Struct):
    """A target, and a way to read its content."""

    target: Target
    fetch: Callable[[], Path]
    to: dict[str, Any]


def a_folder(tmp_path: Path) -> Place:
    root = tmp_path / "share"
    root.mkdir()
    return Place(TargetFolder(root), lambda: root, {"to": str(root)})


def objects(given: dict[str, Any], folder: Path, **changes: Any) -> Objects:
    return Objects(msgspec.convert(given | changes, Shipping), folder)


def a_bucket(tmp_path: Path) -> Place:
    name, secret = bucket(), tmp_path / "credentials"
    secret.write_text(
        f"[default]\naws_access_key_id = {ACCESS['access_key_id']}\naws_secret_access_key = {ACCESS['secret_access_key']}\n"
    )
    secret.chmod(0o600)
    to = {"to": f"s3://{name}/proofs", "endpoint": of.s3(), "region": "eu-south-1"}
    to |= {"credentials_file": str(secret)}

    def fetch() -> Path:
        shutil.rmtree(tmp_path / "fetched", ignore_errors=True)
        return fetched(name, tmp_path / "fetched") / "proofs"

    return Place(objects(to, tmp_path), fetch, to)


@pytest.fixture(params=[a_folder, a_bucket], ids=["folder", "objects"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    new_place: Place = request.param(tmp_path)
    return new_place


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Create two logs, each with two closed, packed segments and an open one."""
    both(tmp_path / "data")
    return tmp_path / "data"


def shipping(data: Path, target: Target, *, at_once: bool = False, anew: bool = False) -> SegmentShipping:
    cursors = Cursors(data / "shipping" / "segments.json", "there", restart=anew)
    (data / "shipping").mkdir(exist_ok=True)
    return SegmentShipping(data, "gate", target, cursors, at_once=at_once)


def home(root: Path, data: Path) -> Path:
    return root / "gate" / Keys.open(data / "keys.json").log


def verify_copy(copy: Path, *words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(main.app, ["log", "verify", "--data", str(copy), "--json", *words])
    return done.exit_code, json.loads(done.output)


# ---- the copy ------------------------------------------------------------------------------------------------------------


def test_every_closed_segment_of_every_worker_is_verified_from_the_copy(data: Path, place: Place) -> None:
    assert shipping(data, place.target).round()
    copy = home(place.fetch(), data)
    code, output = verify_copy(copy)
    assert (code, output["ok"]) == (0, True)
    for worker, folder in ((1, data / "log"), (2, data / "log" / "worker-2")):
        report = output["workers"][str(worker)]
        (first, _), last = archive.segments(folder)[-1], Segments(folder).end() - 1
        # What was fetched like any files of a bucket lacks the open segment, which consists of several objects.
        expected = (last, 3) if isinstance(place.target, TargetFolder) else (first - 1, 2)
        assert (report["last"], report["segments"]) == expected
        assert report["covered"] == report["last"]
        assert report["signed"] > 0
        sent = {name for name in files(copy / folder.relative_to(data)) if "/" not in name}
        own = [path.stem for path in list_closed_segments(folder)]
        ends = (".parquet", ".sha256", ".index.npy", ".checkpoints")
        growing = "" if isinstance(place.target, TargetFolder) else f".{0:016}"
        open_ = {f"{first:016}{end}{growing}" for end in (".ndjson", ".checkpoints")}
        assert sent == {f"{stem}{end}" for stem in own for end in ends} | open_


def test_only_public_keys_and_no_numbers_are_shipped(data: Path, place: Place) -> None:
    shipping(data, place.target).round()
    root = place.fetch()
    signing = json.loads((data / "signing.json").read_bytes())["keys"]
    keys = json.loads((data / "keys.json").read_bytes())
    secrets = [keys["subject"], *(key["private"] for key in signing)]
    secrets += [secret for month in keys["months"].values() for secret in month.values()]
    for name, content in files(root).items():
        for secret in (*secrets, *NUMBERS, *(number[3:] for number in NUMBERS)):
            assert secret.encode() not in content, name
    (pem,) = [content for name, content in files(root).items() if name.endswith(".pem")]
    assert pem.startswith(b"-----BEGIN PUBLIC KEY-----")


def test_an_unknown_key_is_named_if_the_own_key_is_given(data: Path, tmp_path: Path) -> None:
    place = a_folder(tmp_path)
    shipping(data, place.target).round()
    copy = home(place.fetch(), data)
    (name,) = [path.stem for path in (copy / "keys").iterdir()]
    assert verify_copy(copy, "--key", name)[0] == 0
    code, report = verify_copy(copy, "--key", "0" * 16, "--log", "1")
    assert code == 1
    assert [fault["kind"] for fault in report["faults"]] == ["wrong_key"]
    (copy / "keys" / f"{name}.pem").rename(copy / "keys" / f"{'0' * 16}.pem")
    done = CliRunner().invoke(main.app, ["log", "verify", "--data", str(copy)])
    assert (
        done.exit_code,
        "the Ed25519 public key that its name identifies" in done.output.replace("\n", " "),
    ) == (1, True)


@pytest.mark.parametrize("end", [".parquet", ".sha256", ".checkpoints"])
@pytest.mark.parametrize("what", ["changed", "removed"])
def test_a_damaged_copy_is_detected_without_the_original(
    data: Path, tmp_path: Path, end: str, what: str
) -> None:
    place = a_folder(tmp_path)
    shipping(data, place.target).round()
    copy = home(place.fetch(), data)
    assert verify_copy(copy)[0] == 0
    path = copy / "log" / f"{list_closed_segments(data / 'log')[0].stem}{end}"
    if what == "removed":
        path.unlink()
    else:
        flip(path)
    assert verify_copy(copy, "--log", "1")[0] == 1
    assert verify_copy(copy, "--log", "2")[0] == 0


def test_a_former_signing_key_is_shipped_too(data: Path, tmp_path: Path) -> None:
    place = a_folder(tmp_path)
    shipping(data, place.target).round()
    renew(data / "signing.json", NOW)
    both(data)
    assert shipping(data, place.target).round()
    copy = home(place.fetch(), data)
    assert len(list((copy / "keys").iterdir())) == 2
    code, report = verify_copy(copy)
    assert (code, report["ok"]) == (0, True)


# ---- order and repetition ------------------------------------------------------------------------------------------------


def test_only_new_segments_are_shipped(data: Path, place: Place) -> None:
    assert shipping(data, place.target).round()
    before = files(place.fetch())
    again = shipping(data, place.target)
    assert again.round()
    assert files(place.fetch()) == before
    both(data)
    assert again.round()
    after = files(place.fetch())
    complete = {name: content for name, content in before.items() if not is_growing(name, before)}
    assert complete.items() < after.items()
    assert verify_copy(home(place.fetch(), data))[0] == 0
    assert {standing.behind for standing in again.standings.values()} == {0}


def is_growing(name: str, names: Iterable[str]) -> bool:
    """Return whether a file belongs to a segment that was open or unpacked."""
    stem, _, _ = name.partition(".")
    return "/log/" in name and f"{stem}.parquet" not in names


def test_the_covered_part_of_an_open_segment_is_shipped_and_later_replaced(
    place: Place, tmp_path: Path
) -> None:
    """The copy grows with each checkpoint. The packed segment takes its place."""
    data = tmp_path / "data"
    folder = write_log(data, 30, packed=False)
    shipper = shipping(data, place.target)
    for _ in range(2):
        assert shipper.round()
        copy = fetched_home(place, data, tmp_path)
        assert [line.body for line in Segments(copy / "log").lines()] == [
            line.body for line in Segments(folder).lines()
        ]
        assert signed_checkpoints(copy / "log")[-1].checkpoint.size == Segments(folder).end() - 1
        assert verify_copy(copy)[0] == 0
        write_log(data, 30, packed=False)
    content = files(fetched_home(place, data, tmp_path) / "log")
    uncovered = folder / f"{1:016}.ndjson"
    with uncovered.open("ab") as file:
        file.write(b'{"hash"')
    assert shipping(data, place.target).round()
    assert files(fetched_home(place, data, tmp_path) / "log") != content
    uncovered.write_bytes(uncovered.read_bytes().removesuffix(b'{"hash"'))
    write_log(data)
    assert shipping(data, place.target).round()
    after = files(fetched_home(place, data, tmp_path) / "log")
    packed = {path.name for path in list_closed_segments(folder)}
    assert packed <= after.keys()
    assert not {name.replace(".parquet", ".ndjson") for name in packed} & after.keys()
    assert verify_copy(fetched_home(place, data, tmp_path))[0] == 0


def fetched_home(place: Place, data: Path, tmp_path: Path) -> Path:
    """Return the copy as another node sees it."""
    if isinstance(place.target, TargetFolder):
        return home(place.fetch(), data)
    assert isinstance(place.target, Objects)
    fetch(place.target, tmp_path / "shipped", {Keys.open(data / "keys.json").log})
    return home(tmp_path / "shipped", data)


def test_a_closed_segment_is_shipped_packed_or_at_once(tmp_path: Path) -> None:
    data, place = tmp_path / "data", a_folder(tmp_path)
    folder = write_log(data, packed=False)
    waiting = shipping(data, place.target)
    assert waiting.round()
    sent = [name for name in files(place.fetch()) if "/log/" in name]
    assert all(is_growing(name, sent) for name in sent)
    assert waiting.standings[1].behind == archive.segments(folder)[-1][0] - 1

    assert shipping(data, place.target, at_once=True).round()
    names = {path.name for path in (home(place.fetch(), data) / "log").iterdir()}
    assert {name for name in names if name.endswith(".ndjson")} == {
        path.name for _, path in archive.segments(folder)
    }
    assert verify_copy(home(place.fetch(), data))[0] == 0

    for segment in list_closed_segments(folder):
        pack(segment)
    write_log(data)
    assert shipping(data, place.target).round()
    suffixes = {path.suffix for path in (home(place.fetch(), data) / "log").iterdir()}
    assert suffixes == {".ndjson", ".parquet", ".npy", ".sha256", ".checkpoints"}
    assert verify_copy(home(place.fetch(), data))[0] == 0


def test_a_segment_without_a_checkpoint_is_not_shipped(data: Path, tmp_path: Path) -> None:
    place = a_folder(tmp_path)
    checkpoints = data / "log" / "checkpoints.ndjson"
    content = checkpoints.read_bytes()
    checkpoints.write_bytes(content.splitlines(keepends=True)[0])
    late = shipping(data, place.target)
    assert late.round()
    assert late.standings[1].last == closed_end(data / "log", 1)
    checkpoints.write_bytes(content)
    assert late.round()
    assert late.standings[1].last == closed_end(data / "log", 2)
    assert verify_copy(home(place.fetch(), data))[0] == 0


def closed_end(folder: Path, many: int) -> int:
    return archive.segments(folder)[many][0] - 1


def test_a_different_file_is_not_replaced_and_other_workers_continue(data: Path, tmp_path: Path) -> None:
    place = a_folder(tmp_path)
    existing = home(place.fetch(), data) / "log" / f"{list_closed_segments(data / 'log')[1].stem}.parquet"
    existing.parent.mkdir(parents=True)
    existing.write_bytes(b"of somebody else")
    shipper = shipping(data, place.target)
    assert not shipper.round()
    assert existing.read_bytes() == b"of somebody else"
    assert shipper.standings[1].refused
    assert "exists at the target and differs" in shipper.standings[1].problem
    assert shipper.standings[1].last == closed_end(data / "log", 1)
    assert (shipper.standings[2].problem, shipper.standings[2].behind) == ("", 0)
    existing.unlink()
    assert shipper.round()
    assert verify_copy(home(place.fetch(), data))[0] == 0


def test_a_different_object_is_not_replaced(data: Path, tmp_path: Path) -> None:
    place = a_bucket(tmp_path)
    name = place.to["to"].split("/")[2]
    log = Keys.open(data / "keys.json").log
    object_name = f"proofs/gate/{log}/log/{list_closed_segments(data / 'log')[0].stem}.parquet"
    obstore.put(store(name), object_name, b"of somebody else")
    shipper = shipping(data, place.target)
    assert not shipper.round()
    assert shipper.standings[1].refused
    assert bytes(obstore.get(store(name), object_name).bytes()) == b"of somebody else"


def test_a_damaged_segment_is_not_shipped(data: Path, tmp_path: Path) -> None:
    place = a_folder(tmp_path)
    flip(list_closed_segments(data / "log")[1])
    shipper = shipping(data, place.target)
    assert not shipper.round()
    assert shipper.standings[1].refused
    assert shipper.standings[1].last == closed_end(data / "log", 1)
    assert verify_copy(home(place.fetch(), data))[0] == 0, "the first segment is complete"


def test_segments_deleted_before_shipping_are_reported(data: Path, tmp_path: Path) -> None:
    place = a_folder(tmp_path)
    first = shipping(data, place.target)
    first.round()
    before = closed_end(data / "log", 2)
    write_log(data)
    write_log(data)
    deleted = [path for path in list_closed_segments(data / "log") if int(path.stem) > before][:2]
    for path in deleted:
        path.unlink()
    assert first.round()
    remaining = [path for path in list_closed_segments(data / "log") if int(path.stem) > before]
    assert first.standings[1].missed == int(remaining[0].stem) - before - 1 > 0
    assert shipping(data, place.target).round()
    assert verify_copy(home(place.fetch(), data), "--log", "1")[0] == 1, "the copy reports it too"


# ---- failing targets -----------------------------------------------------------------------------------------------------


def test_a_full_target_gets_no_partial_file_and_shipping_continues_once_there_is_space(
    tmp_path: Path, small_disk: Path
) -> None:
    data = tmp_path / "data"
    both(data)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((4 << 20) - 20_000))
    shipper = shipping(data, TargetFolder(small_disk))
    assert not shipper.round()
    assert "full" in shipper.standings[1].problem
    assert not shipper.standings[1].refused
    assert [name for name in files(small_disk) if name.endswith(".new")] == []
    ballast.unlink()
    assert shipper.round()
    assert verify_copy(home(small_disk, data))[0] == 0


def test_files_are_readable_by_the_owner_only_despite_the_umask(data: Path, tmp_path: Path) -> None:
    place, umask = a_folder(tmp_path), os.umask(0)
    try:
        assert shipping(data, place.target).round()
    finally:
        os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.fetch().rglob("*") if path.is_file()}
    assert len(modes) > 4
    assert set(modes.values()) == {0o600}, modes


async def test_a_partial_file_never_has_its_final_name(tmp_path: Path) -> None:
    """The content comes from a pipe, and only half of it has been read."""
    (tmp_path / "share").mkdir()
    os.mkfifo(tmp_path / "pipe")
    target, half = TargetFolder(tmp_path / "share"), random.randbytes(3 << 20)
    putting = asyncio.create_task(asyncio.to_thread(target.put, "log/a", tmp_path / "pipe"))

    def write_in_halves() -> list[str]:
        with (tmp_path / "pipe").open("wb") as pipe:
            pipe.write(half)
            pipe.flush()
            present = list(files(tmp_path / "share"))
            pipe.write(half)
        return present

    assert await asyncio.to_thread(write_in_halves) == ["log/a.new"]
    assert await putting
    assert files(tmp_path / "share") == {"log/a": half + half}


def test_an_unmounted_share_is_not_taken_for_an_empty_one(data: Path, tmp_path: Path) -> None:
    shipper = shipping(data, TargetFolder(tmp_path / "share"))
    assert not shipper.round()
    assert "mount" in shipper.standings[1].problem
    assert not (tmp_path / "share").exists()
    (tmp_path / "share").mkdir()
    assert shipper.round()


async def test_unavailable_object_storage_is_retried(tmp_path: Path) -> None:
    place = a_bucket(tmp_path)
    nobody = objects(place.to, tmp_path, endpoint="http://127.0.0.1:1")
    with pytest.raises(TargetFailed):
        await asyncio.to_thread(nobody.put, "a", b"content")
    no_bucket = objects(place.to, tmp_path, to="s3://no-such-bucket")
    with pytest.raises(TargetFailed):
        await asyncio.to_thread(no_bucket.put, "a", b"content")


@asynccontextmanager
async def server(answer: Callable[[web.Request], int]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=answer(request), headers={"ETag": '"1"'})

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_server_that_ignores_if_none_match_is_refused(tmp_path: Path) -> None:
    place = a_bucket(tmp_path)
    requests: list[tuple[str, bool]] = []

    def accept_everything(request: web.Request) -> int:
        requests.append(
            (request.headers.get("If-None-Match", ""), "x-amz-checksum-sha256" in request.headers)
        )
        return 200

    async with server(accept_everything) as url:
        target = objects(place.to, tmp_path, endpoint=url)
        with pytest.raises(StorageRefused, match="If-None-Match"):
            await asyncio.to_thread(target.put, "a", b"content")
    assert requests == [("*", True), ("*", True)], "each request has a SHA-256, as object lock requires"


def test_a_missing_s3_client_is_reported_with_the_command_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; sys.modules['obstore'] = None\n"
        "from dialgate.shipping.target import Objects\nfrom dialgate.config.shipping import Shipping\n"
        "from dialgate.runtime.extras import MissingExtra\n"
        "try: Objects(Shipping(to='s3://bucket'), pathlib.Path())\nexcept MissingExtra as missing: print(missing)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "pip install 'dialgate[s3]'" in done.stdout


def test_credentials_are_read_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = very-secret%\naws_session_token = t\n"
    )
    path.chmod(0o644)
    with pytest.raises(StorageRefused, match="chmod 600"):
        credentials(path)
    path.chmod(0o600)
    assert credentials(path) == {
        "access_key_id": "a", "secret_access_key": "very-secret%", "session_token": "t",
    }  # fmt: skip
    path.write_text("[other]\naws_secret_access_key = very-secret\n")
    with pytest.raises(StorageRefused, match="default") as refused:
        credentials(path)
    assert "very-secret" not in str(refused.value)


# ---- the command ---------------------------------------------------------------------------------------------------------


def config_of(folder: Path, data: Path, **shipping: Any) -> Path:
    return write_folder(folder, data=str(data), shipping=shipping)


def command(config: Path, *words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(main.app, ["ship", "--once", "--json", "--config", str(config), *words])
    return done.exit_code, json.loads(done.output.splitlines()[-1])


def test_the_command_ships_every_worker_and_writes_metrics(data: Path, place: Place, tmp_path: Path) -> None:
    config = config_of(tmp_path / "config", data, **place.to, textfile=str(tmp_path / "ship.prom"))
    code, rows = command(config)
    assert code == 0
    assert [(standing["to"], standing["worker"], standing["behind"], standing["problem"]) for standing in rows] == [
        ("segments", 1, 0, ""), ("segments", 2, 0, ""),
    ]  # fmt: skip
    assert verify_copy(home(place.fetch(), data))[0] == 0
    text = (tmp_path / "ship.prom").read_text()
    assert 'dialgate_shipping_behind_records{to="segments",worker="1"} 0.0' in text
    assert "dialgate_shipping_run_timestamp_seconds" in text


def test_a_file_lost_at_the_target_is_shipped_again_on_request(data: Path, tmp_path: Path) -> None:
    place = a_folder(tmp_path)
    config = config_of(tmp_path / "config", data, **place.to)
    assert command(config)[0] == 0
    before = files(place.fetch())
    lost = home(place.fetch(), data) / "log" / f"{list_closed_segments(data / 'log')[0].stem}.parquet"
    lost.unlink()
    assert command(config)[0] == 0
    assert not lost.exists()
    assert command(config, "--anew")[0] == 0
    assert files(place.fetch()) == before
    flip(lost)
    code, rows = command(config, "--anew")
    assert code == 1
    assert rows[0]["refused"]


def test_only_one_process_ships_a_folder(data: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path / "config", data, **a_folder(tmp_path).to)
    with shipping_lock(data):
        code, response = command(config)
    assert (code, response["error"]["code"]) == (1, "shipping.refused")
    assert command(config)[0] == 0


def test_a_missing_target_is_reported(data: Path, tmp_path: Path) -> None:
    config = write_folder(tmp_path / "config", data=str(data))
    code, response = command(config)
    assert (code, "shipping" in response["error"]["message"]) == (1, True)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "set `to`, `stream`, or both"),
        ({"to": "s3://"}, "has no bucket"),
        ({"to": "ftp://host/folder"}, "neither a folder"),
        ({"to": "s3://bucket", "endpoint": "https://user:word@host"}, "put credentials into"),
        ({"stream": {}}, "set either `url` or `url_file`"),
        ({"stream": {"url": "redis://a", "url_file": "b"}}, "set either `url` or `url_file`"),
        ({"stream": {"url": "redis://a", "keep": 1}}, "keep"),
        ({"to": "/mnt/x", "unknown": 1}, "unknown"),
    ],
)
def test_an_unusable_setting_is_refused(tmp_path: Path, given: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loader.load(write_folder(tmp_path, shipping=given))
    assert wanted in str(refused.value)


def test_the_stream_must_not_be_the_gates_own_store(tmp_path: Path) -> None:
    url = "redis://localhost:6379/0"
    with pytest.raises(ConfigError, match="a different Redis from the gate's store"):
        loader.load(write_folder(tmp_path, store={"url": url}, shipping={"stream": {"url": url}}))


# ---- kills ---------------------------------------------------------------------------------------------------------------


def differing_files(copy: Path, data: Path) -> Iterator[str]:
    """Return the files at the target that differ from the log. An object can be a part of a growing file."""
    for name, content in files(copy).items():
        part = PART.fullmatch(name)
        path, offset = data / (part[1] if part else name), int(part[2]) if part else 0
        if path.suffix in {".new", ".pem", ".checkpoints"}:
            continue
        end = offset + len(content) if part else None
        if not path.exists() or path.read_bytes()[offset:end] != content:
            yield name


@pytest.mark.parametrize(
    "place",
    [pytest.param(a_folder, id="folder"), pytest.param(a_bucket, id="objects", marks=pytest.mark.torture)],
    indirect=True,
)
async def test_no_kill_leaves_a_partial_file_or_loses_a_segment(place: Place, tmp_path: Path) -> None:
    data = tmp_path / "data"
    both(data, 1200)
    config = config_of(tmp_path / "config", data, **place.to)
    reached = set()
    for turn in range(KILLS):
        moment = (
            1 + (23 * turn + random.randrange(23)) % 115
        )  # of about 560, so that five runs do not reach the end
        dying = partial(die_at, str(data / "log"), moment)
        words = ("ship", "--once", "--config", config)
        done = await asyncio.to_thread(run_command, "dialgate", *words, prepare=dying)
        assert done.code in {-signal.SIGALRM, 0}
        reached.add(len(files(place.fetch())) if place.fetch().exists() else 0)
        copy = home(place.fetch(), data)
        if copy.exists():
            assert list(differing_files(copy, data)) == []
            assert faults(copy) == []
    assert len(reached) > 1, "no kill came between start and end"
    assert (await asyncio.to_thread(command, config))[0] == 0
    copy = home(place.fetch(), data)
    code, report = verify_copy(copy)
    assert (code, report["ok"]) == (0, True)
    for worker, folder in ((1, data / "log"), (2, data / "log" / "worker-2")):
        assert report["workers"][str(worker)]["last"] >= archive.segments(folder)[-1][0] - 1


def faults(copy: Path) -> list[dict[str, Any]]:
    """Verify the copied log of each worker that has a complete segment, and return the faults found.

    Leave out unreadable segments.
    """
    reported: list[dict[str, Any]] = []
    for worker, folder in ((1, copy / "log"), (2, copy / "log" / "worker-2")):
        if folder.is_dir() and any(folder.glob("*.checkpoints")):
            report = verify_copy(copy, "--worker", str(worker))[1]
            reported += [fault for fault in report["faults"] if fault["kind"] != "unreadable_segment"]
    return reported


# ---- metrics -------------------------------------------------------------------------------------------------------------


def test_metrics_report_the_delay_in_records_and_seconds() -> None:
    behind = LogProgress(last=10, behind=5, since=NOW - 90_000, missed=3, problem="away")
    registry = metrics_of({("stream", 2): behind, ("segments", 1): LogProgress(last=7)}, NOW)

    def value(name: str, to: str, worker: str) -> float | None:
        return registry.get_sample_value(f"dialgate_shipping_{name}", {"to": to, "worker": worker})

    names = ("records", "behind_records", "behind_seconds", "failing", "refused", "missed_records")
    assert [value(name, "stream", "2") for name in names] == [10, 5, 90, 1, 0, 3]
    assert [value(name, "segments", "1") for name in names] == [7, 0, 0, 0, 0, 0]
