"""`dialgate ship`: a process that copies the decision log to other places."""

import asyncio
import signal
from typing import Annotated

import structlog
import typer
import uvloop
from msgspec import Struct, structs

from dialgate.config.configuration import Config
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config
from dialgate.observability import service_log
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import show_table
from dialgate.shipping.shipper import Shipper, shipping_lock
from dialgate.shipping.status import Standings
from dialgate.shipping.target import StorageRefused

app = typer.Typer()
_log = structlog.get_logger(__name__)


class Shipped(Struct, frozen=True):
    complete: bool
    standings: Standings


def _as_builtins(shipped: Shipped) -> list[dict[str, object]]:
    return [
        {"to": to, "worker": number, **structs.asdict(standing)}
        for (to, number), standing in shipped.standings.items()
    ]


def _show(shipped: Shipped) -> None:
    rows = [
        (to, str(number), standing.last, standing.behind, standing.missed, standing.problem)
        for (to, number), standing in shipped.standings.items()
    ]
    show_table("Shipped", ("to", "log", "up to record", "behind", "missed", ""), rows)


@app.command("ship")
@command(_show, data=_as_builtins, ok=lambda shipped: shipped.complete)
def ship(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Ship all current records, then exit. Exit 1: something failed.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Compare every shipped file with the log, and ship missing files.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> Shipped | None:
    """Ship the decision log to the targets in the setting `shipping`.

    Closed log files go to a folder or to object storage, and records go to a Redis Stream as they are written. The command
    runs alongside the gate until SIGTERM, and never delays the gate. You may stop, kill and restart it at any time: nothing
    is lost or shipped twice. Restart it after you change the configuration.

    dialgate ship --once --anew
    """
    loaded = load_config(config)
    service_log.configure(loaded.settings.service_log)
    try:
        with shipping_lock(loaded.data):
            shipper = Shipper(loaded, wall_clock, compare_all=anew)
            if not once:
                uvloop.run(_run(shipper, loaded))
                return None
            return Shipped(uvloop.run(shipper.once()), shipper.standings())
    except StorageRefused as refused:
        raise Failure("shipping.refused", str(refused)) from None


async def _run(shipper: Shipper, config: Config) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _log.info("shipping", data=str(config.data))
    await shipper.run(stop)
    _log.info("stopped")
