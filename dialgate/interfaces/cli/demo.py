"""`dialgate demo`: a gate at work, to look at, with nobody called."""

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

from dialgate.core.local_time import day_in
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, Failure, reporting
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import console, show_json
from dialgate.tools.demo import Demo, DemoError, Seen, Wanted, build, console_of, drive

app = typer.Typer()
_SHOWN = 14
_LAST_PORT = 65_535


@app.command()
def demo(
    *,
    folder: Annotated[
        Path, typer.Option(file_okay=False, help="Everything goes here, and is replaced.")
    ] = Path(".demo"),
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the gate.")] = 8090,
    numbers: Annotated[
        int, typer.Option(min=5_000, max=100_000, help="How many there are to call.")
    ] = 100_000,
    rate: Annotated[float, typer.Option(min=1, max=2_000, help="Calls a second.")] = 40,
    seconds: Annotated[float, typer.Option(min=0, help="End after so long; 0: with Ctrl-C.")] = 0,
    countries: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The folder of the law of Italy.")
    ] = DEFAULT_CONFIG.parent / "countries",
    as_json: AsJson = False,
) -> None:
    """A gate with a day's work: two made-up controllers, 100,000 made-up numbers, a registry that is simulated, calls of every
    kind. Nobody is called. It shows what is decided, and where to look: the page, the metrics, the records.

    dialgate demo --rate 100"""
    with reporting(as_json=as_json):
        try:
            wanted = Wanted(folder=folder, countries=countries, port=port, numbers=numbers)
            with _reserved(port):
                made = build(wanted, wall_clock(), lambda line: typer.echo(line, err=True))
        except DemoError as error:
            raise Failure("demo.failed", str(error)) from None
        except KeyboardInterrupt:
            typer.echo("ended before the gate was started", err=True)
            raise typer.Exit from None  # with 0, as Ctrl-C ends it later: `make` would report an error
        seen = Seen()
        failed = asyncio.run(_run(made, seen, rate, seconds))
        if failed:
            raise Failure("demo.failed", failed)
    if as_json:
        show_json(_summary(seen))
    else:
        typer.echo(_parting(made, seen))


@contextmanager
def _reserved(port: int) -> Iterator[None]:
    """Hold the port until the gate is started. The address and the key are shown before: another program on this port would
    be given the key. Raises Failure."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failure(
                "demo.failed",
                f"port {port} on 127.0.0.1 cannot be used: {error.strerror}. Stop the program that uses it, or choose"
                f" another with `{_program()} demo --port {port + 1 if port < _LAST_PORT else port - 1}`.",
            ) from None
        yield


def _program() -> str:
    """Return how the command was invoked, since it may not be on PATH."""
    return sys.argv[0] if Path(sys.argv[0]).name == "dialgate" else "dialgate"


def _summary(seen: Seen) -> dict[str, object]:
    return {
        "calls": seen.calls,
        "allowed": seen.allowed,
        "reasons": dict(seen.reasons.most_common()),
        "missing": seen.missing,
        "outcomes": dict(seen.outcomes.most_common()),
        "stops": seen.stops,
        "errors": seen.errors,
    }


async def _run(made: Demo, seen: Seen, rate: float, seconds: float) -> str:
    """Run the gate and the made-up traffic until a signal. Return why it could not go on, if so."""
    stop = _stopped()  # from the start: a signal that ended this process only would leave the gate behind
    log = made.config.parent / "gate.log"
    words = (sys.executable, "-m", "dialgate", "serve", "--config", str(made.config))
    with log.open("wb") as said:
        gate = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        if not await _ready(made.port, gate, stop):
            return "" if stop.is_set() else f"the gate did not start; {log} says why"
        typer.echo(f"ready: {console_of(made.port)}", err=True)
        driving = asyncio.create_task(drive(made, seen, rate, wall_clock))
        await _watched(made, seen, seconds, stop, {driving, asyncio.create_task(gate.wait())})
        driving.cancel()
        with suppress(asyncio.CancelledError):
            await driving
        return f"the gate ended; {log} says why" if gate.returncode is not None else ""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(gate.pid, signal.SIGTERM)
        await gate.wait()


def _stopped() -> asyncio.Event:
    """Return an event that Ctrl-C, a closed terminal and SIGTERM set."""
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


async def _watched(
    made: Demo, seen: Seen, seconds: float, stop: asyncio.Event, until: set[asyncio.Task[int | None]]
) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds if seconds else float("inf")
    out = console(stderr=True)
    with Live(_screen(made, seen), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        while not stop.is_set() and loop.time() < ends and not any(task.done() for task in until):
            if out.is_terminal:
                live.update(_screen(made, seen), refresh=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(0.5, max(ends - loop.time(), 0)))


def _screen(made: Demo, seen: Seen) -> Group:
    share = seen.allowed / seen.calls if seen.calls else 0
    title = f"{seen.calls:,} calls · {share:.0%} allowed · {seen.stops} stops · nobody is called"
    reasons = _table("Refused because", seen.reasons.most_common(_SHOWN))
    campaigns = sorted({name for name, _ in seen.campaigns})
    by = Table("campaign", "allowed", "refused", title="By campaign", expand=True, title_justify="left")
    for name in campaigns:
        by.add_row(name, f"{seen.campaigns[name, True]:,}", f"{seen.campaigns[name, False]:,}")
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_row(reasons, by)
    latest = "\n".join(
        f"{name:24} {campaign:16} {verdict}" for name, campaign, verdict in reversed(seen.latest)
    )
    # First what a small terminal must not cut off.
    return Group(Panel(_where(made), title=title), grid, Panel(latest, title="newest decisions"))


def _table(title: str, rows: list[tuple[str, int]]) -> Table:
    table = Table("reason", "calls", title=title, expand=True, title_justify="left")
    for name, number in rows:
        table.add_row(name, f"{number:,}")
    return table


def _where(made: Demo) -> str:
    return (
        f"{console_of(made.port)}   key: {made.key}\n"
        "With this key also /docs, /metrics and /readyz. Ctrl-C ends it."
    )


def _commands(made: Demo) -> str:
    """Return the commands that work during the demonstration and after it."""
    config = f"--config {made.config}"
    return (
        f"{_program()} log search {config}\n"
        f"{_program()} report {config} --controller acme --day {_today()} --out report.html"
    )


def _today() -> str:
    return day_in("Europe/Rome", wall_clock()).isoformat()


def _parting(made: Demo, seen: Seen) -> str:
    unseen = f"; not seen: {', '.join(seen.missing)}" if seen.missing else "; every reason was seen"
    return (
        f"{seen.calls:,} calls, {seen.allowed:,} allowed, {len(seen.reasons)} reasons{unseen}\n"
        f"Look at the result with:\n{_commands(made)}"
    )
