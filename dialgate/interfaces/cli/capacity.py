"""`dialgate capacity`: what a number of calls a day needs. It only calculates, so it needs no gate."""

from typing import Annotated

import msgspec
import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.options import Failure
from dialgate.runtime.terminal import MISUSE, show_table
from dialgate.tools.capacity import AGENT_CALLS, RPO, Capacity, Engine
from dialgate.tools.capacity import capacity as calculate

app = typer.Typer()


def _show(needed: Capacity) -> None:
    rows = [
        (name.replace("_", " "), _written(value)) for name, value in msgspec.structs.asdict(needed).items()
    ]
    show_table("", ("", ""), [row for row in rows if row[1] != "0"])
    typer.echo(f"Prices: {RPO.source}. Constants and assumptions: docs/reference/capacity.md")


def _written(value: object) -> str:
    return f"{value:,.12g}" if isinstance(value, int | float) else str(value)


@app.command()
@command(_show)
def capacity(
    *,
    calls_per_day: Annotated[int, typer.Option(min=0, help="Calls a day, of all campaigns.")] = 0,
    agents: Annotated[
        int, typer.Option(min=0, help=f"Agents, in place of calls: {AGENT_CALLS:,} calls a day each.")
    ] = 0,
    days: Annotated[
        int, typer.Option(min=60, help="Days for which attempts are kept (`storage.attempts_days`).")
    ] = 90,
    store: Annotated[Engine, typer.Option(help="Store of the gates.")] = "redis",
) -> Capacity:
    """Estimate processors, memory, disk, network and registry queries for a number of calls a day.

    The estimate uses constants that the project's benchmarks measured. Test your own machine before you rely on it.

    dialgate capacity --calls-per-day 20000000 --json
    """
    if bool(calls_per_day) == bool(agents):
        raise Failure(
            "request.invalid",
            "Give either --calls-per-day or --agents.",
            field="--calls-per-day",
            status=MISUSE,
        )
    return calculate(calls_per_day or agents * AGENT_CALLS, days, store)
