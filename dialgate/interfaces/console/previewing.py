"""The preview of a call list, made in a separate process.

`python -m dialgate.interfaces.console.previewing CONFIG CLIENT LIST CAMPAIGN AT` writes JSON to standard output: the
preview, or `{"error": …}`. A list of a million numbers occupies one core for a minute, so the process has a low
priority and does not delay calls.
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
from dialgate.ledger.export import Preview, ScrubOrder
from dialgate.ledger.registrar import Registrar

_NICE = 10


class PreviewFailed(Struct, frozen=True):
    """A failed preview. `error` is an error code from the HTTP interface."""

    error: str


async def preview(
    config: Config, client: Client, name: str, campaign: str, at: Instant
) -> Preview | PreviewFailed:
    """Run the preview in a separate process with the same configuration and data folder."""
    arguments = (str(config.path), client.name, name, campaign, str(at))
    output = await run_command(sys.executable, "-m", __name__, *arguments)
    if output is None:
        return PreviewFailed("gate.error")
    if output.startswith(b'{"error"'):
        return msgspec.json.decode(output, type=PreviewFailed)
    return msgspec.json.decode(output, type=Preview)


async def run_command(*command: str) -> bytes | None:
    """Run a command and return its standard output, or None if it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:  # the browser has disconnected
        process.kill()
        raise
    return None if process.returncode else output


async def _preview(
    path: Path, name: str, call_list: str, campaign: str, at: Instant
) -> Preview | PreviewFailed:
    try:
        config = loader.load(path)
        client = next(client for client in config.settings.clients if client.name == name)
        registrar = await Registrar.open(config, lambda: at)
    except (ConfigError, Unavailable, StopIteration):
        return PreviewFailed("gate.unavailable")
    try:
        return await export.preview(
            registrar, client, call_list, ScrubOrder(campaign=campaign, at=at), _no_progress
        )
    except Refused as refused:
        return PreviewFailed(refused.code)
    except Unavailable:
        return PreviewFailed("gate.unavailable")
    finally:
        await registrar.close()


def _no_progress(_done: int, _total: int) -> None: ...


def _main() -> None:
    os.nice(_NICE)
    path, client, call_list, campaign, at = sys.argv[1:]
    result = asyncio.run(_preview(Path(path), client, call_list, campaign, int(at)))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    _main()
