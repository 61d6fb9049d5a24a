"""`registry-sync run` and `status`: the nightly job, and how it stands."""

import asyncio
import signal
from typing import Annotated

import typer

from dialgate.runtime.terminal import NO, bars, show_json, show_table, utc
from registry_sync import nightly_job, release_holds
from registry_sync.cli_options import DEFAULT_REGISTRIES, AsJson, RegistriesPath, load, refuse, reporting
from registry_sync.config import Plan
from registry_sync.query_packages import Package, Shelf
from registry_sync.run_report import Run

app = typer.Typer()


@app.command("run")
def run(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="One run, for a timer; without it, one every `every_minutes`.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One run that shows what it would do, and does nothing.")
    ] = False,
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    as_json: AsJson = False,
) -> None:
    """Ask the registries about what is due, take in what they answered and published, and raise alarms.

    A run that was cut short is gone on with: nothing is submitted twice. Exit 1 where a person must look at something.

    Example: registry-sync run --once"""
    plan = load(registries)
    with reporting(as_json=as_json):
        if once or dry_run:
            with bars() as bar:
                done = asyncio.run(nightly_job.run(plan, bar, dry=dry_run))
            _tell(done, as_json=as_json)
            raise typer.Exit(NO if done.alarms else 0)
        asyncio.run(_forever(plan, as_json=as_json))


async def _forever(plan: Plan, *, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with bars() as bar:
        await nightly_job.forever(plan, bar, lambda done: _tell(done, as_json=as_json), stop)


@app.command("status")
def status(*, registries: RegistriesPath = DEFAULT_REGISTRIES, as_json: AsJson = False) -> None:
    """What the last run found, which packages wait for the registry, and what is held for release.

    Exit 1 where a person must look at something.

    Example: registry-sync status --json"""
    plan = load(registries)
    with reporting(as_json=as_json):
        last = nightly_job.last(plan)
        packages = [
            package
            for asked in plan.registries.asked
            for package in Shelf(plan.work, asked.registry, asked.controller).all()
        ]
        holds = release_holds.holds(plan.snapshots)
    if as_json:
        show_json({"last_run": last, "packages": packages, "held": holds})
    else:
        if last is None:
            refuse("there was no run yet: registry-sync run --once", as_json=False)
        else:
            _tell(last, as_json=False)
        _show_packages(packages)
        if holds:
            rows = [
                [each.id, each.registry, each.controller, each.why, len(each.approvals)] for each in holds
            ]
            show_table(
                "held for release by two people", ("id", "registry", "controller", "why", "released by"), rows
            )
    raise typer.Exit(NO if last is None or last.alarms or holds else 0)


def _tell(done: Run, *, as_json: bool) -> None:
    if as_json:
        show_json(done)
        return
    rows = [
        [
            f"{part.registry} / {part.controller or 'everyone'}",
            utc(part.consulted_at)[:16],
            part.numbers,
            part.due,
            part.submitted,
            part.waiting,
            part.answered,
            f"+{part.newly_listed:,} -{part.newly_clear:,}"
            if part.controller
            else f"+{part.added:,} -{part.removed:,}",
        ]
        for part in done.parts
    ]
    columns = (
        "registry",
        "consulted",
        "numbers",
        "due",
        "sent",
        "waiting",
        "answered",
        "listed",
    )
    title = f"{'would do' if done.dry else 'run of'} {utc(done.at)}: publication {done.version or 'none'}"
    show_table(title, columns, rows)
    if done.alarms:
        alarms = [[each.registry, each.controller, each.kind, each.text] for each in done.alarms]
        show_table("look at these", ("registry", "controller", "alarm", "what"), alarms)


def _show_packages(packages: list[Package]) -> None:
    rows = [
        [each.id, each.state, each.numbers, utc(each.submitted_at), each.receipt, each.fault]
        for each in packages
    ]
    if rows:
        show_table("packages", ("package", "state", "numbers", "submitted", "receipt", "fault"), rows)
