"""`dialgate ship`: the decisions moved on, by a process that no call waits for."""

import asyncio
import signal
from typing import Annotated

import structlog
import typer
import uvloop
from msgspec import structs

from dialgate.config.configuration import Config
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.observability import service_log
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import NO, show_json, show_table
from dialgate.shipping.shipper import Shipper, shipping_lock
from dialgate.shipping.status import Standings
from dialgate.shipping.target import Refused

app = typer.Typer()
_log = structlog.get_logger(__name__)


@app.command("ship")
def ship(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Ship what there is now, and end: 1 where something failed.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Compare every file that is there, and ship what is missing.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Move the decisions on, as `shipping` in the configuration says: closed files of the log to a folder or to object
    storage, and every record to a Redis Stream as it comes.

    Runs beside the gate until SIGTERM, reads its log's files, and is waited for by nobody. It may be stopped, killed and
    started again at any time: nothing is lost, and nothing is there twice. A changed configuration needs a restart.

    dialgate ship --once --anew"""
    with reporting(as_json=as_json):
        loaded = load_config(config)
        service_log.configure(loaded.settings.service_log)
        try:
            with shipping_lock(loaded.data):
                shipper = Shipper(loaded, wall_clock, compare_all=anew)
                well = uvloop.run(shipper.once() if once else _run(shipper, loaded))
        except Refused as refused:
            raise Failure("shipping.refused", str(refused)) from None
        except OSError as error:
            raise Failure("file.unusable", f"{error.filename}: {error.strerror}") from None
    if once:
        _show(shipper.standings(), as_json=as_json)
    raise typer.Exit(0 if well else NO)


async def _run(shipper: Shipper, config: Config) -> bool:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    _log.info("shipping", data=str(config.data))
    await shipper.run(stop)
    _log.info("stopped")
    return True


def _show(standings: Standings, *, as_json: bool) -> None:
    if as_json:
        show_json(
            [{"to": to, "worker": worker, **structs.asdict(each)} for (to, worker), each in standings.items()]
        )
        return
    show_table(
        "Shipped",
        ("to", "worker", "up to record", "behind", "missed", ""),
        [
            (to, str(worker), f"{each.last:,}", f"{each.behind:,}", f"{each.missed:,}", each.problem)
            for (to, worker), each in standings.items()
        ],
    )
