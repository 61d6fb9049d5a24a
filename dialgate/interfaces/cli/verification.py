"""`dialgate log verify`: verification of the decision logs, their checkpoints and time stamps."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import typer

from dialgate import decision_log
from dialgate.audit.log_proof import keep_proof
from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.crypto.log_signing import public_halves, public_keys
from dialgate.decision_log import chains, timestamps
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.log_group import log_app
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
)
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, OF_BYTES, progress, show_fields, show_table

LogNumber: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--log",
        "--worker",
        min=1,
        help="Only the log with this number: N of `log/restored-N`, or of `log/worker-N` of earlier versions, or 1 for `log`. `--worker` is the earlier name.",
    ),
]

_First: TypeAlias = Annotated[
    int,
    typer.Option(
        "--from",
        min=1,
        help="First record to verify. Verification starts at the beginning of this record's log file.",
    ),
]
_Last: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--to", min=1, help="Last record to verify. Verification stops at the end of this record's log file."
    ),
]
_Copy: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Folder to verify, for example a copy made by `dialgate ship`. Default: the configured data folder.",
    ),
]
Reports: TypeAlias = dict[int, decision_log.VerificationReport]  # by the number of the log
_Roots: TypeAlias = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="PEM root certificates for the time stamping authority."),
]


def _are_ok(reports: Reports) -> bool:
    return all(report.ok for report in reports.values())


def _as_builtins(reports: Reports) -> dict[str, object]:
    fields = {
        number: {"ok": report.ok, **msgspec.structs.asdict(report)} for number, report in reports.items()
    }
    return next(iter(fields.values())) if len(fields) == 1 else {"ok": _are_ok(reports), "workers": fields}


def _show(reports: Reports) -> None:
    for number, report in reports.items():
        _show_report(report, f" {number}" if len(reports) > 1 else "")


def _show_report(report: decision_log.VerificationReport, whose: str) -> None:
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
        "head": report.head,
    }
    show_fields(f"Decision log{whose}: {_verdict(report)}", fields)
    if report.faults:
        show_table(
            "Faults",
            ("file", "byte", "record", "kind", "what"),
            [
                (fault.file, str(fault.offset), str(fault.seq), fault.kind, fault.what)
                for fault in report.faults
            ],
        )


def _verdict(report: decision_log.VerificationReport) -> str:
    kinds = {fault.kind for fault in report.faults}
    if kinds == {"damaged_index"}:
        return "the chain is valid, but an index is DAMAGED"
    return "the chain is BROKEN" if kinds else "the chain is valid"


@log_app.command("verify")
@command(_show, data=_as_builtins, ok=_are_ok)
def log_verify(
    *,
    first: _First = 1,
    last: _Last = None,
    against: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="File from `dialgate log checkpoint --out`. The log must still contain this checkpoint.",
        ),
    ] = None,
    log_number: LogNumber = None,
    data: _Copy = None,
    key: Annotated[
        list[str], typer.Option(metavar="NAME", help="Trust only signatures by this key. May be repeated.")
    ] = [],
    root: _Roots = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> Reports:
    """Verify the decision logs of a data folder: every byte, the chain and the signed checkpoints. Count the records.

    Exit 1: a byte was changed, a record is missing or out of order, or a signature was made with an unknown key. The
    report names the file, byte and record of each fault. Gates can keep running during the verification. Use --against
    with a checkpoint that was stored elsewhere (`log checkpoint` with --out). Without --against, the removal of the last
    records and their checkpoints is not detected. Use --data to verify a copy that `dialgate ship` made, without a
    configuration. Name your keys with --key, because an intruder with access to the copy could replace the keys that
    the copy contains. Time stamps are verified if `timestamp_roots` or --root is set.

    dialgate log verify --against /mnt/elsewhere/checkpoint.json

    dialgate log verify --data /mnt/elsewhere/gate/9f2c01ab --key 1d2f0c9a3e5b7788
    """
    loaded = load_config(config) if data is None else None
    root_folder = loaded.data if loaded else data or Path()
    logs = select_logs(root_folder, log_number, alone=first > 1 or last is not None or against is not None)
    reports, begun = {}, wall_clock()
    for number, folder in logs.items():
        try:
            with _progress("verifying", shown=not as_json) as progress:
                reports[number] = report = decision_log.verify(
                    folder,
                    first=first,
                    last=last,
                    keys=_trusted_keys(root_folder, key),
                    against=against.read_bytes() if against else b"",
                    progress=progress,
                )
            required = report.ok and (root is not None or _is_stamped(loaded, number))
            _check_stamps(report, folder, root or _roots(loaded), required=required)
        except OSError as error:
            raise Failure(
                "log.unreadable",
                f"{folder}: {error.strerror}. Check --config or --data, or start the gate once",
            ) from None
        except Unavailable as error:
            raise Failure("keys.unusable", str(error)) from None
    _keep(loaded, reports, begun, whole=(first, last, log_number, key) == (1, None, None, []))
    return reports


def _keep(config: Config | None, reports: Reports, begun: Instant, *, whole: bool) -> None:
    """Keep the result of a verification of all logs of a gate, as the gate does at night."""
    if config and whole:
        with suppress(OSError):  # the report matters more than its record
            keep_proof(config.data, reports.values(), begun)


def _trusted_keys(data: Path, names: list[str]) -> dict[str, bytes]:
    """Return the public keys by name, or only those in `names` if it is not empty. Raises `KeysUnusable`."""
    shipped = data / "keys"
    keys = public_halves(shipped) if shipped.is_dir() else public_keys(data / "signing.json")
    return {name: public for name, public in keys.items() if not names or name in names}


def select_logs(
    data: Path, log_number: int | None, *, alone: bool, with_ended: bool = True
) -> dict[int, Path]:
    """Return the log folders by number. Raises `Failure` if `alone` is set and there are several logs.

    Without `with_ended`, leave out the logs that the gate no longer writes, unless `log_number` selects one.
    """
    logs = chains.folders(data) or {1: data / "log"}
    if log_number is None and not with_ended:
        ended, _ = chains.logs_of(data)
        logs = {number: folder for number, folder in logs.items() if number not in ended}
    if log_number is not None:
        if log_number not in logs:
            numbers = ", ".join(map(str, logs))
            raise Failure(
                "log.unreadable", f"there is no log {log_number} here. Choose one of {numbers}", status=MISUSE
            )
        return {log_number: logs[log_number]}
    if alone and len(logs) > 1:
        raise Failure(
            "log.misuse",
            "the data folder contains several logs. Choose one with --log",
            status=MISUSE,
        )
    return logs


def _roots(config: Config | None) -> Path | None:
    name = config.settings.timestamp_roots if config else ""
    return config.folder / name if config and name else None


def _is_stamped(config: Config | None, number: int) -> bool:
    """Return whether a gate gets time stamps for this log: not for one that it no longer writes."""
    if config is None or not (config.settings.timestamp_url or config.settings.timestamp_url_file):
        return False
    _, current = chains.logs_of(config.data)
    return number == current


def _check_stamps(
    report: decision_log.VerificationReport, folder: Path, roots: Path | None, *, required: bool
) -> None:
    """Add faults in time stamps to the report. Faults in checkpoints are already in the report."""
    if roots is None:
        return
    try:
        report.stamped, faults = timestamps.verify_timestamps(folder, roots, required=required)
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
