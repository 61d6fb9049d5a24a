"""`registry-sync pull`: on a node, a copy of what is published elsewhere."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from dialgate.lists.snapshot import PUBLIC_KEY
from dialgate.runtime.terminal import show_fields, show_json, utc
from registry_sync import config, nightly_job
from registry_sync.cli_options import AsJson, refuse, reporting
from registry_sync.publication import Press
from registry_sync.snapshot_mirror import Pull

app = typer.Typer()


def _place(text: str) -> str:
    if "://" in text and not text.startswith("https://"):
        raise typer.BadParameter("is neither https://… nor a folder: answers are fetched over TLS alone")
    return text


def _key(text: str) -> str:
    if text and not PUBLIC_KEY.fullmatch(text):
        raise typer.BadParameter("a public key is 64 hexadecimal digits")
    return text


@app.command("pull")
def pull(
    *,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            parser=_place,
            metavar="URL|FOLDER",
            help="Where it is published: https://…/ or a folder.",
        ),
    ],
    snapshots: Annotated[
        Path, typer.Option(file_okay=False, help="Where this node's gate looks for answers.")
    ],
    key: Annotated[
        str, typer.Option(parser=_key, metavar="HEX", help="The public key that must have signed it.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A bearer token for the URL.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The only authority to trust.")
    ] = None,
    every: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Go on, with a look every so often; 0: once.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Bring this node's copy up to what is published, verified before the gate sees it.

    Exit 1 where it could not: then what this node has stays.

    Example: registry-sync pull --from https://publisher.example/snapshots/ --snapshots .data/snapshots"""
    source: config.Source = config.FolderSource(inbox=str(Path(from_).resolve()), settle_seconds=0)
    if from_.startswith("https://"):
        source = config.HttpsSource(
            url=from_.rstrip("/") + "/", token_file=_absolute(token_file), ca_file=_absolute(ca_file)
        )
    if every:
        asyncio.run(_forever(source, Press(folder=snapshots), key, every, as_json=as_json))
        return
    with reporting(as_json=as_json):
        done = asyncio.run(nightly_job.pull(source, Press(folder=snapshots), key))
    _tell(done, as_json=as_json)


def _absolute(path: Path | None) -> str:
    return str(path.resolve()) if path else ""


async def _forever(source: config.Source, press: Press, key: str, every: float, *, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    version = ""
    while not stop.is_set():
        try:
            done = await nightly_job.pull(source, press, key)
        except nightly_job.FAULTS as fault:
            refuse(str(fault), as_json=as_json)
        else:
            if done.version != version:
                _tell(done, as_json=as_json)
            version = done.version
        try:
            async with asyncio.timeout(every):
                await stop.wait()
        except TimeoutError:
            continue


def _tell(done: Pull, *, as_json: bool) -> None:
    if as_json:
        show_json(done)
    else:
        fields: dict[str, str | int] = {"published at": utc(done.published_at), "files fetched": done.fetched}
        show_fields(f"up to date with {done.version}", fields)
