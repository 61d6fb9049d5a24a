"""The words of letters to data subjects, in Italian or English, as filters of their templates.

Free text is shown as recorded; all other text is translated (`dialgate/texts/access.*.yaml`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from functools import cache
from typing import Any, Final, NamedTuple

from markupsafe import Markup, escape

from dialgate import texts
from dialgate.cluster.personal_data import Why
from dialgate.core import local_time
from dialgate.core.model import Instant, Origin
from dialgate.core.request_deadlines import Erased
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.texts import Language

_HIDDEN: Final = re.compile(r"\[hidden:[0-9a-f]{16}\]")
_LONG: Final = re.compile(r"\S{21,}")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_EMPTY: Final[tuple[object, ...]] = (None, "", (), [])
# A hash says nothing to a person; `artefact` names the proof.
_TECHNICAL: Final = frozenset({"artefact_sha256"})
_YEAR, _MONTH = 365.25, 30.4375  # days


class ErasedGroup(NamedTuple):
    """Items of an erasure that have everything but their name in common. `label` has their kind, count and names."""

    label: str
    why: str
    law: str
    until: str


def without_hashes(text: str) -> str:
    """Return the text with a mark for each hash of a number, which says nothing to a person."""
    return _HIDDEN.sub("•••", text)


@cache
def _texts(language: Language) -> dict[str, str]:
    return texts.load(f"access.{language}.yaml", dict[str, str])


class LetterWords:
    """The words of one language, with times in the controller's zone."""

    def __init__(self, language: Language, zone: str) -> None:
        self._own, self._texts, self._zone = _texts(language), texts.texts_in(language), zone

    def filters(self) -> dict[str, Any]:
        """Return the functions that templates use as filters."""
        own = (
            self.instant, self.day, self.period, self.details, self.corrected, self.reason, self.basis, self.origin,
            self.grouped, self.purpose, self.zone,
        )  # fmt: skip
        return {function.__name__: function for function in (breakable, *own)}

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

    def day(self, at: Instant | str) -> str:
        """Format the day of an instant in the controller's country, for example `24 novembre 2026`."""
        instant = local_time.instant_of(at) if isinstance(at, str) else at
        day = local_time.day_in(self._zone, instant)
        return self._texts.day.format(day=day.day, month=self._texts.months[day.month - 1], year=day.year)

    def period(self, days: int) -> str:
        """Return a number of days as whole years or months, if it is about that long, or as days."""
        for unit, length in (("year", _YEAR), ("month", _MONTH)):
            count = round(days / length)
            if count and abs(days - count * length) <= 1:
                return self.say(f"period.{unit}{'s' * (count != 1)}").format(n=count)
        return self.say(f"period.day{'s' * (days != 1)}").format(n=days)

    def zone(self, name: str) -> str:
        return self._texts.zones.get(name, name)

    def purpose(self, name: str) -> str:
        purposes: Mapping[str, str] = dict(self._texts.purposes.items())
        return purposes.get(name, name)

    def basis(self, basis: str) -> str:
        kind, _, name = basis.partition(":")
        return without_hashes(f"{self.say(kind)} {name}".strip())

    def origin(self, origin: Origin) -> str:
        """Return who collected a list, and each transfer of it."""
        steps = [f"{origin.collected_by}, {origin.collected_on:%d/%m/%Y} {origin.source}".strip()]
        steps += [self.say(f"kind.{origin.kind}")] if origin.kind else []
        steps += [f"{step.by} → {step.to}, {step.on:%d/%m/%Y}" for step in origin.transfers]
        return " → ".join(steps)

    def grouped(self, items: Iterable[Erased], done: str) -> list[ErasedGroup]:
        """Return the items of one result, with those of the same kind and reason together."""
        groups: dict[tuple[str, str, str, str], list[str]] = {}
        for item in items:
            if item.done == done:
                groups.setdefault((item.what, item.why, item.law, item.until), []).append(item.name)
        return [
            ErasedGroup(self._label(what, names), why, law, until)
            for (what, why, law, until), names in groups.items()
        ]

    def _label(self, what: str, names: list[str]) -> str:
        if what == "decisions":
            return f"{self.say('decisions_kept')} ({names[0]})"
        if what == "registry answer":
            names = [name.upper() for name in names]
        shown = ", ".join(dict.fromkeys(without_hashes(name) for name in names if name))
        count = f" ({len(names)})" if len(names) > 1 else ""
        return f"{self.say(what)}{count} {shown}".strip()

    def corrected(self, entry: HistoryEntry) -> str:
        """Return the fields of a ledger entry that a rectification corrected, one per line."""
        names = entry.details.get("rectify") or ()
        return "\n".join(self._lines({name: entry.details.get(name, "") for name in names}))

    def details(self, entry: HistoryEntry) -> str:
        """Return the fields of a ledger entry that are not empty, one per line."""
        received = {
            "channel": self.say(f"channel.{entry.channel}").removeprefix("channel."),
            "proof": entry.proof,
        }
        return "\n".join(self._lines({**entry.details, **received}))

    def _lines(self, details: Mapping[str, object]) -> Iterator[str]:
        for name, value in details.items():
            if value not in _EMPTY and name not in _TECHNICAL:
                yield f"{self._name(name)}: {self._value(name, value)}"

    def _name(self, name: str) -> str:
        return self.say(f"detail.{name}").removeprefix("detail.")

    def _value(self, name: str, value: object) -> str:
        if isinstance(value, Mapping):
            parts = {key: item for key, item in value.items() if item not in _EMPTY}
            return ", ".join(f"{self._name(key)} {self._value(key, item)}" for key, item in parts.items())
        if isinstance(value, list | tuple):
            return "; ".join(self._value(name, item) for item in value)
        if isinstance(value, bool):
            return self.say(f"value.{value}")
        text = without_hashes(str(value))
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
