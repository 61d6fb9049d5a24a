"""A real Prometheus as a process of its own, that looks several times a second, so that a test need not wait for minutes."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientSession, ClientTimeout, web
from msgspec import Struct

from tests.support.fired_alerts import REPORTED
from tests.support.paths import ROOT
from tests.support.world import KEY

# What fires for the machine that the test runs on, which may be slow or full.
MACHINE = {
    "DialgateSlow",
    "DialgateLogSlow",
    "DialgateRevocationSlow",
    "DialgateDiskFilling",
    "DialgateDiskNearlyFull",
}


RULES = ROOT / "deploy" / "prometheus" / "dialgate.rules.yml"
_EVERY = "200ms"
_AS_SHIPPED = "15s"  # as deploy/prometheus/prometheus.yml has it
_LISTENING = re.compile(rb'msg="Listening on" address=(\S+)|"Listening on".*"address":"([^"]+)"')


class Prometheus(Struct, frozen=True):
    client: ClientSession

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant vector, or what a matrix or scalar comes to."""
        async with self.client.post("/api/v1/query", data={"query": expression}) as answer:
            told = await answer.json()
        assert told["status"] == "success", told
        result: list[dict[str, Any]] = told["data"]["result"]
        return result

    async def firing(self) -> set[str]:
        async with self.client.get("/api/v1/alerts") as answer:
            told = await answer.json()
        firing = {each["labels"]["alertname"] for each in told["data"]["alerts"] if each["state"] == "firing"}
        REPORTED.update(firing)
        return firing

    async def fired(self) -> set[str]:
        """The alerts that have fired at any time."""
        found = await self.query('max_over_time(ALERTS{alertstate="firing"}[1d])')
        return {each["metric"]["alertname"] for each in found}

    async def until(self, condition: Callable[[set[str]], bool], seconds: float = 15) -> set[str]:
        """The alerts that fire, once they fulfil the condition, or when the time is over. It waits for its own looks at a
        process of another's."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            firing = await self.firing()
            if condition(firing) or loop.time() > deadline:
                return firing
            await self.look()

    async def look(self) -> None:
        """Returns after it has scraped every target anew and judged what it saw. Its first look takes some seconds."""
        begun = await self._rounds()
        while await self._rounds() <= begun + 2:
            await asyncio.to_thread(signal.sigtimedwait, [], 0.02)

    async def _rounds(self) -> int:
        found = await self.query("min(count_over_time(up[1h]))")
        return int(found[0]["value"][1]) if found else 0


def quickened(rules: Path, hold: str = "400ms") -> dict[str, Any]:
    """The same rules, of which none waits for minutes before it fires, but for `hold`."""
    loaded: dict[str, Any] = yaml.safe_load(rules.read_text("utf-8"))
    for group in loaded["groups"]:
        group["interval"] = _EVERY
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = hold
    return loaded


@asynccontextmanager
async def prometheus(
    folder: Path, targets: Mapping[str, Sequence[str]], *, quick: bool = True
) -> AsyncIterator[Prometheus]:
    """`targets`: of each job, host and port. With the rules of `deploy`, quickened or as they are."""
    _configure(folder, targets, quick=quick)
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    reading: asyncio.Task[None] | None = None
    try:
        address = await _address(process)
        assert process.stderr is not None
        reading = asyncio.create_task(_drained(process.stderr))
        async with ClientSession(f"http://{address}", timeout=ClientTimeout(total=10)) as client:
            yield Prometheus(client)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if reading is not None:
            await reading
        await process.wait()


def _configure(folder: Path, targets: Mapping[str, Sequence[str]], *, quick: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rules = yaml.safe_dump(quickened(RULES)) if quick else RULES.read_text("utf-8")
    (folder / "rules.yml").write_text(rules, "utf-8")
    every = _EVERY if quick else _AS_SHIPPED
    config = {
        "global": {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": list(hosts)}],
                "authorization": {"credentials": KEY},
            }
            for job, hosts in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")


async def _address(process: asyncio.subprocess.Process) -> str:
    """Where it listens, once it answers."""
    assert process.stderr is not None
    said, address = b"", ""
    async for line in process.stderr:
        said += line
        found = _LISTENING.search(line)
        if found:
            address = (found[1] or found[2]).decode()
        if b"Server is ready" in line:
            return address
    raise AssertionError(f"Prometheus did not start; it said:\n{said.decode()}")


async def _drained(stream: asyncio.StreamReader) -> None:
    async for _ in stream:
        continue


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


@asynccontextmanager
async def exporter(textfile: Path) -> AsyncIterator[str]:
    """Serves a text file as the node exporter would. Where: host and port."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=_text(textfile))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
