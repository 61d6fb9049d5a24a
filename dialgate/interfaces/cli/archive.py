"""Commands that keep a log small, and no longer than the law lets it: archive, retire, hold."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dialgate.audit.key_retirement import Month, months, retire
from dialgate.audit.legal_holds import Hold, HoldRefused, Holds, read_number
from dialgate.cluster.peer_questions import LiftHold, PlaceHold
from dialgate.cluster.peers import Answers
from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.crypto.keys import Keys
from dialgate.decision_log import chains
from dialgate.decision_log.archive import indexing, packing, segments_to_pack
from dialgate.interfaces.cli.config import log_app
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
from dialgate.interfaces.cli.subjects import act, show_missing
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.instants import KeptInstants
from dialgate.runtime.terminal import NO, bars, show_json, show_table, utc

hold_app = typer.Typer(no_args_is_help=True, help="Legal holds: numbers that no retirement touches.")
log_app.add_typer(hold_app, name="hold")

Reason = Annotated[str, typer.Option(help="Why: a case, a letter. Stored in clear, so never the number.")]


@contextmanager
def _foreseen() -> Iterator[None]:
    try:
        yield
    except packing.ArchiveFailed as failure:
        raise Failure("archive.failed", str(failure)) from None
    except HoldRefused as refused:
        raise Failure("hold.refused", str(refused)) from None
    except Unavailable as fault:
        raise Failure(f"{fault.component}.unavailable", str(fault)) from None
    except OSError as error:
        raise Failure(
            "log.unreadable", f"{error.filename}: {error.strerror}; has a gate ever run here?"
        ) from None


@log_app.command("archive")
def log_archive(
    *,
    index: Annotated[bool, typer.Option("--index", help="Make the indexes anew, too.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Pack every full segment now, each proved before the original goes. A running gate does so by itself.

    May be run beside a gate. Nothing is lost with an index, by which numbers are found: it is made from the packed segments.

    dialgate log archive --json"""
    with reporting(as_json=as_json), _foreseen():
        data = load_config(config).data
        packed: list[packing.Packed] = []
        for folder in chains.folders(data).values() or [data / "log"]:
            with packing.archive_lock(folder):
                packed += _packed(segments_to_pack(folder, wall_clock()))
                indexing.update_indexes(folder, rebuild=index)
    entries, before, after = (
        sum(getattr(each, name) for each in packed) for name in ("entries", "before", "after")
    )
    if as_json:
        show_json({"segments": len(packed), "entries": entries, "bytes_before": before, "bytes_after": after})
    else:
        typer.echo(
            f"{len(packed)} segments archived: {entries:,} entries, {before:,} bytes are {after:,} now."
        )


def _packed(segments: list[Path]) -> Iterator[packing.Packed]:
    with bars() as bar:
        advance = bar("archiving", sum(path.stat().st_size for path in segments))
        for segment in segments:
            done = packing.pack(segment)
            advance(done.before)
            yield done


@log_app.command("retire")
def log_retire(
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it. Without this, only say what would be done.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Make the months anonymous whose time is over (`retention` in the configuration), by destroying their keys.

    The records stay and the chain holds, but no key links them to a number any more, and nothing brings that back. Decisions
    about held numbers stay linked to these; where gates share a store, also those that another holds. Backups of the key file are
    yours to destroy.

    dialgate log retire --yes"""
    with reporting(as_json=as_json), _foreseen():
        loaded = load_config(config)
        keys = _keys(loaded)
        found = months(loaded, keys, wall_clock())
        due = [month for month in found if month.over]
        if yes:
            KeptInstants(loaded.data).refuse_jump(wall_clock())
            act(config, lambda subjects, _: subjects.holds.copy_from_peers())
            for month in due:
                retire(loaded, keys, month.month)
    if as_json:
        show_json({"retired": yes, "months": due, "kept": [month for month in found if not month.over]})
        return
    _show_months(found, done=yes)
    if due and not yes:
        typer.echo("Nothing was destroyed. Give --yes to do it.")


def _show_months(found: list[Month], *, done: bool) -> None:
    show_table(
        "Months with keys",
        ("month", "allowed", "refused", "of these held", "until", ""),
        [
            (
                month.month,
                f"{month.allowed:,}",
                f"{month.refused:,}",
                f"{month.held:,}",
                month.over_from,
                ("retired" if done else "over") if month.over else "",
            )
            for month in found
        ],
    )


@hold_app.command("add")
def hold_add(
    number: Number, *, reason: Reason, by: Actor, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Keep every decision about this number linked to it, whatever month is retired. What is retired already stays so. Where gates
    share a store, each of them holds it; exit 1 where one could not be told: run the same again.

    dialgate log hold add +390612345678 --reason "Garante, case 4711" --by dpo"""
    with reporting(as_json=as_json), _foreseen():
        holds, e164 = _holds(config, number)
        held = holds.find(e164)
        hold = held or holds.add(e164, at=wall_clock(), by=by, reason=reason)
        told = _everywhere(config, PlaceHold(e164, wall_clock(), by, reason))
        if held is not None and not told.missing and not any(told.answers.values()):
            raise HoldRefused("this number is held already; lift that hold first")
    _say(hold, f"Hold {hold.id} is in force.", told.missing, as_json=as_json)


@hold_app.command("lift")
def hold_lift(
    number: Number, *, reason: Reason, by: Actor, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """End the hold. What links its decisions of retired months to the number is destroyed. Where gates share a store, by each of
    them; exit 1 where one could not be told: run the same again.

    dialgate log hold lift +390612345678 --reason "case 4711 closed" --by dpo"""
    with reporting(as_json=as_json), _foreseen():
        holds, e164 = _holds(config, number)
        held = holds.find(e164)
        lifted = holds.lift(e164, at=wall_clock(), by=by, reason=reason) if held else None
        told = _everywhere(config, LiftHold(e164, wall_clock(), by, reason))
        if lifted is None and not told.missing and not any(told.answers.values()):
            raise HoldRefused("this number is not held")
    _say(
        lifted,
        f"Hold {lifted.id} is lifted." if lifted else "Lifted elsewhere.",
        told.missing,
        as_json=as_json,
    )


@hold_app.command("list")
def hold_list(
    number: Annotated[
        str,
        typer.Argument(help="Of this number only; - reads it from standard input.", callback=number_given),
    ] = "",
    *,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """The holds there ever were, without their numbers; or the hold on one number.

    dialgate log hold list --json"""
    with reporting(as_json=as_json), _foreseen():
        holds, e164 = _holds(config, number)
        one = holds.find(e164) if number else None
        found = holds.all() if not number else (one,) if one else ()
    if as_json:
        show_json([_told(hold) for hold in found])
        return
    show_table(
        "Legal holds",
        ("hold", "since", "by", "reason", "lifted", "decisions of retired months"),
        [
            (str(each.id), utc(each.at), each.by, each.reason, utc(each.lifted_at), "\n".join(each.records))
            for each in found
        ],
    )


def _told(hold: Hold) -> dict[str, object]:
    return {name: getattr(hold, name) for name in Hold.__struct_fields__ if name != "number"}


def _say(hold: Hold | None, words: str, missing: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        show_json({**(_told(hold) if hold else {}), "missing": missing})
    else:
        typer.echo(words)
        show_missing(missing)
    if missing:
        raise typer.Exit(NO)


def _everywhere(config: Path, change: PlaceHold | LiftHold) -> Answers[bool]:
    """Change a hold at the other gates. The change here stands even if they cannot be asked because the store is away."""
    try:
        return act(config, lambda subjects, _: subjects.peers.ask(change))
    except Failure as failure:
        return Answers({}, {"the other gates": str(failure)})


def _holds(config: Path, number: str) -> tuple[Holds, str]:
    loaded = load_config(config)
    homes = {controller.country for controller in loaded.controllers.values()}
    home = homes.pop() if len(homes) == 1 else ""
    return Holds(loaded.data, _keys(loaded)), read_number(number, home) if number else ""


def _keys(config: Config) -> Keys:
    return Keys.open(config.data / "keys.json")
