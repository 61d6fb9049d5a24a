"""Redis and Valkey as real processes on loopback: alone, with TLS, behind Sentinels, as a Cluster. All end with this process.

The gate's user and the shipper's may do what docs/how-to lists, and nothing else.
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
_TLS = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")


@cache
def allowed(user: str) -> list[str]:
    """Return the rights that the guides list, for any store's name."""
    guides = "\n".join(path.read_text("utf-8") for path in GUIDES.glob("*.md"))
    (line,) = re.findall(rf"^ACL SETUSER {user} on >PASSWORD (.*)$", guides, re.MULTILINE)
    return [word.replace("{dialgate}", "{*}") for word in line.split()]


def start(folder: Path, program: str = "redis-server", **options: str) -> subprocess.Popen[str]:
    """Syncs every write, unless the options say otherwise. An underscore in an option stands for a hyphen."""
    folder.mkdir(exist_ok=True)
    usual = {"port": "0", "dir": str(folder), "save": "", "appendonly": "yes", "appendfsync": "always"}
    usual["repl-diskless-sync-delay"] = "0"  # no other replica is waited for
    words = [program]
    for name, value in (usual | options).items():
        words += [f"--{name.replace('_', '-')}", *value.split(" ")]
    for user in (USER, SHIPPER):
        words += ["--user", user, "on", f">{PASSWORD}", *allowed(user)]
    return saying("Ready to accept connections", folder, words)


def saying(what: str, folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """A process that has said so. Its words go to a file: nobody reads a pipe for hours."""
    log = folder / "said"
    with log.open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, text=True)
    while what not in log.read_text():
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
            raise AssertionError(f"{words[0]} did not start: {log.read_text()[-500:]}")
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def lasting(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """It ends with this process."""
    atexit.register(process.wait)
    atexit.register(process.kill)
    return process


def folder_for(what: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{what}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def alone(program: str = "redis-server") -> str:
    """The URL of a server with nothing in it."""
    folder = folder_for("redis")
    lasting(start(folder, program, unixsocket=str(folder / "socket")))
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
    lasting(start(folder, tls_port=str(port), tls_auth_clients="no", **options))
    return f"rediss://{USER}:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}"


class Node(Struct):
    folder: Path
    port: int
    process: subprocess.Popen[str] | None
    options: dict[str, str]

    def kill(self) -> None:
        assert self.process is not None
        ended(self.process)
        self.process = None

    def restart(self) -> None:
        self.process = lasting(start(self.folder, port=str(self.port), **self.options))

    def say(self, *words: str) -> str:
        return say(self.port, *words)


def say(port: int, *words: str) -> str:
    """Asked again where it is cut off: a Sentinel does that to every client of a node that it has given another role."""
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
        seeds = ",".join(f"127.0.0.1:{each.port}" for each in self.nodes)
        return f"redis+cluster://{USER}:{PASSWORD}@{seeds}/"

    def agree(self) -> bool:
        """Every node says the same of every other, and that all is well."""
        told = [each.say("CLUSTER", "NODES") for each in self.nodes]
        well = all("cluster_state:ok" in each.say("CLUSTER", "INFO") for each in self.nodes)
        return well and "fail" not in "".join(told) and len(set(map(_seen_in, told))) == 1

    def restart(self, node: Node, master: Node | None) -> None:  # noqa: ARG002 - the cluster tells it whom to follow
        node.restart()


def _seen_in(told: str) -> frozenset[tuple[str, ...]]:
    """Of each node the id, the role, the master and the slots; not whose view it is, and when it last heard of whom."""
    rows = [line.split() for line in told.splitlines()]
    return frozenset((row[0], row[2].removeprefix("myself,"), row[3], *row[8:]) for row in rows)


def cluster(replicas: int, **options: str) -> Cluster:
    """Three masters with so many replicas each."""
    nodes = []
    for _ in range(3 * (1 + replicas)):
        own = {
            "cluster_enabled": "yes",
            "cluster_port": str(free_port()),
            "cluster_config_file": "nodes.conf",
        }
        nodes.append(node(**own, **options))
    addresses = [f"127.0.0.1:{each.port}" for each in nodes]
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
    for each in nodes:
        linked(each)
    return made


def linked(node: Node) -> None:
    """Returns once it has all that its master has, if it is a replica."""
    end = time.monotonic() + 30
    while (role := node.say("ROLE").split())[0] == "slave" and role[3] != "connected":
        assert time.monotonic() < end, "a replica does not follow"


def master_of(nodes: Sequence[Node]) -> Node | None:
    """Whom all the others of these follow, with all that it has."""
    roles = {each.port: each.say("ROLE").split() for each in nodes}
    for master in nodes:
        follows = ["slave", "127.0.0.1", str(master.port), "connected"]
        others = [roles[each.port][:4] for each in nodes if each is not master]
        if roles[master.port][0] == "master" and all(each == follows for each in others):
            return master
    return None


@cache
def shared_cluster() -> str:
    return cluster(0).url()


class Sentinels(Struct):
    """Three, of one master with its replicas."""

    nodes: list[Node]
    ports: list[int]

    def url(self) -> str:
        seeds = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{USER}:{PASSWORD}@{seeds}/gates"

    def agree(self) -> bool:
        """Each names the same master, with all who follow it, and would have it replaced at once."""
        named = [self._named_by(port) for port in self.ports]
        return "" not in named and len(set(named)) == 1

    def _named_by(self, port: int) -> str:
        """The master's port. Nothing while one of them is down, a failover is under way, or another Sentinel is not seen."""
        master = dict(_pairs(say(port, "SENTINEL", "MASTER", "gates")))
        replicas = _pairs(say(port, "SENTINEL", "REPLICAS", "gates"))
        follow = (("flags", "slave"), ("master-link-status", "ok"), ("master-port", master["port"]))
        ready = (
            master["flags"] == "master"
            and all(replicas.count(each) == len(self.nodes) - 1 for each in follow)
            and say(port, "SENTINEL", "CKQUORUM", "gates").startswith(f"OK {len(self.ports)} usable")
            and "sentinel_tilt:0" in say(port, "INFO", "sentinel")
        )
        return master["port"] if ready else ""

    def restart(self, node: Node, master: Node | None) -> None:
        """As the replica of that master, or as the master that it was."""
        node.options.pop("replicaof", None)
        if master is not None:
            node.options["replicaof"] = f"127.0.0.1 {master.port}"
        node.restart()


def _pairs(told: str) -> list[tuple[str, str]]:
    """Names and values, which stand on lines of their own."""
    lines = told.splitlines()
    return list(zip(lines[::2], lines[1::2], strict=False))


def sentinels(replicas: int, down_after: int = 1000, info_period: int = 10_000) -> Sentinels:
    """Milliseconds until a node that does not answer is down, and between two looks at who follows the master.

    A Sentinel first asks a new master after a ping's period. Left as long as what makes a node down, which is the least
    it is by itself, that makes every new master down, and has it replaced though it lives. Five of them must be more than a
    second, in which a replica of a master that is down is looked at but once: else it is not fit to replace it."""
    master = node()
    nodes = [master, *(node(replicaof=f"127.0.0.1 {master.port}") for _ in range(replicas))]
    ports = [free_port() for _ in range(3)]
    periods = ("INFO-PERIOD", str(info_period), "PING-PERIOD", str(down_after * 2 // 5))
    for port in ports:
        _sentinel(port, master.port, down_after)
        say(port, "SENTINEL", "DEBUG", *periods)
    for each in nodes:
        linked(each)
    return Sentinels(nodes, ports)


def _sentinel(port: int, master: int, down_after: int) -> None:
    folder = folder_for("sentinel")
    (folder / "sentinel.conf").write_text(
        f"port {port}\ndir {folder}\nsentinel monitor gates 127.0.0.1 {master} 2\n"
        f"sentinel down-after-milliseconds gates {down_after}\nsentinel failover-timeout gates 3000\n"
    )
    lasting(saying("+monitor master", folder, ["redis-server", str(folder / "sentinel.conf"), "--sentinel"]))


@cache
def shared_sentinels() -> str:
    return sentinels(0).url()
