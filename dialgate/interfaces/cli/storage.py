"""Commands for the end of storage, and for what must be known after a breach."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, Failure, reporting
from dialgate.interfaces.cli.subjects import act, write_out
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, console, show_fields, show_json, show_table
from dialgate.subjects.breach import Exposure, Span

app = typer.Typer()


@app.command()
def retention(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; remove nothing.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Remove what is past its time of storage, as the gate does once a day (GDPR art. 5).

    dialgate retention --dry-run"""
    with reporting(as_json=as_json):
        remove_on_exit = not dry_run
        with console(stderr=True).status("looking for what is past its time"):
            told = act(config, lambda subjects, _: subjects.retire(wall_clock(), drop=remove_on_exit))
    if as_json:
        show_json({"removed": remove_on_exit, "kinds": told})
        return
    show_table(
        "Removed" if remove_on_exit else "Would be removed",
        ("kind", "count", "use ended before"),
        [(each.kind, f"{each.count:,}", each.before[:10]) for each in told],
    )


@app.command()
def breach(
    *,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="As 2026-11-24T10:00:00+01:00.")],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="The first instant after it.")],
    key: Annotated[str, typer.Option(help="The client whose key was stolen.")] = "",
    node: Annotated[str, typer.Option(help="The node that others were in.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the numbers concerned to this file, for its owner alone."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show what a key or a node was shown in a span of time, for the notice within 72 hours (GDPR art. 33).

    dialgate breach --key dialer-7 --from 2026-11-20T00:00:00+01:00 --to 2026-11-24T12:00:00+01:00 --out numbers.txt"""
    with reporting(as_json=as_json):
        if bool(key) == bool(node):
            raise Failure("request.invalid", "give one of --key NAME and --node NAME", status=MISUSE)
        span = Span(client=key, node=node, start=_instant(since, "--from"), end=_instant(until, "--to"))
        if span.end <= span.start:
            raise Failure("request.invalid", "--to must lie after --from", field="--to", status=MISUSE)
        with console(stderr=True).status("reading the decision log"):
            told = act(config, lambda subjects, _: subjects.exposure(span))
        if out is not None:
            write_out(out, "".join(f"{number}\n" for number in told.numbers))
        _show_exposure(told, as_json=as_json)


def _instant(text: str, option: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Failure("request.invalid", "write it as 2026-11-24T10:00:00+01:00", field=option, status=MISUSE)
    return int(at.timestamp() * 1000)


def _reach(told: Exposure) -> str:
    """A notice must not say less than may have been: what is not known is not nothing."""
    if told.node:
        return "every number: who was in the node could read its files"
    return f"{told.could_look_up:,} numbers at most" if told.known else "not known: it had other scopes then"


def _show_exposure(told: Exposure, *, as_json: bool) -> None:
    if as_json:
        counts = {"numbers": len(told.numbers), "lookups": told.lookups}
        show_json({**msgspec.structs.asdict(told), **counts})
        return
    fields = {
        "of": f"key {told.client}" if told.client else f"node {told.node}",
        "span": f"{told.start} to {told.end}",
        "configured now": "yes" if told.known else "no: what it may do is not known any more",
        "scopes": " ".join(told.scopes),
        "controllers": " ".join(told.controllers),
        "decisions given": f"{told.decisions:,}, {told.allows:,} of them allows",
        "look-ups": f"{len(told.lookups):,}",
        "numbers concerned": f"{len(told.numbers):,}",
        "besides, of retired months": f"{told.unreadable:,}",
        "could have looked up": _reach(told),
    }
    show_fields("Exposed", fields)
    if told.lookups:
        show_table(
            "Look-ups",
            ("at", "client", "controller", "what", "purpose"),
            [(each.at, each.client, each.controller, each.what, each.purpose) for each in told.lookups],
        )
    if told.node:
        typer.echo("Who was in the node could read its files: all of `data`, and its key file.")
