"""The `registry-sync pull` command, which copies publications to a node."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from dialgate.lists.snapshot import PUBLIC_KEY
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import show_fields, show_json, utc
from registry_sync import nightly_job, snapshot_mirror, source_settings
from registry_sync.cli_options import AsJson, refuse, repeat, reporting
from registry_sync.publication import PublishTarget
from registry_sync.snapshot_mirror import Pull

app = typer.Typer()


def _publisher(text: str) -> str:
    if "://" in text and not text.startswith("https://"):
        raise typer.BadParameter("must be an https:// URL or a folder; other protocols are not supported")
    return text


def _key(text: str) -> str:
    if text and not PUBLIC_KEY.fullmatch(text):
        raise typer.BadParameter("must be a public key with 64 hexadecimal digits")
    return text


@app.command("pull")
def pull(
    *,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            parser=_publisher,
            metavar="URL|FOLDER",
            help="Where to get the publications: an https:// URL or a folder.",
        ),
    ],
    snapshots: Annotated[Path, typer.Option(file_okay=False, help="Snapshot folder of this node's gate.")],
    key: Annotated[
        str,
        typer.Option(
            parser=_key,
            metavar="HEX",
            help="Public key to check the publication's signature with. Default: the signature is not checked.",
        ),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File with the bearer token to send to the URL."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="File with CA certificates to trust instead of the system's."
        ),
    ] = None,
    every: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Keep running and pull at this interval. 0: pull once."),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Update this node's copy of the publication. Files are verified before the gate uses them.

    Exit status 1: the pull failed, and the local copy is unchanged.

    Example: registry-sync pull --from https://publisher.example/snapshots/ --snapshots .data/snapshots
    """
    source: source_settings.Source = source_settings.FolderSource(
        inbox=str(Path(from_).resolve()), settle_seconds=0
    )
    if from_.startswith("https://"):
        source = source_settings.HttpsSource(
            url=from_.rstrip("/") + "/", token_file=_absolute(token_file), ca_file=_absolute(ca_file)
        )
    if every:
        asyncio.run(_forever(source, PublishTarget(folder=snapshots), key, every, as_json=as_json))
        return
    with reporting(as_json=as_json):
        result = asyncio.run(snapshot_mirror.pull(source, PublishTarget(folder=snapshots), key, wall_clock()))
    _show_result(result, as_json=as_json)


def _absolute(path: Path | None) -> str:
    return str(path.resolve()) if path else ""


async def _forever(
    source: source_settings.Source, target: PublishTarget, key: str, every: float, *, as_json: bool
) -> None:
    version = ""

    async def pull_once() -> None:
        nonlocal version
        try:
            result = await snapshot_mirror.pull(source, target, key, wall_clock())
        except nightly_job.FAULTS as fault:
            refuse(str(fault), as_json=as_json)
            return
        if result.version != version:
            _show_result(result, as_json=as_json)
        version = result.version

    await repeat(pull_once, every)


def _show_result(result: Pull, *, as_json: bool) -> None:
    if as_json:
        show_json(result)
    else:
        fields: dict[str, str | int] = {
            "published at": utc(result.published_at),
            "files fetched": result.fetched,
        }
        show_fields(f"up to date with {result.version}", fields)
