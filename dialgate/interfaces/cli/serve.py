"""`dialgate serve`: a gate with its listeners and signal handlers."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any

import structlog
import typer
import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector

from dialgate.app import App
from dialgate.config import warnings
from dialgate.config.configuration import Config, ConfigError
from dialgate.config.settings import ONE_PROCESS
from dialgate.core.faults import Unavailable
from dialgate.interfaces import connections, http_application
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config, reporting
from dialgate.interfaces.fastagi.server import FastAgiServer
from dialgate.interfaces.http import certificates
from dialgate.interfaces.http import server as http_server
from dialgate.interfaces.webhooks import deliveries
from dialgate.interfaces.workers import held_signals
from dialgate.interfaces.workers.listening import inherited, operations_refused
from dialgate.interfaces.workers.parent import NotReady, Workers
from dialgate.interfaces.workers.siblings import RefreshSocket
from dialgate.interfaces.workers.worker import Post, log_start
from dialgate.observability import service_log, traces
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.extras import MissingExtra
from dialgate.runtime.garbage_collection import spare_collector
from dialgate.runtime.terminal import MISUSE

app = typer.Typer()
_POLL_SECONDS = 0.1
_log = structlog.get_logger(__name__)


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on. Default: the setting `listen.host`.")] = "",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port to listen on; 0 picks a free one. Default: the setting `listen.port`.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Number of worker processes, which share the ports. More than one requires a Redis store. Default: the setting `workers`.",
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Run the gate until SIGTERM or SIGINT. The gate answers checks in progress before it stops.

    SIGHUP reloads the configuration and the TLS certificate. If either is invalid, the gate continues with the old
    ones. SIGUSR2 restarts the workers one by one, without refusing calls. The log event "ready" contains the
    URL. If the gate cannot decide yet, the event "listening" contains the URL and the problems, and "ready" follows later.

    dialgate serve --config /etc/dialgate/dialgate.yaml --workers 4
    """
    with reporting(as_json=False):
        try:
            service_log.configure()
            loaded = load_config(config)
            service_log.configure(loaded.settings.service_log)
        except service_log.LogMisset as error:
            raise Failure("config.invalid", str(error), status=MISUSE) from None
        count = workers or loaded.settings.workers
        if count > 1 and loaded.settings.store is None:
            raise Failure("config.invalid", ONE_PROCESS, field="workers", status=MISUSE)
        post = Post(config=str(config), host=host, port=port, workers=count)
        try:
            if count > 1:
                uvloop.run(Workers(post, post.adapt(loaded)).run())
            else:
                uvloop.run(_serve(post, post.adapt(loaded)))
        except (ConfigError, NotReady, Unavailable, OSError) as error:
            raise Failure("gate.unavailable", str(error)) from None


def work(post: Post) -> int:
    """Run one worker and return the exit code."""
    service_log.configure()
    try:
        uvloop.run(_serve(post, post.load()))
    except (ConfigError, Unavailable, MissingExtra, OSError) as error:
        _log.error("worker cannot serve", worker=post.worker, problem=str(error))
        return 1
    return 0


async def _serve(post: Post, config: Config) -> None:
    connections.raise_limit()
    stop, hangup, relieve = _signals(post)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    async with AsyncExitStack() as closing:
        tracing = traces.open_traces(config.settings.traces, config.settings.node)
        if tracing is not None:
            closing.push_async_callback(asyncio.to_thread, tracing.close)
        opening = App.open(config, registry=registry, worker=post.worker, traces=tracing)
        service = await _open_app(opening, stop)
        if service is None:
            _log.info("stopped")
            return
        closing.push_async_callback(service.close)
        refreshing = await RefreshSocket.open(service.config.data, post.worker, service.refresh)
        closing.push_async_callback(refreshing.close)
        with suppress(Unavailable):  # upkeep reports it later
            await service.refresh()  # entries that were written before this worker was reachable
        sockets = inherited(post.doors.get("listen", ()))
        runner = await http_application.start(service, registry, sockets)
        closing.push_async_callback(runner.cleanup)
        doors = await _operations(service, registry, post, closing)
        doors |= await _fastagi(service, closing, inherited(post.doors.get("fastagi", ())))
        spare_collector()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(service.run()),
                tasks.create_task(_reload(service, runner, post.load, hangup)),
                tasks.create_task(deliveries.run(service, wall_clock)),
                tasks.create_task(_relieved(runner, service, relieve, stop)),
            ]
            fields: dict[str, Any] = {
                "url": _url(service.config, runner.addresses[0]),
                "config": service.config.hash,
                **doors,
            }
            problems = service.gate.readiness()
            if not post.doors:
                _warn(service.config)
                log_start(fields, problems)
            if problems:
                background.append(tasks.create_task(_announce(service, fields)))
            post.say_ready({**fields, "problems": problems})
            await stop.wait()
            for task in background:
                task.cancel()
        _log.info("stopping")
    _log.info("stopped")


async def _open_app(opening: Coroutine[None, None, App], stop: asyncio.Event) -> App | None:
    """Return the app, or None if `stop` is set before the app is open."""
    service, stopping = asyncio.create_task(opening), asyncio.create_task(stop.wait())
    await asyncio.wait([service, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not service.done():
        service.cancel()
        await asyncio.wait([service])
    return None if service.cancelled() else service.result()


async def _announce(service: App, fields: dict[str, Any]) -> None:
    """Log the event "ready" as soon as `/readyz` reports the gate as ready."""
    while service.gate.readiness():  # noqa: ASYNC110 - several parts report problems, and none an event
        await asyncio.sleep(_POLL_SECONDS)
    log_start(fields, {})


async def _relieved(
    runner: http_server.Runner, service: App, relieve: asyncio.Event, stop: asyncio.Event
) -> None:
    await relieve.wait()
    service.registrar.notices.close()
    await runner.drain()
    stop.set()


async def _operations(
    service: App, registry: CollectorRegistry, post: Post, closing: AsyncExitStack
) -> dict[str, str]:
    """Start the operations listener and return its URL for the event "ready".

    If the setting `operations` is absent and the port is in use, only a warning is logged, because several gates may run on
    one machine.
    """
    if post.doors and "operations" not in post.doors:
        return {}
    try:
        runner = await http_application.start_operations(
            service, registry, inherited(post.doors.get("operations", ()))
        )
    except ConfigError as error:
        if service.config.settings.operations is not None:
            raise
        _log.warning(operations_refused(error), problem=str(error))
        return {}
    closing.push_async_callback(runner.cleanup)
    host, port = runner.addresses[0][:2]
    return {"operations": f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"}


async def _fastagi(service: App, closing: AsyncExitStack, sockets: list[socket.socket]) -> dict[str, str]:
    listen = service.config.settings.fastagi
    if listen is None:
        return {}
    server = FastAgiServer(service)
    closing.push_async_callback(server.close)
    return {"fastagi": f"agi://{listen.host}:{await server.start(sockets)}"}


def _signals(post: Post) -> tuple[asyncio.Event, asyncio.Event, asyncio.Event]:
    loop = asyncio.get_running_loop()
    stop, hangup, relieve = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, relieve.set)
    if post.parent >= 0:  # nothing is written to this pipe, so it becomes readable when the parent ends
        loop.add_reader(post.parent, _orphaned, post.parent, stop)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    loop.add_signal_handler(signal.SIGUSR2, _refuse_to_roll)
    held_signals.release()  # an earlier SIGHUP sets `hangup` now, because the gate may have read the old files
    return stop, hangup, relieve


def _refuse_to_roll() -> None:
    _log.warning("SIGUSR2 ignored: to restart workers, send it to the parent process of `serve --workers`")


def _orphaned(parent: int, stop: asyncio.Event) -> None:
    asyncio.get_running_loop().remove_reader(parent)
    stop.set()


async def _reload(
    service: App, runner: http_server.Runner, load: Callable[[], Config], hangup: asyncio.Event
) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            config = await asyncio.to_thread(load)
            certificate = await asyncio.to_thread(certificates.load, config)
            service.reload(config)
        except ConfigError as error:
            service.gate.reject_config(error)
        except OSError as error:
            service.gate.reject_config(ConfigError([f"the configuration cannot be stored: {error}"]))
        else:
            runner.renew(certificate)
            certificates.show(certificate, service.metrics)
            service_log.configure(config.settings.service_log)
            _warn(config)
            _log.info("configuration in force", config=config.hash)


def _warn(config: Config) -> None:
    for warning in warnings.warnings(config):
        _log.warning("configuration", problem=warning)


def _url(config: Config, address: tuple[str, int]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{'https' if config.settings.listen.tls_certificate else 'http'}://{host}:{address[1]}"
