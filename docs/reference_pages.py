"""The reference pages that are generated from the code. `make reference` writes them, and a test checks that they are current."""

import ast
import functools
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import msgspec
import yaml
from msgspec import NODEFAULT, Struct
from msgspec import inspect as types
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command

from dialgate.config.accounts import AccountSettings, OpenIdProvider
from dialgate.config.clients import Client, Scope
from dialgate.config.controllers import CampaignFile, ControllerFile
from dialgate.config.decision_retention import Retention
from dialgate.config.incoming_webhooks import EventReading, IncomingWebhook, Signature
from dialgate.config.listeners import FastAgi, Limits, Listen, Operations, Uploads
from dialgate.config.log_settings import ServiceLog, TracesTo
from dialgate.config.processing_texts import ProcessingTexts, Provider
from dialgate.config.record_pulls import RecordPull
from dialgate.config.report_mail import ReportMail, ReportSchedule
from dialgate.config.settings import Settings, SharedStore
from dialgate.config.shipping import Shipping, StreamTo
from dialgate.config.storage import Storage
from dialgate.config.validation_messages import PATTERNS, TYPES, choices
from dialgate.config.webhook_targets import Subscriber
from dialgate.core import day_sets, law, law_sections
from dialgate.core.reasons import REASON_CLASSES, REASONS
from dialgate.gate.fixed_answers import TEST_NUMBERS
from dialgate.interfaces import http_application
from dialgate.interfaces.cli import main
from dialgate.interfaces.http import openapi
from dialgate.interfaces.http.endpoint import FORM, Endpoint
from dialgate.interfaces.http.error_codes import CODES
from dialgate.interfaces.http.examples import examples_of
from dialgate.observability.metrics import Calls, Metrics, OutcomeCounter, ScrapedGauge
from dialgate.people.roles import ROLES
from dialgate.report import law_page
from dialgate.tools.policy.case_file import CaseBase, Wanted, WrittenCase
from docs import error_messages
from docs.capacity_page import capacity_page
from docs.packages_picture import PICTURE, packages_picture
from docs.record_format import record_format
from registry_sync import cli as sync_cli
from registry_sync.config import FullListRegistry, QueriedRegistry, Registries
from registry_sync.formats.layout import FileLayout
from registry_sync.source_settings import FolderSource, HttpsSource, Patience, SftpSource

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "reference"
PROMETHEUS_RULE = ROOT / "deploy/kubernetes/monitoring/rules.yaml"

PROGRAMS = {"dialgate": main.app, "registry-sync": sync_cli.app}

# Each section of the settings page: its heading and the class that holds its keys.
SETTINGS: tuple[tuple[str, type[Struct]], ...] = (
    ("`dialgate.yaml`", Settings),
    ("`listen`", Listen),
    ("`operations`", Operations),
    ("`limits`", Limits),
    ("`accounts`", AccountSettings),
    ("`openid` of `accounts`", OpenIdProvider),
    ("`processor`", Provider),
    ("`mail`", ReportMail),
    ("A report of `mail`", ReportSchedule),
    ("`uploads`", Uploads),
    ("`storage`", Storage),
    ("`store`", SharedStore),
    ("`shipping`", Shipping),
    ("`stream` of `shipping`", StreamTo),
    ("`fastagi`", FastAgi),
    ("`clients`", Client),
    ("`subscribers`", Subscriber),
    ("Incoming webhooks in `config/webhooks`", IncomingWebhook),
    ("`signature` of an incoming webhook", Signature),
    ("`read` of an incoming webhook", EventReading),
    ("`pull` of an incoming webhook", RecordPull),
    ("`retention`", Retention),
    ("`service_log`", ServiceLog),
    ("`traces`", TracesTo),
    ("`controllers/*.yaml`", ControllerFile),
    ("`campaigns` of a controller", CampaignFile),
    ("`processing` of a controller", ProcessingTexts),
    ("`registries.yaml`", Registries),
    ("`asked`", QueriedRegistry),
    ("`listed`", FullListRegistry),
    ("`layout`", FileLayout),
    ("`source`: a folder", FolderSource),
    ("`source`: SFTP", SftpSource),
    ("`source`: HTTPS", HttpsSource),
    ("`patience` of a `source`", Patience),
)

# The same for the parts of a country's law that are not lists of sections.
LAW_PARTS: tuple[tuple[str, type[Struct]], ...] = (
    ("A set of `day_sets`", day_sets.DaySet),
    ("A class of `caller_ids`", law_sections.CallerIdClass),
    ("`forbidden` of `caller_ids`", law_sections.ForbiddenCallerIds),
)

# Characters of code that a phone shows in a line.
_PHONE = 45

_CLASSES = {
    "number": "Do not call this number again. Only the person, the registry or a new consent changes that.",
    "call": "Not this call now. Another caller ID, a later time (`not_before`), a newer registry answer or an import may open it.",
    "gate": "The gate made no decision: retry in a few seconds.",
}
_SEVERITIES = {
    "statute": "Law. It denies.",
    "self_regulation": "A code of conduct. It denies controllers that adhere to it.",
    "operator": "A limit that you set. It denies.",
    "recommendation": "It only warns.",
    "gate": "No law: the call cannot be judged.",
}

_CONSOLE = {
    "watch": "live board, caller IDs, decisions, reports",
    "read": "decisions, look-up of a number",
    "simulate": "simulate a call",
    "revoke": "record an opt-out",
    "lists": "call lists",
    "subjects": "data subject requests, who looked at what, data breaches, records of processing",
    "officer": "legal holds, evidence, evidence of a decision, retention",
    "admin": "what would change, accounts, records of processing",
    "audit": "every page that shows data, without its forms",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    body = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(
        f"| {' | '.join(row)} |".replace("  ", " ") for row in [names, ["---"] * len(names), *body]
    )


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def reasons() -> str:
    classes = (
        (code(name), ", ".join(code(reason) for reason, kind in REASON_CLASSES.items() if kind == name), text)
        for name, text in _CLASSES.items()
    )
    return f"""
The reasons for denying a call. Codes are stable: they are stored for years and never get a second meaning.

{table(("code", "meaning"), ((code(name), text) for name, text in REASONS.items()))}

## Classes

`reason_class` of a denial says what a dialer does next. With several reasons, the class that binds longest applies: `number`, then `call`,
then `gate`. An error code, such as `request.invalid`, is of class `gate`. Mark a lead as do-not-call only for `number`.

{table(("class", "reasons", "what to do"), classes)}

A denial with `campaign.unknown` is never of class `number`, because the campaign's `dial_region` says how to read a number without a country
code. Nor is `number.invalid` if the fault is in the writing: no country code and no `dial_region`, two readings, letters.

## Severity

`severity` says how hard a reason binds.

{table(("severity", "meaning"), ((code(name), text) for name, text in _SEVERITIES.items()))}
"""


def errors() -> str:
    codes = ((str(row.status), code(name), row.meaning, row.advice) for name, row in CODES.items())
    messages = (
        (code(message.code), message.text, "varies" if message.field == "…" else code(message.field))
        for message in error_messages.collect()
        if message.code in CODES
    )
    forms = "\n".join(f"- Must be {form}." for form in dict.fromkeys([*TYPES.values(), *PATTERNS.values()]))
    values = (
        (f"`{endpoint.method} {openapi.plain(endpoint.path)}`", code(name), ", ".join(map(code, allowed)))
        for endpoint, name, allowed in allowed_values()
    )
    return f"""
The errors of the HTTP API. Every error has the form `{{"error": {{"code", "message", "field"}}}}`. The message says what to do and never repeats a
number. After an error there is no decision: do not call.

## Codes

{table(("status", "code", "what happened", "what to do"), codes)}

## Messages

The messages of each code. `…` is a placeholder for a value. The field of the error names the field or parameter to correct.

{table(("code", "message", "field"), messages)}

A message about the type or the form of a field is one of these, with the code `request.invalid`:

{forms}

## Allowed values

The request fields with a fixed set of allowed values. A message about such a field lists them.

{table(("request", "field", "values"), values)}
"""


def allowed_values() -> Iterator[tuple[Endpoint, str, tuple[str, ...]]]:
    """Yield endpoint, name and allowed values of each JSON request field with a fixed set of values."""
    for endpoint in http_application.EVERY:
        if isinstance(endpoint.ask, type) and issubclass(endpoint.ask, Struct):
            for field in msgspec.structs.fields(endpoint.ask):
                name = field.encode_name
                if allowed := choices(endpoint.ask, f".{name}") or choices(endpoint.ask, f".{name}[0]"):
                    yield endpoint, name, allowed


def scopes() -> str:
    rows = (
        (
            code(scope),
            ", ".join(
                code(f"{endpoint.method} {openapi.plain(endpoint.path)}")
                for endpoint in http_application.EVERY
                if scope in endpoint.scopes
            ),
            _CONSOLE.get(scope, ""),
        )
        for scope in get_args(Scope)
    )
    return f"""
A scope permits a client to use certain endpoints. [`clients`](settings.md#clients) gives each client its scopes; a client also acts only for its `controllers`.

{table(("scope", "endpoints", "pages of the console"), rows)}

A revocation that binds every controller needs `admin` in addition to `revoke`.

| For | Give |
|---|---|
| a dialer | `check`, `outcome` |
| a dialer that also reports stops | also `revoke`, `stream` |
| an agent at the console | `simulate`, `revoke` |
| a supervisor | also `watch`, `lists` |
| the data-protection officer | as a supervisor, and `read`, `subjects`, `officer` |
| the CRM | `ledger`, `revoke` |
| a CRM that also answers people's requests | also `subjects` |
| Prometheus, where it cannot reach the operations listener | `metrics` |
| commands on another machine (`--url`) that concern the whole gate | all scopes, and every controller |

[People](../how-to/accounts.md) have a role, which gives them scopes:

{table(("role", "scopes"), ((code(role), ", ".join(map(code, granted))) for role, granted in ROLES.items()))}
"""


def field_texts(kind: type[Struct]) -> dict[str, str]:
    """Return the text under each field of a class and its base classes."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, Struct) or base is Struct:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                texts[field.target.id] = str(text.value.value).strip()
    return texts


def about(kind: type[Struct]) -> str:
    return " ".join((kind.__doc__ or "").split())


def default(field: Any) -> str:
    """Return a field's default as the page shows it.

    It is `required` for a field without a default, `none` for an empty default, and empty for a section.
    """
    if field.required:
        return "required"
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    if isinstance(value, Struct):
        return ""
    if isinstance(value, tuple) and value:
        return ", ".join(map(str, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return {"": "none", "None": "none", "()": "none", "{}": "none", "False": "false", "True": "true"}.get(
        text, text
    )


def _default(field: Any) -> str:
    text = default(field)
    return text if text in {"required", "none"} else code(text)


CASE_PARTS: tuple[tuple[str, type[Struct]], ...] = (("A case", WrittenCase),)


def values(kind: Any) -> str:
    """Return a description of the values that a field takes."""
    words: dict[type[types.Type], str] = {
        types.BoolType: "true or false",
        types.StrType: "text",
        types.DateType: "date",
        types.AnyType: "any value",
    }
    match kind:
        case types.IntType():
            return f"whole number{_bounds(kind)}"
        case types.FloatType():
            return f"number{_bounds(kind)}"
        case types.LiteralType():
            return ", ".join(code(str(value)) for value in kind.values)
        case types.VarTupleType() | types.ListType():
            return f"list of {values(kind.item_type)}"
        case types.DictType():
            return f"map from {values(kind.key_type)} to {values(kind.value_type)}"
        case types.StructType():
            title = next(
                title for title, described in (*SETTINGS, *LAW_PARTS, *CASE_PARTS) if described is kind.cls
            )
            anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            return f"[section](#{anchor})"
        case types.UnionType():
            chosen = (values(some) for some in kind.types if not isinstance(some, types.NoneType))
            return " or ".join(dict.fromkeys(chosen))
    return words[type(kind)]


def _bounds(kind: types.IntType | types.FloatType) -> str:
    least = f"over {kind.gt:g}" if kind.gt is not None else f"from {kind.ge:,}" if kind.ge is not None else ""
    most = f"to {kind.le:,}" if kind.le is not None else ""
    return f", {' '.join(filter(None, (least, most)))}" if least or most else ""


def keys(kind: type[Struct], *, skip: Iterable[str] = ()) -> str:
    """Return the table of a class's keys. Raise `ValueError` if a field has no text."""
    texts = field_texts(kind)
    described = types.type_info(kind)
    assert isinstance(described, types.StructType)
    rows = []
    for field, shown in zip(msgspec.structs.fields(kind), described.fields, strict=True):
        if field.name in skip:
            continue
        if not texts.get(field.name):
            raise ValueError(f"{kind.__name__}.{field.name} has no text under it")
        rows.append((code(field.encode_name), values(shown.type), _default(field), texts[field.name]))
    return table(("key", "values", "default", "meaning"), rows) if rows else ""


def settings() -> str:
    sections = (f"## {title}\n\n{about(kind)}\n\n{keys(kind)}" for title, kind in SETTINGS)
    return """
`config/dialgate.yaml` and the files that it names. Paths are relative to the file that contains them. An unknown key is an error, and so is a
key that occurs twice. `dialgate config check` lists the problems within files together, then those between files.
[Change the configuration](../how-to/change-the-configuration.md) says how.

A section without a default may be left out; its own defaults then apply.

""" + "\n\n".join(sections)


def policy_cases() -> str:
    return f"""
The files of `dialgate policy test`. Each holds a list of cases. A file `base.yaml` holds what the cases of its folder share.
[Test your policy](../how-to/test-your-policy.md) shows examples. An unknown key is an error.

## A case

{keys(WrittenCase)}

## `want`

In place of `allow` or reason codes, a mapping that compares more. What is left out is not compared, except `reasons`.

{keys(Wanted)}

## `base.yaml`

{keys(CaseBase)}

## `facts`

What the configuration says of the campaign, its controller and the caller ID, and what the number itself says, need not be written. A fact
that a case states replaces it. Held facts are empty unless a case or `base` states them. Instants are written in RFC 3339, as a local time, or
as days before the call (`-4d`). The keys are those of the [record format](record-format.md):

{table(("key", "meaning"), ((code(name), text) for name, text in _HELD.items()))}
"""


def test_numbers() -> str:
    rows = ((code(number), code(reason) if reason else "allow") for number, reason in TEST_NUMBERS.items())
    return f"""
For a client with the setting `test_numbers`, these called numbers get a fixed answer over every interface: JSON, text, form, FastAGI,
FreeSWITCH and webhooks. The demonstration has the setting, and so has the client `dialer` that `dialgate init` writes. The country code 999
is assigned to no country, so no network routes the numbers. The log records each call as what it is, a denial with `number.invalid`;
nothing is counted, and no outcome can be reported. [The decision](../decisions/0029-test-numbers-are-invalid-numbers.md) has the reasons.

{table(("number", "answer"), rows)}

`gate.unavailable` and `rate.exceeded` are answered as without a decision: 503 and 429 over HTTP. A simulation gives no fixed answers.
"""


def country_file() -> str:
    plain = {
        "country",
        "name",
        "zone",
        "day_sets",
        "sectors",
        "traits",
        "regions",
        "working_days",
        "draft",
        "missing",
        "unconfirmed",
    }
    lists: list[str] = []
    for field in types.type_info(law.Law).fields:  # type: ignore[attr-defined]
        if field.name in plain:
            continue
        kind = field.type.item_type.cls
        own = keys(kind, skip=law_sections.Section.__struct_fields__)
        lists.append(f"## `{field.encode_name}`\n\n{about(kind)}\n\n{own}".rstrip())
    lists += [f"## {title}\n\n{about(kind)}\n\n{keys(kind)}" for title, kind in LAW_PARTS]
    skipped = set(law.Law.__struct_fields__) - plain
    return f"""
One file in `config/countries/` holds the law of one country: lists of dated sections. A section can only deny. An unknown key is an error. So is a
sector, a trait or a place that the file does not list.

A key that a file does not have changes nothing. When you upgrade, take new keys over from the shipped file.
[Try a change of law](../how-to/replay-a-draft-law.md) before you deploy it.

## The file

{keys(law.Law, skip=skipped)}

Every other key is a list of sections, described below. Sections of `records` have only the first four keys of every section.

## Keys of every section

{keys(law_sections.Section)}

""" + "\n\n".join(lists)


def exposed() -> dict[str, tuple[str, list[str], str]]:
    """Return the type, labels and text of each metric, by its name in Prometheus."""
    ends = {"counter": "_total", "info": "_info"}
    return {
        f"{metric.name}{ends.get(metric.type, '')}": (
            metric.type,
            list(
                getattr(
                    metric if isinstance(collector, (Calls, OutcomeCounter, ScrapedGauge)) else collector,
                    "_labelnames",
                    (),
                )
            ),
            metric.documentation,
        )
        for collector in vars(Metrics(CollectorRegistry())).values()
        if isinstance(collector, (MetricWrapperBase, Calls, OutcomeCounter, ScrapedGauge))
        for metric in collector.describe()
    }


def metrics() -> str:
    rows = (
        (code(name), kind, ", ".join(map(code, labels)), text)
        for name, (kind, labels, text) in exposed().items()
    )
    return f"""
On `/metrics`, in Prometheus' format: on the operations listener without a key, on the API's port with the scope `metrics`.
[Monitor with Prometheus and Grafana](../how-to/monitor.md) says how to scrape them. No label contains a called number.

{table(("metric", "kind", "labels", "meaning"), rows)}

`process_*` shows the resources of the process.
"""


def alerts() -> str:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/dialgate.rules.yml").read_text("utf-8"))["groups"]
    rows = [
        (
            f"[{rule['alert']}](../../deploy/prometheus/runbook.md#{rule['alert'].lower()})",
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", rule["annotations"]["summary"]),
        )
        for group in groups
        for rule in group["rules"]
        if "alert" in rule
    ]
    return f"""
The alerts of `deploy/prometheus/dialgate.rules.yml`. `page`: act now. `ticket`: this morning. `info`: this week. Each name links to the
runbook. Words in italics are placeholders for the value of a label.

{table(("alert", "severity", "after", "meaning"), rows)}
"""


def prometheus_rule() -> str:
    """Return the rules for the Prometheus Operator: the same text, as the `spec` of its kind."""
    rules = (ROOT / "deploy/prometheus/dialgate.rules.yml").read_text("utf-8")
    return f"""# Generated from deploy/prometheus/dialgate.rules.yml by `make reference`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dialgate
spec:
{textwrap.indent(rules, "  ")}"""


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each command that can be run, with its full name."""
    if hasattr(command, "list_commands"):
        for inner in command.list_commands(None):
            yield from leaves(command.get_command(None, inner), f"{name} {inner}")
    elif not command.hidden:
        yield name, command


def _with_required(name: str, *, required: bool) -> str:
    return f"{name} (required)" if required else name


COMMANDS = dict(leaf for name, app in PROGRAMS.items() for leaf in leaves(get_command(app), name))


def commands() -> str:
    pages = []
    for name, command in COMMANDS.items():
        rows = [
            (
                _with_required(
                    ", ".join(map(code, parameter.opts))
                    if parameter.opts[0].startswith("-")
                    else code(parameter.name.upper()),
                    required=parameter.required,
                ),
                " ".join((getattr(parameter, "help", "") or "").split()),
            )
            for parameter in command.params
            if not getattr(parameter, "hidden", False) and parameter.name != "help"
        ]
        options = table(("option", "meaning"), rows) if rows else ""
        pages.append(f"## `{name}`\n\n{_help(name, command.help or '')}\n\n{options}".rstrip())
    return """
This page has the text of `--help`. Exit status 0 means yes or done, 1 means no or refused, and 2 means a usage error. Use `--json` for output that a
program reads.

If a command takes a telephone number, `-` reads it from standard input, because `ps` shows arguments to every user of the machine. On a terminal,
you are prompted for the number, and it is not shown. Each `-` takes one line. If more lines follow, the command refuses them all (exit 2) and does
nothing.

Commands that write or ask are clients of the running gate: they use its socket in the data folder of `--config`, or `--url` and a key.

Changes are in force at once. `list load`, `list retire` and `caller-id prove` return when every gate that runs on this data
folder uses the new data; `in_force` in their output says so.

""" + "\n\n".join(pages)


def _help(name: str, text: str) -> str:
    """Return a command's help as Markdown, with each example in a code block."""
    parts = [" ".join(part.split()) for part in text.replace("\b", "").replace("\\\n", " ").split("\n\n")]
    shown = []
    for part in parts:
        before, found, example = part.partition(f"Example: {name}")
        if found or part.startswith(f"{name} ") or part == name:
            shown.append(before.strip() if found else "")
            shown.append(f"```sh\n{name}{example if found else part[len(name) :]}\n```")
        else:
            shown.append(re.sub(r"(?<!`)(--[a-z][a-z0-9-]+)", r"`\1`", part))
    return "\n\n".join(filter(None, shown))


def http_api() -> str:
    document = openapi.document(http_application.EVERY)
    groups = dict.fromkeys(endpoint.group for endpoint in http_application.EVERY)
    overview = table(
        ("endpoint", "scope", "does"),
        (
            (
                code(f"{endpoint.method} {openapi.plain(endpoint.path)}"),
                " or ".join(map(code, (endpoint.scope, *endpoint.also)))
                if endpoint.scope
                else code("any" * endpoint.any_key),
                endpoint.about,
            )
            for endpoint in http_application.EVERY
        ),
    )
    sections = []
    for group in groups:
        sections.append(f"## {group.name}\n\n{group.about}")
        for endpoint in http_application.EVERY:
            if endpoint.group == group:
                path = openapi.plain(endpoint.path)
                operation = document["paths"][path][endpoint.method.lower()]
                sections.append(_endpoint(endpoint, path, operation, document["components"]["schemas"]))
    return f"""
Requests and responses are JSON unless stated otherwise. Everything under `/v1` and `/access` needs `Authorization: Bearer KEY`, in a header, never in a URL.
The same contract for machines is served at `/openapi.json`. [Use the HTTP API](../how-to/use-the-http-api.md) shows common requests; [Error codes](errors.md) lists what
can go wrong. The examples are requests to a running gate and its answers, recorded; long lists and texts in them are cut.

{overview}

""" + "\n\n".join(sections)


def _endpoint(endpoint: Endpoint, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    names = " or ".join(map(code, (endpoint.scope or "any", *endpoint.also)))
    scope = f" Scope: {names}." if endpoint.keyed else ""
    parts = [f"### `{endpoint.method} {path}`", endpoint.about, f"Operation: {code(endpoint.name)}.{scope}"]
    if endpoint.parameters:
        rows = (
            (
                _with_required(code(parameter["name"]), required=parameter["required"]),
                parameter["description"],
            )
            for parameter in operation["parameters"]
        )
        parts.append(table(("parameter", "meaning"), rows))
    contents: dict[str, Any] = operation.get("requestBody", {}).get("content", {})
    schema: dict[str, Any] = next(iter(contents.values()))["schema"] if contents else {}
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if schema.get("properties"):
        rows = (
            (_with_required(code(name), required=name in schema.get("required", ())), _shape(field))
            for name, field in schema["properties"].items()
        )
        parts.append(table(("field", "values"), rows))
    for title, media, example in _shown_examples(endpoint):
        text = urlencode(example) if media == FORM and isinstance(example, dict) else example
        shown = text.rstrip() if isinstance(text, str) else _json(text)
        kind = "" if media == endpoint.media else f" as `{media}`"
        parts.append(f"{title}{kind}:\n\n```{'' if isinstance(text, str) else 'json'}\n{shown}\n```")
    if endpoint.errors:
        parts.append(f"Errors: {', '.join(map(code, endpoint.errors))}.")
    return "\n\n".join(parts)


def _json(body: Any) -> str:
    """Return a body on one line if that is short, and else indented."""
    short = json.dumps(body, ensure_ascii=False)
    return short if len(short) <= _PHONE else json.dumps(body, ensure_ascii=False, indent=2)


def _shown_examples(endpoint: Endpoint) -> Iterator[tuple[str, str, Any]]:
    """Yield a title, a media type and a body for each example of an endpoint."""
    examples = examples_of(endpoint.name)
    for media, body in examples.requests.items():
        yield "Request", media, body
    for media, bodies in examples.responses.get(str(endpoint.status), {}).items():
        for name, body in bodies.items():
            yield ("Denial" if name == "deny" else "Answer"), media, body


def _shape(schema: Mapping[str, Any]) -> str:
    """Return a description of the values that a request field takes."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_shape(some) for some in schema["anyOf"] if some.get("type") != "null")
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    words = {
        "string": "text",
        "integer": "whole number",
        "boolean": "true or false",
        "object": "object",
        "number": "number",
    }
    return words.get(schema.get("type", ""), "any")


@functools.cache
def read_laws() -> dict[str, law.Law]:
    paths = sorted((ROOT / "config/countries").glob("*.yaml"))
    return {path.stem: law.parse_law(yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)) for path in paths}


def countries() -> str:
    rows = []
    for name, read in read_laws().items():
        sections = [section for kind in law.ALL_SECTIONS for section in getattr(read, kind)]
        rows.append(
            (
                f"[{read.name}](countries/{name}.md)",
                "draft" if read.draft else "complete",
                str(len(sections)),
                str(max(section.starts for section in sections)),
                str(len(read.missing)),
                str(len(read.unconfirmed)),
            )
        )
    pages = "\n".join(f"countries/{name}" for name in read_laws())
    return f"""
The country files in `config/countries/`, with the state of November 2026. None of them is legal advice: let counsel read a file before you use it.

A *draft* does not express all rules of its country. The gate denies every call there with `law.draft` until `accept_drafts` in `dialgate.yaml`
names the country. Each page says what a file does not express, and which facts are not confirmed; there the file errs on the safe side.

{table(("country", "state", "sections", "newest section", "not expressed", "not confirmed"), rows)}

`dialgate country show FR --at 2026-09-01` shows the law of one day, `dialgate country diff` what changes between two.

```{{toctree}}
:hidden:

{pages}
```
"""


def country_page(name: str) -> str:
    read = read_laws()[name]
    return f"""
`config/countries/{name}.yaml` as a table, with all sections of the past and the future. [Countries](../countries.md) lists the other files.

{law_page.markdown(law_page.law_page(read, None))}
"""


_HELD: Mapping[str, str] = {
    "listings": "Entries on call lists: `list`, `basis` and `origin`.",
    "registries": "Answers of opposition registries: `registry`, `answer` and `consulted_at`; `listed_at` if it is `listed`.",
    "known": "What is stored about the number: `consents`, `contracts`, `requests`, `revocations`, `wrong_numbers`, `attempts`, `objections`.",
    "call_type": "The call type that the dialer sends, if it is stricter than the campaign's.",
    "caller_id": "The proof of call-backs: `proved_at` and `proof`.",
    "campaign": "The counts of calls by day: `counts`, each as `[day, answered, abandoned]`.",
}
PAGES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "http-api": ("HTTP API", http_api),
    "reasons": ("Reason codes", reasons),
    "errors": ("Error codes", errors),
    "scopes": ("Scopes", scopes),
    "settings": ("Settings", settings),
    "country-file": ("Country file", country_file),
    "policy-cases": ("Policy cases", policy_cases),
    "test-numbers": ("Test numbers", test_numbers),
    "commands": ("Commands", commands),
    "metrics": ("Metrics", metrics),
    "alerts": ("Alerts", alerts),
    "record-format": ("Record format", record_format),
    "countries": ("Countries", countries),
    "capacity": ("Capacity", capacity_page),
    **{
        f"countries/{name}": (read.name, functools.partial(country_page, name))
        for name, read in read_laws().items()
    },
}


def render(name: str) -> str:
    title, write = PAGES[name]
    return f"<!-- Generated by `make reference`. Change the code instead. -->\n\n# {title}\n\n{write().strip()}\n"


def write_pages() -> None:
    (FOLDER / "countries").mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / f"{name}.md").write_text(render(name), "utf-8")
    PICTURE.write_text(packages_picture(), "utf-8")
    PROMETHEUS_RULE.write_text(prometheus_rule(), "utf-8")


if __name__ == "__main__":
    write_pages()
