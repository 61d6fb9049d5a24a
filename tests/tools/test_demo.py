"""The demonstration shows every reason code except those in `NOT_SHOWN`, and fires no alert.

DIALGATE_WATCH sets its duration in seconds. Runs of a minute or more use the shipped alert rules, shorter runs use
faster rules.
"""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.config import loader
from dialgate.core.reasons import REASONS
from dialgate.core.refusal import Refused
from dialgate.interfaces.cli import main
from dialgate.interfaces.http.reports import period_of
from dialgate.report.rendering import ReportOrder, make_report
from dialgate.runtime.clock import wall_clock
from dialgate.tools.demo import NOT_SHOWN, DemoOptions, build
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.prometheus_server import MACHINE, exporter, prometheus
from tests.support.world import CONFIG, NOW

WATCH = int(os.environ.get("DIALGATE_WATCH", "8"))
QUICK = WATCH < 60
NUMBERS, RATE = ("5000", "120") if QUICK else ("100000", "10")


@asynccontextmanager
async def running_demo(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    words = (
        "demo",
        "--folder",
        str(folder),
        "--port",
        str(port),
        "--numbers",
        NUMBERS,
        "--rate",
        RATE,
        "--json",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dialgate", *words, "--seconds", str(WATCH),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def summary_of(process: asyncio.subprocess.Process) -> dict[str, Any]:
    out, said = await process.communicate()
    assert b"Traceback" not in said
    assert process.returncode == 0
    summary: dict[str, Any] = json.loads(out)
    return summary


async def wait_until_ready(process: asyncio.subprocess.Process) -> str:
    """Wait for the gate that serves the calls: an earlier one on its port loads the call lists. Return the output."""
    assert process.stderr is not None
    output = ""
    async for line in process.stderr:
        output += line.decode()
        if line.startswith(b"ready:"):
            return output
    raise AssertionError(f"the demonstration ended before its gate was ready: {output}")


async def operations_of(folder: Path, process: asyncio.subprocess.Process) -> str:
    """Return the host and port of the gate's operations listener, from the gate's service log."""
    while process.returncode is None:
        for line in (folder / "gate.log").read_text("utf-8").splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "ready":
                return str(event["operations"]).removeprefix("http://")
        await asyncio.to_thread(signal.sigtimedwait, [], 0.1)
    raise AssertionError("the demonstration ended before it was ready")


async def test_demo_shows_every_reason_and_fires_no_alert(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "demo"
    async with running_demo(folder, port) as process, exporter(folder / "registry_sync.prom") as node:
        output = await wait_until_ready(process)
        assert re.match(rf"http://127\.0\.0\.1:{port}/console .*key: \S+", output)
        targets = {"dialgate": [await operations_of(folder, process)], "node": [node]}
        async with prometheus(tmp_path / "prometheus", targets, quick=QUICK) as watcher:
            summary = await summary_of(process)
            fired = await watcher.fired()
            counted = await watcher.query("sum(max_over_time(dialgate_decisions_total[1d])) > 500")
    assert summary["missing"] == []
    assert set(summary["reasons"]) == REASONS.keys() - NOT_SHOWN
    assert summary["errors"] == 0
    assert counted
    assert fired - (MACHINE if QUICK else set()) <= (
        {"DialgateDown"} if QUICK else set()
    )  # after the gate has ended
    config, now = loader.load(folder / "dialgate.yaml"), wall_clock()
    period = period_of(config, "acme", now, month=month(folder))
    order = ReportOrder(controller="acme", period=period, form="json", language="en", made_at=now)
    assert json.loads(await asyncio.to_thread(make_report, config, order))["asked"] > 0


def month(folder: Path) -> str:
    """Return the month in which the demonstration ran."""
    said = (folder / "gate.log").read_text("utf-8")
    moment = re.search(r'"timestamp":"(\d{4}-\d{2})', said)
    assert moment is not None
    return moment[1]


def test_demo_replaces_only_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    wanted = DemoOptions(folder=tmp_path, countries=CONFIG / "countries", port=1)
    with pytest.raises(Refused, match="--folder"):
        build(wanted, NOW, lambda _: None)
    assert (tmp_path / "mine.txt").exists()


def test_port_in_use_is_refused_before_the_key_is_shown(tmp_path: Path) -> None:
    """A user must not send the key to the program that already uses the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = ["demo", "--folder", str(tmp_path / "demo"), "--port", str(port)]
        refused = CliRunner().invoke(main.app, words)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        f"demo.failed: port {port} on 127.0.0.1 cannot be used: Address already in use."
    )
    assert "--port" in refused.stderr
    assert "key" not in refused.output
    assert not (tmp_path / "demo").exists()


def wait_until_listening(port: int, tries: int = 300) -> None:
    for _ in range(tries):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError("nothing listens on the port")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.torture)])
def test_signal_during_loading_stops_all_processes_without_an_error(
    tmp_path: Path, number: signal.Signals
) -> None:
    """A gate that went on would hold the output open, and `communicate` would not return."""
    words = ("demo", "--folder", str(tmp_path / "demo"), "--port", str(port := free_port()))
    with subprocess.Popen(
        [sys.executable, "-m", "dialgate", *words],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while "loading" not in process.stderr.readline():
            assert process.poll() is None
        wait_until_listening(port)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (0, "stopped before the gate was started")
