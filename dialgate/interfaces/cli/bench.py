"""`dialgate bench`: benchmarks for users. Developer benchmarks are in `tests/bench`."""

from collections.abc import Iterable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Annotated, Literal

import typer

from dialgate.config.countries import SHIPPED
from dialgate.interfaces.cli.options import AsJson, Failure, reporting
from dialgate.observability import service_log
from dialgate.runtime.terminal import MISUSE, show_json, show_table
from dialgate.tools.bench import BenchError, Figure, batch, decide, http, numberset

Countries = Annotated[
    Path,
    typer.Option(
        exists=True,
        file_okay=False,
        show_default="the files that come with dialgate",
        help="Folder with the country files for the benchmark.",
    ),
]

_ANY_OPTION = {"ignore_unknown_options": True, "allow_extra_args": True}

app = typer.Typer()
bench_app = typer.Typer(
    no_args_is_help=True,
    help="Measure performance on generated data. RATIO is VALUE divided by BASELINE.",
)
app.add_typer(bench_app, name="bench")


@bench_app.command("http")
def bench_http(
    *,
    requests: Annotated[int, typer.Option(min=100, help="Requests to each server per round.")] = 30_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5,
    store: Annotated[
        Literal["embedded", "redis"],
        typer.Option(help="The store that the gate uses. redis requires redis-server to be installed."),
    ] = "embedded",
    countries: Countries = SHIPPED,
    as_json: AsJson = False,
) -> None:
    """Compare a complete gate over HTTP with an empty aiohttp handler, with 32 connections and a synced log.

    dialgate bench http --json
    """
    with reporting(as_json=as_json):
        _show(http.run(countries, requests, rounds, shared=store == "redis"), as_json=as_json)


@bench_app.command("batch")
def bench_batch(
    *,
    batch_calls: Annotated[int, typer.Option("--batch", min=1, help="Calls per batch.")] = 256,
    calls: Annotated[int, typer.Option(min=100, help="Calls in total.")] = 100_000,
    countries: Countries = SHIPPED,
    as_json: AsJson = False,
) -> None:
    """Measure decisions in one process without a server, with a synced log.

    dialgate bench batch --batch 256
    """
    service_log.configure()
    with reporting(as_json=as_json):
        _show(batch.run(countries, batch_calls, calls), as_json=as_json)


@bench_app.command("decide")
def bench_decide(*, countries: Countries = SHIPPED, as_json: AsJson = False) -> None:
    """Measure the rules alone, without the store and the log.

    dialgate bench decide
    """
    with reporting(as_json=as_json):
        _show(decide.run(countries), as_json=as_json)


@bench_app.command("numberset")
def bench_numberset(
    *,
    numbers: Annotated[int, typer.Option(min=1000, help="How many numbers the file contains.")] = 30_000_000,
    as_json: AsJson = False,
) -> None:
    """Measure a memory-mapped file of numbers: size, opening and look-up times, and memory per reading process.

    dialgate bench numberset --numbers 30000000
    """
    with reporting(as_json=as_json):
        _show(numberset.run(numbers), as_json=as_json)


def _report_moved(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    with reporting(as_json=as_json):
        raise Failure(
            "bench.moved",
            f"this benchmark has moved out of the installed package. Run `python -m tests.bench {ctx.info_name} --json` "
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
    """Show the figures: as JSON as soon as each is measured, or as a table at the end."""
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
