"""The access report as an HTML page for the data subject, in Italian or English.

The data subject can read, print and keep the page, which has no scripts and no external links. Free text is
shown as recorded; all other text is translated.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from html import escape
from typing import Any, Final

from dialgate import texts
from dialgate.audit import explanation
from dialgate.cluster.personal_data import Why
from dialgate.core import local_time
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.subjects.page_texts import TEXTS
from dialgate.subjects.schemas import Report
from dialgate.texts import LANGUAGES, Language

# Lines break between words. Only words wider than any column (a hash, an address) are broken.
_STYLE: Final = (
    "@page{size:A4;margin:18mm 15mm}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}"
    "address{font-style:normal;margin:0 0 2rem}h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.15rem;break-after:avoid}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem;font-size:.9rem;line-height:1.4}"
    "th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #999}"
    ".long{overflow-wrap:anywhere}.time{white-space:nowrap}"
    "@media print{body{margin:0;padding:0;max-width:none;font-size:10.5pt}table{font-size:8.5pt}tr{break-inside:avoid}}"
)
_LONG: Final = re.compile(r"\S{21,}")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")

_STORED: Final = {"restricted": "restricted_days", "lists": "lists_days", "lookups": "lookups_days"}


class _Page:
    def __init__(self, language: Language, zone: str) -> None:
        self._at = LANGUAGES.index(language)
        self._texts = texts.texts_in(language)
        self._zone = zone
        self.parts: list[str] = []

    def say(self, key: str) -> str:
        """Return the translation for `key`, or `key` itself if it has no translation (an id or a name)."""
        return TEXTS[key][self._at] if key in TEXTS else key

    def why(self, why: Why) -> str:
        text = self._texts.reasons.get(why.code, why.text)
        return f"{text} ({self._texts.law(why.law)})" if why.law else text

    def instant(self, at: str) -> str:
        """Format an instant as local time in the controller's country, for example `24/11/2026 10:00 CET`."""
        clock = local_time.clock_in(self._zone, datetime.fromisoformat(at))
        return f"{clock:%d/%m/%Y %H:%M} {clock.tzname()}"

    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[Sequence[str]]) -> None:
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
        self.parts.append(f"<h2>{escape(self.say(title))}</h2>")
        if not body:
            self.parts.append(f"<p>{escape(self.say('nothing'))}</p>")
            return
        head = "".join(f'<th scope="col">{escape(self.say(name))}</th>' for name in columns)
        self.parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def history(self, title: str, entries: Iterable[HistoryEntry]) -> None:
        self.table(
            title,
            ("when", "what", "who", "how", "details"),
            (
                (
                    self.instant(entry.at),
                    self.say(entry.kind),
                    entry.actor,
                    f"{entry.channel}\n{entry.proof}".strip(),
                    self.details(entry.details),
                )
                for entry in entries
            ),
        )

    def details(self, details: Mapping[str, object]) -> str:
        """Return the fields that are not empty, one per line."""
        return "\n".join(
            f"{self._label(name)}: {self._value(name, value)}"
            for name, value in details.items()
            if value not in (None, "", (), [])
        )

    def _label(self, name: str) -> str:
        return self.say(f"detail.{name}").removeprefix("detail.")

    def _value(self, name: str, value: object) -> str:
        if isinstance(value, Mapping):
            return ", ".join(
                f"{self._label(key)} {self._value(key, item)}"
                for key, item in value.items()
                if item not in (None, "", (), [])
            )
        if isinstance(value, list | tuple):
            return "; ".join(self._value(name, item) for item in value)
        if isinstance(value, bool):
            return self.say(f"value.{value}")
        text = str(value)
        if _INSTANT.fullmatch(text):
            return self.instant(text)
        if _DAY.fullmatch(text):
            return f"{date.fromisoformat(text):%d/%m/%Y}"
        tables: Any = {"purposes": self._texts.purposes, "call_types": self._texts.call_types}
        translations = tables.get(name, {})
        return translations.get(text) or self.say(f"{name}.{text}").removeprefix(f"{name}.")


def _cell(text: str) -> str:
    kind = ' class="time"' if re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d \S+", text) else ""
    return f"<td{kind}>{_breakable(text)}</td>"


def _breakable(text: str) -> str:
    """Escape the text as HTML that preserves line breaks.

    A word is broken only if it is too wide for the column.
    """
    parts = [
        f'<span class="long">{escape(part)}</span>' if _LONG.fullmatch(part) else escape(part)
        for part in re.split(r"(\s+)", text)
    ]
    return "".join(parts).replace("\n", "<br>")


def page(report: Report, language: Language) -> str:
    builder = _Page(language, report.zone)
    _calls(builder, report, language)
    builder.history("ledger", report.ledger)
    builder.history("restricted", report.restricted)
    _sources(builder, report)
    _access(builder, report)
    say = builder.say
    title = f"{say('title')} {report.controller_name}"
    nodes = ", ".join(sorted(report.missing))
    missing = f"<p><strong>{escape(say('missing'))} {escape(nodes)}.</strong></p>" if nodes else ""
    if report.holder_changed_at:
        changed_at = builder.instant(report.holder_changed_at)
        missing += f"<p>{escape(say('holder_changed'))} {escape(changed_at)}.</p>"
    campaigns = ", ".join(report.profiling_campaigns)
    profiling = (
        f"<p>{escape(say('profiling'))} <strong>{escape(campaigns)}</strong>.</p>" if campaigns else ""
    )
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body><main>{_sender(builder, report)}<h1>{escape(title)}</h1>"
        f"<p>{escape(say('intro'))} <strong>{escape(report.number)}</strong>. {escape(say('made'))}"
        f" {escape(builder.instant(report.made_at))}. {escape(say('zone'))} {escape(report.zone)}.</p>"
        f"<p>{escape(say('purpose'))}</p>{missing}"
        f"{''.join(builder.parts)}<h2>{escape(say('rights_title'))}</h2><p>{escape(say('rights'))}</p>{profiling}</main></body></html>"
    )


def _sender(builder: _Page, report: Report) -> str:
    """Return the controller and the data protection officer with contact details (GDPR 13(1)(a) and (b))."""
    controller = "\n".join(filter(None, (report.controller_name, report.controller_contact)))
    lines = [f"<strong>{escape(builder.say('controller'))}</strong>: {_breakable(controller)}"]
    if report.officer:
        lines.append(f"<strong>{escape(builder.say('officer'))}</strong>: {_breakable(report.officer)}")
    return f"<address>{'<br>'.join(lines)}</address>"


def _calls(builder: _Page, report: Report, language: Language) -> None:
    say = builder.say
    builder.table(
        "decisions",
        ("when", "answer", "campaign", "shown", "basis", "why"),
        (
            (
                builder.instant(call.at),
                " ".join(filter(None, (say(call.decision), call.result and f"({say(call.result)})"))),
                call.campaign,
                call.caller_id,
                _basis(builder, call.basis),
                " ".join(builder.why(reason) for reason in call.reasons),
            )
            for call in report.decisions
        ),
    )

    for notice in explanation.notices(language, report.retired_months, {}, nothing=False):
        builder.parts.append(f"<p>{escape(notice)}</p>")


def _basis(builder: _Page, basis: str) -> str:
    kind, _, name = basis.partition(":")
    return f"{builder.say(kind)} {name}".strip()


def _sources(builder: _Page, report: Report) -> None:
    builder.table(
        "lists",
        ("what", "campaign", "basis", "origin", "when"),
        (
            (
                entry.list,
                ", ".join(entry.campaigns),
                builder.say(entry.basis),
                " → ".join(
                    (
                        f"{entry.origin.collected_by}, {entry.origin.collected_on:%d/%m/%Y} {entry.origin.source}".strip(),
                        *((builder.say(f"kind.{entry.origin.kind}"),) if entry.origin.kind else ()),
                        *(f"{step.by} → {step.to}, {step.on:%d/%m/%Y}" for step in entry.origin.transfers),
                    )
                ),
                builder.instant(entry.loaded_at),
            )
            for entry in report.lists
        ),
    )
    builder.table(
        "registries",
        ("when", "what", "answer"),
        (
            (builder.instant(answer.consulted_at), answer.registry, builder.say(answer.answer))
            for answer in report.registries
        ),
    )


def _access(builder: _Page, report: Report) -> None:
    builder.table(
        "lookups",
        ("when", "who", "what", "why"),
        (
            (builder.instant(lookup.at), lookup.client, builder.say(lookup.what), lookup.purpose)
            for lookup in report.lookups
        ),
    )
    builder.table(
        "requests",
        ("when", "what", "until", "answer"),
        (
            (
                builder.instant(case.received_at),
                builder.say(case.kind),
                builder.instant(case.due_at),
                f"{builder.say('request_refused' if case.refused else 'answered')}: {case.outcome}"
                if case.closed_at
                else builder.say("open"),
            )
            for case in report.requests
        ),
    )
    builder.table(
        "storage",
        ("what", "days"),
        ((builder.say(_STORED.get(kind, kind)), str(days)) for kind, days in report.days_of_storage.items()),
    )
