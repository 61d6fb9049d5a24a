"""The sentences written for called persons, operators and officers, in one file per language.

Decisions store codes and the English texts of rules and laws, so a sentence here can be reworded at any time.
A test checks that each `<language>.yaml` has a sentence for each code, rule and result, and that both
languages use the same placeholders.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import msgspec
import yaml
from msgspec import Struct

from dialgate.core.model import CallType, Purpose, Result

Language: TypeAlias = Literal["it", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
_T = TypeVar("_T")
# The placeholders in the texts of rules that do not match any text.
_EXPRESSIONS: Final = {"calls": r"\d+", "period": r"\d+ (?:hour|day|month|year)s?"}


class Phrases(Struct, frozen=True, forbid_unknown_fields=True):
    """The sentences that explain a decision, in order. Values replace the `{name}` placeholders."""

    allowed: str
    refused: str
    let_through: str
    unknown_controller: str
    campaign: str
    unknown_campaign: str
    goods: str
    shown: str
    withheld: str
    consent: str
    consent_ceded: str
    contract: str
    request: str
    directory: str
    listed_on: str
    passed_on: str
    registry_clear: str
    registry_listed: str
    registry_listed_in_part: str
    registry_unknown: str
    registry_uncovered: str
    receipt: str
    because: str
    law: str
    outcome: str
    no_outcome: str
    none: str
    none_dated: str
    retired: str
    shipped: str
    missing: str


class Texts(Struct, frozen=True, forbid_unknown_fields=True):
    """All sentences in one language.

    `laws` translates the legal sources cited in decisions, and `findings` the texts of rules. In the text of a rule, a
    placeholder `{name}` matches any text. If `terms` contains `name`, the placeholder matches only the words listed
    under this name. `{calls}` matches a number and `{period}` a period such as `72 hours`. `units` maps the units of
    periods to their singular and plural, and `zones` time zones to plain words.
    """

    months: tuple[str, ...]
    day: str
    phrases: Phrases
    reasons: dict[str, str]
    rules: dict[str, str]
    results: dict[Result, str]
    purposes: dict[Purpose, str]
    call_types: dict[CallType, str]
    laws: dict[str, str] = {}
    findings: dict[str, str] = {}
    units: dict[str, tuple[str, str]] = {}
    zones: dict[str, str] = {}
    terms: dict[str, dict[str, str]] = {}

    def law(self, stored: str) -> str:
        """Return the translation of a legal source cited in a decision, or the source itself if none exists."""
        return self.laws.get(stored, stored)


@cache
def texts_in(language: Language) -> Texts:
    return load(f"{language}.yaml", Texts)


def load(name: str, kind: type[_T]) -> _T:
    """Read a file in this folder."""
    raw = resources.files(__name__).joinpath(name).read_bytes()
    return msgspec.convert(yaml.load(raw, Loader=yaml.CSafeLoader), kind)


def finding(language: Language, stored: str, code: str = "") -> str:
    """Translate a rule's finding.

    `stored` is the text in the decision, and `code` the reason code of a denial. A text from an older version may match
    no pattern. For such a text, return the sentence for `code`. Without a code, or in English, return `stored` itself.
    """
    text = _translate(language, stored)
    if text is None:
        text = stored if language == "en" or not code else texts_in(language).reasons[code]
    return text[:1].upper() + text[1:]


def _translate(language: Language, stored: str) -> str | None:
    for pattern, sentence in _patterns(language):
        if match := pattern.fullmatch(stored):
            values = match.groupdict()
            return sentence.format(**{name: _value(language, name, value) for name, value in values.items()})
    return None


def _value(language: Language, name: str, value: str) -> str:
    if name == "registry":
        return value.upper()
    if name == "finding":  # a text quoted in another text
        return _translate(language, value) or value
    if name == "period":
        return _period(language, value)
    return texts_in(language).terms.get(name, {}).get(value, value)


def _period(language: Language, stored: str) -> str:
    """Translate a period such as `30 days`. One day is stored as `1 days`."""
    count, unit = stored.split()
    return f"{count} {texts_in(language).units[unit.removesuffix('s')][count != '1']}"


@cache
def _patterns(language: Language) -> tuple[tuple[re.Pattern[str], str], ...]:
    texts = texts_in(language)
    return tuple(
        (re.compile("".join(_expressions(stored, texts.terms))), sentence)
        for stored, sentence in texts.findings.items()
    )


def _expressions(stored: str, terms: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield the parts of a regular expression that matches a template.

    `{name}` placeholders become named groups.
    """
    for part in re.split(r"(\{\w+\})", stored):
        name = part[1:-1]
        if not part.startswith("{"):
            yield re.escape(part)
        elif name in terms:
            yield f"(?P<{name}>{'|'.join(map(re.escape, terms[name]))})"
        else:
            yield f"(?P<{name}>{_EXPRESSIONS.get(name, '.*')})"


def preferred(accept: str, default: Language = "en") -> Language:
    """Return the available language that an `Accept-Language` header prefers (RFC 9110, 12.5.4).

    In a tie, the first language in the header wins. Return `default` if the header names no available language.
    """
    best: float = 0
    chosen = default
    for wish in accept.split(","):
        tag, _, parameter = wish.partition(";")
        name = tag.strip().lower().partition("-")[0]
        language = next((language for language in LANGUAGES if language == name), None)
        if language is not None and _weight(parameter) > best:
            best, chosen = _weight(parameter), language
    return chosen


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
