"""Checkpoints are time-stamped by an external authority without delaying the gate, and invalid time stamps are reported.

The authority is OpenSSL behind a real server.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import web

from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import CHECKPOINTS, Checkpointer, DecisionLog, last_checkpoint, make_checkpoint
from dialgate.decision_log.timestamps import FILE, NoTimestamp, Stamper, timestamps, verify_timestamps
from dialgate.shipping.cursor import Cursors
from dialgate.shipping.segments import SegmentShipping
from dialgate.shipping.target import TargetFolder
from tests.interfaces.cli.test_cli import command, wait_for_end
from tests.support import world
from tests.support.commands import run_command
from tests.support.sample_log import SampleDecision, write
from tests.support.shipping_world import write_log

NOW = 1_795_500_000_000
HOUR = 3_600_000

AUTHORITY = """
[ req ]
distinguished_name = name
prompt = no
[ name ]
CN = Root of the tests
[ root ]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[ stamping ]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[ tsa ]
default_tsa = here
[ here ]
serial = serial
crypto_device = builtin
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
ess_cert_id_alg = sha256
"""


def openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the folder of a time stamping authority. Its users trust `root.pem`."""
    folder = tmp_path_factory.mktemp("authority")
    (folder / "ca.cnf").write_text(AUTHORITY)
    (folder / "serial").write_text("01\n")
    new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config ca.cnf"
    for name in ("root", "other"):
        openssl(folder, f"req -x509 {new} -keyout {name}.key -out {name}.pem -days 3650 -extensions root")
    openssl(folder, f"req -new {new} -subj /CN=Stamps -keyout tsa.key -out tsa.csr")
    openssl(
        folder,
        "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -days 3650 -extfile ca.cnf -extensions stamping -out tsa.pem",
    )
    return folder


@asynccontextmanager
async def serving(folder: Path, garbage: bytes = b"") -> AsyncIterator[str]:
    async def stamp(request: web.Request) -> web.Response:
        (folder / "query").write_bytes(await request.read())
        openssl(folder, "ts -reply -config ca.cnf -queryfile query -out reply")
        return web.Response(body=garbage or (folder / "reply").read_bytes())

    app = web.Application()
    app.router.add_post("/", stamp)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def checkpoints(folder: Path, number: int) -> None:
    """Append `number` entries to the log, and create a checkpoint after each entry."""
    with closing(DecisionLog.open(folder / "log", log="9f2c01ab", now=NOW, gate={})) as log:
        checkpointer = Checkpointer.open(
            folder / "log",
            log="9f2c01ab",
            signer=lambda now: Signer.open(folder / "signing.json", now),
            interval=0,
            durable=log.durable,
        )
        for _ in range(number):
            log.write([b'{"type":"outcome","seq":%d}' % log.next_seq])
            log.sync()
            checkpointer.finish(log.durable, NOW)


async def test_the_newest_checkpoint_is_stamped_once_per_interval(tmp_path: Path, authority: Path) -> None:
    log, roots = tmp_path / "log", authority / "root.pem"
    checkpoints(tmp_path, 2)
    async with serving(authority) as url:
        stamper = Stamper(log, url, roots, HOUR)
        done = [await asyncio.to_thread(stamper.stamp, NOW + after) for after in (0, HOUR)]
        checkpoints(tmp_path, 3)
        done += [await asyncio.to_thread(stamper.stamp, NOW + after) for after in (HOUR - 1, HOUR, HOUR + 1)]
        again = Stamper(log, url, roots, HOUR)
        done.append(await asyncio.to_thread(again.stamp, NOW + 9 * HOUR))
    assert done == [True, False, False, True, False, False]
    assert [stamp.size for stamp in timestamps(log)] == [2, 5]
    assert verify_timestamps(log, roots) == (2, [])
    assert [fault.seq for fault in verify_timestamps(log, authority / "other.pem")[1]] == [2, 5]


async def test_a_replaced_checkpoint_invalidates_its_time_stamp(tmp_path: Path, authority: Path) -> None:
    log = tmp_path / "log"
    checkpoints(tmp_path, 1)
    async with serving(authority) as url:
        await asyncio.to_thread(Stamper(log, url, authority / "root.pem", HOUR).stamp, NOW)
    (log / CHECKPOINTS).unlink()
    checkpoints(tmp_path, 1)
    valid, faults = verify_timestamps(log, authority / "root.pem")
    assert (valid, [(fault.kind, fault.seq) for fault in faults]) == (0, [("broken_timestamp", 1)])


@pytest.mark.parametrize(
    ("garbage", "root"), [(b"no stamp", "root"), (b"", "other")], ids=["garbage", "strange root"]
)
async def test_an_invalid_response_is_not_stored(
    tmp_path: Path, authority: Path, garbage: bytes, root: str
) -> None:
    checkpoints(tmp_path, 1)
    async with serving(authority, garbage) as url:
        stamper = Stamper(tmp_path / "log", url, authority / f"{root}.pem", HOUR)
        with pytest.raises(NoTimestamp):
            await asyncio.to_thread(stamper.stamp, NOW)
    assert not (tmp_path / "log" / FILE).exists()
    with pytest.raises(NoTimestamp, match="refused"):
        stamper.stamp(NOW + HOUR)


async def test_a_torn_time_stamp_is_cut_off(tmp_path: Path, authority: Path) -> None:
    log = tmp_path / "log"
    checkpoints(tmp_path, 1)
    (log / FILE).write_bytes(b'{"size":1,"che')
    async with serving(authority) as url:
        await asyncio.to_thread(Stamper(log, url, authority / "root.pem", HOUR).stamp, NOW)
    assert [stamp.size for stamp in timestamps(log)] == [1]


def run_verify(copy: Path, *words: object) -> tuple[int, int, list[str]]:
    done = run_command("dialgate", "log", "verify", "--data", copy, "--json", *words)
    return done.code, done.json["stamped"], [fault["kind"] for fault in done.json["faults"]]


async def test_time_stamps_are_shipped_after_their_checkpoint_and_verified_from_the_copy(
    tmp_path: Path, authority: Path
) -> None:
    data, target = tmp_path / "data", tmp_path / "target"
    target.mkdir()
    log, root = write_log(data), authority / "root.pem"

    def ship(*, anew: bool = False) -> SegmentShipping:
        (data / "shipping").mkdir(exist_ok=True)
        cursors = Cursors(data / "shipping" / "segments.json", "there", restart=anew)
        shipping = SegmentShipping(data, "gate", TargetFolder(target), cursors, at_once=False)
        shipping.round()
        return shipping

    async with serving(authority) as url:
        stamper = Stamper(log, url, root, HOUR)
        assert await asyncio.to_thread(stamper.stamp, NOW)
        shipping = ship()
        assert list(target.rglob("*.timestamp")) == [], "of the segment that is still open"
        write_log(data)
        assert await asyncio.to_thread(stamper.stamp, NOW + HOUR)
    assert shipping.round()
    one, other = timestamps(log)
    (only,) = target.rglob("*.timestamp")
    assert (only.name, only.read_bytes()) == (
        f"{one.size:016}.timestamp",
        (log / FILE).read_bytes().splitlines(keepends=True)[0],
    )
    write_log(data)
    assert not ship().standings[1].problem
    assert sorted(int(path.stem) for path in target.rglob("*.timestamp")) == [one.size, other.size]
    copy = only.parent.parent
    assert run_verify(copy, "--root", root) == (0, 2, [])
    assert run_verify(copy) == (0, 0, [])
    assert run_verify(copy, "--root", authority / "other.pem") == (1, 0, ["broken_timestamp"] * 2)
    only.write_bytes(only.read_bytes().replace(b'"size":%d' % one.size, b'"size":%d' % other.size))
    assert run_verify(copy, "--root", root) == (1, 1, ["broken_timestamp"])
    assert "differs from the local log" in ship(anew=True).standings[1].problem


async def test_removed_time_stamps_are_reported(tmp_path: Path, authority: Path) -> None:
    """Somebody with the signing key can rewrite and sign the whole log, but cannot obtain stamps of earlier days."""
    log, keys, root = tmp_path / "log", Keys.open(tmp_path / "keys.json"), authority / "root.pem"

    def sign(days: range) -> None:
        write(log, keys, [SampleDecision("+390612345678", NOW + day * 24 * HOUR) for day in days])
        signer = Signer.open(tmp_path / "signing.json", NOW)
        make_checkpoint(log, log=keys.log, signer=signer, now=NOW)

    sign(range(3))
    assert run_verify(tmp_path, "--root", root) == (0, 0, []), "three days are not too long"
    sign(range(3, 9))
    assert run_verify(tmp_path) == (0, 0, []), "stamps are not configured"
    assert run_verify(tmp_path, "--root", root) == (1, 0, ["missing_timestamp"])
    async with serving(authority) as url:
        assert await asyncio.to_thread(Stamper(log, url, root, HOUR).stamp, NOW)
    assert run_verify(tmp_path, "--root", root) == (0, 1, [])
    sign(range(9, 12))
    assert run_verify(tmp_path, "--root", root) == (0, 1, [])
    (log / FILE).unlink()
    assert run_verify(tmp_path, "--root", root) == (1, 0, ["missing_timestamp"])


@pytest.mark.parametrize("line", [b"no stamp\n", b'{"size":1}\n'])
async def test_a_modified_time_stamp_is_reported_and_others_are_checked(
    tmp_path: Path, authority: Path, line: bytes
) -> None:
    log, root = tmp_path / "log", authority / "root.pem"
    checkpoints(tmp_path, 1)
    async with serving(authority) as url:
        await asyncio.to_thread(Stamper(log, url, root, HOUR).stamp, NOW)
        whole = (log / FILE).read_bytes()
        (log / FILE).write_bytes(whole + line)
        checkpoints(tmp_path, 1)
        await asyncio.to_thread(Stamper(log, url, root, HOUR).stamp, NOW)
    valid, faults = verify_timestamps(log, root)
    assert valid == 2
    assert [(fault.file, fault.offset, fault.kind) for fault in faults] == [
        (str(log / FILE), len(whole), "broken_timestamp")
    ]


async def test_a_gate_stamps_its_log_and_answers_while_the_authority_does_not(
    tmp_path: Path, authority: Path
) -> None:
    requested, answer = asyncio.Event(), asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        requested.set()
        await answer.wait()
        return web.Response(status=500)

    app = web.Application()
    app.router.add_post("/", wait)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    roots = str(authority / "root.pem")
    async with world.running(tmp_path, timestamp_url=url, timestamp_roots=roots) as running:
        for _ in range(3):
            async with running.client.post("/v1/check", json=world.CALL) as response:
                assert response.status == 200
            await running.app.tick()
        await requested.wait()
        assert running.app.gate.readiness() == {}
        answer.set()
    await runner.cleanup()
    assert last_checkpoint(tmp_path / "data/log")
    async with serving(authority) as url:
        stamper = Stamper(tmp_path / "data/log", url, authority / "root.pem", HOUR)
        assert await asyncio.to_thread(stamper.stamp, NOW)
    process = command("log", "verify", "--json", DIALGATE_CONFIG=str(tmp_path / "dialgate.yaml"))
    verified = wait_for_end(process)
    assert (verified.code, verified.json["faults"]) == (0, [])


def test_unreadable_root_certificates_prevent_the_start(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path, timestamp_url="http://127.0.0.1:9/", timestamp_roots="roots.pem")
    (tmp_path / "roots.pem").write_text("none")
    started = wait_for_end(command("serve", DIALGATE_CONFIG=str(config)))
    assert started.code == 1
    assert "timestamp_roots" in started.err
