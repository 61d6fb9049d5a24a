"""`dialgate store copy`: migration between an embedded and a shared store."""

import asyncio
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

import typer

from dialgate.core.faults import Unavailable
from dialgate.interfaces.cli.options import AsJson, Failure, reporting
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, OF_ROWS, progress, show_fields, show_json
from dialgate.store import factory
from dialgate.store.copying import CopyEnd, Kind, copy

app = typer.Typer()
store_app = typer.Typer(no_args_is_help=True)
app.add_typer(store_app, name="store")

_Url = Annotated[
    str,
    typer.Argument(
        help="sqlite:///PATH, or a Redis URL as in the setting `store`. Add `?name=…` for a key prefix other than dialgate."
    ),
]


@store_app.command("copy")
def store_copy(source: _Url, target: _Url, *, as_json: AsJson = False) -> None:
    """Copy a store to another engine, keep its sequence numbers, and compare the two stores row by row.

    Stop the gates first. If the copy was interrupted, run the command again to continue. Gates do not open an incomplete
    copy. To keep a password out of the command, write the URL to a file. Then pass @ and the path of the file, as in
    `@/etc/dialgate/redis.url`.

    dialgate store copy sqlite:///var/lib/dialgate/store.db redis://localhost:6379/0
    """
    with reporting(as_json=as_json):
        try:
            copied = asyncio.run(_copy(source, target, shown=not as_json))
        except (Unavailable, OSError) as error:
            raise Failure("store.not_copied", str(error)) from None
    if as_json:
        show_json(copied)
    else:
        show_fields("Copied and compared", {name: f"{count:,}" for name, count in copied.items()})


async def _copy(source: str, target: str, *, shown: bool) -> dict[Kind, int]:
    ends = []
    try:
        ends = [_end(source), _end(target)]
        with progress(*OF_ROWS, shown=shown) as bar:
            task = bar.add_task("copying and comparing", total=2 * await ends[0].count())
            return await copy(ends[0], ends[1], lambda rows: bar.advance(task, rows))
    finally:
        for end in ends:
            await end.close()


def _end(text: str) -> CopyEnd:
    url = Path(text[1:]).read_text("utf-8").strip() if text.startswith("@") else text
    address, _, parameters = url.partition("?")
    query = dict(parse_qsl(parameters))
    name = query.pop("name", "dialgate")
    try:
        return factory.copy_end(f"{address}?{urlencode(query)}" if query else address, name, wall_clock())
    except ValueError as error:
        raise Failure(
            "store.invalid",
            f"not a valid store URL: {error}. Use sqlite:///PATH or redis://HOST:PORT/0",
            status=MISUSE,
        ) from None
