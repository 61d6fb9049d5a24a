"""The report on shadow mode as a layout for the page, the console and the terminal, and as CSV. Coverage comes first."""

from collections.abc import Iterator, Sequence

from dialgate.report.export import Row, as_csv, rows_of
from dialgate.report.figures import Slot
from dialgate.report.shadow import ShadowCount, ShadowReport
from dialgate.report.tables import Figure, ReportTable, ReportWords, TableLayout
from dialgate.texts import Language

_GOOD_COVERAGE = 0.99


def lay_out_shadow(report: ShadowReport, language: Language) -> TableLayout:
    say = ReportWords(language)
    campaigns = f" · {', '.join(report.campaigns_asked)}" if report.campaigns_asked else ""
    by_hour = say("shadow.by_hour", zone=report.period.zone)
    return say.layout(
        report.period,
        report.made_at,
        f"{', '.join(report.controllers)}{campaigns}",
        title=say("shadow.title"),
        lead=_lead(report, say),
        figures=_figures(report, say),
        chart_title=by_hour,
        chart=tuple(Slot(name=row.name, allowed=row.checked - row.refused, denied=row.refused) for row in report.hours),
        legend=(say("shadow.permitted"), say("shadow.would")),
        tables=(
            *_coverage(report, say),
            _reasons(report, say),
            _tabulate(say("campaigns"), say("campaign"), report.campaigns, say),
            _tabulate(say("shadow.lists"), say("shadow.list"), report.lists, say, say("shadow.lists_note")),
            _tabulate(by_hour, say("shadow.hour"), report.hours, say),
            _samples(report, say),
        ),
        nothing=say("nothing" if not report.checked else "shadow.no_refusal"),
        note=say("shadow.note"),
    )  # fmt: skip


def _lead(report: ShadowReport, say: ReportWords) -> str:
    coverage = report.coverage
    if coverage is None or not coverage.calls:
        return say("shadow.no_calls_lead" if coverage else "shadow.unknown_lead")
    return say(
        "shadow.known_lead",
        seen=say.cell(coverage.seen),
        calls=say.cell(coverage.calls),
        share=say.cell(coverage.seen / coverage.calls),
        missed=say.cell(coverage.calls - coverage.seen),
        since=coverage.since,
        until=coverage.until,
    )


def _figures(report: ShadowReport, say: ReportWords) -> tuple[Figure, ...]:
    coverage = report.coverage
    if coverage is None or not coverage.calls:
        seen = Figure(say("shadow.coverage"), say("shadow.unknown"), "warn")
    else:
        part = coverage.seen / coverage.calls
        seen = Figure(say("shadow.coverage"), say.cell(part), "good" if part >= _GOOD_COVERAGE else "bad")
    names = ("checked", "refused", "refused_share", "enforced")
    return (seen, *(Figure(say(f"shadow.{name}"), say.cell(getattr(report, name))) for name in names))


def _coverage(report: ShadowReport, say: ReportWords) -> Iterator[ReportTable]:
    coverage = report.coverage
    if coverage is None:
        return
    rows = {"shadow.seen_allowed": coverage.allowed, "shadow.seen_shadow": coverage.shadow}
    rows |= {f"bypass.{kind}": number for kind, number in coverage.counts.items() if number}
    yield say.table(
        "shadow.covered",
        ("shadow.finding", "calls", "share"),
        ((say.named(name), number, number / max(coverage.calls, 1)) for name, number in rows.items()),
        weights=tuple(rows.values()),
    )


def _reasons(report: ShadowReport, say: ReportWords) -> ReportTable:
    return say.table(
        "shadow.reasons",
        ("reason", "shadow.do", "calls", "share", "shadow.alone"),
        (
            (row.code, say(f"do.{row.code}"), row.refused, row.refused / report.refused, row.alone)
            for row in report.reasons
        ),
        weights=tuple(row.refused for row in report.reasons),
        note=say("shadow.reasons_note"),
        names=True,
        bad=True,
    )


def _tabulate(
    title: str, name: str, rows: Sequence[ShadowCount], say: ReportWords, note: str = ""
) -> ReportTable:
    used = [row for row in rows if row.checked]
    return ReportTable(
        title=title,
        columns=(name, say("shadow.checked"), say("shadow.refused"), say("share")),
        rows=say.rows(
            (row.name or say("shadow.no_list"), row.checked, row.refused, row.refused / row.checked)
            for row in used
        ),
        weights=tuple(row.refused for row in used),
        note=note,
        names=True,
        bad=True,
    )


def _samples(report: ShadowReport, say: ReportWords) -> ReportTable:
    return ReportTable(
        title=say("shadow.samples"),
        columns=(say("reason"), say("shadow.decision")),
        rows=tuple((row.code, " ".join(row.samples)) for row in report.reasons),
        names=True,
        decisions=True,
    )


def shadow_spreadsheet(report: ShadowReport) -> str:
    return as_csv(" ".join(report.controllers), report.period.name, _rows(report))


def _rows(report: ShadowReport) -> Iterator[Row]:
    if report.coverage:
        for measure in ("calls", "allowed", "shadow"):
            yield "coverage", "", measure, getattr(report.coverage, measure)
        for kind, number in report.coverage.counts.items():
            yield "coverage", kind, "bypassed", number
    for measure in ("checked", "refused", "enforced"):
        yield "total", "", measure, getattr(report, measure)
    yield from rows_of(report, {"reasons": "code", "campaigns": "name", "lists": "name", "hours": "name"})
