"""`dialgate bench`: the benchmarks that a user runs. The others are in `tests/bench`."""

from collections.abc import Iterable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Annotated, Literal

import typer

from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, Failure, reporting
from dialgate.observability import service_log
from dialgate.runtime.terminal import MISUSE, show_json, show_table
from dialgate.tools.bench import BenchError, Figure, batch, decide, http, numberset

Countries = Annotated[
    Path, typer.Option(exists=True, file_okay=False, help="The folder of the laws to measure with.")
]

_ANY_OPTION = {"ignore_unknown_options": True, "allow_extra_args": True}

app = typer.Typer()
bench_app = typer.Typer(
    no_args_is_help=True,
    help="Measure on made-up data. Where a figure compares, RATIO is VALUE to BASELINE.",
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
    service_log.configure()
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


def _report_moved(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """Moved to the source tree: `python -m tests.bench`."""
    with reporting(as_json=as_json):
        raise Failure(
            "bench.moved",
            f"this benchmark moved out of the installed package. Run `python -m tests.bench {ctx.info_name} --json` "
            "in the source tree of dialgate.",
            status=MISUSE,
        )


for _name in (
    "agi",
    "console",
    "ledger",
    "log",
    "reconcile",
    "redirect",
    "registry",
    "ship",
    "sip",
    "workers",
):
    bench_app.command(_name, hidden=True, context_settings=_ANY_OPTION)(_report_moved)


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
