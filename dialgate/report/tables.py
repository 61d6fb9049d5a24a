"""The figures, the chart and the tables of a report, with their texts, for the page, the PDF and the e-mail."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from dialgate import texts
from dialgate.report.figures import CallReport, Period, Slot
from dialgate.texts import Language

Tone: TypeAlias = Literal["", "good", "warn", "bad"]
_RECEIPTS_SHOWN = 3
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


class ReportWords:
    """The texts of a report in one language, and its numbers as that language writes them."""

    def __init__(self, language: Language) -> None:
        self.language, self._words = language, words(language)

    def __call__(self, name: str, **values: object) -> str:
        return self._words[name].format(**values) if values else self._words[name]

    def named(self, key: str, *others: str) -> str:
        """Return the first of the texts, or the last name itself if there is none."""
        names = (key, *others)
        return next((self._words[name] for name in names if name in self._words), names[-1])

    def number(self, value: float, decimals: int = 0) -> str:
        text = f"{value:,.{decimals}f}"
        return text.translate({ord(","): ".", ord("."): ","}) if self.language == "it" else text

    def cell(self, value: object) -> str:
        """Return the text of a value. A float is a share; None is a number that is not known."""
        match value:
            case None:
                return "-"
            case int():
                return self.number(value)
            case float():
                return f"{self.number(100 * value, 1)} %"
        return str(value)

    def rows(self, rows: Iterable[Iterable[object]]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(map(self.cell, row)) for row in rows)

    def table(
        self, title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], **parts: Any
    ) -> ReportTable:
        """Return a table whose title and columns are the texts with these names."""
        return ReportTable(
            title=self(title), columns=tuple(map(self, columns)), rows=self.rows(rows), **parts
        )

    def layout(self, period: Period, made_at: str, owner: str, **parts: Any) -> TableLayout:
        of = self("of_day" if period.is_day else "of_week" if "W" in period.name else "of_month")
        return TableLayout(
            language=self.language,
            subtitle=f"{owner} · {of} {period.name}",
            made=f"{self('made')} {made_at[:19].replace('T', ' ')} UTC",
            **parts,
        )


def lay_out(report: CallReport, language: Language) -> TableLayout:
    say = ReportWords(language)
    return say.layout(
        report.period,
        report.made_at,
        report.name,
        title=say("title"),
        figures=_figures(report, say),
        chart_title=say("by_slot_day" if report.period.is_day else "by_slot_month"),
        chart=report.slots,
        legend=(say("allowed"), say("denied")),
        tables=(
            _reasons(report, say),
            _campaigns(report, say),
            _counts("outcomes", "outcome", report.outcomes, say),
            _counts("bases", "basis", report.bases, say),
            _counts("caller_ids", "number", report.caller_ids, say),
            _registries(report, say),
            _stops(report, say),
            _counts("ledger", "kind", report.ledger, say),
            _proof(report, say),
        ),
        nothing=say("nothing"),
        note=say("note"),
    )


def _figures(report: CallReport, say: ReportWords) -> tuple[Figure, ...]:
    worst = max((row.abandoned_share for row in report.campaigns), default=0.0)
    let_through = Figure(say("let_through"), say.cell(report.let_through), "bad")
    return (
        Figure(say("asked"), say.cell(report.asked)),
        Figure(say("allowed"), say.cell(report.allowed), "good"),
        Figure(say("denied"), say.cell(report.denied)),
        *([let_through] if report.let_through else ()),
        Figure(say("allowed_share"), say.cell(report.allowed_share)),
        Figure(say("abandoned_share"), say.number(100 * worst, 1), tone(worst)),
        Figure(say("stops"), say.cell(report.stops.revocations)),
    )


def tone(abandoned_share: float) -> Tone:
    if abandoned_share > LIMIT:
        return "bad"
    return "warn" if abandoned_share > NEAR else "good"


def _reasons(report: CallReport, say: ReportWords) -> ReportTable:
    meaning = texts.texts_in(say.language).reasons
    return say.table(
        "reasons",
        ("reason", "meaning", "calls", "share"),
        ((code, meaning[code], calls, calls / report.denied) for code, calls in report.reasons.items()),
        weights=tuple(report.reasons.values()),
        names=True,
        bad=True,
    )


def _campaigns(report: CallReport, say: ReportWords) -> ReportTable:
    verdicts = {"good": say("within_limit"), "warn": say("near_limit"), "bad": say("over_limit")}
    numbers = ("asked", "allowed", "denied", "answered", "abandoned", "opt_outs")
    tones = tuple(tone(row.abandoned_share) for row in report.campaigns)
    shares = [
        f"{say.number(100 * row.abandoned_share, 1)} ({verdicts[tone]})"
        for row, tone in zip(report.campaigns, tones, strict=True)
    ]
    return say.table(
        "campaigns",
        ("campaign", *numbers, "abandoned_share"),
        (
            (row.campaign, *(getattr(row, name) for name in numbers), share)
            for row, share in zip(report.campaigns, shares, strict=True)
        ),
        tones=tones,
        note=say("limit"),
        names=True,
    )


def _counts(title: str, name: str, counts: Mapping[str, int], say: ReportWords) -> ReportTable:
    total = sum(counts.values())
    labels = {key: say.named(f"{name}.{key}", key) for key in counts}
    return say.table(
        title,
        (name, "calls" if title != "ledger" else "ledger", "share"),
        (
            (labels[key][:1].upper() + labels[key][1:], number, number / total)
            for key, number in counts.items()
        ),
        weights=tuple(counts.values()),
    )


def _registries(report: CallReport, say: ReportWords) -> ReportTable:
    numbers = ("numbers", "consultations", "asked_about", "listed")
    rows = (
        (use.registry, *(getattr(use, name) for name in numbers), use.newest[:10], _first_of(use.receipts))
        for use in report.registries
    )
    return say.table("registries", ("registry", *numbers, "newest", "receipts"), rows)


def _first_of(names: tuple[str, ...]) -> str:
    more = len(names) - _RECEIPTS_SHOWN
    return ", ".join(names[:_RECEIPTS_SHOWN]) + (f" + {more}" if more > 0 else "")


def _stops(report: CallReport, say: ReportWords) -> ReportTable:
    stops = report.stops
    waits = [
        (say(name), f"{say.number(round(wait / 100) / 10, 1)} {say('seconds')}")
        for name, wait in (("median_wait", stops.median_wait), ("longest_wait", stops.longest_wait))
    ]
    rows = [*stops.by_channel.items(), *waits] if stops.by_channel else []
    return say.table("revocations", ("channel", "stops"), rows)


def _proof(report: CallReport, say: ReportWords) -> ReportTable:
    rows = [(say("records"), " … ".join(report.records))] if report.records else []
    rows += [(say("laws"), law) for law in report.laws]
    rows += [(say("shipped", node=node), at) for node, at in report.shipped.items()]
    return ReportTable(title=say("proof"), columns=(say("kind"), ""), rows=tuple(rows))
