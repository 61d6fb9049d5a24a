"""What a citizen is told, in their language: one file each, `<language>.yaml`, of the shape of `Texts`.

A code's or a rule's sentence may be reworded at any time: what is stored are the codes. A test holds every file to have
a sentence for each code, rule, and result, and the names in braces that the code fills in.
"""

from functools import cache
from importlib import resources
from typing import Literal, TypeAlias, get_args

import msgspec
import yaml
from msgspec import Struct

from dialgate.core.model import CallType, Purpose, Result

Language: TypeAlias = Literal["it", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


class Phrases(Struct, frozen=True, forbid_unknown_fields=True):
    """In the order in which they are told. In braces stands what is filled in."""

    allowed: str
    refused: str
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
    missing: str


class Texts(Struct, frozen=True, forbid_unknown_fields=True):
    """`laws`: by what is stored as the law of a reason, in the language in which the country's file has it; a law that is
    none of these is told as it is stored."""

    months: tuple[str, ...]
    day: str
    phrases: Phrases
    reasons: dict[str, str]
    rules: dict[str, str]
    results: dict[Result, str]
    purposes: dict[Purpose, str]
    call_types: dict[CallType, str]
    laws: dict[str, str] = {}

    def law(self, stored: str) -> str:
        return self.laws.get(stored, stored)


@cache
def of(language: Language) -> Texts:
    raw = resources.files(__name__).joinpath(f"{language}.yaml").read_bytes()
    return msgspec.convert(yaml.load(raw, Loader=yaml.CSafeLoader), Texts)


def preferred(accept: str, default: Language = "en") -> Language:
    """Of an `Accept-Language` header (RFC 9110, 12.5.4): the best of ours, the first of equals."""
    best, chosen = 0.0, default
    for wish in accept.split(","):
        tag, _, weight = wish.partition(";")
        name = tag.strip().lower().partition("-")[0]
        found = next((each for each in LANGUAGES if each == name), None)
        if found is not None and _weight(weight) > best:
            best, chosen = _weight(weight), found
    return chosen


def _weight(text: str) -> float:
    name, _, value = text.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
