"""msgspec's errors are translated into plain English for every type."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from dialgate.config.validation_messages import PATTERNS, choices, field_names, plain
from dialgate.core.name_suggestions import did_you_mean
from dialgate.ledger import schemas
from tests.support.paths import ROOT


class Leaf(Struct, tag="leaf", forbid_unknown_fields=True):
    colour: Literal["red", "green"]


class Stem(Struct, tag="stem"):
    leaves: tuple[Leaf, ...] = ()
    named: Mapping[str, Leaf] = {}
    at: Annotated[int, Meta(ge=1)] | None = None


CASES: list[tuple[Any, Any, str]] = [
    ("x", int, "must be a whole number, not text"),
    ("x", int | None, "must be a whole number or empty, not text"),
    ([], dict[str, int], "must be a set of fields, not a list"),
    (3, date | None, "must be a day, for example 2026-11-24, or empty, not a whole number"),
    ("2026-02-30", date, "must be a day that exists, for example 2026-11-24"),
    ("2026-11-24T10:00:00", Annotated[datetime, Meta(tz=True)], "must be a time with its UTC offset, for example 2026-11-24T10:00:00+01:00"),
    ("soon", datetime, "must be a time with its UTC offset, for example 2026-11-24T10:00:00+01:00"),
    ("it", Annotated[str, Meta(pattern="^[A-Z]{2}$")], "must be a two-letter country code such as IT"),
    ("9f", schemas.Sha256, "must be 64 hexadecimal digits"),
    ("x", Annotated[str, Meta(pattern="^y$")], "must be of the form ^y$"),
    ("x", Annotated[str, Meta(min_length=3)], "must have at least 3 characters"),
    ("xx", Annotated[str, Meta(max_length=1)], "must have at most 1 character"),
    ([], Annotated[list[int], Meta(min_length=1)], "must have at least 1 entry"),
    ([1], tuple[int, int], "must have 2 entries, not 1"),
    ([], tuple[int], "must have 1 entry, not 0"),
    ("x" * 12, Annotated[str, Meta(max_length=11)], "must have at most 11 characters"),
    (0, Annotated[float, Meta(gt=0)], "must be more than 0"),
    ("z", Literal["a"], "must be one of the permitted values"),
    ({"type": "leaf"}, Leaf, "missing field `colour`"),
    ({"type": "leaf", "colour": "red", "x": 1}, Leaf, "unknown field `x`"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "kind", "text"), CASES, ids=[text for _, _, text in CASES])
def test_errors_are_in_plain_english(data: Any, kind: Any, text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(data, kind)
    assert plain(str(refused.value)) == text


def test_every_pattern_has_a_description() -> None:
    """A regular expression means nothing to an operator."""
    files = [file for folder in ("dialgate", "registry_sync") for file in (ROOT / folder).rglob("*.py")]
    found = {
        pattern
        for file in files
        for pattern in re.findall(r"pattern=r?[\"']([^\"']+)[\"']", file.read_text())
    }
    assert len(found) > 10
    assert found <= set(PATTERNS)


@pytest.mark.parametrize(
    ("place", "allowed"),
    [
        (".type", ("stem", "leaf")),
        (".leaves[0].colour", ("red", "green")),
        (".named.oak.colour", ("red", "green")),
        (".at", ()),
        (".nothing", ()),
    ],
)
def test_the_allowed_values_of_a_field_are_found(place: str, allowed: tuple[str, ...]) -> None:
    assert choices(Stem | Leaf, place) == allowed


def test_a_misspelt_field_is_suggested_in_requests_and_in_yaml() -> None:
    assert field_names(Stem | Leaf, ".leaves[0]") == ["colour"]
    assert field_names(Stem | Leaf, ".at") == []
    assert did_you_mean("color", ["at", "colour"]) == "; did you mean `colour`?"
    assert did_you_mean("zzz", ["at", "colour"]) == ""
