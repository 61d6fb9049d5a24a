"""`dialgate serve`: a gate with its listeners and signal handlers."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, TypeAlias

import structlog
import typer
import uvloop
from msgspec import structs
from prometheus_client import CollectorRegistry, ProcessCollector

from dialgate.app import App
from dialgate.config import content_store, loader, warnings
from dialgate.config.configuration import Config, ConfigError
from dialgate.core.faults import Unavailable
from dialgate.interfaces import connections, http_application
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config, reporting
from dialgate.interfaces.fastagi.server import FastAgiServer
from dialgate.interfaces.http import certificates
from dialgate.interfaces.http import server as http_server
from dialgate.interfaces.listening import operations_refused
from dialgate.interfaces.webhooks import deliveries
from dialgate.observability import service_log, traces
from dialgate.runtime import held_signals
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.file_lock import own_folder
from dialgate.runtime.garbage_collection import loading_for_long, return_free_memory, spare_collector
from dialgate.runtime.notify_socket import NotifySocket
from dialgate.runtime.terminal import MISUSE
from dialgate.runtime.thread_pool import ThreadPool

app = typer.Typer()
_POLL_SECONDS = 0.1
# A start counts as complete after this time even if the gate is not ready: what it lacks, such as registry answers, may come from
# jobs that start after it.
_START_SECONDS = 10
# Python lets a thread run this long before another one may, so each step of a check waits so long during a reload.
_SWITCH_SECONDS = 0.0005
_Load: TypeAlias = Callable[[Config], Config]
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
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Run the gate until SIGTERM or SIGINT. The gate answers checks in progress before it stops.

    With the setting `listen.drain_seconds`, it first reports for that time that it is not ready, and still answers.
    SIGHUP reloads the configuration and the TLS certificate. If either is invalid, the gate continues with the old
    ones. The log event "listening" contains the URL, and the problems if the gate cannot decide yet. The event "ready" follows as
    soon as `/readyz` answers 200.

    dialgate serve --config /etc/dialgate/dialgate.yaml
    """
    adapt = partial(_at_address, host=host, port=port)
    with reporting(as_json=False):
        try:
            service_log.configure()
            with loading_for_long():
                loaded = load_config(config)
            service_log.configure(loaded.settings.service_log)
        except service_log.LogMisset as error:
            raise Failure("config.invalid", str(error), status=MISUSE) from None
        serving = _serve(adapt(loaded), lambda earlier: adapt(loader.load(config, earlier)))
        del loaded  # here and in `_serve`: a reload frees the earlier configuration
        try:
            uvloop.run(serving)
        except (ConfigError, Unavailable, OSError) as error:
            raise Failure("gate.unavailable", str(error)) from None


def _at_address(config: Config, host: str, port: int | None) -> Config:
    """Return the configuration with the address that the command line names."""
    listen = config.settings.listen
    listen = structs.replace(listen, host=host or listen.host, port=listen.port if port is None else port)
    return structs.replace(config, settings=structs.replace(config.settings, listen=listen))


async def _serve(config: Config, load: _Load) -> None:
    connections.raise_limit()
    sys.setswitchinterval(_SWITCH_SECONDS)
    stop, hangup = _signals()
    notify_socket = NotifySocket.of_process()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    async with AsyncExitStack() as closing:
        closing.enter_context(own_folder(config.data))
        tracing = traces.open_traces(config.settings.traces, config.settings.node)
        if tracing is not None:
            closing.push_async_callback(asyncio.to_thread, tracing.close)
        service = await _open_app(App.open(config, registry=registry, traces=tracing), stop)
        del config
        if service is None:
            _log.info("stopped")
            return
        closing.push_async_callback(service.close)
        runner = await http_application.start(service, registry)
        closing.push_async_callback(runner.cleanup)
        urls = await _operations(service, registry, closing) | await _fastagi(service, closing)
        spare_collector()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(service.run()),
                tasks.create_task(_reload(service, runner, load, hangup)),
                tasks.create_task(deliveries.run(service, wall_clock)),
                tasks.create_task(_report_health(service, notify_socket)),
            ]
            listen = service.config.settings.listen
            fields: dict[str, Any] = {
                "url": _url("https" if listen.tls_certificate else "http", runner.addresses[0]),
                "config": service.config.hash,
                **urls,
            }
            _warn(service.config)
            problems = service.gate.readiness()
            (_log.warning if problems else _log.info)("listening", **fields, problems=problems)
            background.append(tasks.create_task(_announce(service, fields)))
            await stop.wait()
            notify_socket.notify("STOPPING=1")
            if seconds := service.config.settings.listen.drain_seconds:
                service.gate.leave()
                _log.info("draining", seconds=seconds)
                await asyncio.sleep(seconds)
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
    _log.info("ready", **fields)


async def _report_health(service: App, notify_socket: NotifySocket) -> None:
    """Report the start and the state of the gate to the service manager, and send its heartbeats.

    They come from the event loop that decides calls, so the service manager restarts a gate whose event loop is blocked.
    """
    clock = asyncio.get_running_loop().time
    latest, is_started = clock() + _START_SECONDS, False
    while notify_socket.address:
        problems = service.gate.readiness()
        if not is_started and (not problems or clock() >= latest):
            is_started = True
            notify_socket.notify("READY=1")
        failures = service.gate.failures()
        texts = [f"{part}: {' '.join(problem.split())}" for part, problem in (failures or problems).items()]
        state = "denies every call" if failures else "decides calls"
        state = f"{state}: {'; '.join(texts)}" if texts else "ready"
        notify_socket.notify("WATCHDOG=1", f"STATUS={state}")
        await asyncio.sleep((notify_socket.beat_seconds or 1) if is_started else _POLL_SECONDS)


async def _operations(service: App, registry: CollectorRegistry, closing: AsyncExitStack) -> dict[str, str]:
    """Start the operations listener and return its URL for the event "ready".

    If the setting `operations` is absent and the port is in use, only a warning is logged, because several gates may run on
    one machine.
    """
    try:
        runner = await http_application.start_operations(service, registry)
    except ConfigError as error:
        if service.config.settings.operations is not None:
            raise
        _log.warning(operations_refused(error), problem=str(error))
        return {}
    closing.push_async_callback(runner.cleanup)
    return {"operations": _url("http", runner.addresses[0])}


async def _fastagi(service: App, closing: AsyncExitStack) -> dict[str, str]:
    listen = service.config.settings.fastagi
    if listen is None:
        return {}
    server = FastAgiServer(service)
    closing.push_async_callback(server.close)
    return {"fastagi": f"agi://{listen.host}:{await server.start()}"}


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    loop, stop, hangup = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    held_signals.release()  # an earlier SIGHUP sets `hangup` now, because the gate may have read the old files
    return stop, hangup


async def _reload(service: App, runner: http_server.Runner, load: _Load, hangup: asyncio.Event) -> None:
    # One thread, because each thread that loads keeps the memory of a configuration.
    loading = ThreadPool("reload", 1)
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            with loading_for_long():
                config = await loading.run(load, service.config)
                certificate = await loading.run(certificates.load, config)
                service.gate.refuse_config(config)  # before the archive contains it
                await loading.run(content_store.keep, config.data / "kept", config)
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
        await loading.run(return_free_memory)


def _warn(config: Config) -> None:
    for warning in warnings.warnings(config):
        _log.warning("configuration", problem=warning)


def _url(scheme: str, address: tuple[str, int]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{scheme}://{host}:{address[1]}"
