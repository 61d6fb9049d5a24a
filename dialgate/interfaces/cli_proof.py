"""`dialgate log verify | checkpoint | evidence`: proving what the log holds, to oneself and to others."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from dialgate import archive, decision_log, evidence, timestamps
from dialgate.faults import Unavailable
from dialgate.interfaces.cli_audit import log_app
from dialgate.interfaces.cli_subjects import Purpose, act, write_out
from dialgate.interfaces.cli_terminal import (
    DEFAULT_CONFIG,
    MISUSE,
    NO,
    AsJson,
    ConfigPath,
    Failure,
    console,
    load_config,
    reporting,
    show_fields,
    show_json,
    show_table,
    utc,
)
from dialgate.keys import Keys
from dialgate.service import wall_clock
from dialgate.settings import Config
from dialgate.signing import Signer, public_keys, renew

_E164 = re.compile(r"\+[1-9][0-9]{3,14}")
_VERIFIER = "verify_evidence.py"


@log_app.command("verify")
def log_verify(
    *,
    first: Annotated[
        int, typer.Option("--from", min=1, help="Only the files that hold records from this on,")
    ] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="and up to this.")] = None,
    against: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A checkpoint that was kept elsewhere.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Prove the decision log: its chain, its signed checkpoints, every byte; and count what it holds.

    Exit 1 where a byte is not as it was written, something is missing or out of place, or signed by a strange key; each
    fault is named by file, byte and record. May be run beside a gate, or on a copy of its folder. That the end was cut
    off since the last checkpoint shows only --against one that was kept elsewhere: see `log checkpoint --out`.

    dialgate log verify --against /mnt/elsewhere/checkpoint.json"""
    with reporting(as_json=as_json):
        loaded = load_config(config)
        data, folder = loaded.data, loaded.data / "log"
        try:
            with _progress("verifying", shown=not as_json) as progress:
                report = decision_log.verify(
                    folder,
                    first=first,
                    last=last,
                    keys=public_keys(data / "signing.json"),
                    against=against.read_bytes() if against else b"",
                    open_segment=archive.open_segment,
                    listed=archive.segments(folder),
                    progress=progress,
                )
            report.faults += _unproved(loaded)
        except OSError as error:
            raise Failure(
                "log.unreadable", f"{folder}: {error.strerror}; has a gate ever run here?"
            ) from None
        except Unavailable as error:
            raise Failure("keys.unusable", str(error)) from None
    if as_json:
        show_json({"ok": report.ok, **msgspec.structs.asdict(report)})
    else:
        _show_report(report)
    raise typer.Exit(0 if report.ok else NO)


def _unproved(config: Config) -> list[decision_log.Fault]:
    """Where an authority is set, its time stamps must hold for the checkpoints that are there."""
    folder, roots = config.data / "log", config.settings.timestamp_roots
    what = "the time stamp does not hold, or its checkpoint is not here as it was stamped"
    return [
        decision_log.Fault(str(folder / timestamps.FILE), 0, size, what, "broken_timestamp")
        for size in (timestamps.unproved(folder, config.folder / roots) if roots else [])
    ]


@contextmanager
def _progress(what: str, *, shown: bool) -> Iterator[decision_log.Progress]:
    """Drawn on a terminal only."""
    out = console(stderr=True)
    with Progress(
        "{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=out,
        disable=not (shown and out.is_terminal), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def _show_report(report: decision_log.Report) -> None:
    fields = {
        "segments": report.segments,
        "records": report.entries,
        "decisions": report.by_type.get("decision", 0),
        "allows": report.allows,
        "denies": report.denies,
        "outcomes": report.by_type.get("outcome", 0),
        "unfinished bytes at its end": report.torn_tail,
        "signed checkpoints": report.signed,
        "records they cover": report.covered,
    }
    counts = {name: f"{value:,}" for name, value in fields.items()}
    verdict = "the chain holds" if report.ok else "the chain is BROKEN"
    show_fields(f"Decision log: {verdict}", counts | {"head": report.head})
    if report.faults:
        show_table(
            "Faults",
            ("file", "byte", "record", "kind", "what"),
            [
                (fault.file, str(fault.byte or fault.offset), str(fault.seq), fault.kind, fault.what)
                for fault in report.faults
            ],
        )


@log_app.command("checkpoint")
def log_checkpoint(
    *,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write it to this file, to be kept elsewhere.")
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Sign with a new key from here on; a running gate does so too.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the newest signed checkpoint; where no gate runs, make one of all there is.

    Keep it, and the name of its key, where nobody who can write the log can write: then neither the log's end nor all
    of it can be replaced unseen.

    dialgate log checkpoint --out /mnt/elsewhere/checkpoint.json"""
    with reporting(as_json=as_json), _faults():
        loaded = load_config(config)
        stored = _newest(loaded, new_key=new_key)
        line = (
            (loaded.data / "log" / decision_log.CHECKPOINTS).read_bytes()[stored.offset :].split(b"\n", 1)[0]
        )
        if out:
            out.write_bytes(line + b"\n")
    checkpoint = stored.checkpoint
    fields = {
        "records": checkpoint.size,
        "root": checkpoint.root,
        "head": checkpoint.head,
        "key": checkpoint.key,
    }
    if as_json:
        show_json({**fields, "log": checkpoint.log, "at": checkpoint.at})
    else:
        title = f"Checkpoint of log {checkpoint.log}, {utc(checkpoint.at)} UTC"
        show_fields(title, {name: str(value) for name, value in fields.items()})


def _newest(config: Config, *, new_key: bool) -> decision_log.Stored:
    folder, path, now = config.data / "log", config.data / "signing.json", wall_clock()
    keys = _keys(config)
    signer = renew(path, now) if new_key else Signer.open(path, now)
    try:
        decision_log.cover(folder, log=keys.log, signer=signer, now=now)
    except decision_log.LogDamaged:
        raise
    except decision_log.LogUnavailable:
        pass  # a gate has the log and makes its own
    stored = decision_log.last_checkpoint(folder)
    if stored is None:
        raise Failure("log.empty", f"{folder} holds no record yet, so there is nothing to sign")
    return stored


@log_app.command("evidence")
def log_evidence(
    decision: Annotated[str, typer.Argument(help="The decision's id.", show_default=False)] = "",
    *,
    out: Annotated[Path, typer.Option(dir_okay=False, help="The bundle: one file.")],
    numbers: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Of every decision about these, one a line, as in +390612345678.",
        ),
    ] = None,
    purpose: Purpose,
    with_verifier: Annotated[
        bool,
        typer.Option("--with-verifier", help=f"Write {_VERIFIER} beside it, for whoever is to check it."),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write proof of one decision, or of all about a list of numbers, that a sceptic can check alone.

    The bundle holds the called numbers in clear; that they left is recorded before it is written. It holds each record with its grounds, their way to a signed
    checkpoint, law and configuration, and the registry receipts and consents that are still held. To check it takes
    Python, `cryptography` and one file: python verify_evidence.py BUNDLE --key NAME.

    dialgate log evidence 1f0c9a3e-1 --out evidence.json --with-verifier --purpose "Garante, 24 November"

    dialgate log evidence --numbers asked.txt --out evidence.json --purpose "Garante, 24 November"
    """
    with reporting(as_json=as_json), _faults():
        if bool(decision) == bool(numbers):
            raise Failure("evidence.misuse", "name one decision, or a file with --numbers", status=MISUSE)
        loaded = load_config(config)
        asked = _numbers(numbers) if numbers else []
        made = asyncio.run(_evidence(loaded, decision, asked))
        seen = {*asked, *evidence.numbers_in(made)}
        act(config, lambda subjects, client: subjects.disclosed(client, seen, purpose))
        write_out(out, made.decode())
        if with_verifier:
            source = files("dialgate.verifier").joinpath(_VERIFIER).read_bytes()
            out.with_name(_VERIFIER).write_bytes(source)
        signer = Signer.open(loaded.data / "signing.json", wall_clock())
    if as_json:
        show_json({"file": str(out), "bytes": len(made), "key": signer.name})
    else:
        typer.echo(
            f"{out}: {len(made):,} bytes, signed by key {signer.name}. Tell the key's name by another way."
        )


async def _evidence(config: Config, decision: str, numbers: list[str]) -> bytes:
    now = wall_clock()
    sources = evidence.Sources.of(
        config.data, keys=_keys(config), signer=Signer.open(config.data / "signing.json", now)
    )
    try:
        if decision:
            return await evidence.of_decision(sources, decision, now)
        return await evidence.of_numbers(sources, numbers, now)
    finally:
        await sources.store.close()


def _numbers(path: Path) -> list[str]:
    """Raises Failure, which names the line and not what stands in it."""
    lines = path.read_text("utf-8").split("\n")
    for place, line in enumerate(lines, 1):
        if line.strip() and not _E164.fullmatch(line.strip()):
            what = (
                f"{path}, line {place}: not a number as in +390612345678, with its country code and no spaces"
            )
            raise Failure("number.invalid", what, status=MISUSE)
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _keys(config: Config) -> Keys:
    path = config.data / "keys.json"
    if not path.exists():
        raise Failure("keys.missing", f"{path} is not there; has a gate ever run here?")
    return Keys.open(path)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except evidence.NoEvidence as error:
        raise Failure("evidence.missing", str(error)) from None
    except Unavailable as error:
        raise Failure(f"{error.component}.unavailable", str(error)) from None
    except OSError as error:
        raise Failure("file.unusable", f"{error.filename}: {error.strerror}") from None
