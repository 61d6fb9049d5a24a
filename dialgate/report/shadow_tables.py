"""The report on shadow mode as a layout for the page, the console and the terminal, and as CSV. Coverage comes first."""

from collections.abc import Iterator, Sequence

from dialgate.report.export import as_csv
from dialgate.report.figures import Slot
from dialgate.report.shadow import ShadowCount, ShadowReport
from dialgate.report.tables import Figure, ReportTable, TableLayout, count, share, words
from dialgate.texts import Language

_GOOD_COVERAGE = 0.99


def lay_out_shadow(report: ShadowReport, language: Language) -> TableLayout:
    say = words(language)
    campaigns = f" · {', '.join(report.campaigns_asked)}" if report.campaigns_asked else ""
    kind = "day" if report.period.is_day else "month"
    return TableLayout(
        language=language,
        title=say["shadow.title"],
        subtitle=f"{', '.join(report.controllers)}{campaigns} · {say[f'of_{kind}']} {report.period.name}",
        made=f"{say['made']} {report.made_at[:19].replace('T', ' ')} UTC",
        lead=_lead(report, say, language),
        figures=_figures(report, say, language),
        chart_title=say["shadow.by_hour"].format(zone=report.period.zone),
        chart=tuple(Slot(name=row.name, allowed=row.checked - row.refused, denied=row.refused) for row in report.hours),
        legend=(say["shadow.permitted"], say["shadow.would"]),
        tables=(
            *_coverage(report, say, language),
            _reasons(report, say, language),
            _tabulate(say["campaigns"], say["campaign"], report.campaigns, say, language),
            _tabulate(say["shadow.lists"], say["shadow.list"], report.lists, say, language, say["shadow.lists_note"]),
            _tabulate(say["shadow.by_hour"].format(zone=report.period.zone), say["shadow.hour"], report.hours, say, language),
            _samples(report, say),
        ),
        nothing=say["nothing"] if not report.checked else say["shadow.no_refusal"],
        note=say["shadow.note"],
    )  # fmt: skip


def _lead(report: ShadowReport, say: dict[str, str], language: Language) -> str:
    coverage = report.coverage
    if coverage is None or not coverage.calls:
        return say["shadow.no_calls_lead" if coverage else "shadow.unknown_lead"]
    return say["shadow.known_lead"].format(
        seen=count(coverage.seen, language),
        calls=count(coverage.calls, language),
        share=share(coverage.seen / coverage.calls, language),
        missed=count(coverage.calls - coverage.seen, language),
        since=coverage.since,
        until=coverage.until,
    )


def _figures(report: ShadowReport, say: dict[str, str], language: Language) -> tuple[Figure, ...]:
    coverage = report.coverage
    if coverage is None or not coverage.calls:
        seen = Figure(say["shadow.coverage"], say["shadow.unknown"], "warn")
    else:
        part = coverage.seen / coverage.calls
        seen = Figure(
            say["shadow.coverage"], share(part, language), "good" if part >= _GOOD_COVERAGE else "bad"
        )
    return (
        seen,
        Figure(say["shadow.checked"], count(report.checked, language)),
        Figure(say["shadow.refused"], count(report.refused, language)),
        Figure(say["shadow.refused_share"], share(report.refused_share, language)),
        Figure(say["shadow.enforced"], count(report.enforced, language)),
    )


def _coverage(report: ShadowReport, say: dict[str, str], language: Language) -> Iterator[ReportTable]:
    coverage = report.coverage
    if coverage is None:
        return
    rows = {"shadow.seen_allowed": coverage.allowed, "shadow.seen_shadow": coverage.shadow}
    rows |= {f"bypass.{kind}": number for kind, number in coverage.counts.items() if number}
    yield ReportTable(
        title=say["shadow.covered"],
        columns=(say["shadow.finding"], say["calls"], say["share"]),
        rows=tuple(
            (say.get(name, name), count(number, language), share(number / max(coverage.calls, 1), language))
            for name, number in rows.items()
        ),
        weights=tuple(rows.values()),
    )


def _reasons(report: ShadowReport, say: dict[str, str], language: Language) -> ReportTable:
    return ReportTable(
        title=say["shadow.reasons"],
        columns=(say["reason"], say["shadow.do"], say["calls"], say["share"], say["shadow.alone"]),
        rows=tuple(
            (
                row.code,
                say.get(f"do.{row.code}", ""),
                count(row.refused, language),
                share(row.refused / report.refused, language),
                count(row.alone, language),
            )
            for row in report.reasons
        ),
        weights=tuple(row.refused for row in report.reasons),
        note=say["shadow.reasons_note"],
        names=True,
        bad=True,
    )


def _tabulate(
    title: str, name: str, rows: Sequence[ShadowCount], say: dict[str, str], language: Language, note: str = ""
) -> ReportTable:  # fmt: skip
    used = [row for row in rows if row.checked]
    return ReportTable(
        title=title,
        columns=(name, say["shadow.checked"], say["shadow.refused"], say["share"]),
        rows=tuple(
            (
                row.name or say["shadow.no_list"],
                count(row.checked, language),
                count(row.refused, language),
                share(row.refused / row.checked, language),
            )
            for row in used
        ),
        weights=tuple(row.refused for row in used),
        note=note,
        names=True,
        bad=True,
    )


def _samples(report: ShadowReport, say: dict[str, str]) -> ReportTable:
    return ReportTable(
        title=say["shadow.samples"],
        columns=(say["reason"], say["shadow.decision"]),
        rows=tuple((row.code, " ".join(row.samples)) for row in report.reasons),
        names=True,
        decisions=True,
    )


def shadow_spreadsheet(report: ShadowReport) -> str:
    owner = " ".join(report.controllers)
    return as_csv(owner, report.period.name, _rows(report))


def _rows(report: ShadowReport) -> Iterator[tuple[str, str, str, object]]:
    if report.coverage:
        for measure in ("calls", "allowed", "shadow"):
            yield "coverage", "", measure, getattr(report.coverage, measure)
        for kind, number in report.coverage.counts.items():
            yield "coverage", kind, "bypassed", number
    for measure in ("checked", "refused", "enforced"):
        yield "total", "", measure, getattr(report, measure)
    for reason in report.reasons:
        yield "reasons", reason.code, "refused", reason.refused
        yield "reasons", reason.code, "alone", reason.alone
        yield "reasons", reason.code, "samples", " ".join(reason.samples)
    for section in ("campaigns", "lists", "hours"):
        for row in getattr(report, section):
            yield section, row.name, "checked", row.checked
            yield section, row.name, "refused", row.refused
