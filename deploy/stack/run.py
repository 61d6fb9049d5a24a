"""Run the stack without containers: the services of compose.yaml as processes of this machine, from Debian's packages.

    python run.py FOLDER [NAME=PORT ...]

All state is in FOLDER, so the next start continues where this one ends. A process that ends is started again, as
`restart: always` does. Ctrl-C ends all, in the reverse order of their start.
"""

import asyncio
import fcntl
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from urllib.request import urlopen

from msgspec import Struct

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BIN = Path(sys.executable).parent
PORTS = {
    "haproxy": 8443, "gate-1": 8081, "gate-2": 8082, "operations-1": 9464, "operations-2": 9465,
    "redis-1": 6381, "redis-2": 6382, "sentinel-1": 26381, "sentinel-2": 26382, "sentinel-3": 26383,
    "prometheus": 9090, "alertmanager": 9093, "node-exporter": 9100, "haproxy-metrics": 8405,
}  # fmt: skip
REDIS = ("redis-1", "redis-2")
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
PACKAGES = {
    "redis-server": "redis-server", "redis-cli": "redis-tools", "haproxy": "haproxy", "openssl": "openssl",
    "prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
}  # fmt: skip
_READY_SECONDS, _END_SECONDS, _AGAIN_SECONDS, _DAY_SECONDS = 60, 40, 1, 86_400


class Service(Struct, frozen=True):
    """A program of the stack, and the question whether it is ready."""

    name: str
    words: list[str]
    is_ready: Callable[[], bool]


def kind_of(service: Service) -> str:
    """Services of one kind start and end together."""
    return service.name.partition("-")[0]


class Running(Struct):
    """A service with its process, and the task that starts it again."""

    service: Service
    process: asyncio.subprocess.Process
    keeping: asyncio.Task[None] | None = None


class NotStarted(Exception):
    """Raised if a service does not start."""


class Stack:
    """The running services, in the order of their start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Running] = []

    async def start(self, service: Service) -> None:
        """Start a service and wait until it is ready. Whenever it ends, it is started again."""
        running = Running(service, await self._spawn(service))
        self._running.append(running)
        deadline = time.monotonic() + _READY_SECONDS
        while not await asyncio.to_thread(service.is_ready):
            if running.process.returncode is not None or time.monotonic() > deadline:
                raise NotStarted(f"{service.name} is not ready. Read {self._folder}/log/{service.name}.log")
            await asyncio.sleep(0.1)
        running.keeping = asyncio.create_task(self._keep(running))

    async def _keep(self, running: Running) -> None:
        while True:
            if status := await running.process.wait():
                print(f"{running.service.name} ended with status {status} and is started again", flush=True)
                await asyncio.sleep(_AGAIN_SECONDS)
            running.process = await self._spawn(running.service)

    async def _spawn(self, service: Service) -> asyncio.subprocess.Process:
        # `setpriv` ends the service if this program is killed. A session of its own keeps Ctrl-C away from it.
        words = ["setpriv", "--pdeathsig", "TERM", "--", *service.words]
        with (self._folder / f"log/{service.name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *words, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        # Replaced whole, because it may be read meanwhile.
        written = self._folder / f"log/{service.name}.new"
        written.write_text(str(process.pid))
        written.replace(written.with_suffix(".pid"))
        return process

    async def stop(self) -> None:
        """End the services, those of one kind together."""
        for _, kind in groupby(reversed(self._running), lambda running: kind_of(running.service)):
            await asyncio.gather(*map(self._end, kind))

    async def _end(self, running: Running) -> None:
        if running.keeping is not None:
            running.keeping.cancel()
            await asyncio.wait([running.keeping])
        with suppress(ProcessLookupError):
            running.process.terminate()
        try:
            await asyncio.wait_for(running.process.wait(), _END_SECONDS)
        except TimeoutError:
            running.process.kill()
            await running.process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_well(port: int, path: str) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=1):
            return True
    except OSError:
        return False


def write_files(folder: Path, ports: Mapping[str, int]) -> None:
    """Write the files of this folder with the addresses and paths of this machine to FOLDER/etc."""
    here = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    common = {
        "gate-1:8080": here["gate-1"], "gate-2:8080": here["gate-2"],
        "gate-1:9464": here["operations-1"], "gate-2:9464": here["operations-2"],
        "alertmanager:9093": here["alertmanager"], "node-exporter:9100": here["node-exporter"],
        "haproxy:8405": here["haproxy-metrics"],
        "bind :8443": f"bind {here['haproxy']}", "bind :8405": f"bind {here['haproxy-metrics']}",
        "/etc/haproxy/certificate": str(folder / "haproxy"), "172.30.44.2/32": "127.0.0.1/32",
        "/var/lib/shipped": str(folder / "shipped"), "/var/lib/node_exporter": str(folder / "textfile"),
    }  # fmt: skip
    etc = folder / "etc"
    for name in (
        "gate-1.yaml",
        "gate-2.yaml",
        "registries.yaml",
        "haproxy.cfg",
        "prometheus.yml",
        "alertmanager.yml",
    ):
        number = "2" if name == "gate-2.yaml" else "1"
        own = {
            "host: 0.0.0.0, port: 8080": f"host: 127.0.0.1, port: {ports[f'gate-{number}']}",
            "host: 0.0.0.0, port: 9464": f"host: 127.0.0.1, port: {ports[f'operations-{number}']}",
            "/var/lib/dialgate": str(folder / f"gate-{number}"), "gate: dialgate.yaml": "gate: gate-1.yaml",
        }  # fmt: skip
        text = (HERE / name).read_text("utf-8")
        for shipped, local in (common | own).items():
            text = text.replace(shipped, local)
        (etc / name).write_text(text, "utf-8")
    shutil.copy(ROOT / "deploy/prometheus/dialgate.rules.yml", etc)


def make_folders(folder: Path, config: Path) -> None:
    for name in (
        "etc",
        "log",
        "textfile",
        "shipped",
        "gate-1/snapshots",
        "gate-2",
        "prometheus",
        "alertmanager",
    ):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    for link, target in (
        ("gate-2/snapshots", Path("../gate-1/snapshots")),
        *((f"etc/{name}", config / name) for name in ("countries", "controllers", "webhooks")),
    ):
        if not (folder / link).is_symlink():
            (folder / link).symlink_to(target)


def services(folder: Path, ports: Mapping[str, int]) -> list[Service]:
    """Return the services in the order of their start."""
    etc, sentinels = folder / "etc", [f"127.0.0.1:{ports[name]}" for name in SENTINELS]
    redis = [
        Service(
            name,
            [str(HERE / "redis.sh"), str(folder / name), "127.0.0.1", str(ports[name]), *sentinels],
            partial(accepts, ports[name]),
        )
        for name in REDIS
    ]
    watching = [
        Service(
            name,
            ["redis-server", str(folder / name / "sentinel.conf"), "--sentinel"],
            partial(accepts, ports[name]),
        )
        for name in SENTINELS
    ]
    gates = [
        Service(
            f"gate-{number}",
            [str(BIN / "dialgate"), "serve", "--config", str(etc / f"gate-{number}.yaml")],
            partial(is_well, ports[f"operations-{number}"], "/readyz"),
        )
        for number in (1, 2)
    ]
    shipping = [
        Service(
            f"ship-{number}",
            [str(BIN / "dialgate"), "ship", "--config", str(etc / f"gate-{number}.yaml")],
            lambda: True,
        )
        for number in (1, 2)
    ]
    job = [str(BIN / "registry-sync"), "run", "--registries", str(etc / "registries.yaml")]
    listen = {name: f"--web.listen-address=127.0.0.1:{ports[name]}" for name in ports}
    return [
        *redis, *watching, *gates, *shipping,
        Service("registry-sync", job, lambda: True),
        Service("haproxy", ["haproxy", "-db", "-f", str(etc / "haproxy.cfg")], partial(accepts, ports["haproxy"])),
        Service(
            "node-exporter",
            ["prometheus-node-exporter", listen["node-exporter"], "--collector.disable-defaults", "--collector.textfile",
             f"--collector.textfile.directory={folder / 'textfile'}"],
            partial(accepts, ports["node-exporter"]),
        ),
        Service(
            "alertmanager",
            ["prometheus-alertmanager", f"--config.file={etc / 'alertmanager.yml'}", listen["alertmanager"],
             f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address="],
            partial(is_well, ports["alertmanager"], "/-/ready"),
        ),
        Service(
            "prometheus",
            ["prometheus", f"--config.file={etc / 'prometheus.yml'}", listen["prometheus"],
             f"--storage.tsdb.path={folder / 'prometheus'}"],
            partial(is_well, ports["prometheus"], "/-/ready"),
        ),
    ]  # fmt: skip


def import_answers(folder: Path) -> None:
    """Import the sample's registry answers again, unless they are of today. They never expire this way."""
    manifest = folder / "gate-1/snapshots/manifest.json"
    if manifest.exists() and time.time() - manifest.stat().st_mtime < _DAY_SECONDS:
        return
    sample, now = ROOT / "config/sample", datetime.now(UTC)
    _run(
        folder, "registry-sync", "import", "--registry", "rpo", "--controller", "acme", "--same-answer",
        "--request", str(sample / "rpo-request.txt"), "--answer", str(sample / "rpo-answer.txt"),
        "--consulted-at", now.isoformat(timespec="seconds"), "--receipt", f"SAMPLE-{now:%s}",
    )  # fmt: skip


def load_sample(folder: Path) -> None:
    """Load the sample's call list, if there is no list yet."""
    if not list((folder / "gate-1").glob("lists/*")):
        _run(
            folder, "dialgate", "list", "load", str(ROOT / "config/sample/list.csv"), "--id", "sample",
            "--controller", "acme", "--campaign", "acme-fibre", "--basis", "directory", "--origin", "public_directory",
            "--collected-by", "the public directory (a sample)", "--collected-on", "2026-11-02", "--yes",
        )  # fmt: skip


def _run(folder: Path, program: str, *words: str) -> None:
    command = [str(BIN / program), *words, "--config", str(folder / "etc/gate-1.yaml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{program} {words[0]}: {done.stderr or done.stdout}")


def refuse_missing_programs() -> None:
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if missing:
        raise SystemExit(
            "These programs are missing. Install them, and disable their services, which are not used here:\n"
            f"  sudo apt-get install --no-install-recommends {' '.join(missing)}"
        )


def describe(folder: Path, ports: Mapping[str, int]) -> str:
    return f"""
dialers, console  https://localhost:{ports["haproxy"]} and /console
gates             http://127.0.0.1:{ports["operations-1"]}/readyz, http://127.0.0.1:{ports["operations-2"]}/readyz
Prometheus        http://127.0.0.1:{ports["prometheus"]}
Alertmanager      http://127.0.0.1:{ports["alertmanager"]}
keys              {folder}/gate-1/dialer.key, {folder}/gate-1/supervisor.key
certificate       {folder}/haproxy/haproxy.pem
logs, processes   {folder}/log

Try it:
  curl -s --cacert {folder}/haproxy/haproxy.pem -H "Authorization: Bearer $(cat {folder}/gate-1/dialer.key)" \\
    https://localhost:{ports["haproxy"]}/v1/check -d '{{"to":"+390612345671","from":"+390844123456","campaign":"acme-fibre"}}'
Restart a node:  kill $(cat {folder}/log/gate-1.pid)
End:             Ctrl-C
"""


async def run(folder: Path, ports: Mapping[str, int]) -> None:
    """Start every service, and end them on SIGINT or SIGTERM. Raises `NotStarted`."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stack = Stack(folder)
    try:
        starting, stopping = (
            asyncio.create_task(start(stack, folder, ports)),
            asyncio.create_task(stop.wait()),
        )
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
        starting.cancel()
        await asyncio.wait([starting])
    finally:
        print("ending", flush=True)
        await stack.stop()


async def start(stack: Stack, folder: Path, ports: Mapping[str, int]) -> None:
    for _, kind in groupby(services(folder, ports), kind_of):
        await asyncio.gather(*map(stack.start, kind))
    await asyncio.to_thread(load_sample, folder)
    print(describe(folder, ports), flush=True)


def main(folder: Path, changes: dict[str, int]) -> None:
    refuse_missing_programs()
    make_folders(folder, ROOT / "config")
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"a stack runs in {folder} already") from None
        kept = folder / "ports.json"  # Redis and the Sentinels remember them
        earlier = json.loads(kept.read_text()) if kept.exists() else {}
        ports = PORTS | earlier | changes
        if taken := [f"{name} {port}" for name, port in ports.items() if accepts(port)]:
            raise SystemExit(
                f"ports in use: {', '.join(taken)}. Choose others at the first start: make stack PORTS='NAME=PORT …'"
            )
        kept.write_text(json.dumps(ports))
        addresses = [f"{name}=127.0.0.1:{ports[name]}" for name in (*REDIS, *SENTINELS)]
        subprocess.run([sys.executable, str(HERE / "prepare.py"), str(folder), *addresses], check=True)
        write_files(folder, ports)
        import_answers(folder)
        try:
            asyncio.run(run(folder, ports))
        except NotStarted as error:
            raise SystemExit(str(error)) from None


if __name__ == "__main__":
    given = dict(word.split("=") for word in sys.argv[2:])
    main(Path(sys.argv[1]).resolve(), {name: int(port) for name, port in given.items()})
