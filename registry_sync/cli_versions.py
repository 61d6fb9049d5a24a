"""The `registry-sync diff`, `rollback` and `release` commands, for earlier publications and for holds."""

from typing import Annotated

import typer
from msgspec.structs import astuple

from dialgate.lists import release_holds
from dialgate.lists.manifest import Manifest
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import show_fields, show_json, show_table, utc
from registry_sync import publication, rollback
from registry_sync.cli_options import DEFAULT_REGISTRIES, AsJson, RegistriesPath, Snapshots, reporting, target
from registry_sync.rollback import PublicationDifference

app = typer.Typer()

Actor = Annotated[
    str,
    typer.Option(
        envvar=["DIALGATE_ACTOR", "SUDO_USER", "USER"],
        help="Person who releases the hold. The name is recorded.",
    ),
]


@app.command("diff")
def diff(
    *,
    from_: Annotated[
        str,
        typer.Option("--from", metavar="VERSION", help="Older version. Default: the previous publication."),
    ] = "",
    to: Annotated[
        str, typer.Option(metavar="VERSION", help="Newer version. Default: the current publication.")
    ] = "",
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    snapshots: Snapshots = None,
    as_json: AsJson = False,
) -> None:
    """Show the differences between two publications. Exit status 1: a version does not exist.

    Example: registry-sync diff --json
    """
    with reporting(as_json=as_json):
        folder = target(registries, snapshots).folder
        present = publication.current_manifest(folder)
        new = present if to in {"", present.version} else rollback.find_manifest(folder, to)
        old = present if from_ == present.version else rollback.find_manifest(folder, from_)
        differences = rollback.differences(folder, old, new)
    _show(old, new, differences, as_json=as_json)


@app.command("rollback")
def roll_back(
    *,
    to: Annotated[
        str, typer.Option(metavar="VERSION", help="Version to publish. Default: the previous publication.")
    ] = "",
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    snapshots: Snapshots = None,
    as_json: AsJson = False,
) -> None:
    """Publish an earlier version again. Two people must release a rollback that would permit calls to listed numbers.

    A second rollback undoes the first. To go further back, use --to.

    Example: registry-sync rollback --json
    """
    with reporting(as_json=as_json):
        where = target(registries, snapshots)
        present = publication.current_manifest(where.folder)
        manifest, differences = rollback.roll_back(where, to, wall_clock())
    _show(present, manifest, differences, as_json=as_json)


@app.command("release")
def release(
    *,
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="ID of the hold, as printed by the command that was refused. `registry-sync status` lists all holds.",
            show_default=False,
        ),
    ],
    actor: Actor,
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    snapshots: Snapshots = None,
    as_json: AsJson = False,
) -> None:
    """Release a hold. After two different people have released it, repeat the command that was refused.

    Example: registry-sync release 0a1b2c3d4e5f --actor maria
    """
    if not actor.strip():
        raise typer.BadParameter(
            "must not be empty. Give the name of the person releasing the hold", param_hint="--actor"
        )
    with reporting(as_json=as_json):
        hold = release_holds.approve(target(registries, snapshots).folder, id_, actor, wall_clock())
    if as_json:
        show_json(hold)
    else:
        names = ", ".join(approval.actor for approval in hold.approvals)
        show_fields(f"hold {hold.id}", {"reason": hold.why, "since": utc(hold.held_at), "released by": names})


def _show(old: Manifest, new: Manifest, differences: list[PublicationDifference], *, as_json: bool) -> None:
    if as_json:
        show_json({"from": old.version, "to": new.version, "differences": differences})
        return
    columns = (
        "registry", "controller", "before", "after", "added", "removed", "clear to listed", "listed to clear",
    )  # fmt: skip
    rows = [
        [registry, controller or "everyone", *counts[:6]]
        for registry, controller, *counts in map(astuple, differences)
    ]
    show_table(f"{old.version or 'nothing'} to {new.version}", columns, rows)
