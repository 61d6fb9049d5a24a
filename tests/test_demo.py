"""The demonstration shows every reason that a gate gives which is well, and fires no alert."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.demo import FAULTS, DemoError, Wanted, build
from dialgate.interfaces import cli
from dialgate.model import REASONS
from tests.ports import free_port
from tests.serving import ROOT
from tests.watching import Prometheus, exporter, prometheus
from tests.world import CONFIG, NOW

# What fires for the machine that the test runs on, which may be slow or full.
MACHINE = {
    "DialgateSlow",
    "DialgateLogSlow",
    "DialgateRevocationSlow",
    "DialgateDiskFilling",
    "DialgateDiskNearlyFull",
}


@asynccontextmanager
async def demonstrated(folder: Path, port: int, seconds: int) -> AsyncIterator[asyncio.subprocess.Process]:
    words = (
        "demo",
        "--folder",
        str(folder),
        "--port",
        str(port),
        "--numbers",
        "5000",
        "--rate",
        "120",
        "--json",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dialgate", *words, "--seconds", str(seconds),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    out, _ = await process.communicate()
    summary: dict[str, Any] = json.loads(out)
    return summary


async def looked(watcher: Prometheus, process: asyncio.subprocess.Process) -> set[str]:
    """Every alert that fired while it ran."""
    fired: set[str] = set()
    up = 'up{job="dialgate"} == 1'
    while process.returncode is None and not await watcher.query(up):
        await watcher.look()
    while process.returncode is None and await watcher.query(up):
        fired |= await watcher.firing()
        await watcher.look()
    return fired


async def test_every_reason_is_seen_and_no_alert_fires(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "demo"
    async with demonstrated(folder, port, 8) as process, exporter(folder / "registry_sync.prom") as node:
        targets = {"dialgate": [f"127.0.0.1:{port}"], "node": [node]}
        async with prometheus(tmp_path / "prometheus", targets) as watcher:
            fired = await looked(watcher, process)
            counted = await watcher.query("sum(dialgate_decisions_total offset 1s)")
        summary = await told(process)
    assert summary["missing"] == []
    assert set(summary["reasons"]) == REASONS.keys() - FAULTS
    assert summary["errors"] == 0
    assert summary["calls"] > 500
    assert fired - MACHINE <= {"DialgateDown"}  # before it has begun, and once it has ended
    assert counted
    asked = ["report", "--config", str(folder / "dialgate.yaml"), "--controller", "acme", "--format", "json"]
    found = await asyncio.to_thread(CliRunner().invoke, cli.app, [*asked, "--month", month(folder)])
    assert json.loads(found.stdout)["asked"] > 0


def month(folder: Path) -> str:
    """In which the demonstration ran."""
    said = (folder / "gate.log").read_text("utf-8")
    moment = re.search(r'"timestamp":"(\d{4}-\d{2})', said)
    assert moment is not None
    return moment[1]


def test_it_replaces_itself_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    wanted = Wanted(folder=tmp_path, countries=CONFIG / "countries", port=1)
    with pytest.raises(DemoError, match="--folder"):
        build(wanted, NOW, lambda _: None)
    assert (tmp_path / "mine.txt").exists()
