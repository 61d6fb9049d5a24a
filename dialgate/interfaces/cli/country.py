"""`dialgate country`: the laws in the country files as readable pages."""

from datetime import date
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import typer
from msgspec import Struct

from dialgate.config import yaml_file
from dialgate.config.countries import SHIPPED, convert_law
from dialgate.core import local_time
from dialgate.core.law import ALL_SECTIONS, Law
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, Failure
from dialgate.report import law_page
from dialgate.report.law_page import LawChange, LawPage
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, console, show_table

app = typer.Typer()
country_app = typer.Typer(no_args_is_help=True)
app.add_typer(country_app, name="country")

Folder: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--countries",
        show_default="config/countries, or without it the files that come with dialgate",
        help="Folder with the country files.",
    ),
]
Country: TypeAlias = Annotated[str, typer.Argument(help="ISO 3166 code, for example FR.")]
_OWN = DEFAULT_CONFIG.parent / "countries"
_FOLDER = _OWN if _OWN.is_dir() else SHIPPED


class LawChanges(Struct, frozen=True):
    country: str
    changes: list[LawChange]


def _show_summaries(rows: list[dict[str, object]]) -> None:
    show_table(
        "Countries",
        ("country", "name", "state", "sections in force", "next change", "not expressed", "not confirmed"),
        [tuple(row.values()) for row in rows],
    )


def _show_page(page: LawPage) -> None:
    out = console()
    out.print(f"{page.name} ({page.country}) on {page.day}")
    for heading, sentences in law_page.notes(page):
        out.print(f"\n{heading}")
        for sentence in sentences:
            out.print(f"- {sentence}")
    for subject, lines in page.subjects.items():
        out.print()
        show_rows(
            subject,
            lines,
            {
                "in force": law_page.period,
                "who and what": "scope",
                "rule": lambda line: line.content or "cited in denials",
                "source": "source",
                "severity": "severity",
            },
        )


def _show_changes(law: LawChanges) -> None:
    if law.changes:
        rows = [_change_row(change) for change in law.changes]
        show_table(law.country, ("day", "", "subject", "who and what", "rule", "source"), rows)
    else:
        typer.echo(f"The country file of {law.country} is the same on both days.")


def _change_row(change: LawChange) -> tuple[str, ...]:
    line, before = change.line, change.before
    rule = f"{before.content} → {line.content}" if before else line.content
    return str(change.day), change.kind, line.subject, line.scope, rule or "cited in denials", line.source


@country_app.command("list")
@command(_show_summaries)
def list_(*, countries: Folder = _FOLDER) -> list[dict[str, object]]:
    """List the country files. For each, show whether it is a draft, how many sections are in force and when it next changes.

    dialgate country list
    """
    return [_summary(law) for law in _laws(countries)]


@country_app.command()
@command(_show_page)
def show(
    *,
    country: Country,
    at: Annotated[str, typer.Option(metavar="DAY", help="Day, for example 2026-09-01. Default: today.")] = "",
    countries: Folder = _FOLDER,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the page as Markdown.")] = False,
) -> LawPage | None:
    """Show a country's law on a day: each section with its scope, source, severity and dates in force.

    The page also lists rules that the country file does not express yet, and facts that are not confirmed.

    dialgate country show FR --at 2026-09-01
    """
    law = _law(countries, country)
    page = law_page.law_page(law, _day(at, "at") if at else _today(law))
    if not as_markdown:
        return page
    typer.echo(f"# {page.name} on {page.day}\n\n{law_page.markdown(page)}")
    return None


@country_app.command()
@command(_show_changes, data=lambda law: law.changes)
def diff(
    *,
    country: Country,
    since: Annotated[str, typer.Option("--from", metavar="DAY", help="First day, for example 2026-08-01.")],
    until: Annotated[str, typer.Option("--to", metavar="DAY", help="Second day. Default: today.")] = "",
    countries: Folder = _FOLDER,
) -> LawChanges:
    """Compare a country's law on two days: show the sections that begin, end or change.

    dialgate country diff FR --from 2026-08-01 --to 2026-09-01
    """
    law = _law(countries, country)
    changes = law_page.changes(law, _day(since, "from"), _day(until, "to") if until else _today(law))
    return LawChanges(law.name, changes)


def _summary(law: Law) -> dict[str, object]:
    today = _today(law)
    sections = [section for name in ALL_SECTIONS for section in getattr(law, name)]
    return {
        "country": law.country,
        "name": law.name,
        "state": "draft" if law.draft else "complete",
        "sections": sum(section.is_in_force(today) for section in sections),
        "next_change": next((str(day) for day in law_page.change_days(law) if day > today), ""),
        "missing": len(law.missing),
        "unconfirmed": len(law.unconfirmed),
    }


def _today(law: Law) -> date:
    return local_time.day_in(law.zone, wall_clock())


def _day(text: str, option: str) -> date:
    try:
        return msgspec.convert(text, date)
    except msgspec.ValidationError:
        raise Failure(
            "request.invalid", "Enter a date, for example 2026-09-01.", field=f"--{option}", status=MISUSE
        ) from None


def _law(folder: Path, country: str) -> Law:
    path = folder / f"{country.lower()}.yaml"
    laws = _laws(folder) if not path.is_file() else [_read(path)]
    law = next((law for law in laws if law.country == country.upper()), None)
    if law is None:
        known = ", ".join(law.country for law in laws) or "none"
        raise Failure(
            "law.unknown",
            f"{folder} has no file for {country}. It has: {known}.",
            field="country",
            status=MISUSE,
        )
    return law


def _laws(folder: Path) -> list[Law]:
    return [_read(path) for path in sorted(folder.glob("*.yaml"))]


def _read(path: Path) -> Law:
    data, _, problems = yaml_file.read(path)
    law, faults = convert_law(data) if not problems else (None, problems)
    if law is None:
        raise Failure(
            "law.invalid", f"{path} is not a valid country file: {'; '.join(faults)}", status=MISUSE
        )
    return law
