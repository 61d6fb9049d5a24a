"""Tests of the service log and of traces: format, levels and decision ids."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dialgate.config.log_settings import ServiceLog
from dialgate.observability import service_log
from dialgate.observability.traces import Traces
from tests.observability.test_metrics import check
from tests.support.paths import ROOT
from tests.support.world import (
    CALL,
    CLEAR,
    LISTED,
    load_list,
    running,
)

STRANGE = ["+390612349912", "06 1234 9913", "+39 333 1234567 ext. 5", "tel:+393331234567", "0039061234991x"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Restore the logging of the process after each test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    service_log.configure(ServiceLog(), {})
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_a_line_of_json_with_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    service_log.configure(ServiceLog(format="json"), {})
    structlog.get_logger("dialgate.gate.upkeep").info("snapshot in use", version="3c6a")
    (event,) = said(capsys)
    assert event["logger"] == "dialgate.gate.upkeep"
    assert (event["level"], event["event"], event["version"]) == ("info", "snapshot in use", "3c6a")


def test_a_terminal_gets_colours(capsys: pytest.CaptureFixture[str]) -> None:
    service_log.configure(ServiceLog(format="coloured"), {})
    structlog.get_logger("dialgate.gate.upkeep").error("not available", component="log")
    assert "\x1b[" in capsys.readouterr().err


def test_a_module_has_its_own_level_until_it_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    levels = ServiceLog(format="json", level="warning", levels={"dialgate.observed": "debug"})
    for wanted, heard in ((levels, ["decided"]), (ServiceLog(format="json", level="warning"), [])):
        service_log.configure(wanted, {})
        structlog.get_logger("dialgate.observed").debug("decided")
        structlog.get_logger("dialgate.gate.upkeep").info("snapshot in use")
        assert [event["event"] for event in said(capsys)] == heard


def test_the_environment_overrides_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    service_log.configure(
        ServiceLog(format="coloured"), {"DIALGATE_LOG": "json, error, dialgate.observed=debug"}
    )
    structlog.get_logger("dialgate.gate.upkeep").warning("unheard")
    structlog.get_logger("dialgate.observed").debug("heard")
    assert [event["event"] for event in said(capsys)] == ["heard"]


@pytest.mark.parametrize("text", ["loud", "dialgate.service=loud", "json,colour"])
def test_an_invalid_environment_variable_is_refused(text: str) -> None:
    with pytest.raises(service_log.LogMisset, match="DIALGATE_LOG"):
        service_log.configure(ServiceLog(), {"DIALGATE_LOG": text})


async def test_every_decision_is_logged_with_its_id_if_configured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service_log.configure(ServiceLog(format="json", levels={"dialgate.observed": "debug"}), {})
    async with running(tmp_path) as world:
        await load_list(world)
        allowed, denied = await check(world.client), await check(world.client, to=LISTED)
    decided = {line["decision_id"]: line for line in said(capsys) if line["event"] == "decided"}
    assert decided[allowed["decision_id"]]["decision"] == "allow"
    assert decided[denied["decision_id"]]["code"] == "registry.listed"


# ---- traces ----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_a_span_with_a_child_span_for_each_call(tmp_path: Path) -> None:
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with running(tmp_path, traces=Traces(provider)) as world:
        await load_list(world)
        called = ((CLEAR, "acme-fibre"), (LISTED, "acme-fibre"), (CLEAR, "no-such"))
        calls = {"calls": [{**CALL, "to": number, "campaign": name} for number, name in called]}
        async with world.client.post("/v1/checks", json=calls) as answer:
            response = (await answer.json())["answers"]
    whole, checks = spans.get_finished_spans()[-1], spans.get_finished_spans()[:-1]
    assert whole.name == "batch"
    assert dict(whole.attributes or {}) == {"dialgate.calls": 3}
    campaigns = ("acme-fibre", "acme-fibre", "other")
    for span, decision, campaign in zip(checks, response, campaigns, strict=True):
        assert span.parent is not None
        assert span.parent.span_id == whole.context.span_id
        attributes = dict(span.attributes or {})
        assert attributes["dialgate.decision_id"] == decision["decision_id"]
        assert attributes["dialgate.campaign"] == campaign
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0 < span.start_time <= span.end_time


def test_traces_without_the_sdk_say_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from dialgate.observability import traces; from dialgate.config.log_settings import TracesTo\n"
        "traces.open_traces(TracesTo(endpoint='http://127.0.0.1:1/'), 'gate')"
    )
    done = subprocess_run(program)
    assert "pip install 'dialgate[otel]'" in done


def subprocess_run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.stderr
