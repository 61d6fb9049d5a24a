"""The access report as an HTML page for the data subject, in Italian or English.

The data subject can read, print and keep the page (`access.html`), which has no scripts and no external links. Free text is
shown as recorded; all other text is translated (`dialgate/texts/access.*.yaml`).
"""

import re
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from typing import Any, Final

from markupsafe import Markup, escape

from dialgate import texts
from dialgate.audit import explanation
from dialgate.cluster.personal_data import Why
from dialgate.core import local_time
from dialgate.core.model import Origin
from dialgate.runtime import templates
from dialgate.subjects.schemas import Report
from dialgate.texts import Language

_LONG: Final = re.compile(r"\S{21,}")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_EMPTY: Final[tuple[object, ...]] = (None, "", (), [])


def page(report: Report, language: Language) -> str:
    words = _Words(language, report.zone)
    environment = templates.environment(__package__)
    environment.filters |= {
        "instant": words.instant,
        "breakable": breakable,
        "details": words.details,
        "reason": words.reason,
        "basis": words.basis,
        "origin": words.origin,
    }
    notices = explanation.notices(language, report.retired_months, {}, {}, nothing=False)
    return environment.get_template("access.html").render(
        report=report, language=language, say=words.say, notices=notices
    )


@cache
def _texts(language: Language) -> dict[str, str]:
    return texts.load(f"access.{language}.yaml", dict[str, str])


class _Words:
    """The words of the page, with times in the controller's zone."""

    def __init__(self, language: Language, zone: str) -> None:
        self._own, self._texts, self._zone = _texts(language), texts.texts_in(language), zone

    def say(self, key: str) -> str:
        """Return the translation for `key`, or `key` itself if it has no translation (an id or a name)."""
        return self._own.get(key, key)

    def reason(self, why: Why) -> str:
        text = self._texts.reasons.get(why.code, why.text)
        return f"{text} ({self._texts.law(why.law)})" if why.law else text

    def instant(self, at: str) -> str:
        """Format an instant as local time in the controller's country, for example `24/11/2026 10:00 CET`."""
        clock = local_time.clock_in(self._zone, datetime.fromisoformat(at))
        return f"{clock:%d/%m/%Y %H:%M} {clock.tzname()}"

    def basis(self, basis: str) -> str:
        kind, _, name = basis.partition(":")
        return f"{self.say(kind)} {name}".strip()

    def origin(self, origin: Origin) -> str:
        """Return who collected a list, and each transfer of it."""
        steps = [f"{origin.collected_by}, {origin.collected_on:%d/%m/%Y} {origin.source}".strip()]
        steps += [self.say(f"kind.{origin.kind}")] if origin.kind else []
        steps += [f"{step.by} → {step.to}, {step.on:%d/%m/%Y}" for step in origin.transfers]
        return " → ".join(steps)

    def details(self, details: Mapping[str, object]) -> str:
        """Return the fields that are not empty, one per line."""
        return "\n".join(
            f"{self._label(name)}: {self._value(name, value)}"
            for name, value in details.items()
            if value not in _EMPTY
        )

    def _label(self, name: str) -> str:
        return self.say(f"detail.{name}").removeprefix("detail.")

    def _value(self, name: str, value: object) -> str:
        if isinstance(value, Mapping):
            parts = {key: item for key, item in value.items() if item not in _EMPTY}
            return ", ".join(f"{self._label(key)} {self._value(key, item)}" for key, item in parts.items())
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
        return tables.get(name, {}).get(text) or self.say(f"{name}.{text}").removeprefix(f"{name}.")


def breakable(text: str) -> Markup:
    """Return the text as HTML that preserves line breaks, and breaks only the words that are too wide for a column."""
    parts = [
        Markup('<span class="long">{}</span>').format(part) if _LONG.fullmatch(part) else escape(part)
        for part in re.split(r"(\s+)", text)
    ]
    return Markup("").join(parts).replace("\n", Markup("<br>"))
