"""Real Redis and Valkey servers on loopback: alone, with TLS, with Sentinels or as a Cluster.

The servers end when this process exits. The Redis users `dialgate` and `shipper` have exactly the rights that
docs/how-to lists.
"""

import atexit
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from msgspec import Struct

from tests.support.paths import ROOT
from tests.support.ports import free_port

GUIDES = ROOT / "docs/how-to"
USER, SHIPPER, PASSWORD = "dialgate", "shipper", "secret-of-the-tests"
_MOMENT = 0.2  # seconds
_TLS = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")


@cache
def allowed(user: str) -> list[str]:
    """Return a Redis user's ACL rules as docs/how-to lists them, with key patterns that match any store name."""
    guides = "\n".join(path.read_text("utf-8") for path in GUIDES.glob("*.md"))
    (line,) = re.findall(rf"^ACL SETUSER {user} on >PASSWORD (.*)$", guides, re.MULTILINE)
    return [word.replace("{dialgate}", "{*}") for word in line.split()]


def start(folder: Path, program: str = "redis-server", **options: str) -> subprocess.Popen[str]:
    """Start a server that syncs every write by default. `_` in an option name becomes a hyphen."""
    folder.mkdir(exist_ok=True)
    usual = {"port": "0", "dir": str(folder), "save": "", "appendonly": "yes", "appendfsync": "always"}
    usual["repl-diskless-sync-delay"] = "0"  # start a sync without waiting for more replicas
    words = [program]
    for name, value in (usual | options).items():
        words += [f"--{name.replace('_', '-')}", *value.split(" ")]
    for user in (USER, SHIPPER):
        words += ["--user", user, "on", f">{PASSWORD}", *allowed(user)]
    return start_and_wait("Ready to accept connections", folder, words)


def start_and_wait(what: str, folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """Start a process and wait until its output contains `what`.

    The output goes to a file, because a pipe that is never read would block the process.
    """
    log = folder / "output"
    with log.open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, text=True)
    while what not in log.read_text():
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
            raise AssertionError(f"{words[0]} did not start: {log.read_text()[-500:]}")
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def kill_at_exit(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    atexit.register(process.wait)
    atexit.register(process.kill)
    return process


def folder_for(what: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{what}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def alone(program: str = "redis-server") -> str:
    """Start an empty server. Return its URL."""
    folder = folder_for("redis")
    kill_at_exit(start(folder, program, unixsocket=str(folder / "socket")))
    return f"unix://{USER}:{PASSWORD}@{folder}/socket"


@cache
def over_tls() -> str:
    folder, port = folder_for("tls"), free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run(
        [*_TLS, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    options = {
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(certificate),
    }
    kill_at_exit(start(folder, tls_port=str(port), tls_auth_clients="no", **options))
    return f"rediss://{USER}:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}"


class Node(Struct):
    folder: Path
    port: int
    process: subprocess.Popen[str] | None
    options: dict[str, str]

    def kill(self) -> None:
        assert self.process is not None
        kill(self.process)
        self.process = None

    def restart(self) -> None:
        self.process = kill_at_exit(start(self.folder, port=str(self.port), **self.options))

    def say(self, *words: str) -> str:
        return say(self.port, *words)

    def pause(self) -> None:
        """Wait for a moment before the next look at the node. Looks without a pause keep a processor busy for seconds."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_MOMENT)


def say(port: int, *words: str) -> str:
    """Send a command and return the reply.

    Retries if the connection is closed: a Sentinel disconnects all clients of a node whose role it changes.
    """
    end = time.monotonic() + 10
    while True:
        command = ["redis-cli", "-p", str(port), *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
        assert time.monotonic() < end, done.stderr


def node(**options: str) -> Node:
    made = Node(folder_for("node"), free_port(), None, options)
    made.restart()
    return made


class Cluster(Struct):
    nodes: list[Node]

    def url(self) -> str:
        seeds = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{USER}:{PASSWORD}@{seeds}/"

    def agree(self) -> bool:
        """Return whether all nodes report the same healthy cluster."""
        if not all("cluster_state:ok" in node.say("CLUSTER", "INFO") for node in self.nodes):
            return False
        reports = [node.say("CLUSTER", "NODES") for node in self.nodes]
        return "fail" not in "".join(reports) and len(set(map(_comparable, reports))) == 1

    def restart(self, node: Node, master: Node | None) -> None:  # noqa: ARG002 - the cluster assigns its master
        node.restart()


def _comparable(report: str) -> frozenset[tuple[str, ...]]:
    """Return the ID, role, master and slots of each node, without the fields that differ between reports."""
    rows = [line.split() for line in report.splitlines()]
    return frozenset((row[0], row[2].removeprefix("myself,"), row[3], *row[8:]) for row in rows)


def cluster(replicas: int, **options: str) -> Cluster:
    """Start a cluster of three masters with `replicas` replicas each."""
    nodes = []
    for _ in range(3 * (1 + replicas)):
        own = {
            "cluster_enabled": "yes",
            "cluster_port": str(free_port()),
            "cluster_config_file": "nodes.conf",
        }
        nodes.append(node(**own, **options))
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    subprocess.run(
        [
            "redis-cli",
            "--cluster",
            "create",
            *addresses,
            "--cluster-replicas",
            str(replicas),
            "--cluster-yes",
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    end = time.monotonic() + 30
    made = Cluster(nodes)
    while not made.agree():
        assert time.monotonic() < end, "the cluster's nodes do not agree"
        nodes[0].pause()
    for member in nodes:
        linked(member)
    return made


def linked(node: Node) -> None:
    """Wait until a replica has synchronized with its master. Returns at once for a master."""
    end = time.monotonic() + 30
    while (role := node.say("ROLE").split())[0] == "slave" and role[3] != "connected":
        assert time.monotonic() < end, "a replica does not follow"
        node.pause()


def master_of(nodes: Sequence[Node]) -> Node | None:
    """Return the master that all other nodes follow in sync, or None."""
    roles = {node.port: node.say("ROLE").split() for node in nodes}
    for master in nodes:
        follows = ["slave", "127.0.0.1", str(master.port), "connected"]
        others = [roles[node.port][:4] for node in nodes if node is not master]
        if roles[master.port][0] == "master" and all(role == follows for role in others):
            return master
    return None


@cache
def shared_cluster() -> str:
    return cluster(0).url()


class Sentinels(Struct):
    """Three Sentinels that monitor one master and its replicas."""

    nodes: list[Node]
    ports: list[int]

    def url(self) -> str:
        seeds = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{USER}:{PASSWORD}@{seeds}/gates"

    def agree(self) -> bool:
        """Return whether all Sentinels report the same master and are ready for a failover."""
        masters = [self._master_reported_by(port) for port in self.ports]
        return "" not in masters and len(set(masters)) == 1

    def _master_reported_by(self, port: int) -> str:
        """Return the port of the master that a Sentinel reports.

        The port is empty while a node is down, a failover is in progress or another Sentinel is unreachable.
        """
        master = dict(_pairs(say(port, "SENTINEL", "MASTER", "gates")))
        replicas = _pairs(say(port, "SENTINEL", "REPLICAS", "gates"))
        follow = (("flags", "slave"), ("master-link-status", "ok"), ("master-port", master["port"]))
        ready = (
            master["flags"] == "master"
            and all(replicas.count(field) == len(self.nodes) - 1 for field in follow)
            and say(port, "SENTINEL", "CKQUORUM", "gates").startswith(f"OK {len(self.ports)} usable")
            and "sentinel_tilt:0" in say(port, "INFO", "sentinel")
        )
        return master["port"] if ready else ""

    def restart(self, node: Node, master: Node | None) -> None:
        """Restart a node as a replica of `master`, or as a master."""
        node.options.pop("replicaof", None)
        if master is not None:
            node.options["replicaof"] = f"127.0.0.1 {master.port}"
        node.restart()


def _pairs(reply: str) -> list[tuple[str, str]]:
    """Parse a reply that alternates lines of names and values."""
    lines = reply.splitlines()
    return list(zip(lines[::2], lines[1::2], strict=False))


def sentinels(replicas: int, down_after: int = 1000, info_period: int = 10_000) -> Sentinels:
    """Start a master with replicas and three Sentinels. Times are in milliseconds.

    `down_after`: silence after which a node counts as down. `info_period`: interval between queries for the replicas.

    The ping period has two limits:

    - It must be shorter than `down_after`. A Sentinel sends its first ping to a new master after one ping period. If
      both were equal (the default up to a second), the Sentinel would replace a healthy master.
    - Five ping periods must exceed a second. A Sentinel queries the replicas of a failed master once a second. It does
      not promote a replica whose last reply is older than five ping periods.
    """
    master = node()
    nodes = [master, *(node(replicaof=f"127.0.0.1 {master.port}") for _ in range(replicas))]
    ports = [free_port() for _ in range(3)]
    periods = ("INFO-PERIOD", str(info_period), "PING-PERIOD", str(down_after * 2 // 5))
    for port in ports:
        _sentinel(port, master.port, down_after)
        say(port, "SENTINEL", "DEBUG", *periods)
    for member in nodes:
        linked(member)
    return Sentinels(nodes, ports)


def _sentinel(port: int, master: int, down_after: int) -> None:
    folder = folder_for("sentinel")
    (folder / "sentinel.conf").write_text(
        f"port {port}\ndir {folder}\nsentinel monitor gates 127.0.0.1 {master} 2\n"
        f"sentinel down-after-milliseconds gates {down_after}\nsentinel failover-timeout gates 3000\n"
    )
    kill_at_exit(
        start_and_wait(
            "+monitor master", folder, ["redis-server", str(folder / "sentinel.conf"), "--sentinel"]
        )
    )


@cache
def shared_sentinels() -> str:
    return sentinels(0).url()
