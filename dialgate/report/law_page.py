"""A country's law as a readable page: for the terminal, the console and the documentation.

`law_page` turns the sections into lines of text, grouped by subject; the other functions only format these lines. A key
in a country file without words in `dialgate/texts/law.*.yaml` is shown by name, so new keys need no change to this module.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final, Literal

from msgspec import Struct, structs

from dialgate.core import periods
from dialgate.core.day_sets import DaySet
from dialgate.core.law import ALL_SECTIONS, Law
from dialgate.core.law_sections import Dated, Hours, Limit, Section
from dialgate.texts import Language
from dialgate.texts.law_words import LawWords, words_in

_ONE_DAY: Final = timedelta(days=1)
_COMMON: Final = frozenset(Section.__struct_fields__)
# Fields with names that are written in configurations, so they are shown unchanged.
_NAMES: Final = frozenset({"id", "name", "day_set"})
_NOT_SCOPE: Final = frozenset({"source", "starts", "ends", "severity", "cited_for"})


class LawLine(Struct, frozen=True, kw_only=True):
    """A section of the law in plain English or Italian.

    `content` is empty for a section that is only cited. `until` is None for a section without an end date.
    """

    subject: str
    content: str
    scope: str
    source: str
    severity: str
    since: date
    until: date | None


class LawPage(Struct, frozen=True, kw_only=True):
    """A country's law on `day`, or on all days if `day` is None.

    `subjects` maps each subject to its lines. `day_sets` contains one sentence for each named set of days, such as the
    public holidays.
    """

    country: str
    name: str
    day: date | None
    draft: bool
    missing: tuple[str, ...]
    unconfirmed: tuple[str, ...]
    subjects: dict[str, list[LawLine]]
    day_sets: tuple[str, ...] = ()


class LawChange(Struct, frozen=True, kw_only=True):
    """A change in the law on `day`. The section in `line` takes effect or ceases to apply.

    If that section replaces an earlier section, `before` is the earlier section.
    """

    day: date
    kind: Literal["begins", "ends", "changes"]
    line: LawLine
    before: LawLine | None = None


def law_page(law: Law, day: date | None, language: Language = "en") -> LawPage:
    words = words_in(language)
    subjects: dict[str, list[LawLine]] = {}
    for name in ALL_SECTIONS:
        for section in getattr(law, name):
            if day is None or section.is_in_force(day):
                line = _line(name, section, words)
                subjects.setdefault(line.subject, []).append(line)
    return LawPage(
        country=law.country,
        name=name_of(law, language),
        day=day,
        draft=law.draft,
        missing=law.missing,
        unconfirmed=law.unconfirmed,
        subjects=subjects,
        day_sets=tuple(_day_set(name, days, words) for name, days in law.day_sets.items()),
    )


def describe(name: str, sections: Iterable[Dated], language: Language = "en") -> Iterator[LawLine]:
    """Return sections of one kind, such as `hours`, in words."""
    words = words_in(language)
    return (_line(name, section, words) for section in sections)


def name_of(law: Law, language: Language = "en") -> str:
    return words_in(language).countries.get(law.country, law.name)


def change_days(law: Law) -> list[date]:
    """Return the days on which a section of the law enters into force or ceases to apply."""
    sections = [section for name in ALL_SECTIONS for section in getattr(law, name)]
    return sorted(
        {section.starts for section in sections}
        | {section.ends + _ONE_DAY for section in sections if section.ends}
    )


def changes(law: Law, since: date, until: date, language: Language = "en") -> list[LawChange]:
    """Return the differences between the law on `since` and the law on `until`, ordered by day."""
    words = words_in(language)
    found: list[LawChange] = []
    for name in ALL_SECTIONS:
        sections: Sequence[Dated] = getattr(law, name)
        begun = [section for section in sections if since < section.starts <= until]
        ended = [section for section in sections if section.ends and since <= section.ends < until]
        for section in begun:
            before = next((old for old in ended if _is_replaced(old, section)), None)
            if before is not None:
                ended.remove(before)
            found.append(
                LawChange(
                    day=section.starts,
                    kind="changes" if before else "begins",
                    line=_line(name, section, words),
                    before=_line(name, before, words) if before else None,
                )
            )
        found += (
            LawChange(day=section.ends + _ONE_DAY, kind="ends", line=_line(name, section, words))
            for section in ended
            if section.ends
        )
    return sorted(found, key=lambda change: change.day)


def _is_replaced(old: Dated, new: Dated) -> bool:
    words = words_in("en")
    return (
        old.ends is not None
        and old.ends + _ONE_DAY == new.starts
        and _scope(old, words) == _scope(new, words)
    )


# ---- words -----------------------------------------------------------------------------------------------------------


def _line(name: str, section: Dated, words: LawWords) -> LawLine:
    return LawLine(
        subject=words.subjects.get(name, name.replace("_", " ").capitalize()),
        content="; ".join(_content(section, words)),
        scope=_scope(section, words),
        source=section.source,
        severity=words.severities[section.severity],
        since=section.starts,
        until=section.ends,
    )


def _scope(section: Dated, words: LawWords) -> str:
    fields = [field for field in structs.fields(section) if field.name in _COMMON - _NOT_SCOPE]
    return (
        ", ".join(_texts(section, fields, words.scopes, words))
        or words.phrases["all_calls" if isinstance(section, Section) else "all"]
    )


def _content(section: Dated, words: LawWords) -> Iterator[str]:
    own = _COMMON
    if isinstance(section, Limit):
        per = periods.in_words(section.per, {**words.units, "d": words.counted[section.counting]})
        text = words.events[section.events]
        yield text.format(after=section.after, per=per)
        own |= {"events", "per", "counting"} | ({"after"} if "{after}" in text else set())
    if isinstance(section, Hours):
        yield from _windows(section, words)
        own |= {"days", "day_set"}
    fields = [field for field in structs.fields(section) if field.name not in own]
    yield from _texts(section, fields, words.contents, words)


def _windows(section: Hours, words: LawWords) -> Iterator[str]:
    for key, windows in section.days.items():
        if windows:
            yield f"{_days(key, section, words)} {', '.join(windows)}"
    open_ = {day for day, windows in section.windows.items() if windows}
    closed = [_days(key, section, words) for key in section.windows if key not in open_]
    if closed:
        yield words.phrases["closed"].format(words.phrases["always"] if not open_ else ", ".join(closed))


def _days(key: str, section: Hours, words: LawWords) -> str:
    if key in {"holiday", "pre_holiday"}:
        return words.phrases[key].format(section.day_set)
    first, _, last = key.partition("-")
    return words.phrases["to"].format(words.days[first], words.days[last]) if last else words.days[first]


def _day_set(name: str, days: DaySet, words: LawWords) -> str:
    place = "-".join(filter(None, (days.library, days.subdivision)))
    parts = [words.phrases["library"].format(place)] if place else []
    parts += [_text(day, words) for day in days.added]
    return f"{name}: {', '.join(parts)}."


def _texts(
    value: Struct, fields: Sequence[structs.FieldInfo], templates: dict[str, str], words: LawWords
) -> Iterator[str]:
    for field in fields:
        item = getattr(value, field.name)
        if item == field.default:
            continue
        name = words.keys.get(field.name, field.encode_name.replace("_", " "))
        text = item if field.name in _NAMES else _text(item, words)
        if field.name in templates:
            yield templates[field.name].format(text)
        else:
            yield name if item is True else f"{name}: {text}"


def _text(value: Any, words: LawWords) -> str:
    match value:
        case Struct():
            return f"({', '.join(_texts(value, structs.fields(value), {}, words))})"
        case tuple() | frozenset():
            return ", ".join(_text(item, words) for item in value) or words.phrases["none"]
        case str() if periods.is_period(value):
            return periods.in_words(value, words.units)
        case str():
            return words.values.get(value, value.replace("_", " "))
    return str(value)


# ---- layout ----------------------------------------------------------------------------------------------------------


def period(line: LawLine) -> str:
    return f"from {line.since}" + (f" until {line.until}" if line.until else "")


def notes(page: LawPage) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each non-empty group of notes as a heading and its sentences."""
    if page.draft:
        yield "Draft: not expressed yet", page.missing
    elif page.missing:
        yield "Not expressed", page.missing
    if page.unconfirmed:
        yield "Not confirmed; the file errs on the safe side", page.unconfirmed
    if page.day_sets:
        yield "Sets of days", page.day_sets


def markdown(page: LawPage) -> str:
    """Return the page as Markdown without a title, with headings of level 2."""
    parts = []
    for heading, sentences in notes(page):
        parts.append("\n".join([f"## {heading}", "", *(f"- {sentence}" for sentence in sentences)]))
    for subject, lines in page.subjects.items():
        rows = ["| in force | who and what | rule | source | severity |", "| --- | --- | --- | --- | --- |"]
        for line in lines:
            cells = (period(line), line.scope, line.content or "cited in denials", line.source, line.severity)
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("\n".join([f"## {subject}", "", *rows]))
    return "\n\n".join(parts)
