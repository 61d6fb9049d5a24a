"""`dialgate log archive`, `retire` and `hold`: compression, retention and legal holds for the decision log."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dialgate.audit.key_retirement import Month, months, retire
from dialgate.audit.legal_holds import HoldRefused, Holds, LegalHold, read_number
from dialgate.cluster.peer_questions import LiftHold, PlaceHold
from dialgate.cluster.peers import PeerAnswers
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.decision_log import chains
from dialgate.decision_log.archive import segments_to_pack
from dialgate.interfaces.cli.config import log_app
from dialgate.interfaces.cli.decisions import open_key_file
from dialgate.interfaces.cli.ledger_access import Actor
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    Number,
    common_country,
    load_config,
    number_given,
    reporting,
)
from dialgate.interfaces.cli.subjects import act, show_missing
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.extras import require
from dialgate.runtime.instants import KeptInstants
from dialgate.runtime.terminal import NO, bars, show_json, show_table, utc

if TYPE_CHECKING:
    from dialgate.decision_log.archive.packing import Packed

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
    except HoldRefused as refused:
        raise Failure("hold.refused", str(refused)) from None
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
def log_retire(
    *,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Destroy the keys. Without this option, only list the months and whether they are due.",
        ),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Destroy the keys for months whose retention period is over (setting `retention`).

    The records of these months stay and the chain stays valid, but the records become anonymous: they can never again
    be linked to a number. Only decisions about numbers under a legal hold stay linked. If gates share a store, the
    holds of all gates count. Backups of the key file are not destroyed. Destroy them yourself.

    dialgate log retire --yes
    """
    with reporting(as_json=as_json), _failures():
        loaded = load_config(config)
        keys = open_key_file(loaded)
        all_months = months(loaded, keys, wall_clock())
        due = [month for month in all_months if month.over]
        if yes:
            KeptInstants(loaded.data).refuse_jump(wall_clock())
            act(config, lambda subjects, _: subjects.holds.copy_from_peers())
            for month in due:
                retire(loaded, keys, month.month)
    if as_json:
        show_json({"retired": yes, "months": due, "kept": [month for month in all_months if not month.over]})
        return
    _show_months(all_months, done=yes)
    if due and not yes:
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
def hold_add(
    number: Number, *, reason: Reason, by: Actor, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Place a legal hold on a number. Decisions about the number stay linked to it, even after their month is retired.

    Months that were already retired stay anonymous. If gates share a store, all of them place the hold. Exit 1: a gate could
    not be reached. Run the command again later.

    dialgate log hold add +390612345678 --reason "Garante, case 4711" --by dpo
    """
    with reporting(as_json=as_json), _failures():
        holds, e164 = _holds(config, number)
        existing = holds.find(e164)
        hold = existing or holds.add(e164, at=wall_clock(), by=by, reason=reason)
        reply = _change_at_peers(config, PlaceHold(e164, wall_clock(), by, reason))
        if existing is not None and not reply.missing and not any(reply.answers.values()):
            raise HoldRefused("this number is already under a legal hold. Lift that hold first.")
    _report(hold, f"Hold {hold.id} is in force.", reply.missing, as_json=as_json)


@hold_app.command("lift")
def hold_lift(
    number: Number, *, reason: Reason, by: Actor, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Lift a legal hold. Decisions from retired months can then no longer be linked to the number.

    If gates share a store, all of them lift the hold. Exit 1: a gate could not be reached. Run the command again later.

    dialgate log hold lift +390612345678 --reason "case 4711 closed" --by dpo
    """
    with reporting(as_json=as_json), _failures():
        holds, e164 = _holds(config, number)
        existing = holds.find(e164)
        lifted = holds.lift(e164, at=wall_clock(), by=by, reason=reason) if existing else None
        reply = _change_at_peers(config, LiftHold(e164, wall_clock(), by, reason))
        if lifted is None and not reply.missing and not any(reply.answers.values()):
            raise HoldRefused("this number is not under a legal hold.")
    _report(
        lifted,
        f"Hold {lifted.id} is lifted." if lifted else "The hold was lifted at the other gates.",
        reply.missing,
        as_json=as_json,
    )


@hold_app.command("list")
def hold_list(
    number: Annotated[
        str,
        typer.Argument(
            help="Only the hold on this number. Use - to read it from standard input.", callback=number_given
        ),
    ] = "",
    *,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show all legal holds, including lifted ones, without their numbers. With NUMBER, show only the hold on that number.

    dialgate log hold list --json
    """
    with reporting(as_json=as_json), _failures():
        holds, e164 = _holds(config, number)
        single = holds.find(e164) if number else None
        shown = holds.all() if not number else (single,) if single else ()
    if as_json:
        show_json([_as_builtins(hold) for hold in shown])
        return
    show_table(
        "Legal holds",
        ("hold", "since", "by", "reason", "lifted", "decisions from retired months"),
        [
            (str(hold.id), utc(hold.at), hold.by, hold.reason, utc(hold.lifted_at), "\n".join(hold.records))
            for hold in shown
        ],
    )


def _as_builtins(hold: LegalHold) -> dict[str, object]:
    return {name: getattr(hold, name) for name in LegalHold.__struct_fields__ if name != "number"}


def _report(hold: LegalHold | None, text: str, missing: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        show_json({**(_as_builtins(hold) if hold else {}), "missing": missing})
    else:
        typer.echo(text)
        show_missing(missing)
    if missing:
        raise typer.Exit(NO)


def _change_at_peers(config: Path, change: PlaceHold | LiftHold) -> PeerAnswers[bool]:
    """Place or lift a hold at the other gates.

    If the store is unavailable, `missing` in the result has one entry for all other gates.
    """
    try:
        return act(config, lambda subjects, _: subjects.peers.ask(change))
    except (Refused, Unavailable) as failure:
        return PeerAnswers({}, {"the other gates": str(failure)})


def _holds(config: Path, number: str) -> tuple[Holds, str]:
    loaded = load_config(config)
    home = common_country(loaded.controllers.values())
    return Holds(loaded.data, open_key_file(loaded)), read_number(number, home) if number else ""
