"""`dialgate policy`: the operator's own cases against configuration and law. Reads files only, so it needs no gate."""

import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from dialgate.audit.replay import read_kept_laws
from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core.local_time import day_in
from dialgate.decision_log.records import Record
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.decisions import open_chains, open_keys
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
    unusable,
)
from dialgate.interfaces.cli.replay import one_decision
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, NO, show_json, show_table
from dialgate.tools.policy import coverage
from dialgate.tools.policy.call_facts import ConfiguredCalls
from dialgate.tools.policy.case_facts import CaseFault
from dialgate.tools.policy.case_file import case_files, read_cases
from dialgate.tools.policy.checking import CheckedCase, check_cases, describe, junit, verdict
from dialgate.tools.policy.coverage import CaseCoverage
from dialgate.tools.policy.recorded_case import write_case

app = typer.Typer()
policy_app = typer.Typer(no_args_is_help=True)
app.add_typer(policy_app, name="policy")

_FOLDER = "policy"  # beside dialgate.yaml
_POLL_SECONDS = 0.5


class _Tested(Struct):
    checked: list[CheckedCase]
    problems: list[str]
    coverage: CaseCoverage | None

    @property
    def red(self) -> list[CheckedCase]:
        return [item for item in self.checked if item.differences]


@policy_app.command("test")
def policy_test(
    *,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            exists=True, help="Case files or folders. Default: `policy` beside the configuration."
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", dir_okay=False, help="Write the results to this file for CI.")
    ] = None,
    with_coverage: Annotated[
        bool, typer.Option("--coverage", help="Name the rules, campaigns and sections that no case tests.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Test again whenever a case, the configuration or a law changes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check your own cases against your configuration and law. No gate and no log is needed.

    Exit 0: all cases get the wanted decision. 1: at least one does not. 2: a case or the configuration is invalid.

    dialgate policy test --coverage --junit policy.xml
    """
    places = paths or [config.parent / _FOLDER]
    while True:
        before = _stamps(config, places)
        with suppress(typer.Exit) if watch else nullcontext(), reporting(as_json=as_json):
            tested = _test(places, config, with_coverage=with_coverage)
            _show(tested, junit_file, as_json=as_json)
            if tested.problems and as_json:
                raise typer.Exit(MISUSE)
            if tested.problems:
                raise Failure("case.invalid", "\n".join(tested.problems), status=MISUSE)
            if tested.red:
                raise typer.Exit(NO)
        if not watch:
            return
        while _stamps(config, places) == before:
            time.sleep(_POLL_SECONDS)


def _test(places: list[Path], config: Path, *, with_coverage: bool) -> _Tested:
    try:
        loaded = loader.load(config)
    except ConfigError as error:
        raise unusable(config, error) from None
    if not case_files(places):
        raise Failure(
            "case.missing",
            f"{', '.join(map(str, places))} has no *.yaml file. Write a case, or name the folder of your cases.",
            status=MISUSE,
        )
    calls = ConfiguredCalls(loaded)
    cases, problems = read_cases(places, calls)
    checked, more = check_cases(cases, calls.law)
    today = max(day_in(law.zone, wall_clock()) for law in loaded.laws.values())
    covered = coverage.measure(checked, loaded, today) if with_coverage else None
    return _Tested(checked, [*problems, *more], covered)


def _show(tested: _Tested, junit_file: Path | None, *, as_json: bool) -> None:
    if junit_file:
        junit_file.write_bytes(junit(tested.checked, tested.problems))
    if as_json:
        show_json(_as_builtins(tested))
        return
    for item in tested.red:
        typer.echo(f"RED {item.case.file}:{item.case.line}: {item.case.about}")
        for line in describe(item):
            typer.echo(f"    {line}")
    typer.echo(f"{len(tested.checked):,} cases, {len(tested.red):,} red, {len(tested.problems):,} invalid")
    if tested.coverage:
        _show_coverage(tested.coverage)


def _as_builtins(tested: _Tested) -> dict[str, Any]:
    red = [
        {
            "file": item.case.file,
            "line": item.case.line,
            "about": item.case.about,
            "wanted": item.case.want,
            "decision": verdict(item.decision),
            "reasons": [{"code": reason.code, "text": reason.text, "law": reason.law, "severity": reason.severity} for reason in item.decision.reasons],
            "differences": item.differences,
        }
        for item in tested.red
    ]  # fmt: skip
    return {"cases": len(tested.checked), "red": red, "invalid": tested.problems, "coverage": tested.coverage}


def _show_coverage(covered: CaseCoverage) -> None:
    rows = [(section.name, section.applies, section.decides) for section in covered.sections]
    show_table("Sections of law", ("section", "cases to which it applies", "cases that it decides"), rows)
    show_table("Rules", ("rule", "cases that it denies"), list(covered.rules.items()))
    show_table("Campaigns", ("campaign", "cases"), list(covered.campaigns.items()))
    for title, names in (
        ("Sections that no case reaches", covered.sections_not_reached),
        ("Sections that apply to a case, but decide none", covered.sections_not_decisive),
        ("Rules that deny no case", covered.rules_without_denial),
        ("Campaigns without a case", covered.campaigns_without_case),
        ("Countries without a case", covered.countries_without_case),
    ):
        typer.echo(f"{title}: {len(names) or 'none'}")
        for name in names:
            typer.echo(f"  {name}")


def _stamps(config: Path, places: Iterable[Path]) -> dict[Path, int]:
    """Return the time of the last change of each file on which a result depends."""
    files = [*config.parent.rglob("*.yaml"), *case_files(places)]
    return {path: path.stat().st_mtime_ns for path in files if path.exists()}


@policy_app.command("new")
@command(typer.echo, data=lambda text: {"case": text})
def policy_new(
    *,
    decision: Annotated[str, typer.Argument(help="ID of the decision, or its record number in the log.")],
    config: ConfigPath = DEFAULT_CONFIG,
) -> str:
    """Write a case from a recorded decision, from the log on this machine. The called number is replaced by an example number.

    The case gives the recorded decision under the law of that decision. Ids of consents and other entries are replaced; dates stay.

    dialgate policy new 9f2c01ab-4711 > config/policy/recorded.yaml
    """
    loaded = load_config(config)
    chains = open_chains(loaded)
    readers, span = one_decision(list(chains.readers.values()), open_keys(loaded).ids.inside(decision))
    record = readers[0].find(span.first)
    assert isinstance(record, Record)
    law = read_kept_laws(*(home.folder / "kept" for home in chains.homes))(record)
    assert law is not None
    try:
        return write_case(record, ConfiguredCalls(loaded), law)
    except CaseFault as fault:
        raise Failure("case.invalid", f"This decision cannot become a case: {fault}") from None
