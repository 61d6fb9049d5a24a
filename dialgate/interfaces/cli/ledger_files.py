"""`dialgate ledger`: a store's content as a file, to move to another store or to another program."""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.crypto.keys import Keys
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient, GateUnreachable
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config
from dialgate.ledger import ledger_file
from dialgate.ledger.ledger_file import Kind
from dialgate.runtime.atomic_write import replace_file
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.file_lock import own_folder
from dialgate.runtime.terminal import OF_BYTES, progress, show_fields
from dialgate.store import factory
from dialgate.store.watermark import LedgerWatermark

app = typer.Typer()
ledger_app = typer.Typer(no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")

_PATIENCE: Final = 30.0  # seconds
_CHUNK: Final = 1 << 20


def _show_export(export: dict[str, Any]) -> None:
    typer.echo(f"{export['rows']:,} rows written to {export['out']}. An import needs the same keys.json.")


@ledger_app.command("export")
@command(_show_export)
def ledger_export(
    out: Annotated[Path, typer.Argument(dir_okay=False, help="File to write. Only you can read it.")],
    *,
    numbers: Annotated[
        bool,
        typer.Option(
            "--numbers", help="Add the called numbers in clear, for another program. The export is recorded."
        ),
    ] = False,
    gate: GateClient,
) -> dict[str, Any]:
    """Write the ledger, call lists, proofs and counted attempts to a file, one JSON object per line.

    If no gate runs on this machine, the command reads the store itself. To move to another store, stop the gate first, so
    that nothing is written after the export.

    dialgate ledger export /var/lib/dialgate/ledger
    """
    with replace_file(out) as file, progress(*OF_BYTES) as bar:
        task = bar.add_task("exporting", total=None)  # the size is unknown

        def write(lines: bytes) -> None:
            bar.advance(task, file.write(lines))

        try:
            with gate.open("GET", "/v1/ledger/export", query={"numbers": "true" if numbers else ""}) as sent:
                while chunk := sent.read(_CHUNK):
                    write(chunk)
        except GateUnreachable:
            if gate.url or numbers:  # the record of the export needs a gate
                raise
            file.truncate(0)
            asyncio.run(_read_store(load_config(gate.config), write))
        file.seek(0)
        (last,) = deque(file, maxlen=1) or (b"",)
        rows = ledger_file.count_of(last)
    return {"out": str(out), "rows": rows}


def _show_import(rows: dict[Kind, int]) -> None:
    show_fields("Imported and compared", {name: f"{count:,}" for name, count in rows.items()})


@ledger_app.command("import")
@command(_show_import)
def ledger_import(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="File of `dialgate ledger export`.")
    ],
    *,
    config: ConfigPath = DEFAULT_CONFIG,
) -> dict[Kind, int]:
    """Import an export into an empty store, and compare the store with it.

    Stop the gate first: without its ledger, it could permit calls to people who revoked. No gate opens a store whose import
    is incomplete.

    dialgate ledger import /var/lib/dialgate/ledger
    """
    try:
        with progress() as bar, bar.open(file, "rb", description=file.name) as opened:
            return asyncio.run(_load(load_config(config), opened))
    except (Unavailable, OSError) as error:
        raise Failure("ledger.not_imported", str(error)) from None


async def _read_store(config: Config, write: Callable[[bytes], object]) -> None:
    with own_folder(config.data):
        keys = Keys.open(config.data / "keys.json")
        store = await factory.open_store(config, keys, patience=_PATIENCE)
        try:
            async for lines in ledger_file.export(store, keys):
                write(lines)
            await LedgerWatermark(config.data).advance(store)  # so that no older export is imported here
        finally:
            await store.close()


async def _load(config: Config, file: IO[bytes]) -> dict[Kind, int]:
    with own_folder(config.data):
        store = await factory.open_store(config, patience=_PATIENCE, empty=True)
        try:
            keys, watermark = Keys.open(config.data / "keys.json"), LedgerWatermark(config.data)
            return await ledger_file.load(store, keys, watermark, file, wall_clock())
        finally:
            await store.close()
