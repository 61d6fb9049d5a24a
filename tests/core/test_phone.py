"""The number that is checked must be the number that is dialled. Otherwise the input must be rejected."""

import random
import re
import string
from collections.abc import Callable
from typing import Any

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dialgate.core.model import CallerId, Kind
from dialgate.core.phone import (
    COUNTRIES,
    NotANumber,
    Parsed,
    _exactly,
    _in_country,
    find,
    parse,
    parse_caller_id,
)
from tests.properties.phone_fast_path import disagreements
from tests.support import yaml_files
from tests.support.paths import ROOT

TABLES = yaml_files.read(ROOT / "tests/cases/tables/numbers.yaml")


@pytest.mark.parametrize(("raw", "home", "e164", "kind", "region", "zones"), TABLES["read"])
def test_every_notation_is_read_as_the_number_that_is_dialled(
    raw: str, home: str, e164: str, kind: Kind, region: str, zones: list[str]
) -> None:
    parsed = parse(raw, home)
    assert (parsed.e164, parsed.kind, parsed.region, [*parsed.zones]) == (e164, kind, region, zones)


@pytest.mark.parametrize(("raw", "home", "problem"), TABLES["refused"])
def test_a_number_that_could_be_dialled_differently_is_refused(raw: str, home: str, problem: str) -> None:
    with pytest.raises(NotANumber, match=problem) as refusal:
        parse(raw, home)
    assert not set(str(refusal.value)) & set(string.digits)


def test_only_six_ascii_separators_are_allowed_between_digits() -> None:
    def is_accepted(character: str) -> bool:
        try:
            return parse(f"+3906{character}12345678").e164 == "+390612345678"
        except NotANumber:
            return False

    assert {chr(code) for code in range(128) if is_accepted(chr(code))} == set(" -./")
    assert parse("+39(06)12345678").e164 == "+390612345678"


def test_at_most_thirty_two_characters_are_read() -> None:
    assert parse("+39 06" + " " * 18 + "12345678").e164 == "+390612345678"
    with pytest.raises(NotANumber, match="longer"):
        parse("+39 06" + " " * 19 + "12345678")


@pytest.mark.parametrize(
    ("beginning", "kind", "lengths"),
    [("06", "fixed", range(6, 12)), ("333", "mobile", range(9, 11)), ("800", "toll_free", range(9, 10))],
)
def test_a_number_one_digit_too_short_or_too_long_is_not_of_that_kind(
    beginning: str, kind: Kind, lengths: range
) -> None:
    kinds = {length: find("+39" + f"{beginning}123456789012"[:length]) for length in range(3, 16)}
    assert [length for length, parsed in kinds.items() if parsed and parsed.kind == kind] == list(lengths)


@pytest.mark.parametrize(("raw", "home", "form", "number", "kind", "region"), TABLES["caller_ids"])
def test_a_caller_id_is_a_number_a_short_code_withheld_or_invalid(
    raw: str, home: str, form: Any, number: str, kind: Kind, region: str
) -> None:
    assert parse_caller_id(raw, home) == CallerId(number=number, form=form, kind=kind, region=region)


# Similar enough to a number to pass the first checks often, and different enough to fail each of them.
NUMBERISH = st.from_regex(r"(?:\+|00|\+39|39|0|3|1)?[0-9]{0,13}", fullmatch=True)
LOOSE = st.text(alphabet="0123456789+-./() ,;*#%px\u0663\u202d\n", max_size=36)
ANYTHING = st.one_of(NUMBERISH, LOOSE, st.text())
HOMES = st.sampled_from(["", "IT", "US", "GB", "FR", "SM"])


@given(ANYTHING, HOMES)
@example("112", "IT")
@example("(" * 16 + "0" * 16, "IT")
def test_a_parsed_number_parses_to_itself_and_an_error_contains_no_digit(raw: str, home: str) -> None:
    """For any string, `parse` returns a number that parses to itself, or raises an error whose text has no digits."""
    try:
        parsed = parse(raw, home)
    except NotANumber as refusal:
        response = str(refusal)
    else:
        response = ""
        assert parse(parsed.e164, home) == parsed
    assert not any(character.isdigit() for character in response)


@given(ANYTHING)
def test_no_digit_is_dialled_that_was_not_written(raw: str) -> None:
    """For Italy the written digits are the dialled digits, except for `00` or the country code in front."""
    try:
        dialled = parse(raw, "IT").e164.removeprefix("+")
    except NotANumber:
        return
    assert re.sub("[^0-9]", "", raw) in {dialled, "00" + dialled, dialled.removeprefix("39")}


@given(ANYTHING, HOMES)
def test_any_caller_id_gets_a_form_and_only_a_readable_one_gets_a_number(raw: str, home: str) -> None:
    """`parse_caller_id` never raises, and its result parses to itself."""
    caller_id = parse_caller_id(raw, home)
    if caller_id.form in {"number", "short"}:
        assert parse_caller_id(caller_id.number, home) == caller_id
    else:
        assert caller_id.number == ""


REGIONS = st.sampled_from(sorted(COUNTRIES))


@given(st.from_regex(r"(?:0|1|39|8)?[0-9]{2,12}", fullmatch=True), REGIONS)
@example("390612345678", "IT")
@example("0612345678", "IT")
@example("39312345678", "IT")
def test_a_national_number_is_read_as_phonenumbers_reads_it(digits: str, region: str) -> None:
    """Numbers of regions without trunk prefixes are read without it."""

    def read() -> Parsed | None:
        try:
            number = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            return None
        national = phonenumbers.national_significant_number(number)
        trunk = phonenumbers.ndd_prefix_for_region(region, strip_non_digits=True) or ""
        return (
            _exactly(f"+{number.country_code}{national}") if digits in {national, trunk + national} else None
        )

    assert _try_parse(_in_country, digits, region) == _try_parse(lambda *_: read())


def _try_parse(read: Callable[..., Parsed | None], *arguments: str) -> Parsed | str | None:
    try:
        return read(*arguments)
    except NotANumber as refusal:
        return str(refusal)


def test_ranges_and_phonenumbers_agree_on_the_edges_of_the_italian_plan() -> None:
    assert disagreements(6_000, seed=random.getrandbits(32)) == []
