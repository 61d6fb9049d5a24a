"""The `registry-sync run` and `registry-sync status` commands, which run the nightly job and show its state."""

import asyncio
from typing import Annotated

import typer

from dialgate.lists import release_holds
from dialgate.runtime.terminal import NO, bars, show_json, show_table, utc
from registry_sync import nightly_job
from registry_sync.cli_options import (
    DEFAULT_REGISTRIES,
    AsJson,
    RegistriesPath,
    load,
    refuse,
    repeat,
    reporting,
)
from registry_sync.config import Plan
from registry_sync.query_packages import Package, PackageStore
from registry_sync.run_report import Run

app = typer.Typer()


@app.command("run")
def run(
    *,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Run once and exit, for use with a timer. Default: repeat the run at the interval in `every_minutes`.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run once and show the result, but submit and publish nothing.")
    ] = False,
    registries: RegistriesPath = DEFAULT_REGISTRIES,
    as_json: AsJson = False,
) -> None:
    """Submit due numbers, import and publish answers and lists, and raise alarms.

    Continue an interrupted run without submitting anything twice. Exit status 1: there are alarms.

    Example: registry-sync run --once
    """
    plan = load(registries)
    with reporting(as_json=as_json):
        if once or dry_run:
            with bars() as progress:
                result = asyncio.run(nightly_job.run(plan, progress, dry=dry_run))
            _show_run(result, as_json=as_json)
            raise typer.Exit(NO if result.alarms else 0)
        asyncio.run(_forever(plan, as_json=as_json))


async def _forever(plan: Plan, *, as_json: bool) -> None:
    with bars() as progress:

        async def run_once() -> None:
            _show_run(await nightly_job.run(plan, progress), as_json=as_json)

        await repeat(run_once, plan.registries.every_minutes * 60)


@app.command("status")
def status(*, registries: RegistriesPath = DEFAULT_REGISTRIES, as_json: AsJson = False) -> None:
    """Show the last run's result, the packages, and the holds to release.

    Exit status 1: there are alarms or holds, or the job has not run yet.

    Example: registry-sync status --json
    """
    plan = load(registries)
    with reporting(as_json=as_json):
        last = nightly_job.read_last_run(plan)
        packages = [
            package for asked in plan.registries.asked for package in PackageStore(plan.work, asked).all()
        ]
        holds = release_holds.list_holds(plan.snapshots)
    if as_json:
        show_json({"last_run": last, "packages": packages, "held": holds})
    else:
        if last is None:
            refuse("there has been no run yet. Start one with registry-sync run --once", as_json=False)
        else:
            _show_run(last, as_json=False)
        _show_packages(packages)
        if holds:
            rows = [
                [hold.id, hold.registry, hold.controller, hold.why, len(hold.approvals)] for hold in holds
            ]
            show_table(
                "holds to be released by two people",
                ("id", "registry", "controller", "reason", "releases"),
                rows,
            )
    raise typer.Exit(NO if last is None or last.alarms or holds else 0)


def _show_run(result: Run, *, as_json: bool) -> None:
    if as_json:
        show_json(result)
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
        for part in result.parts
    ]
    columns = ("registry", "consulted", "numbers", "due", "sent", "waiting", "answered", "listed")
    title = (
        f"{'dry run' if result.dry else 'run'} of {utc(result.at)}: publication {result.version or 'none'}"
    )
    show_table(title, columns, rows)
    if bands := [part for part in result.parts if part.year_limit]:
        years = [
            [f"{part.registry} / {part.controller}", part.year_numbers, part.year_needed, part.year_limit]
            for part in bands
        ]
        show_table("numbers of this year", ("registry", "submitted", "with all lists", "limit"), years)
    if result.alarms:
        alarms = [[alarm.registry, alarm.controller, alarm.kind, alarm.text] for alarm in result.alarms]
        show_table("alarms", ("registry", "controller", "alarm", "text"), alarms)


def _show_packages(packages: list[Package]) -> None:
    rows = [[it.id, it.state, it.numbers, utc(it.submitted_at), it.receipt, it.fault] for it in packages]
    if rows:
        show_table("packages", ("package", "state", "numbers", "submitted", "receipt", "fault"), rows)
