"""Make the keys, passwords and certificates of the stack, and the files of Redis and the Sentinels.

    python prepare.py FOLDER [NAME=HOST:PORT ...]

FOLDER has a folder for each service. What exists is kept: this can run before every start. In compose.yaml the folders are
volumes that the services see under the same path.
"""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template

import msgspec

from dialgate.crypto.keys import Keys

HERE = Path(__file__).parent
# Where the services answer in compose.yaml.
ADDRESSES = {
    "redis-1": "172.30.45.11:6379",
    "redis-2": "172.30.45.12:6379",
    "sentinel-1": "172.30.45.21:26379",
    "sentinel-2": "172.30.45.22:26379",
    "sentinel-3": "172.30.45.23:26379",
}
REDIS = ("redis-1", "redis-2")  # the first is the primary of the first start
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
GATES = ("gate-1", "gate-2")
CLIENTS = ("dialer", "supervisor")
# The rights of docs/how-to/several-nodes.md.
RIGHTS = (
    "+ping +select +config|get +cluster|slots +script|load +evalsha +wait +waitaof +time +scan +get +mget +set +append +getrange"
    " +setrange +del +persist +pexpire +incrby +hget +hmget +hgetall +hset +hsetnx +hincrby +hdel"
)
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def prepare(folder: Path, addresses: Mapping[str, str]) -> None:
    for name in (*REDIS, *SENTINELS, *GATES, "haproxy"):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    _prepare_gates(folder, addresses)
    _prepare_redis(folder, addresses)
    pem = folder / "haproxy/haproxy.pem"
    if not pem.exists():
        words = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "365",
        ]
        made = ["-subj", "/CN=dialgate", "-addext", NAMES, "-out", "-", "-keyout", "-"]
        _write(pem, subprocess.run([*words, *made], check=True, capture_output=True, text=True).stdout)


def _prepare_gates(folder: Path, addresses: Mapping[str, str]) -> None:
    first, second = (folder / name for name in GATES)
    password = first / "redis.password"
    if not password.exists():
        _write(password, secrets.token_urlsafe(24))
    sentinels = ",".join(addresses[name] for name in SENTINELS)
    for gate in (first, second):
        _write(gate / "store.url", f"redis+sentinel://dialgate:{password.read_text()}@{sentinels}/gates")
    for client in CLIENTS:
        key = first / f"{client}.key"
        if not key.exists():
            subprocess.run(
                [sys.executable, "-m", "dialgate", "key", client, "--out", str(key)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        shutil.copy(f"{key}.sha256", second)
    (first / "rpo/outbox").mkdir(parents=True, exist_ok=True)
    (first / "rpo/inbox").mkdir(exist_ok=True)
    if not (second / "keys.json").exists():  # as docs/how-to/several-nodes.md copies them
        Keys.open(first / "keys.json")
        keys = msgspec.json.decode((first / "keys.json").read_bytes())
        _write(second / "keys.json", msgspec.json.encode(keys | {"log": "", "months": {}}).decode())


def _prepare_redis(folder: Path, addresses: Mapping[str, str]) -> None:
    password = (folder / GATES[0] / "redis.password").read_text()
    primary_host, primary_port = addresses[REDIS[0]].split(":")
    for name in (*REDIS, *SENTINELS):
        kind = name.partition("-")[0]
        path = folder / name / f"{kind}.conf"
        if path.exists():
            continue
        host, port = addresses[name].split(":")
        values = {
            "host": host,
            "port": port,
            "folder": str((folder / name).resolve()),
            "password": password,
            "rights": RIGHTS,
        }
        text = Template((HERE / f"{kind}.conf").read_text("utf-8")).substitute(
            values, primary_host=primary_host, primary_port=primary_port
        )
        follows = name in REDIS[1:]
        _write(path, text + (f"replicaof {primary_host} {primary_port}\n" if follows else ""))


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), ADDRESSES | dict(word.split("=") for word in sys.argv[2:]))
