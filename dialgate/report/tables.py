"""The figures, the chart and the tables of a report, with their texts, for the page, the PDF and the e-mail."""

from collections.abc import Sequence
from functools import cache
from typing import Literal, TypeAlias

from msgspec import Struct

from dialgate import texts
from dialgate.report.figures import CallReport, Slot
from dialgate.texts import Language

Tone: TypeAlias = Literal["", "good", "warn", "bad"]
_LONGEST_NUMBER = 24  # a longer cell that begins with a digit is text
LIMIT, NEAR = 0.03, 0.025  # Garante, provv. 83 of 2014-02-20


class Figure(Struct, frozen=True):
    name: str
    value: str
    tone: Tone = ""


class ReportTable(Struct, frozen=True, kw_only=True):
    """One table in a report.

    - `weights`: the length of the bar in each row
    - `tones`: the colour of each row's last cell
    - `names`: whether the first column holds identifiers from the configuration or the log
    - `bad`: whether higher numbers are worse
    - `decisions`: whether all columns but the first hold ids of decisions
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    weights: tuple[int, ...] = ()
    tones: tuple[Tone, ...] = ()
    note: str = ""
    names: bool = False
    bad: bool = False
    decisions: bool = False

    def is_number(self, column: int) -> bool:
        """Return whether the column holds numbers, which are right-aligned."""
        text = self.rows[0][column] if self.rows and column and not self.decisions else ""
        return text[:1].isdigit() and len(text) <= _LONGEST_NUMBER


class TableLayout(Struct, frozen=True, kw_only=True):
    """A report as texts. `lead` is a sentence that must be read before the figures."""

    language: Language
    title: str
    subtitle: str
    made: str
    lead: str = ""
    figures: tuple[Figure, ...]
    chart_title: str
    chart: tuple[Slot, ...]
    legend: tuple[str, str]
    tables: tuple[ReportTable, ...]
    nothing: str
    note: str


@cache
def words(language: Language) -> dict[str, str]:
    return texts.load(f"report.{language}.yaml", dict[str, str])


def lay_out(report: CallReport, language: Language) -> TableLayout:
    say = words(language)
    kind = "day" if report.period.is_day else "month"
    return TableLayout(
        language=language,
        title=say["title"],
        subtitle=f"{report.name} · {say[f'of_{kind}']} {report.period.name}",
        made=f"{say['made']} {report.made_at[:19].replace('T', ' ')} UTC",
        figures=_figures(report, say, language),
        chart_title=say[f"by_slot_{kind}"],
        chart=report.slots,
        legend=(say["allowed"], say["denied"]),
        tables=(
            _reasons(report, say, language),
            _campaigns(report, say, language),
            _tabulate_counts("outcomes", "outcome", report.outcomes, say, language),
            _tabulate_counts("bases", "basis", report.bases, say, language),
            _tabulate_counts("caller_ids", "number", report.caller_ids, say, language),
            _registries(report, say, language),
            _stops(report, say, language),
            _tabulate_counts("ledger", "kind", report.ledger, say, language),
            _proof(report, say),
        ),
        nothing=say["nothing"],
        note=say["note"],
    )


def count(number: int, language: Language) -> str:
    return f"{number:,}".replace(",", "." if language == "it" else ",")


def share(part: float, language: Language) -> str:
    return f"{100 * part:.1f} %".replace(".", "," if language == "it" else ".")


def _figures(report: CallReport, say: dict[str, str], language: Language) -> tuple[Figure, ...]:
    worst = max((row.abandoned_share for row in report.campaigns), default=0.0)
    return (
        Figure(say["asked"], count(report.asked, language)),
        Figure(say["allowed"], count(report.allowed, language), "good"),
        Figure(say["denied"], count(report.denied, language)),
        *(
            [Figure(say["let_through"], count(report.let_through, language), "bad")]
            if report.let_through
            else ()
        ),
        Figure(say["allowed_share"], share(report.allowed_share, language)),
        Figure(say["abandoned_share"], share(worst, language).removesuffix(" %"), tone(worst)),
        Figure(say["stops"], count(report.stops.revocations, language)),
    )


def tone(abandoned_share: float) -> Tone:
    if abandoned_share > LIMIT:
        return "bad"
    return "warn" if abandoned_share > NEAR else "good"


def _reasons(report: CallReport, say: dict[str, str], language: Language) -> ReportTable:
    meaning = texts.texts_in(language).reasons
    return ReportTable(
        title=say["reasons"],
        columns=(say["reason"], say["meaning"], say["calls"], say["share"]),
        rows=tuple(
            (code, meaning[code], count(calls, language), share(calls / report.denied, language))
            for code, calls in report.reasons.items()
        ),
        weights=tuple(report.reasons.values()),
        names=True,
        bad=True,
    )


def _campaigns(report: CallReport, say: dict[str, str], language: Language) -> ReportTable:
    verdicts = {"good": say["within_limit"], "warn": say["near_limit"], "bad": say["over_limit"]}
    numbers = ("asked", "allowed", "denied", "answered", "abandoned", "opt_outs")
    return ReportTable(
        title=say["campaigns"],
        columns=tuple(say[name] for name in ("campaign", *numbers, "abandoned_share")),
        rows=tuple(
            (
                row.campaign,
                *(count(getattr(row, name), language) for name in numbers),
                f"{share(row.abandoned_share, language).removesuffix(' %')} ({verdicts[tone(row.abandoned_share)]})",
            )
            for row in report.campaigns
        ),
        tones=tuple(tone(row.abandoned_share) for row in report.campaigns),
        note=say["limit"],
        names=True,
    )


def _tabulate_counts(
    title: str, name: str, counts: dict[str, int], say: dict[str, str], language: Language
) -> ReportTable:
    total = sum(counts.values())
    return ReportTable(
        title=say[title],
        columns=(say[name], say["calls"] if title != "ledger" else say["ledger"], say["share"]),
        rows=tuple(
            (_label(name, key, say), count(number, language), share(number / total, language))
            for key, number in counts.items()
        ),
        weights=tuple(counts.values()),
    )


def _label(column: str, key: str, say: dict[str, str]) -> str:
    text = say.get(f"{column}.{key}", say.get(key, key))
    return text[:1].upper() + text[1:]


def _registries(report: CallReport, say: dict[str, str], language: Language) -> ReportTable:
    numbers = ("numbers", "consultations", "asked_about", "listed")
    return ReportTable(
        title=say["registries"],
        columns=tuple(say[name] for name in ("registry", *numbers, "newest", "receipts")),
        rows=tuple(
            (
                use.registry,
                *(_count_or_dash(getattr(use, name), language) for name in numbers),
                use.newest[:10],
                _first_of(use.receipts),
            )
            for use in report.registries
        ),
    )


def _count_or_dash(number: int | None, language: Language) -> str:
    return "-" if number is None else count(number, language)


def _first_of(names: Sequence[str], shown: int = 3) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" + {more}" if more > 0 else "")


def _stops(report: CallReport, say: dict[str, str], language: Language) -> ReportTable:
    stops = report.stops
    waits = (
        (say["median_wait"], _seconds(stops.median_wait, say, language)),
        (say["longest_wait"], _seconds(stops.longest_wait, say, language)),
    )
    channels = tuple((name, count(number, language)) for name, number in stops.by_channel.items())
    return ReportTable(
        title=say["revocations"],
        columns=(say["channel"], say["stops"]),
        rows=(*channels, *waits) if channels else (),
    )


def _seconds(wait: int, say: dict[str, str], language: Language) -> str:
    whole, tenths = divmod(round(wait / 100), 10)
    return f"{count(whole, language)}{',' if language == 'it' else '.'}{tenths} {say['seconds']}"


def _proof(report: CallReport, say: dict[str, str]) -> ReportTable:
    rows = [(say["records"], " … ".join(report.records))] if report.records else []
    rows += [(say["laws"], law) for law in report.laws]
    rows += [(say["shipped"].format(node=node), at) for node, at in report.shipped.items()]
    return ReportTable(title=say["proof"], columns=(say["kind"], ""), rows=tuple(rows))
