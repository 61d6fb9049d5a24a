"""`dialgate bench`: what the parts cost on this machine."""

from collections.abc import Iterable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Annotated, Literal

import typer

from dialgate import logs
from dialgate.bench import (
    BenchError,
    Figure,
    agi,
    batch,
    console,
    decide,
    http,
    ledger,
    log,
    numberset,
    reconcile,
    redirect,
    registry,
    ship,
    sip,
    workers,
)
from dialgate.interfaces.cli_terminal import DEFAULT_CONFIG, AsJson, Failure, reporting
from dialgate.terminal import show_json, show_table

Countries = Annotated[
    Path, typer.Option(exists=True, file_okay=False, help="The folder of the laws to measure with.")
]

app = typer.Typer()
bench_app = typer.Typer(
    no_args_is_help=True,
    help="Measure. Where a figure compares, RATIO is VALUE to BASELINE. Nobody's data is"
    " touched: each makes its own.",
)
app.add_typer(bench_app, name="bench")


@bench_app.command("http")
def bench_http(
    *,
    requests: Annotated[int, typer.Option(min=100, help="To each server in each round.")] = 30_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    store: Annotated[
        Literal["embedded", "redis"], typer.Option(help="What it counts in; redis-server must be installed.")
    ] = "embedded",
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """A whole gate over HTTP, 32 connections, everything on and the log synced, against an empty aiohttp handler.

    dialgate bench http --json"""
    with reporting(as_json=as_json):
        _show(http.run(countries, requests, rounds, shared=store == "redis"), as_json=as_json)


@bench_app.command("workers")
def bench_workers(
    *,
    requests: Annotated[int, typer.Option(min=100, help="To each worker in each round.")] = 6_000,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """Processor time for each decision of one, two and four workers on a Redis, over HTTP, 32 connections for each; and of an empty
    aiohttp handler in as many processes.

    dialgate bench workers --json"""
    with reporting(as_json=as_json):
        _show(workers.run(countries, requests, rounds), as_json=as_json)


@bench_app.command("agi")
def bench_agi(
    *,
    calls: Annotated[int, typer.Option(min=600, help="To each server in each round.")] = 3_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """A whole gate over FastAGI, 25 and 500 calls at once, against a stub that tells the same and decides nothing.

    dialgate bench agi --json"""
    with reporting(as_json=as_json):
        _show(agi.run(countries, calls, rounds), as_json=as_json)


@bench_app.command("sip")
def bench_sip(
    *,
    calls: Annotated[int, typer.Option(min=100, help="Through each in each round.")] = 2_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    shipped: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The folder of Kamailio's configuration.")
    ] = DEFAULT_CONFIG.parent.parent / "deploy" / "kamailio",
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """Whole calls from SIPp to SIPp through Kamailio with a gate, against a Kamailio that relays and nothing else.

    dialgate bench sip --json"""
    with reporting(as_json=as_json):
        _show(sip.run(countries, shipped, calls, rounds), as_json=as_json)


@bench_app.command("console")
def bench_console(
    *,
    requests: Annotated[int, typer.Option(min=100, help="In each turn.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """A whole gate over HTTP while ten boards of the console are open, against the same while none is.

    dialgate bench console --json"""
    with reporting(as_json=as_json):
        _show(console.run(countries, requests, rounds), as_json=as_json)


@bench_app.command("batch")
def bench_batch(
    *,
    batch_calls: Annotated[int, typer.Option("--batch", min=1, help="Calls in a batch.")] = 256,
    calls: Annotated[int, typer.Option(min=100, help="In all.")] = 100_000,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """Decisions in one process, with no server in front; the log is synced.

    dialgate bench batch --batch 256"""
    logs.configure()
    with reporting(as_json=as_json):
        _show(batch.run(countries, batch_calls, calls), as_json=as_json)


@bench_app.command("decide")
def bench_decide(
    *, countries: Countries = DEFAULT_CONFIG.parent / "countries", as_json: AsJson = False
) -> None:
    """The pure core alone.

    dialgate bench decide"""
    with reporting(as_json=as_json):
        _show(decide.run(countries), as_json=as_json)


@bench_app.command("numberset")
def bench_numberset(
    *,
    numbers: Annotated[int, typer.Option(min=1000, help="How many.")] = 30_000_000,
    as_json: AsJson = False,
) -> None:
    """The mapped file of numbers: size, lookups, opening, and the memory of one more reader.

    dialgate bench numberset --numbers 30000000"""
    with reporting(as_json=as_json):
        _show(numberset.run(numbers), as_json=as_json)


@bench_app.command("registry")
def bench_registry(
    *,
    numbers: Annotated[int, typer.Option(min=100_000, help="On a full list.")] = 250_000_000,
    changes: Annotated[int, typer.Option(min=1_000, help="Of one day.")] = 300_000,
    answers: Annotated[int, typer.Option(min=1_000, help="In 20 consultations.")] = 30_000_000,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """The nightly job: a full list, a day's changes, the answers of 20 consultations. Needs 5 GB of disk.

    dialgate bench registry --numbers 250000000"""
    with reporting(as_json=as_json):
        _show(registry.run(countries, numbers, changes, answers), as_json=as_json)


@bench_app.command("ledger")
def bench_ledger(
    *,
    revocations: Annotated[int, typer.Option(min=1_000, help="Entered from a file.")] = 10_000_000,
    consents: Annotated[int, typer.Option(min=1_000, help="The same.")] = 5_000_000,
    requests: Annotated[int, typer.Option(min=100, help="To each server in each round.")] = 15_000,
    store: Annotated[
        Literal["embedded", "redis"],
        typer.Option(help="Where; on Redis the revocations alone, and their memory."),
    ] = "embedded",
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """A long ledger: importing it, starting beside it, and checks against those of a gate with an empty one.

    The default takes 10 GB of disk and a quarter of an hour.

    dialgate bench ledger --revocations 1000000 --consents 500000 --json"""
    with reporting(as_json=as_json):
        if store == "redis":
            _show(ledger.shared(countries, revocations), as_json=as_json)
        else:
            _show(ledger.run(countries, revocations, consents, requests), as_json=as_json)


@bench_app.command("log")
def bench_log(
    *,
    records: Annotated[int, typer.Option(min=10_000, help="Decisions in the log.")] = 1_000_000,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """An archived log of so many decisions: its size, proving it, and finding every decision about one number.

    RATIO of the last two compares with a log of a tenth. Ten million take 15 GB of disk for a while.

    dialgate bench log --records 1000000 --json"""
    with reporting(as_json=as_json):
        _show(log.run(countries, records), as_json=as_json)


@bench_app.command("redirect")
def bench_redirect(
    *,
    calls: Annotated[int, typer.Option(min=600, help="To each server in each round.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """A whole gate asked by SIP over UDP, 64 INVITEs at once, against a stub that redirects all and decides nothing.

    dialgate bench redirect --json"""
    with reporting(as_json=as_json):
        _show(redirect.run(countries, calls, rounds), as_json=as_json)


@bench_app.command("reconcile")
def bench_reconcile(
    *,
    calls: Annotated[int, typer.Option(min=2_000, help="That left.")] = 1_000_000,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """Find 100 planted calls that passed by the gate among so many, in an archived log; and nothing else.

    The baseline of the time is one pass over the same file that does nothing. A million take 2 GB of disk for a while.

    dialgate bench reconcile --json"""
    with reporting(as_json=as_json):
        _show(reconcile.run(countries, calls), as_json=as_json)


@bench_app.command("ship")
def bench_ship(
    *,
    requests: Annotated[int, typer.Option(min=1000, help="In each turn.")] = 15_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    countries: Countries = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """How fast decisions are moved on, and what that takes from a gate, to a target that works and to one that hangs.

    dialgate bench ship --json"""
    logs.configure()
    with reporting(as_json=as_json):
        _show(ship.run(countries, requests, rounds), as_json=as_json)


def _show(figures: Iterable[Figure], *, as_json: bool) -> None:
    """In JSON a line as soon as it is measured; the table once all are."""
    try:
        if as_json:
            for figure in figures:
                show_json(figure)
        else:
            columns = ("measured", "value", "unit", "baseline", "ratio")
            show_table("", columns, [_row(figure) for figure in figures])
    except (BenchError, CalledProcessError) as error:
        raise Failure("bench.invalid", str(error)) from None


def _row(figure: Figure) -> tuple[str, ...]:
    compared = ["" if value is None else f"{value:,}" for value in (figure.baseline, figure.ratio)]
    return (figure.name, f"{figure.value:,}", figure.unit, *compared)
