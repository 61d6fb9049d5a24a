"""`python -m dialgate.interfaces.console.previewing CONFIG CLIENT LIST CAMPAIGN AT`: what of a list is callable, as JSON on the
standard output, or `{"error": …}`.

A process of its own, of low priority: a list of a million numbers takes a core for a minute, and the calls that are
asked about meanwhile must not wait for it.
"""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from dialgate.config import loader
from dialgate.config.clients import Client
from dialgate.config.configuration import Config, ConfigError
from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.ledger import export
from dialgate.ledger.export import Order, Preview
from dialgate.ledger.registrar import Registrar

_NICE = 10


class Failed(Struct, frozen=True):
    """`error` is a code of the interface's."""

    error: str


async def preview(config: Config, client: Client, name: str, campaign: str, at: Instant) -> Preview | Failed:
    """Asks the process, which reads the same files."""
    words = (str(config.path), client.name, name, campaign, str(at))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        told, _ = await process.communicate()
    except asyncio.CancelledError:  # whoever asked has gone
        process.kill()
        raise
    if process.returncode:
        return Failed("gate.error")
    return msgspec.json.decode(told, type=Preview) if b'"error"' not in told[:9] else Failed(_code(told))


def _code(told: bytes) -> str:
    return msgspec.json.decode(told, type=Failed).error


async def _made(path: Path, name: str, of: str, campaign: str, at: Instant) -> Preview | Failed:
    try:
        config = loader.load(path)
        client = next(each for each in config.settings.clients if each.name == name)
        registrar = await Registrar.open(config, lambda: at)
    except (ConfigError, Unavailable, StopIteration):
        return Failed("gate.unavailable")
    try:
        return await export.preview(registrar, client, of, Order(campaign=campaign, at=at), _quiet)
    except Refused as refused:
        return Failed(refused.code)
    except Unavailable:
        return Failed("gate.unavailable")
    finally:
        await registrar.close()


def _quiet(_some: int, _total: int) -> None: ...


def _main() -> None:
    os.nice(_NICE)
    path, client, name, campaign, at = sys.argv[1:]
    made = asyncio.run(_made(Path(path), client, name, campaign, int(at)))
    sys.stdout.buffer.write(msgspec.json.encode(made))


if __name__ == "__main__":
    _main()
