"""`dialgate webhook pull`: the query for a CRM's changed records, which brings what its messages lost.

Each record becomes the message that the CRM would send, and is sent to the gate, so it has the same effect. An interrupted pull
is repeated from its beginning, which changes nothing that is recorded.
"""

import asyncio
from collections.abc import Callable, Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge

from dialgate.config.configuration import Config
from dialgate.config.incoming_webhooks import IncomingWebhook
from dialgate.config.record_pulls import RecordPull
from dialgate.core.model import DAY, SECOND, Instant
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.cli.instants import optional_instant
from dialgate.interfaces.cli.options import Failure, load_config
from dialgate.interfaces.http.endpoint import NDJSON
from dialgate.interfaces.http.incoming_webhooks import WebhookReceipt
from dialgate.interfaces.webhooks.message import WebhookMessage, dig
from dialgate.interfaces.webhooks.operations import Translation, problem_of
from dialgate.interfaces.webhooks.record_pages import PullFailed, RecordPages, open_session
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.metrics_textfile import write_textfile
from dialgate.runtime.terminal import MISUSE, console, utc

_FOLDER: Final = "webhook-pulls"
_OVERLAP: Final = DAY  # the CRM's search index and clock may be behind
_AT_ONCE: Final = 200


class PullReport(Struct, kw_only=True):
    """The result of one pull. Of the last complete one, a file keeps it, because the next pull begins there."""

    webhook: str
    began: Instant = 0
    since: Instant = 0
    records: int = 0
    recorded: int = 0
    kept: int = 0
    problem: str = ""


def _show(reports: list[PullReport]) -> None:
    columns: dict[str, str | Callable[[PullReport], object]] = {
        "webhook": "webhook", "since": lambda report: utc(report.since), "records": "records", "recorded": "recorded",
        "kept": "kept", "problem": "problem",
    }  # fmt: skip
    show_rows("Pulled", reports, columns)
    if any(report.kept for report in reports):
        typer.echo("What was kept could not be applied. Read it with `dialgate webhook list`.")


@command(_show, ok=lambda reports: not any(report.problem for report in reports))
def webhook_pull(
    *,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="`id` of the webhook.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Pull every webhook that has `pull`.")] = False,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Pull what changed since. Default: a day before the last complete pull began; at first, everything.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Record nothing. `kept` counts what could not be applied.")] = False,
    textfile: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write metrics for the node exporter, for example /var/lib/node_exporter/webhook_pull.prom.")
    ] = None,
    gate: GateClient,
) -> list[PullReport]:  # fmt: skip
    """Query the CRM for changed records, and record what its webhook would have sent. Run it each night.

    dialgate webhook pull --all --textfile /var/lib/node_exporter/webhook_pull.prom
    """
    config, begin = load_config(gate.config), optional_instant(since, "since")
    known = {key: item.settings for key, item in config.incoming.items() if item.settings.pull is not None}
    chosen = list(known.values()) if all_ else [known[name]] if name in known else []
    if all_ == bool(name) or not (all_ or chosen):
        text = "Name a webhook that has `pull` in config/webhooks, or use --all."
        raise Failure("webhook.unknown", text, status=MISUSE)
    reports = [_pull(webhook, config, gate, begin, dry=dry_run) for webhook in chosen]
    if textfile is not None:
        _write_metrics([_last(config, webhook) for webhook in known], textfile)
    return reports


def _last(config: Config, webhook: str) -> PullReport:
    """Return the report of the last complete pull, or an empty one if no report can be read."""
    try:
        return msgspec.json.decode(
            (config.data / _FOLDER / f"{webhook}.cursor").read_bytes(), type=PullReport
        )
    except (FileNotFoundError, msgspec.DecodeError):
        return PullReport(webhook=webhook)


def _pull(
    webhook: IncomingWebhook, config: Config, gate: GateClient, since: Instant | None, *, dry: bool
) -> PullReport:
    now, last = wall_clock(), _last(config, webhook.id).began
    usual = max(0, last - _OVERLAP) if last <= now else 0  # if a clock was wrong, how long is unknown
    report = PullReport(webhook=webhook.id, began=now, since=usual if since is None else since)
    try:
        asyncio.run(_send_records(webhook, config, gate, report, dry=dry))
    except (PullFailed, Failure, OSError) as error:
        report.problem = str(error)
    if not (report.problem or dry) and report.since <= usual:  # later, what changed in between would be lost
        folder = config.data / _FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        write_file(folder / f"{webhook.id}.cursor", msgspec.json.encode(report))
    return report


async def _send_records(
    webhook: IncomingWebhook, config: Config, gate: GateClient, report: PullReport, *, dry: bool
) -> None:
    pull = webhook.pull
    assert pull is not None
    secret = (config.folder / pull.secret_file).read_text().strip() if pull.secret_file else ""
    send = _try if dry else _send
    absent = set(pull.event.values())
    status = console(stderr=True).status(webhook.id)
    async with open_session() as session:
        with status:
            async for records in RecordPages(pull, secret, report.since, session).read():
                absent -= {name for name in absent if any(_has(record, name) for record in records)}
                messages = filter(None, (_message(webhook, pull, record) for record in records))
                while part := list(islice(messages, _AT_ONCE)):
                    recorded, kept = send(webhook, gate, part)
                    report.recorded += recorded
                    report.kept += kept
                report.records += len(records)
                status.update(f"{webhook.id}: {report.records:,} records")
    if report.records and absent:
        text = (
            f"No record has {', '.join(sorted(absent))}. Correct `pull.event`, and the fields in the query."
        )
        raise PullFailed(text)


def _send(webhook: IncomingWebhook, gate: GateClient, messages: list[bytes]) -> tuple[int, int]:
    path = path_of("/v1/webhooks/in", webhook.id, "batch")
    receipt = gate.send("POST", path, WebhookReceipt, BytesIO(b"\n".join(messages)), media=NDJSON)
    return receipt.recorded, receipt.kept


def _try(webhook: IncomingWebhook, _: GateClient, messages: list[bytes]) -> tuple[int, int]:
    """Return how many operations the messages mean, and how many cannot be applied."""
    problems = [
        problem_of(item)
        for body in messages
        for item in Translation(webhook, WebhookMessage(body, "", {}, wall_clock())).operations()
    ]
    return problems.count(None), sum(problem is not None for problem in problems)


def _has(record: Any, path: str) -> bool:
    parent, _, name = path.rpartition(".")
    found = dig(record, parent)
    return isinstance(found, Mapping) and name in found


def _message(webhook: IncomingWebhook, pull: RecordPull, record: Any) -> bytes:
    """Return a record as a message of the webhook, or nothing if it has none of the values that say what happened."""
    event: dict[str, Any] = {}
    for place, path in pull.event.items():
        _put(event, place, dig(record, path))
    content: Any = event
    if webhook.events:
        content = [event]
        for name in reversed(webhook.events.split(".")[1:]):
            content = {name: content}
    body = msgspec.json.encode(content)
    message = WebhookMessage(body, "", {}, 0)
    values = (message.value(reading.value, content, event) for reading in webhook.read)
    return body if any(value is not None for value in values) else b""


def _put(event: dict[str, Any], path: str, value: Any) -> None:
    *names, last = path.split(".")
    for name in names:
        event = event.setdefault(name, {})
    event[last] = value


def _write_metrics(reports: list[PullReport], textfile: Path) -> None:
    """Write a metrics file about the last complete pull of each webhook, for the node exporter."""
    registry = CollectorRegistry()
    begun = Gauge(
        "dialgate_webhook_pull_success_timestamp_seconds",
        "When the last complete pull began; 0: never.",
        ["webhook"],
        registry=registry,
    )
    records = Gauge(
        "dialgate_webhook_pull_records",
        "Records of the last complete pull: `read`, operations `recorded`, and `kept` because they could not be applied.",
        ["webhook", "result"],
        registry=registry,
    )
    for report in reports:
        begun.labels(report.webhook).set(report.began / SECOND)
        for result, count in (("read", report.records), ("recorded", report.recorded), ("kept", report.kept)):
            records.labels(report.webhook, result).set(count)
    write_textfile(registry, textfile)
