"""`dialgate log archive`, `retire` and `hold`: compression, retention and legal holds for the decision log."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from msgspec import to_builtins

from dialgate.audit.key_retirement import Month
from dialgate.decision_log import chains
from dialgate.decision_log.archive import segments_to_pack
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger_access import Actor
from dialgate.interfaces.cli.log_group import log_app
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    ConfigPath,
    Failure,
    Number,
    load_config,
    number_given,
)
from dialgate.interfaces.cli.subjects import show_missing
from dialgate.interfaces.http.administration_schemas import (
    HoldChange,
    HoldInfo,
    HoldList,
    HoldRequest,
    Retirement,
    RetirementRequest,
)
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.extras import require
from dialgate.runtime.terminal import bars

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


def _show_archived(sizes: dict[str, int]) -> None:
    typer.echo(
        f"{sizes['segments']} segments archived: {sizes['entries']:,} entries, {sizes['bytes_before']:,} bytes reduced to"
        f" {sizes['bytes_after']:,}."
    )


@log_app.command("archive")
@command(_show_archived)
def log_archive(*, config: ConfigPath = DEFAULT_CONFIG) -> dict[str, int]:
    """Compress every full segment of the log that a checkpoint covers. A running gate does this automatically.

    Each compressed segment is verified before the original is deleted. You can run this command while a gate is
    running. Missing indexes, which locate the decisions about a number, are written again.

    dialgate log archive --json
    """
    data = load_config(config).data
    try:
        packed = _archive(chains.folders(data).values() or [data / "log"])
    except OSError as error:
        text = f"{error.filename}: {error.strerror}. Check --config, or start the gate once"
        raise Failure("log.unreadable", text) from None
    sizes = {"entries": "entries", "bytes_before": "before", "bytes_after": "after"}
    sums = {name: sum(getattr(segment, of) for segment in packed) for name, of in sizes.items()}
    return {"segments": len(packed), **sums}


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


def _show_retirement(result: Retirement) -> None:
    def state(month: Month) -> str:
        if month.over:
            return "retired" if result.retired else "over"
        return "segments missing" * month.partial

    all_months = sorted((*result.months, *result.kept), key=lambda month: month.month)
    show_rows(
        "Months with keys",
        all_months,
        {
            "month": "month",
            "allowed": "allowed",
            "denied": "refused",
            "of these under hold": "held",
            "until": "over_from",
            "": state,
        },
    )
    if result.months and not result.retired:
        typer.echo(
            "Nothing was destroyed. Use --yes to destroy the keys for the months whose retention period is over."
        )


@log_app.command("retire")
@command(_show_retirement)
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
) -> Retirement:
    """Destroy the keys for months whose retention period is over (setting `retention`).

    The records of these months stay and the chain stays valid, but the records become anonymous: they can never again
    be linked to a number. Only decisions about numbers under a legal hold stay linked. If gates share a store, the
    holds of all gates count. Backups of the key file are not destroyed. Destroy them yourself.

    dialgate log retire --yes
    """
    return gate.send("POST", "/v1/log/retire", Retirement, RetirementRequest(dry_run=not yes))


def _show_change(what: str, change: HoldChange) -> None:
    hold = change.hold
    typer.echo(f"Hold {hold.id} {what}." if hold else f"The hold at the other gates {what}.")
    show_missing(change.missing)


def _change_as_builtins(change: HoldChange) -> dict[str, object]:
    return {**(to_builtins(change.hold) if change.hold else {}), "missing": change.missing}


def _is_everywhere(change: HoldChange) -> bool:
    return not change.missing


@hold_app.command("add")
@command(partial(_show_change, "is in force"), data=_change_as_builtins, ok=_is_everywhere)
def hold_add(number: Number, *, reason: Reason, by: Actor, gate: GateClient) -> HoldChange:
    """Place a legal hold on a number. Decisions about the number stay linked to it, even after their month is retired.

    Months that were already retired stay anonymous. If gates share a store, all of them place the hold. Exit 1: a gate could
    not be reached. Run the command again later.

    dialgate log hold add +390612345678 --reason "Garante, case 4711" --by dpo
    """
    return gate.send("POST", _HOLDS, HoldChange, HoldRequest(number=number, reason=reason, by=by))


@hold_app.command("lift")
@command(partial(_show_change, "is lifted"), data=_change_as_builtins, ok=_is_everywhere)
def hold_lift(number: Number, *, reason: Reason, by: Actor, gate: GateClient) -> HoldChange:
    """Lift a legal hold. Decisions from retired months can then no longer be linked to the number.

    If gates share a store, all of them lift the hold. Exit 1: a gate could not be reached. Run the command again later.

    dialgate log hold lift +390612345678 --reason "case 4711 closed" --by dpo
    """
    return gate.send("POST", f"{_HOLDS}/lift", HoldChange, HoldRequest(number=number, reason=reason, by=by))


def _show_holds(holds: list[HoldInfo]) -> None:
    show_rows(
        "Legal holds",
        holds,
        {
            "hold": lambda hold: str(hold.id),
            "number": "number",
            "since": "at",
            "by": "by",
            "reason": "reason",
            "lifted": "lifted_at",
            "decisions from retired months": lambda hold: "\n".join(hold.records),
        },
    )


@hold_app.command("list")
@command(_show_holds)
def hold_list(
    number: Annotated[
        str,
        typer.Argument(
            help="Only the hold on this number. Use - to read it from standard input.", callback=number_given
        ),
    ] = "",
    *,
    gate: GateClient,
) -> list[HoldInfo]:
    """Show all legal holds, including lifted ones, with masked numbers. With NUMBER, show only the hold on that number.

    dialgate log hold list --json
    """
    return gate.send("GET", _HOLDS, HoldList, query={"number": number}).holds
