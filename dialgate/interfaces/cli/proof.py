"""`dialgate log verify | checkpoint | evidence`: proving what the log holds, to oneself and to others."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias

import msgspec
import typer

from dialgate import decision_log
from dialgate.audit import evidence
from dialgate.audit.legal_holds import HoldRefused
from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer, public_halves, public_keys, renew
from dialgate.decision_log import archive, chains, timestamps
from dialgate.decision_log.inclusion_proofs import NoEvidence
from dialgate.interfaces.cli.config import log_app
from dialgate.interfaces.cli.instants import Since, Until, instant
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.interfaces.cli.subjects import Purpose, act, write_out
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, NO, OF_BYTES, progress, show_fields, show_json, show_table, utc
from dialgate.store import factory

_E164 = re.compile(r"\+[1-9][0-9]{3,14}")
_VERIFIER = "verify_evidence.py"

Worker: TypeAlias = Annotated[int | None, typer.Option(min=1, help="The log of this worker only.")]

Roots: TypeAlias = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Root certificates (PEM) of the time stamping authority."),
]


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
    worker: Worker = None,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="This copy, not the configuration's data folder."),
    ] = None,
    key: Annotated[
        list[str], typer.Option(metavar="NAME", help="Trust this key's signatures only. May be repeated.")
    ] = [],
    root: Roots = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Prove the decision log, every worker's: its chain, its signed checkpoints, every byte; and count what it holds.

    Exit 1 where a byte is not as it was written, something is missing or out of place, or signed by a strange key; each
    fault is named by file, byte and record. May be run beside a gate, or on a copy of its folder. That the end was cut
    off since the last checkpoint shows only --against one that was kept elsewhere: see `log checkpoint --out`. What
    `dialgate ship` put elsewhere is proved with --data, and needs no configuration; who can write there can also replace
    the keys, so name yours with --key. Time stamps are checked where `timestamp_roots` or --root says whom to trust.

    dialgate log verify --against /mnt/elsewhere/checkpoint.json

    dialgate log verify --data /mnt/elsewhere/gate/9f2c01ab --key 1d2f0c9a3e5b7788"""
    with reporting(as_json=as_json):
        loaded = load_config(config) if data is None else None
        place = loaded.data if loaded else data or Path()
        chosen = _chosen(place, worker, alone=first > 1 or last is not None or against is not None)
        reports = {}
        for number, folder in chosen.items():
            try:
                with _progress("verifying", shown=not as_json) as progress:
                    reports[number] = report = archive.verify(
                        folder,
                        first=first,
                        last=last,
                        keys=_trusted(place, key),
                        against=against.read_bytes() if against else b"",
                        progress=progress,
                    )
                _check_stamps(report, folder, root or _roots(loaded))
            except OSError as error:
                raise Failure(
                    "log.unreadable", f"{folder}: {error.strerror}; has a gate ever run here?"
                ) from None
            except Unavailable as error:
                raise Failure("keys.unusable", str(error)) from None
    _tell_reports(reports, as_json=as_json)


def _tell_reports(reports: dict[int, decision_log.Report], *, as_json: bool) -> NoReturn:
    ok = all(report.ok for report in reports.values())
    if not as_json:
        for number, report in reports.items():
            _show_report(report, f" of worker {number}" if len(reports) > 1 else "")
    elif len(reports) == 1:
        show_json({"ok": ok, **msgspec.structs.asdict(next(iter(reports.values())))})
    else:
        told = {number: msgspec.structs.asdict(report) for number, report in reports.items()}
        show_json({"ok": ok, "workers": {n: {"ok": reports[n].ok, **each} for n, each in told.items()}})
    raise typer.Exit(0 if ok else NO)


def _trusted(data: Path, names: list[str]) -> dict[str, bytes]:
    """By name; all of them unless some are named. Raises `KeysUnusable`."""
    shipped = data / "keys"
    found = public_halves(shipped) if shipped.is_dir() else public_keys(data / "signing.json")
    return {name: public for name, public in found.items() if not names or name in names}


def _chosen(data: Path, worker: int | None, *, alone: bool) -> dict[int, Path]:
    """Which logs. Raises `Failure` where more than one is meant by what can mean one only."""
    found = chains.folders(data) or {1: data / "log"}
    if worker is not None:
        if worker not in found:
            raise Failure("log.unreadable", f"worker {worker} has written no log here", status=MISUSE)
        return {worker: found[worker]}
    if alone and len(found) > 1:
        raise Failure("log.misuse", "several workers wrote logs here; name one with --worker", status=MISUSE)
    return found


def _roots(config: Config | None) -> Path | None:
    named = config.settings.timestamp_roots if config else ""
    return config.folder / named if config and named else None


def _check_stamps(report: decision_log.Report, folder: Path, roots: Path | None) -> None:
    """Time stamps must hold for the checkpoints that are there; what is wrong with those was told already."""
    if roots is None:
        return
    try:
        report.stamped, faults = timestamps.verify_timestamps(folder, roots)
    except decision_log.LogDamaged:
        return
    except ValueError as error:
        raise Failure("file.unusable", f"{roots} holds no certificates: {error}", status=MISUSE) from None
    report.faults += faults


@contextmanager
def _progress(what: str, *, shown: bool) -> Iterator[decision_log.Progress]:
    with progress(*OF_BYTES, shown=shown) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def _show_report(report: decision_log.Report, whose: str) -> None:
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
        "time stamps that hold": report.stamped,
    }
    counts = {name: f"{value:,}" for name, value in fields.items()}
    show_fields(f"Decision log{whose}: {_verdict(report)}", counts | {"head": report.head})
    if report.faults:
        show_table(
            "Faults",
            ("file", "byte", "record", "kind", "what"),
            [
                (fault.file, str(fault.byte or fault.offset), str(fault.seq), fault.kind, fault.what)
                for fault in report.faults
            ],
        )


def _verdict(report: decision_log.Report) -> str:
    kinds = {fault.kind for fault in report.faults}
    if kinds == {"damaged_index"}:
        return "the chain holds, but an index is DAMAGED"
    return "the chain is BROKEN" if kinds else "the chain holds"


@log_app.command("checkpoint")
def log_checkpoint(
    *,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write it to this file, to be kept elsewhere.")
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Sign with a new key from here on; a running gate does so too.")
    ] = False,
    worker: Worker = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the newest signed checkpoint; where no gate runs, make one of all there is.

    Keep it, and the name of its key, where nobody who can write the log can write: then neither the log's end nor all
    of it can be replaced unseen.

    dialgate log checkpoint --out /mnt/elsewhere/checkpoint.json"""
    with reporting(as_json=as_json), _faults():
        loaded = load_config(config)
        ((number, folder),) = _chosen(loaded.data, worker, alone=True).items()
        stored = _newest(loaded, folder, number, new_key=new_key)
        line = (folder / decision_log.CHECKPOINTS).read_bytes()[stored.offset :].split(b"\n", 1)[0]
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
        title = f"Checkpoint of log {checkpoint.log}, {utc(checkpoint.at)}"
        show_fields(title, {name: str(value) for name, value in fields.items()})


def _newest(config: Config, folder: Path, worker: int, *, new_key: bool) -> decision_log.StoredCheckpoint:
    path, now = config.data / "signing.json", wall_clock()
    keys = _keys(config, worker)
    signer = renew(path, now) if new_key else Signer.open(path, now)
    try:
        decision_log.make_checkpoint(folder, log=keys.log, signer=signer, now=now)
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
    since: Since = "",
    until: Until = "",
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

    dialgate log evidence --numbers asked.txt --since 2026-11-01T00:00:00+01:00 --out evidence.json --purpose "Garante"
    """
    with reporting(as_json=as_json), _faults():
        if bool(decision) == bool(numbers):
            raise Failure("evidence.misuse", "name one decision, or a file with --numbers", status=MISUSE)
        if decision and (since or until):
            raise Failure("evidence.misuse", "--since and --until go with --numbers", status=MISUSE)
        loaded = load_config(config)
        asked = _numbers(numbers) if numbers else []
        span = instant(since, "since"), instant(until, "until")
        made = asyncio.run(_evidence(loaded, decision, asked, span, out))
        seen = {*asked, *(number for bundle in made.values() for number in evidence.numbers_in(bundle))}
        act(config, lambda subjects, client: subjects.record_disclosure(client, seen, purpose))
        for path, bundle in made.items():
            write_out(path, bundle.decode())
        if with_verifier:
            source = files("dialgate.tools.verifier").joinpath(_VERIFIER).read_bytes()
            out.with_name(_VERIFIER).write_bytes(source)
        signer = Signer.open(loaded.data / "signing.json", wall_clock())
    if as_json:
        more = {"files": [str(path) for path in made]} if len(made) > 1 else {}
        size = sum(path.stat().st_size for path in made)
        show_json({"file": str(out), "bytes": size, "key": signer.name, **more})
    else:
        for path in made:
            size = path.stat().st_size
            typer.echo(
                f"{path}: {size:,} bytes, signed by key {signer.name}. Tell the key's name by another way."
            )


async def _evidence(
    config: Config, decision: str, numbers: list[str], span: tuple[Instant | None, Instant | None], out: Path
) -> dict[Path, bytes]:
    """One bundle is about one log: of numbers there is one for each worker's, `out` for the first."""
    now, signer = wall_clock(), Signer.open(config.data / "signing.json", wall_clock())
    store = await factory.open_store(config, patience=5)
    bundles: dict[Path, bytes] = {}
    try:
        for worker in _deciders(config, decision):
            sources = evidence.Sources.of(
                config.data, keys=_keys(config, worker), signer=signer, store=store, worker=worker
            )
            if decision:
                made = await evidence.of_decision(sources, decision, now)
            else:
                made = await evidence.of_numbers(sources, numbers, now, *span)
            bundles[out.with_stem(f"{out.stem}-{worker}") if bundles else out] = made
    finally:
        await store.close()
    return bundles


def _deciders(config: Config, decision: str) -> list[int]:
    """The workers whose logs are to be read: that of the decision, or all."""
    if not decision:
        return list(chains.folders(config.data)) or [1]
    keys = _keys(config, 1)
    return [chains.worker_of(config.data, keys.log, keys.ids.inside(decision).rpartition("-")[0]) or 1]


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


def _keys(config: Config, worker: int) -> Keys:
    path = config.data / "keys.json"
    if not path.exists():
        raise Failure("keys.missing", f"{path} is not there; has a gate ever run here?")
    return Keys.open(path, worker)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (NoEvidence, HoldRefused) as error:
        raise Failure("evidence.missing", str(error)) from None
    except Unavailable as error:
        raise Failure(f"{error.component}.unavailable", str(error)) from None
    except OSError as error:
        raise Failure("file.unusable", f"{error.filename}: {error.strerror}") from None
