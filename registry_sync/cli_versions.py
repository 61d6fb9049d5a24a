"""`registry-sync diff`, `rollback` and `release`: what was published, what changed, and the way back."""

from typing import Annotated

import typer

from dialgate.lists.snapshot import Manifest
from dialgate.runtime.terminal import show_fields, show_json, show_table, utc
from registry_sync import nightly_job, publication, rollback
from registry_sync.cli_options import DEFAULT_REGISTRIES, AsJson, RegistriesPath, Snapshots, press, reporting
from registry_sync.rollback import Difference

app = typer.Typer()

Actor = Annotated[
    str, typer.Option(envvar=["DIALGATE_ACTOR", "SUDO_USER", "USER"], help="Who releases it; it is recorded.")
]


@app.command("diff")
def diff(
    *,
    from_: Annotated[
        str, typer.Option("--from", metavar="VERSION", help="Default: the one before the present.")
    ] = "",
    to: Annotated[str, typer.Option(metavar="VERSION", help="Default: the present publication.")] = "",
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    snapshots: Snapshots = None,
    as_json: AsJson = False,
) -> None:
    """What changed from one publication to another. Exit 1 where there is no such publication.

    Example: registry-sync diff --json"""
    with reporting(as_json=as_json):
        folder = press(registries, snapshots).folder
        present = publication.published(folder)
        new = present if to in {"", present.version} else rollback.find(folder, to)
        old = present if from_ == present.version else rollback.find(folder, from_)
        found = rollback.differences(folder, old, new)
    _show(old, new, found, as_json=as_json)


@app.command("rollback")
def roll_back(
    *,
    to: Annotated[str, typer.Option(metavar="VERSION", help="Default: the one before the present.")] = "",
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    snapshots: Snapshots = None,
    as_json: AsJson = False,
) -> None:
    """Publish an earlier publication again. Where that frees a number that is listed now, two people must release it.

    Done twice, it is undone; further back with --to.

    Example: registry-sync rollback --json"""
    with reporting(as_json=as_json):
        where = press(registries, snapshots)
        present = publication.published(where.folder)
        manifest, found = nightly_job.roll_back(where, to)
    _show(present, manifest, found, as_json=as_json)


@app.command("release")
def release(
    *,
    id_: Annotated[str, typer.Argument(metavar="ID", help="As the refusal named it.", show_default=False)],
    actor: Actor,
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    snapshots: Snapshots = None,
    as_json: AsJson = False,
) -> None:
    """Say that what is held is right. It takes two different people; then run again what was refused.

    Example: registry-sync release 0a1b2c3d4e5f --actor maria"""
    if not actor.strip():
        raise typer.BadParameter("is empty: who releases it?", param_hint="--actor")
    with reporting(as_json=as_json):
        hold = nightly_job.approve(press(registries, snapshots).folder, id_, actor)
    if as_json:
        show_json(hold)
    else:
        names = ", ".join(each.actor for each in hold.approvals)
        show_fields(f"held {hold.id}", {"why": hold.why, "since": utc(hold.held_at), "released by": names})


def _show(old: Manifest, new: Manifest, found: list[Difference], *, as_json: bool) -> None:
    if as_json:
        show_json({"from": old.version, "to": new.version, "differences": found})
        return
    columns = (
        "registry",
        "controller",
        "before",
        "after",
        "added",
        "removed",
        "clear to listed",
        "listed to clear",
    )
    rows = [
        [
            each.registry,
            each.controller or "everyone",
            each.before,
            each.after,
            each.added,
            each.removed,
            each.newly_listed,
            each.newly_clear,
        ]
        for each in found
    ]
    show_table(f"{old.version or 'nothing'} to {new.version}", columns, rows)
