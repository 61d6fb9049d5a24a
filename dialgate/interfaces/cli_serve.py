"""`dialgate serve`: one gate, its door, and the signals of whoever runs it."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, ProcessCollector

from dialgate import logs, settings, traces
from dialgate.faults import Unavailable
from dialgate.interfaces import http, subscribers
from dialgate.interfaces.cli_terminal import (
    DEFAULT_CONFIG,
    MISUSE,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.interfaces.fastagi import FastAgi
from dialgate.interfaces.sip import SipDoor
from dialgate.service import Gate, spare_collector, wall_clock
from dialgate.settings import Config, ConfigError

app = typer.Typer()
_log = structlog.get_logger(__name__)


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Listen here instead of where the configuration says.")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0 takes any free port.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Run the gate until SIGTERM or SIGINT, which let every call that was asked be answered first.

    SIGHUP reads the configuration again; a broken one is refused, and the gate goes on with the one it had. The log
    event "ready" names the URL.

    dialgate serve --config /etc/dialgate/dialgate.yaml"""
    with reporting(as_json=False):
        try:
            logs.configure()
            logs.configure(load_config(config).settings.service_log)
        except logs.LogMisset as error:
            raise Failure("config.invalid", str(error), status=MISUSE) from None
        try:
            uvloop.run(_serve(partial(_load, config, host, port)))
        except (ConfigError, Unavailable, OSError, traces.NoTracing) as error:
            raise Failure("gate.unavailable", str(error)) from None


def _load(path: Path, host: str, port: int | None) -> Config:
    config = settings.load(path)
    listen = config.settings.listen
    listen = replace(listen, host=host or listen.host, port=listen.port if port is None else port)
    return replace(config, settings=replace(config.settings, listen=listen))


async def _serve(load: Callable[[], Config]) -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    async with AsyncExitStack() as closing:
        gate = await Gate.open(load(), registry=registry)
        closing.push_async_callback(gate.close)
        gate.traces = traces.opened(gate.config.settings.traces, gate.config.settings.node)
        if gate.traces is not None:
            closing.push_async_callback(asyncio.to_thread, gate.traces.close)
        runner = await http.start(gate, registry)
        closing.push_async_callback(runner.cleanup)
        doors = await _fastagi(gate, closing) | await _sip(gate, closing)
        spare_collector()
        stop, hangup = _signals()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(gate.run()),
                tasks.create_task(_reload(gate, load, hangup)),
                tasks.create_task(subscribers.run(gate, wall_clock)),
            ]
            _log.info("ready", url=_url(gate.config, runner.addresses[0]), config=gate.config.hash, **doors)
            await stop.wait()
            for task in background:
                task.cancel()
        _log.info("stopping")
    _log.info("stopped")


async def _fastagi(gate: Gate, closing: AsyncExitStack) -> dict[str, str]:
    """Where Asterisk is to ask, if it is to."""
    listen = gate.config.settings.fastagi
    if listen is None:
        return {}
    server = FastAgi(gate)
    closing.push_async_callback(server.close)
    return {"fastagi": f"agi://{listen.host}:{await server.start()}"}


async def _sip(gate: Gate, closing: AsyncExitStack) -> dict[str, str]:
    """Where a session border controller is to ask, if it is to."""
    listen = gate.config.settings.sip
    if listen is None:
        return {}
    server = SipDoor(gate)
    closing.push_async_callback(server.close)
    return {"sip": f"sip:{listen.host}:{await server.start()}"}


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    loop = asyncio.get_running_loop()
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    return stop, hangup


async def _reload(gate: Gate, load: Callable[[], Config], hangup: asyncio.Event) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            config = await asyncio.to_thread(load)
            gate.reload(config)
        except ConfigError as error:
            gate.config_rejected(error)
        except OSError as error:
            gate.config_rejected(ConfigError([f"the configuration cannot be kept: {error}"]))
        else:
            logs.configure(config.settings.service_log)
            _log.info("configuration in force", config=config.hash)


def _url(config: Config, address: tuple[str, int]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{'https' if config.settings.listen.tls_certificate else 'http'}://{host}:{address[1]}"
