"""An S3 server and the signed logs of two workers, for tests of shipping."""

import atexit
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import obstore
from obstore.store import S3Store

from dialgate.core.model import HOUR
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import archive, chains, make_checkpoint
from dialgate.decision_log.archive.packing import pack
from tests.support.ports import free_port
from tests.support.sample_log import NOW, SampleDecision, write

NUMBERS = [f"+39061234{at:04}" for at in range(40)]
WORKERS = (1, 2)
ACCESS = {"access_key_id": "tests", "secret_access_key": "secret"}
_buckets = count(1)


def write_log(data: Path, decisions: int = 120, *, worker: int = 1, packed: bool = True) -> Path:
    """Append decisions in segments of 25,000 bytes, with a checkpoint at the end. Return the log folder."""
    data.mkdir(mode=0o700, exist_ok=True)
    folder, keys = chains.folder(data, worker), Keys.open(data / "keys.json", worker)
    sample = [SampleDecision(NUMBERS[at % 40], NOW + at, allow=at % 3 > 0) for at in range(decisions)]
    write(folder, keys, sample, segment_bytes=25_000)
    make_checkpoint(folder, log=keys.log, signer=Signer.open(data / "signing.json", NOW), now=NOW)
    if packed:
        for segment in archive.segments_to_pack(folder, NOW + HOUR):
            pack(segment)
    return folder


def both(data: Path, decisions: int = 120, *, packed: bool = True) -> list[Path]:
    return [write_log(data, decisions, worker=worker, packed=packed) for worker in WORKERS]


def list_closed_segments(folder: Path) -> list[Path]:
    return [path for _, path in archive.segments(folder)][:-1]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@cache
def s3() -> str:
    """Start an object storage server that ends with this process. Return its address."""
    port, folder = free_port(), tempfile.mkdtemp(prefix="s3-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (Path(folder) / "output").open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    atexit.register(process.wait)
    atexit.register(process.kill)
    while True:
        assert process.poll() is None, (Path(folder) / "output").read_text()
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=1):
                return f"http://127.0.0.1:{port}"
        except (URLError, OSError):
            continue


def bucket() -> str:
    """Create a new bucket. Return its name."""
    name = f"bucket-{next(_buckets)}-{free_port()}"
    with urlopen(Request(f"{s3()}/{name}", method="PUT"), timeout=5):
        return name


def store(name: str) -> S3Store:
    return S3Store(
        name,
        endpoint=s3(),
        region="eu-south-1",
        client_options={"allow_http": True},
        access_key_id=ACCESS["access_key_id"],
        secret_access_key=ACCESS["secret_access_key"],
    )


def fetched(name: str, to: Path) -> Path:
    """Download a bucket, as `aws s3 sync` does."""
    own = store(name)
    for listing in obstore.list(own):
        for item in listing:
            path = to / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(obstore.get(own, item["path"]).bytes()))
    return to


def die_at(log: str, moment: int) -> None:
    """End this process within two milliseconds of the listing of the log or the rename with this number from now on."""
    left, chance = moment, random.Random()  # forked processes share the state of `random`

    def count_event(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event == "os.rename" or (event == "open" and str(arguments[0]).startswith(log)):
            left -= 1
            if left == 0:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 2e-3))

    sys.addaudithook(count_event)
