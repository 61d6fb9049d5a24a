"""`dialgate demo`: a gate with simulated traffic. No calls are placed."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from dialgate.config.countries import SHIPPED
from dialgate.core.local_time import day_in
from dialgate.interfaces.cli.options import AsJson, Failure, program_name, reporting
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import console, show_json
from dialgate.tools.demo import Demo, DemoFigures, DemoOptions, build, console_of, drive

app = typer.Typer()
_SHOWN = 14
_LAST_PORT = 65_535


@app.command()
def demo(
    *,
    folder: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder for all demo files. An existing folder is replaced."),
    ] = Path(".demo"),
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Gate port.")] = 8090,
    numbers: Annotated[int, typer.Option(min=5_000, max=100_000, help="Numbers to call.")] = 100_000,
    rate: Annotated[float, typer.Option(min=1, max=2_000, help="Calls per second.")] = 40,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds to run, or 0 to run until Ctrl-C.")] = 0,
    countries: Annotated[
        Path,
        typer.Option(
            exists=True,
            file_okay=False,
            show_default="the file that comes with dialgate",
            help="Folder with Italy's country file.",
        ),
    ] = SHIPPED,
    as_json: AsJson = False,
) -> None:
    """Run a gate with simulated traffic: two controllers, 100,000 generated numbers, a simulated registry, and all kinds of calls.

    No calls are placed. The command shows the decisions, and where to find the console, the metrics and the log.

    dialgate demo --rate 100
    """
    # A signal that ended this process at once would leave the gate that loads the call lists running.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with reporting(as_json=as_json):
        try:
            wanted = DemoOptions(folder=folder, countries=countries, port=port, numbers=numbers)
            with _reserved(port):
                setup = build(wanted, wall_clock(), lambda line: typer.echo(line, err=True))
        except KeyboardInterrupt:
            typer.echo("stopped before the gate was started", err=True)
            raise typer.Exit from None  # exit code 0, like a later Ctrl-C, so that `make` reports no error
        seen = DemoFigures()
        problem = asyncio.run(_run(setup, seen, rate, seconds))
        if problem:
            raise Failure("demo.failed", problem)
    if as_json:
        show_json(_summary(seen))
    else:
        typer.echo(_closing_text(setup, seen))


@contextmanager
def _reserved(port: int) -> Iterator[None]:
    """Reserve the port until the gate starts. Raises `Failure`.

    The address and the key are shown before the gate starts. Without the reservation, another program could take the port and
    receive the key.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failure(
                "demo.failed",
                f"port {port} on 127.0.0.1 cannot be used: {error.strerror}. Stop the program that uses the port, or"
                f" choose another port with `{program_name()} demo --port {port + 1 if port < _LAST_PORT else port - 1}`.",
            ) from None
        yield


def _summary(seen: DemoFigures) -> dict[str, object]:
    return {
        "calls": seen.calls,
        "allowed": seen.allowed,
        "reasons": dict(seen.reasons.most_common()),
        "missing": seen.missing,
        "outcomes": dict(seen.outcomes.most_common()),
        "stops": seen.stops,
        "errors": seen.errors,
    }


async def _run(setup: Demo, seen: DemoFigures, rate: float, seconds: float) -> str:
    """Run the gate and the traffic until a signal arrives, or for `seconds` if not 0.

    Return an error message if the gate fails, otherwise an empty string.
    """
    # Handle signals before the gate starts: a signal that ended only this process would leave the gate running.
    stop = _stop_event()
    log = setup.config.parent / "gate.log"
    words = (sys.executable, "-m", "dialgate", "serve", "--config", str(setup.config))
    with log.open("wb") as output:
        gate = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        if not await _ready(setup.port, gate, stop):
            return "" if stop.is_set() else f"the gate did not start. {log} has the reason"
        typer.echo(f"ready: {console_of(setup.port)}", err=True)
        driving = asyncio.create_task(drive(setup, seen, rate, wall_clock))
        await _watch(setup, seen, seconds, stop, {driving, asyncio.create_task(gate.wait())})
        driving.cancel()
        with suppress(asyncio.CancelledError):
            await driving
        return f"the gate ended unexpectedly. {log} has the reason" if gate.returncode is not None else ""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(gate.pid, signal.SIGTERM)
        await gate.wait()


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _ready(port: int, gate: asyncio.subprocess.Process, stop: asyncio.Event, tries: int = 300) -> bool:
    for _ in range(tries):
        if gate.returncode is not None or stop.is_set():
            return False
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        await asyncio.sleep(0.1)
    return False


async def _watch(
    setup: Demo, seen: DemoFigures, seconds: float, stop: asyncio.Event, until: set[asyncio.Task[int | None]]
) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds if seconds else float("inf")
    out = console(stderr=True)
    with Live(_screen(setup, seen), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        while not stop.is_set() and loop.time() < ends and not any(task.done() for task in until):
            if out.is_terminal:
                live.update(_screen(setup, seen), refresh=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(0.5, max(ends - loop.time(), 0)))


def _screen(setup: Demo, seen: DemoFigures) -> Group:
    share = seen.allowed / seen.calls if seen.calls else 0
    title = f"{seen.calls:,} calls · {share:.0%} allowed · {seen.stops} stops · no calls are placed"
    reasons = _table("Reasons of denials", seen.reasons.most_common(_SHOWN))
    campaigns = sorted({name for name, _ in seen.campaigns})
    by = Table("campaign", "allowed", "denied", title="By campaign", expand=True, title_justify="left")
    for name in campaigns:
        by.add_row(name, f"{seen.campaigns[name, True]:,}", f"{seen.campaigns[name, False]:,}")
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_row(reasons, by)
    latest = "\n".join(
        f"{name:24} {campaign:16} {verdict}" for name, campaign, verdict in reversed(seen.latest)
    )
    # The addresses come first, because a small terminal cuts off the end.
    return Group(Panel(_addresses(setup), title=title), grid, Panel(latest, title="newest decisions"))


def _table(title: str, rows: list[tuple[str, int]]) -> Table:
    table = Table("reason", "calls", title=title, expand=True, title_justify="left")
    for name, number in rows:
        table.add_row(name, f"{number:,}")
    return table


def _addresses(setup: Demo) -> str:
    return (
        f"{console_of(setup.port)}   key: {setup.key}\n"
        "The key also opens /docs, /metrics and /readyz. Press Ctrl-C to stop."
    )


def _commands(setup: Demo) -> str:
    config = f"--config {setup.config}"
    return (
        f"{program_name()} log search {config}\n"
        f"{program_name()} report {config} --controller acme --day {_today()} --out report.html"
    )


def _today() -> str:
    return day_in("Europe/Rome", wall_clock()).isoformat()


def _closing_text(setup: Demo, seen: DemoFigures) -> str:
    missing = (
        f"; reasons that did not occur: {', '.join(seen.missing)}"
        if seen.missing
        else "; every reason occurred"
    )
    return (
        f"{seen.calls:,} calls, {seen.allowed:,} allowed, {len(seen.reasons)} reasons{missing}\n"
        f"Look at the result with:\n{_commands(setup)}"
    )
