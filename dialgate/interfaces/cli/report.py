"""`dialgate report`: a report on a controller's calls for a day or a month, as a file or an email.

The command reads the data folder, whether or not a gate is running.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

import typer

from dialgate.config.configuration import Config
from dialgate.core.local_time import day_in
from dialgate.core.model import Instant
from dialgate.interfaces.cli.files import write_out
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config, reporting
from dialgate.report import CallReport, Period, RecordWithResult, day, figures, gather, month
from dialgate.report.export import mail, pdf, spreadsheet
from dialgate.report.page import page
from dialgate.report.tables import lay_out
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, WITHOUT_END, progress
from dialgate.store import factory
from dialgate.texts import Language

app = typer.Typer()
Form: TypeAlias = Literal["html", "pdf", "csv", "eml", "json"]
_EVERY = 2_000  # records between updates of the progress bar


@app.command()
def report(
    *,
    controller: Annotated[
        str, typer.Option(help="The controller. Required only if the configuration has several.")
    ] = "",
    day: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="Day to report on. Default: yesterday.")
    ] = "",
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="Month to report on, instead of a day.")] = "",
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="eml is an email with html, pdf and csv. Default: the extension of --out, or html.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Output file. Default: standard output.")
    ] = None,
    language: Annotated[Language, typer.Option(help="CallReport language.")] = "it",
    sender: Annotated[
        str, typer.Option("--from", help="Email sender, with --format eml.")
    ] = "dialgate@localhost",
    to: Annotated[
        list[str] | None, typer.Option(help="Email recipient, with --format eml. May be repeated.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Report on a controller's calls for a day or a month.

    The report counts checks, permitted calls, and denials by reason. It also shows registry consultations, abandoned
    calls by campaign, and how long revocations took to take effect. Days are in the time zone of the controller's
    country. An email is written but not sent: pipe it to `sendmail -t`.

    dialgate report --controller acme --month 2026-10 --out october.pdf
    """
    form = form or _form_of(out)
    with reporting(as_json=form == "json"):
        loaded = load_config(config)
        chosen = _controller(loaded, controller)
        made_at = wall_clock()
        period = _period(loaded, chosen, day, month, made_at)
        if form == "eml" and not to:
            raise Failure(
                "request.invalid",
                "--format eml needs a recipient, for example --to officer@example.com",
                field="to",
                status=MISUSE,
            )
        content = _gathered(loaded, chosen, period, made_at)
        _write(out, _rendered(content, form, language, made_at, (sender, to or [])))


def _form_of(out: Path | None) -> Form:
    forms: dict[str, Form] = {f".{form}": form for form in get_args(Form)}
    return forms.get(out.suffix.lower() if out else "", "html")


def _controller(config: Config, name: str) -> str:
    names = list(config.controllers)
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    raise Failure(
        "controller.unknown", f"choose one of: {', '.join(names)}", field="controller", status=MISUSE
    )


def _period(config: Config, controller: str, day_: str, month_: str, now: Instant) -> Period:
    zone = config.laws[config.controllers[controller].country].zone
    if day_ and month_:
        raise Failure("request.invalid", "give either --day or --month", field="month", status=MISUSE)
    try:
        if month_:
            return month(month_, zone)
        return day(day_ or (day_in(zone, now) - timedelta(days=1)).isoformat(), zone)
    except ValueError:
        field, form = ("month", "2026-10") if month_ else ("day", "2026-10-31")
        raise Failure(
            "request.invalid", f"not a valid {field}. Example: {form}", field=field, status=MISUSE
        ) from None


def _gathered(config: Config, controller: str, period: Period, now: Instant) -> CallReport:
    if not (config.data / "log").is_dir():
        raise Failure(
            "log.unreadable",
            f"{config.data} contains no decision log. Check --config, or start the gate once",
        )
    return asyncio.run(_read(config, controller, period, now))


async def _read(config: Config, controller: str, period: Period, now: Instant) -> CallReport:
    store = await factory.open_store(config, patience=5.0)
    try:
        return await gather(config, store, controller, period, now, _count)
    finally:
        await store.close()


def _count(records: Iterator[RecordWithResult]) -> Iterator[RecordWithResult]:
    with progress(*WITHOUT_END) as bar:
        task = bar.add_task("reading the log", total=None)
        for number, record in enumerate(records):
            if not number % _EVERY:
                bar.update(task, description=f"reading the log: {number:,} decisions")
            yield record


def _rendered(
    content: CallReport, form: Form, language: Language, now: Instant, post: tuple[str, list[str]]
) -> bytes:
    layout = lay_out(content, language)
    forms: dict[Form, Callable[[], bytes]] = {
        "html": lambda: page(layout).encode(),
        "pdf": lambda: pdf(layout, now),
        "csv": lambda: spreadsheet(content).encode(),
        "eml": lambda: mail(content, layout, now, *post),
        "json": lambda: figures.as_json(content),
    }
    return forms[form]()


def _write(out: Path | None, content: bytes) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    write_out(out, content)
    typer.echo(f"written: {out}", err=True)
