"""Options and error output that the `registry-sync` commands share."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dialgate.config.configuration import ConfigError
from dialgate.runtime.extras import MissingExtra
from dialgate.runtime.terminal import MISUSE, NO, show_json
from registry_sync import config, nightly_job
from registry_sync.config import Plan
from registry_sync.publication import PublishTarget

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Report as one JSON object.")]
RegistriesPath: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--registries",
        envvar="REGISTRY_SYNC_CONFIG",
        dir_okay=False,
        help="Configuration for the nightly job (registries.yaml).",
    ),
]
DEFAULT_REGISTRIES = Path("config/registries.yaml")
Snapshots: TypeAlias = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="Snapshot folder. Default: the configured gate's snapshot folder."),
]


def load(path: Path, option: str = "--registries") -> Plan:
    try:
        return config.load(path)
    except ConfigError as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        raise typer.BadParameter(f"{path} cannot be used:\n{problems}", param_hint=option) from None


def target(registries: Path, snapshots: Path | None) -> PublishTarget:
    """Return the publication target: `snapshots` if given, otherwise the configured folder."""
    return PublishTarget(folder=snapshots) if snapshots else nightly_job.publish_target(load(registries))


@contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Print a refusal as text or JSON and exit with status 1, or with status 2 if an optional dependency is missing."""
    try:
        yield
    except nightly_job.FAULTS as error:
        refuse(str(error), as_json=as_json)
        raise typer.Exit(NO) from None
    except MissingExtra as missing:
        refuse(str(missing), as_json=as_json)
        raise typer.Exit(MISUSE) from None


async def repeat(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Await `step` repeatedly, and wait some seconds between two runs, until SIGTERM or SIGINT. A signal lets a run end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while not stop.is_set():
        await step()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()


def refuse(message: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"error": {"code": "refused", "message": message, "field": ""}})
    else:
        typer.echo(f"refused: {message}", err=True)
