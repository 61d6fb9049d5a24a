"""`dialgate log verify`, `checkpoint` and `evidence`: proofs from the decision log."""

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
from dialgate.interfaces.cli.instants import Since, Until, optional_instant
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

Worker: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Only this worker's log.")]

_First: TypeAlias = Annotated[
    int,
    typer.Option("--from", min=1, help="First record to verify. Its file is verified from the beginning."),
]
_Last: TypeAlias = Annotated[
    int | None, typer.Option("--to", min=1, help="Last record to verify. Its file is verified to the end.")
]
_Copy: TypeAlias = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Copy to verify. Default: the configured data folder."),
]
_NumbersFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="File with one number per line, for example +390612345678. The evidence covers all decisions about these numbers.",
    ),
]
Roots: TypeAlias = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="PEM root certificates for the time stamping authority."),
]


@log_app.command("verify")
def log_verify(
    *,
    first: _First = 1,
    last: _Last = None,
    against: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Checkpoint that was stored elsewhere.")
    ] = None,
    worker: Worker = None,
    data: _Copy = None,
    key: Annotated[
        list[str], typer.Option(metavar="NAME", help="Trust only signatures by this key. May be repeated.")
    ] = [],
    root: Roots = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Verify all workers' decision logs: every byte, the chain and the signed checkpoints. Count the records.

    Exit 1: a byte was changed, a record is missing or out of order, or a signature was made with an unknown key. Each fault is
    reported with file, byte and record. Gates may run at the same time. Use --against with a checkpoint that was
    stored elsewhere (`log checkpoint` with --out): otherwise a truncation after the last checkpoint is not detected.
    Use --data to verify a copy that `dialgate ship` made, without a configuration. Name your keys with --key,
    because an intruder with access to the copy could replace the keys that the copy contains. Time stamps are
    verified if `timestamp_roots` or --root is set.

    dialgate log verify --against /mnt/elsewhere/checkpoint.json

    dialgate log verify --data /mnt/elsewhere/gate/9f2c01ab --key 1d2f0c9a3e5b7788
    """
    with reporting(as_json=as_json):
        loaded = load_config(config) if data is None else None
        root_folder = loaded.data if loaded else data or Path()
        logs = _select_logs(root_folder, worker, alone=first > 1 or last is not None or against is not None)
        reports = {}
        for number, folder in logs.items():
            try:
                with _progress("verifying", shown=not as_json) as progress:
                    reports[number] = report = archive.verify(
                        folder,
                        first=first,
                        last=last,
                        keys=_trusted_keys(root_folder, key),
                        against=against.read_bytes() if against else b"",
                        progress=progress,
                    )
                _check_stamps(report, folder, root or _roots(loaded))
            except OSError as error:
                raise Failure(
                    "log.unreadable",
                    f"{folder}: {error.strerror}. Check --config or --data, or start the gate once",
                ) from None
            except Unavailable as error:
                raise Failure("keys.unusable", str(error)) from None
    _show_reports(reports, as_json=as_json)


def _show_reports(reports: dict[int, decision_log.Report], *, as_json: bool) -> NoReturn:
    ok = all(report.ok for report in reports.values())
    if not as_json:
        for number, report in reports.items():
            _show_report(report, f" of worker {number}" if len(reports) > 1 else "")
    elif len(reports) == 1:
        show_json({"ok": ok, **msgspec.structs.asdict(next(iter(reports.values())))})
    else:
        workers = {
            number: {"ok": report.ok, **msgspec.structs.asdict(report)} for number, report in reports.items()
        }
        show_json({"ok": ok, "workers": workers})
    raise typer.Exit(0 if ok else NO)


def _trusted_keys(data: Path, names: list[str]) -> dict[str, bytes]:
    """Return the public keys by name, or only those in `names` if it is not empty. Raises `KeysUnusable`."""
    shipped = data / "keys"
    keys = public_halves(shipped) if shipped.is_dir() else public_keys(data / "signing.json")
    return {name: public for name, public in keys.items() if not names or name in names}


def _select_logs(data: Path, worker: int | None, *, alone: bool) -> dict[int, Path]:
    """Return the log folders by worker. Raises `Failure` if `alone` is set and there are several logs."""
    logs = chains.folders(data) or {1: data / "log"}
    if worker is not None:
        if worker not in logs:
            workers = ", ".join(map(str, logs))
            raise Failure(
                "log.unreadable", f"worker {worker} has no log here. Choose one of {workers}", status=MISUSE
            )
        return {worker: logs[worker]}
    if alone and len(logs) > 1:
        raise Failure(
            "log.misuse", "there are logs of several workers. Choose one with --worker", status=MISUSE
        )
    return logs


def _roots(config: Config | None) -> Path | None:
    name = config.settings.timestamp_roots if config else ""
    return config.folder / name if config and name else None


def _check_stamps(report: decision_log.Report, folder: Path, roots: Path | None) -> None:
    """Add faults in time stamps to the report. Faults in checkpoints are already in the report."""
    if roots is None:
        return
    try:
        report.stamped, faults = timestamps.verify_timestamps(folder, roots)
    except decision_log.LogDamaged:
        return
    except ValueError as error:
        raise Failure(
            "file.unusable",
            f"{roots} contains no PEM certificates: {error}. Check --root or `timestamp_roots`",
            status=MISUSE,
        ) from None
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
        "incomplete bytes at the end": report.torn_tail,
        "signed checkpoints": report.signed,
        "records covered by them": report.covered,
        "valid time stamps": report.stamped,
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
        return "the chain is valid, but an index is DAMAGED"
    return "the chain is BROKEN" if kinds else "the chain is valid"


@log_app.command("checkpoint")
def log_checkpoint(
    *,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the checkpoint to this file.")
    ] = None,
    new_key: Annotated[
        bool,
        typer.Option(
            "--new-key",
            help="Create a new signing key. A running gate signs its next checkpoints with the new key.",
        ),
    ] = False,
    worker: Worker = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the newest signed checkpoint. If no gate is running, first sign one that covers all records.

    Store the checkpoint and the name of the key where users with write access to the log cannot write. `log verify`
    with --against then detects whether all or the last part of the log was replaced.

    dialgate log checkpoint --out /mnt/elsewhere/checkpoint.json
    """
    with reporting(as_json=as_json), _faults():
        loaded = load_config(config)
        ((number, folder),) = _select_logs(loaded.data, worker, alone=True).items()
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
        pass  # a running gate signs its own checkpoints
    stored = decision_log.last_checkpoint(folder)
    if stored is None:
        raise Failure("log.empty", f"{folder} has no records yet, so there is nothing to sign")
    return stored


@log_app.command("evidence")
def log_evidence(
    decision: Annotated[str, typer.Argument(help="Decision ID.", show_default=False)] = "",
    *,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write the bundle to.")],
    numbers: _NumbersFile = None,
    purpose: Purpose,
    since: Since = "",
    until: Until = "",
    with_verifier: Annotated[
        bool,
        typer.Option("--with-verifier", help=f"Also write {_VERIFIER}, which verifies the bundle."),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write evidence for a decision, or for all decisions about a list of numbers, for independent verification.

    The bundle contains the called numbers in plain text. The disclosure is recorded before the bundle is written. For each
    record, the bundle contains the legal basis, and the proof that a signed checkpoint covers the record. It also contains
    the law, the configuration, and the registry receipts and consents that are still stored. Verification needs Python,
    `cryptography` and one file: python verify_evidence.py BUNDLE --key NAME.

    dialgate log evidence 1f0c9a3e-1 --out evidence.json --with-verifier --purpose "Garante, 24 November"

    dialgate log evidence --numbers asked.txt --since 2026-11-01T00:00:00+01:00 --out evidence.json --purpose "Garante"
    """
    with reporting(as_json=as_json), _faults():
        if bool(decision) == bool(numbers):
            raise Failure("evidence.misuse", "give either a DECISION or --numbers FILE", status=MISUSE)
        if decision and (since or until):
            raise Failure("evidence.misuse", "--since and --until need --numbers", status=MISUSE)
        loaded = load_config(config)
        requested = _numbers(numbers) if numbers else []
        span = optional_instant(since, "since"), optional_instant(until, "until")
        bundles = asyncio.run(_evidence(loaded, decision, requested, span, out))
        disclosed = {
            *requested,
            *(number for bundle in bundles.values() for number in evidence.numbers_in(bundle)),
        }
        act(config, lambda subjects, client: subjects.record_disclosure(client, disclosed, purpose))
        for path, bundle in bundles.items():
            write_out(path, bundle.decode())
        if with_verifier:
            source = files("dialgate.tools.verifier").joinpath(_VERIFIER).read_bytes()
            out.with_name(_VERIFIER).write_bytes(source)
        signer = Signer.open(loaded.data / "signing.json", wall_clock())
    if as_json:
        more = {"files": [str(path) for path in bundles]} if len(bundles) > 1 else {}
        size = sum(path.stat().st_size for path in bundles)
        show_json({"file": str(out), "bytes": size, "key": signer.name, **more})
    else:
        for path in bundles:
            size = path.stat().st_size
            typer.echo(
                f"{path}: {size:,} bytes, signed by key {signer.name}. Send the name of the key separately."
            )


async def _evidence(
    config: Config, decision: str, numbers: list[str], span: tuple[Instant | None, Instant | None], out: Path
) -> dict[Path, bytes]:
    """Return the evidence bundle for each output file. The first bundle goes to `out`.

    A decision has one bundle. For `numbers`, there is one bundle for each worker's log.
    """
    now, signer = wall_clock(), Signer.open(config.data / "signing.json", wall_clock())
    store = await factory.open_store(config, patience=5)
    bundles: dict[Path, bytes] = {}
    try:
        for worker in _workers_of(config, decision):
            sources = evidence.Sources.of(
                config.data, keys=_keys(config, worker), signer=signer, store=store, worker=worker
            )
            if decision:
                bundle = await evidence.of_decision(sources, decision, now)
            else:
                bundle = await evidence.of_numbers(sources, numbers, now, *span)
            bundles[out.with_stem(f"{out.stem}-{worker}") if bundles else out] = bundle
    finally:
        await store.close()
    return bundles


def _workers_of(config: Config, decision: str) -> list[int]:
    """Return the worker that made the decision, or all workers if `decision` is empty."""
    if not decision:
        return list(chains.folders(config.data)) or [1]
    keys = _keys(config, 1)
    return [chains.worker_of(config.data, keys.log, keys.ids.inside(decision).rpartition("-")[0]) or 1]


def _numbers(path: Path) -> list[str]:
    """Read the numbers in a file. Raises `Failure` with the line number, but not the content, of an invalid line."""
    lines = path.read_text("utf-8").split("\n")
    for place, line in enumerate(lines, 1):
        if line.strip() and not _E164.fullmatch(line.strip()):
            problem = f"{path}, line {place}: not a number. Write it with country code and without spaces, for example +390612345678"
            raise Failure("number.invalid", problem, status=MISUSE)
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _keys(config: Config, worker: int) -> Keys:
    path = config.data / "keys.json"
    if not path.exists():
        raise Failure("keys.missing", f"{path} does not exist. Check --config, or restore it from its backup")
    return Keys.open(path, worker)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (NoEvidence, HoldRefused) as error:
        raise Failure("evidence.missing", str(error)) from None
    except OSError as error:
        raise Failure("file.unusable", f"{error.filename}: {error.strerror}") from None
