"""What the gate says about itself: in the form and at the level that was asked for, with the decision's id, and never a
called number in a log line, a metric or a span."""

import asyncio
import gzip
import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dialgate import logs, traces
from dialgate.model import DAY
from dialgate.service import wall_clock
from dialgate.telling import ServiceLog
from dialgate.traces import Traces
from tests.serving import ROOT
from tests.test_metrics import OPEN, check
from tests.world import (
    CALL,
    CLEAR,
    KEY,
    LIST,
    LISTED,
    SCOPES,
    client,
    load_list,
    publish_answers,
    running,
    write_folder,
)

STRANGE = ["+390612349912", "06 1234 9913", "+39 333 1234567 ext. 5", "tel:+393331234567", "0039061234991x"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logs.configure(ServiceLog(), {})
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_a_line_of_json_with_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ServiceLog(format="json"), {})
    structlog.get_logger("dialgate.upkeep").info("snapshot in use", version="3c6a")
    (event,) = said(capsys)
    assert event["logger"] == "dialgate.upkeep"
    assert (event["level"], event["event"], event["version"]) == ("info", "snapshot in use", "3c6a")


def test_a_person_sees_colours(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ServiceLog(format="coloured"), {})
    structlog.get_logger("dialgate.upkeep").error("not available", component="log")
    assert "\x1b[" in capsys.readouterr().err


def test_a_module_has_its_own_level_until_it_is_set_anew(capsys: pytest.CaptureFixture[str]) -> None:
    levels = ServiceLog(format="json", level="warning", levels={"dialgate.observed": "debug"})
    for wanted, heard in ((levels, ["decided"]), (ServiceLog(format="json", level="warning"), [])):
        logs.configure(wanted, {})
        structlog.get_logger("dialgate.observed").debug("decided")
        structlog.get_logger("dialgate.upkeep").info("snapshot in use")
        assert [event["event"] for event in said(capsys)] == heard


def test_the_environment_goes_before(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ServiceLog(format="coloured"), {"DIALGATE_LOG": "json, error, dialgate.observed=debug"})
    structlog.get_logger("dialgate.upkeep").warning("unheard")
    structlog.get_logger("dialgate.observed").debug("heard")
    assert [event["event"] for event in said(capsys)] == ["heard"]


@pytest.mark.parametrize("text", ["loud", "dialgate.service=loud", "json,colour"])
def test_an_environment_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(logs.LogMisset, match="DIALGATE_LOG"):
        logs.configure(ServiceLog(), {"DIALGATE_LOG": text})


async def test_every_decision_is_said_with_its_id_where_that_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(ServiceLog(format="json", levels={"dialgate.observed": "debug"}), {})
    async with running(tmp_path) as world:
        await load_list(world)
        allowed, denied = await check(world.client), await check(world.client, to=LISTED)
    decided = {each["decision_id"]: each for each in said(capsys) if each["event"] == "decided"}
    assert decided[allowed["decision_id"]]["decision"] == "allow"
    assert decided[denied["decision_id"]]["code"] == "registry.listed"


# ---- traces ----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_a_span_and_each_of_its_calls_another_within_it(tmp_path: Path) -> None:
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with running(tmp_path) as world:
        await load_list(world)
        world.gate.traces = Traces(provider)
        calls = {"calls": [{**CALL, "to": number} for number in (CLEAR, LISTED)]}
        async with world.client.post("/v1/checks", json=calls) as answer:
            told = (await answer.json())["answers"]
    whole, checks = spans.get_finished_spans()[-1], spans.get_finished_spans()[:-1]
    assert whole.name == "batch"
    assert dict(whole.attributes or {}) == {"dialgate.calls": 2}
    for span, decision in zip(checks, told, strict=True):
        assert span.parent is not None
        assert span.parent.span_id == whole.context.span_id
        attributes = dict(span.attributes or {})
        assert attributes["dialgate.decision_id"] == decision["decision_id"]
        assert attributes["dialgate.campaign"] == "acme-fibre"
        assert (span.start_time or 0) <= (span.end_time or 0)


def test_no_traces_are_made_where_none_are_wanted() -> None:
    assert traces.opened(None, "gate") is None


def test_traces_without_the_sdk_say_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from dialgate import traces; from dialgate.telling import TracesTo\n"
        "traces.opened(TracesTo(endpoint='http://127.0.0.1:1/'), 'gate')"
    )
    done = subprocess_run(program)
    assert "pip install 'dialgate[otel]'" in done


def subprocess_run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.stderr


# ---- nobody's number -------------------------------------------------------------------------------------------------


class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        return web.Response(body=b"", content_type="application/x-protobuf")

    def told(self) -> str:
        parts = [gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for body in self.bodies]
        return "\n".join(str(ExportTraceServiceRequest.FromString(part)) for part in parts)


def shown(text: str, number: str) -> bool:
    """Whether the number stands there, however it is spaced."""
    digits = re.sub(r"\D", "", number)[-9:]
    return digits in re.sub(r"(?<=\d)[ ./()-]+(?=\d)", "", text)


async def everything_asked(url: str) -> str:
    """Calls of every kind, good and broken, by every door of HTTP; and what /metrics and /readyz then say."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with ClientSession(url, headers=headers) as session:
        async with session.post("/v1/lists", json=LIST) as answer:
            assert answer.status == 201, await answer.text()
        for number in (CLEAR, LISTED, *STRANGE):
            told = await check(session, to=number, call_id=number)
            if told.get("decision") == "allow":
                report = {"decision_id": told["decision_id"], "outcome": "opt_out"}
                await (await session.post("/v1/outcomes", json=report)).read()
            await (await session.post("/v1/check", json={**CALL, "campaign": number, "from": number})).read()
            await (await session.get("/v1/check.txt", params={**CALL, "to": number})).read()
            await (await session.post("/v1/check", data=f'{{"to": "{number}"')).read()
            await (await session.get(f"/v1/subjects/{number}", params={"purpose": number})).read()
            await (await session.get("/v1/decisions", params={"number": number, "purpose": "x"})).read()
            await (await session.post("/v1/revocations", json={"number": number, "channel": "call"})).read()
            await (await session.post("/v1/consents", json={"number": number, "id": number})).read()
            await (await session.get(f"/{number}")).read()
        pages = [await (await session.get(path, headers=OPEN)).text() for path in ("/metrics", "/readyz")]
    return "\n".join(pages)


async def test_no_called_number_reaches_a_log_line_a_metric_or_a_span(tmp_path: Path) -> None:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    path = write_folder(
        tmp_path,
        clients=[client("tests", KEY, *SCOPES, "subjects")],
        service_log={"format": "json", "level": "debug"},
        traces={"endpoint": endpoint, "share": 1.0},
    )
    publish_answers(tmp_path / "data", {CLEAR: False, LISTED: True}, wall_clock() - DAY)
    words = (sys.executable, "-m", "dialgate", "serve", "--config", str(path))
    gate = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    assert gate.stderr is not None
    lines: list[bytes] = []
    async for line in gate.stderr:
        lines.append(line)
        if json.loads(line)["event"] == "ready":
            break
    pages = await everything_asked(json.loads(lines[-1])["url"])
    gate.send_signal(signal.SIGTERM)
    lines.append(await gate.stderr.read())
    assert await gate.wait() == 0
    await runner.cleanup()
    said_all = b"".join(lines).decode()
    assert said_all.count('"decided"') > 10
    assert collector.told().count('name: "check"') > 10
    for number in (CLEAR, LISTED, *STRANGE):
        for where, text in (("log", said_all), ("metrics", pages), ("traces", collector.told())):
            assert not shown(text, number), where


def test_a_number_is_found_however_it_is_written() -> None:
    assert shown(f"said {CLEAR[:6]} {CLEAR[6:]} and more", CLEAR)
    assert not shown("4711 and 4712", CLEAR)
