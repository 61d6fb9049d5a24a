"""A real Prometheus server that scrapes several times a second, so that tests need not wait for minutes."""

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

from tests.support import yaml_files
from tests.support.fired_alerts import REPORTED
from tests.support.paths import ROOT
from tests.support.world import KEY

# Alerts that may fire because the test machine is slow or its disk is full.
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
        """Return the result of an instant query."""
        async with self.client.post("/api/v1/query", data={"query": expression}) as answer:
            body = await answer.json()
        assert body["status"] == "success", body
        result: list[dict[str, Any]] = body["data"]["result"]
        return result

    async def firing(self) -> set[str]:
        async with self.client.get("/api/v1/alerts") as answer:
            alerts = (await answer.json())["data"]["alerts"]
        firing = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
        REPORTED.update(firing)
        return firing

    async def fired(self) -> set[str]:
        """Return every alert that has fired since the start."""
        samples = await self.query('max_over_time(ALERTS{alertstate="firing"}[1d])')
        return {sample["metric"]["alertname"] for sample in samples}

    async def until(self, condition: Callable[[set[str]], bool], seconds: float = 15) -> set[str]:
        """Wait up to `seconds` until the firing alerts meet the condition. Return the firing alerts."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            firing = await self.firing()
            if condition(firing) or loop.time() > deadline:
                return firing
            await self.look()

    async def look(self) -> None:
        """Wait until every target has been scraped again and the rules have been evaluated.

        The first call takes several seconds.
        """
        begun = await self._rounds()
        while await self._rounds() <= begun + 2:
            await asyncio.to_thread(signal.sigtimedwait, [], 0.02)

    async def _rounds(self) -> int:
        samples = await self.query("min(count_over_time(up[1h]))")
        return int(samples[0]["value"][1]) if samples else 0


def shorten_intervals(rules: Path, hold: str = "400ms") -> dict[str, Any]:
    """Return the rules with every `for` replaced by `hold`, so that alerts fire quickly."""
    loaded: dict[str, Any] = yaml_files.read(rules)
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
    """Run Prometheus with the rules in `deploy`.

    `targets` maps a job to its `host:port` entries. `quick` shortens the intervals and the `for` of the rules.
    """
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
        reading = asyncio.create_task(_discard_output(process.stderr))
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
    rules = yaml.safe_dump(shorten_intervals(RULES)) if quick else RULES.read_text("utf-8")
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
    yaml_files.write(folder / "prometheus.yml", config)


async def _address(process: asyncio.subprocess.Process) -> str:
    """Wait until Prometheus is ready. Return its `host:port`."""
    assert process.stderr is not None
    output, address = b"", ""
    async for line in process.stderr:
        output += line
        match = _LISTENING.search(line)
        if match:
            address = (match[1] or match[2]).decode()
        # On a busy machine it may log that it is ready before it logs its address.
        if address and b"Server is ready" in output:
            return address
    raise AssertionError(f"Prometheus did not start. Its output:\n{output.decode()}")


async def _discard_output(stream: asyncio.StreamReader) -> None:
    async for _ in stream:
        continue


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


@asynccontextmanager
async def exporter(textfile: Path) -> AsyncIterator[str]:
    """Serve a text file as the node exporter does. Yields `host:port`."""

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
