"""`dialgate log archive`, `retire` and `hold`: compression, retention and legal holds for the decision log."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from msgspec import to_builtins

from dialgate.audit.key_retirement import Month
from dialgate.decision_log import chains
from dialgate.decision_log.archive import segments_to_pack
from dialgate.interfaces.cli.config import log_app
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate
from dialgate.interfaces.cli.ledger_access import Actor
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    Number,
    load_config,
    number_given,
    reporting,
)
from dialgate.interfaces.cli.subjects import show_missing
from dialgate.interfaces.http.administration_schemas import (
    HoldChange,
    HoldList,
    HoldRequest,
    Retirement,
    RetirementRequest,
)
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.extras import require
from dialgate.runtime.terminal import NO, bars, show_json, show_table

if TYPE_CHECKING:
    from dialgate.decision_log.archive.packing import Packed

_HOLDS: Final = "/v1/holds"
hold_app = typer.Typer(
    no_args_is_help=True,
    help="Manage legal holds. `log retire` does not anonymise decisions about numbers under a hold.",
)
log_app.add_typer(hold_app, name="hold")

Reason = Annotated[
    str,
    typer.Option(
        help="Reason, such as a case or a letter. It is stored unencrypted, so leave the number out."
    ),
]


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(
            "log.unreadable",
            f"{error.filename}: {error.strerror}. Check --config, or start the gate once",
        ) from None


@log_app.command("archive")
def log_archive(
    *,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Compress every full segment of the log that a checkpoint covers. A running gate does this automatically.

    Each compressed segment is verified before the original is deleted. You can run this command while a gate is
    running. Missing indexes, which locate the decisions about a number, are written again.

    dialgate log archive --json
    """
    with reporting(as_json=as_json), _failures():
        data = load_config(config).data
        packed = _archive(chains.folders(data).values() or [data / "log"])
    entries, before, after = (
        sum(getattr(segment, name) for segment in packed) for name in ("entries", "before", "after")
    )
    if as_json:
        show_json({"segments": len(packed), "entries": entries, "bytes_before": before, "bytes_after": after})
    else:
        typer.echo(
            f"{len(packed)} segments archived: {entries:,} entries, {before:,} bytes reduced to {after:,}."
        )


def _archive(folders: Iterable[Path]) -> list["Packed"]:
    require("archive", "Packing the log")
    from dialgate.decision_log.archive import packing  # noqa: PLC0415 - in an extra

    packed: list[Packed] = []
    try:
        for folder in folders:
            with packing.archive_lock(folder):
                packed += _pack_segments(segments_to_pack(folder, wall_clock()), packing.pack)
                packing.write_indexes(folder)
    except packing.ArchiveFailed as failure:
        raise Failure("archive.failed", str(failure)) from None
    return packed


def _pack_segments(segments: list[Path], pack: Callable[[Path], "Packed"]) -> Iterator["Packed"]:
    with bars() as bar:
        advance = bar("archiving", sum(path.stat().st_size for path in segments))
        for segment in segments:
            done = pack(segment)
            advance(done.before)
            yield done


@log_app.command("retire")
@asks_gate
def log_retire(
    *,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Destroy the keys. Without this option, only list the months and whether they are due.",
        ),
    ] = False,
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Destroy the keys for months whose retention period is over (setting `retention`).

    The records of these months stay and the chain stays valid, but the records become anonymous: they can never again
    be linked to a number. Only decisions about numbers under a legal hold stay linked. If gates share a store, the
    holds of all gates count. Backups of the key file are not destroyed. Destroy them yourself.

    dialgate log retire --yes
    """
    with reporting(as_json=as_json):
        result = gate.ask("POST", "/v1/log/retire", Retirement, RetirementRequest(dry_run=not yes))
    if as_json:
        show_json(result)
        return
    _show_months(sorted((*result.months, *result.kept), key=lambda month: month.month), done=yes)
    if result.months and not yes:
        typer.echo(
            "Nothing was destroyed. Use --yes to destroy the keys for the months whose retention period is over."
        )


def _show_months(all_months: list[Month], *, done: bool) -> None:
    show_table(
        "Months with keys",
        ("month", "allowed", "denied", "of these under hold", "until", ""),
        [
            (
                month.month,
                month.allowed,
                month.refused,
                month.held,
                month.over_from,
                ("retired" if done else "over") if month.over else "segments missing" * month.partial,
            )
            for month in all_months
        ],
    )


@hold_app.command("add")
@asks_gate
def hold_add(number: Number, *, reason: Reason, by: Actor, gate: GateClient, as_json: AsJson = False) -> None:
    """Place a legal hold on a number. Decisions about the number stay linked to it, even after their month is retired.

    Months that were already retired stay anonymous. If gates share a store, all of them place the hold. Exit 1: a gate could
    not be reached. Run the command again later.

    dialgate log hold add +390612345678 --reason "Garante, case 4711" --by dpo
    """
    with reporting(as_json=as_json):
        change = gate.ask("POST", _HOLDS, HoldChange, HoldRequest(number=number, reason=reason, by=by))
    _report(change, "is in force", as_json=as_json)


@hold_app.command("lift")
@asks_gate
def hold_lift(
    number: Number, *, reason: Reason, by: Actor, gate: GateClient, as_json: AsJson = False
) -> None:
    """Lift a legal hold. Decisions from retired months can then no longer be linked to the number.

    If gates share a store, all of them lift the hold. Exit 1: a gate could not be reached. Run the command again later.

    dialgate log hold lift +390612345678 --reason "case 4711 closed" --by dpo
    """
    with reporting(as_json=as_json):
        lift = HoldRequest(number=number, reason=reason, by=by)
        change = gate.ask("POST", f"{_HOLDS}/lift", HoldChange, lift)
    _report(change, "is lifted", as_json=as_json)


@hold_app.command("list")
@asks_gate
def hold_list(
    number: Annotated[
        str,
        typer.Argument(
            help="Only the hold on this number. Use - to read it from standard input.", callback=number_given
        ),
    ] = "",
    *,
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Show all legal holds, including lifted ones, without their numbers. With NUMBER, show only the hold on that number.

    dialgate log hold list --json
    """
    with reporting(as_json=as_json):
        holds = gate.ask("GET", _HOLDS, HoldList, query={"number": number}).holds
    if as_json:
        show_json(holds)
        return
    show_table(
        "Legal holds",
        ("hold", "since", "by", "reason", "lifted", "decisions from retired months"),
        [
            (str(hold.id), hold.at, hold.by, hold.reason, hold.lifted_at, "\n".join(hold.records))
            for hold in holds
        ],
    )


def _report(change: HoldChange, what: str, *, as_json: bool) -> None:
    hold = change.hold
    if as_json:
        show_json({**(to_builtins(hold) if hold else {}), "missing": change.missing})
    else:
        typer.echo(f"Hold {hold.id} {what}." if hold else f"The hold at the other gates {what}.")
        show_missing(change.missing)
    if change.missing:
        raise typer.Exit(NO)
