"""README says what the code does: its tables hold every code, key, endpoint, command and metric, and none that is not."""

import re
import shlex
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from msgspec import NODEFAULT, Struct
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command
from typer.testing import CliRunner

from dialgate.config.clients import Client
from dialgate.config.controllers import CampaignFile, ControllerFile
from dialgate.config.listeners import FastAgi, Limits, Listen, Operations, Sip, SipTrunk
from dialgate.config.log_settings import ServiceLog, TracesTo
from dialgate.config.retention_terms import Retention
from dialgate.config.settings import Settings, SharedStore
from dialgate.config.shipping import Shipping, StreamTo
from dialgate.config.storage_periods import Storage
from dialgate.config.webhook_targets import Webhook
from dialgate.core.model import REASONS
from dialgate.interfaces import http_application
from dialgate.interfaces.cli import main
from dialgate.interfaces.http import openapi
from dialgate.interfaces.http.errors import CODES
from dialgate.interfaces.workers import siblings
from dialgate.observability.metrics import Calls, Metrics
from dialgate.shipping.status import measured
from registry_sync import cli as sync_cli
from registry_sync.alarms import Kind
from registry_sync.config import Asked, Listed, Registries
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def rows(after: str, columns: int = 2) -> list[list[str]]:
    """The cells of the first table after a heading, or another text, without their code marks."""
    _, found, rest = README.partition(f"\n{after}")
    assert found, after
    table = re.search(r"(?:^\|.*\|$\n?)+", rest, re.MULTILINE)
    assert table is not None
    cells = [
        [cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        for line in table[0].splitlines()[2:]
    ]
    assert all(len(row) >= columns and row[-1] for row in cells), "a row without its meaning"
    return cells


def test_every_reason_with_its_text() -> None:
    assert rows("## Reasons") == [list(pair) for pair in REASONS.items()]


def test_every_error_with_its_status_and_text() -> None:
    told = [[str(status), code, text.replace("`", "")] for code, (status, text) in CODES.items()]
    assert rows("Every error has one shape") == told


def test_every_endpoint_with_its_scope() -> None:
    served = [
        [f"{each.method} {openapi.plain(each.path)}", each.scope or "any" * each.any_key]
        for each in http_application.EVERY
    ]
    assert [row[:2] for row in rows("## Endpoints", 3)] == served


def exposed() -> dict[str, tuple[str, list[str]]]:
    """Name, kind and labels of each metric, as Prometheus sees them."""
    ends = {"counter": "_total", "info": "_info"}
    return {
        f"{metric.name}{ends.get(metric.type, '')}": (
            metric.type,
            list(getattr(metric if isinstance(collector, Calls) else collector, "_labelnames", ())),
        )
        for collector in vars(Metrics(CollectorRegistry())).values()
        if isinstance(collector, (MetricWrapperBase, Calls))
        for metric in collector.describe()
    }


def shipping_told() -> set[str]:
    """The names of what `dialgate ship` tells."""
    return {family.name for family in measured({}, 0).collect()}


def test_every_metric_with_its_labels() -> None:
    told = {
        name: (kind, labels.split(", ") if labels else []) for name, kind, labels, _ in rows("## Metrics", 4)
    }
    assert told == exposed()


def default(field: Any) -> str:
    """As the table shows it: what must be given, what is off or empty, a section of its own."""
    if field.required:
        return "required"
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    if isinstance(value, Struct) or field.name in {"clients", "subscribers"}:
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return {"": "none", "None": "none", "()": "none", "False": "false", "True": "true"}.get(text, text)


SECTIONS = [
    ("**`dialgate.yaml`**", Settings),
    ("**`listen`**", Listen),
    ("**`operations`**", Operations),
    ("**`limits`**", Limits),
    ("**`storage`**", Storage),
    ("**`shipping`**", Shipping),
    ("**`stream`** of", StreamTo),
    ("**`fastagi`**", FastAgi),
    ("**`sip`**", Sip),
    ("**`trunks`**", SipTrunk),
    ("**`store`**", SharedStore),
    ("**`clients`**", Client),
    ("**`subscribers`**", Webhook),
    ("**`retention`**", Retention),
    ("**`service_log`**", ServiceLog),
    ("**`traces`**", TracesTo),
    ("**`controllers/*.yaml`**", ControllerFile),
    ("**`campaigns`**", CampaignFile),
    ("**`registries.yaml`**", Registries),
    ("**`asked`**", Asked),
    ("**`listed`**", Listed),
]


@pytest.mark.parametrize(("section", "kind"), SECTIONS, ids=[kind.__name__ for _, kind in SECTIONS])
def test_every_setting_with_its_default(section: str, kind: type[Struct]) -> None:
    told = {key: value for key, value, _ in rows(section, 3)}
    assert told == {field.name: default(field) for field in msgspec.structs.fields(kind)}


def test_every_alarm_of_the_nightly_job() -> None:
    assert [name for name, _ in rows("With the Italian registry's web area")] == list(get_args(Kind))


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "list_commands"):
        for each in command.list_commands(None):
            yield from leaves(command.get_command(None, each), f"{name} {each}")
    elif not command.hidden:
        yield name, command


PROGRAMS = {"dialgate": main.app, "registry-sync": sync_cli.app}
COMMANDS = dict(leaf for name, app in PROGRAMS.items() for leaf in leaves(get_command(app), name))


def test_every_command_in_the_order_of_its_help() -> None:
    assert [name for name, _ in rows("## Commands")] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_that_its_options_allow(name: str) -> None:
    program, *words = name.split()
    shown = CliRunner().invoke(PROGRAMS[program], [*words, "--help"])
    assert shown.exit_code == 0
    wanted = f"{name} "
    examples = [text for text in (COMMANDS[name].help or "").split("\n\n") if f"{text} ".startswith(wanted)]
    examples += re.findall(rf"Example: ({re.escape(name)}[^\0]*)", COMMANDS[name].help or "")
    assert examples
    for example in examples:
        assert set(re.findall(r"(?<!\S)--[a-z0-9-]+", example)) <= options(name), example


def options(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts} | {"--help"}


def lines_to_type() -> list[list[str]]:
    """The commands of ours in README's shell blocks, as words."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [shlex.split(line, comments=True) for line in lines if line.startswith(".venv/bin/")]
    return [[words[0].removeprefix(".venv/bin/"), *words[1:]] for words in typed]


def test_what_a_reader_is_told_to_type_is_a_command_with_these_options() -> None:
    assert lines_to_type()
    for words in lines_to_type():
        name = next(name for name in COMMANDS if words[: len(name.split())] == name.split())
        assert {word for word in words if word.startswith("--")} <= options(name), words


def test_no_code_metric_or_make_target_is_named_that_is_not_there() -> None:
    families = {code.partition(".")[0] for code in (*REASONS, *CODES)}
    named = set(re.findall(r"\b([a-z_]+\.[a-z_]+)\b", README))
    codes = {name for name in named if name.partition(".")[0] in families}
    assert codes - {*REASONS, *CODES} <= {"ledger.durable", "store.db"}
    assert set(re.findall(r"dialgate_[a-z_]+", README)) <= exposed().keys() | {
        siblings.UP,
        "dialgate_reconcile_findings",
        *shipping_told(),
    }
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"\bmake ([a-z]+)`?$|`make ([a-z]+)", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target


def test_the_architecture_page_names_files_that_exist() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_.]+)?)`", page)
    assert len(named) > 30
    assert [
        name for name in named if not ((ROOT / name).exists() or (ROOT / "dialgate" / name).exists())
    ] == []
