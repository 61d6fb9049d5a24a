"""The number that is checked must be the number that is dialled. Otherwise the input must be rejected."""

import random
import re
import string
from collections.abc import Callable
from typing import Literal, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from dialgate.core.model import CallerId, Kind
from dialgate.core.phone import NotANumber, Parsed, _fast, _slow, parse, parse_caller_id
from tests.properties.phone_fast_path import disagreements

ROME = ("Europe/Rome",)
ITALY = ("Europe/Rome", "Europe/Vatican")
SAN_MARINO = ("Europe/San_Marino",)

READ: list[tuple[str, str, str, Kind, str, tuple[str, ...]]] = [
    # trap 23 of the regulation: a number has one key in every notation
    ("+390612345678", "", "+390612345678", "fixed", "IT", ROME),
    ("00390612345678", "", "+390612345678", "fixed", "IT", ROME),
    ("390612345678", "IT", "+390612345678", "fixed", "IT", ROME),
    ("0612345678", "IT", "+390612345678", "fixed", "IT", ROME),
    ("(06) 1234-5678", "IT", "+390612345678", "fixed", "IT", ROME),
    ("+39 06.1234/5678", "", "+390612345678", "fixed", "IT", ROME),
    # trap 24: a national mobile whose prefix looks like the country code
    ("3931234567", "IT", "+393931234567", "mobile", "IT", ITALY),
    ("393331234567", "IT", "+393331234567", "mobile", "IT", ITALY),
    ("39331234567", "IT", "+39331234567", "mobile", "IT", ITALY),
    ("3331234567", "IT", "+393331234567", "mobile", "IT", ITALY),
    # trap 27: every zone that the person may be in
    ("+34612345678", "", "+34612345678", "mobile", "ES", ("Atlantic/Canary", "Europe/Madrid")),
    ("+12125550123", "", "+12125550123", "fixed_or_mobile", "US", ("America/New_York",)),
    ("12125550123", "US", "+12125550123", "fixed_or_mobile", "US", ("America/New_York",)),
    ("(212) 555-0123", "US", "+12125550123", "fixed_or_mobile", "US", ("America/New_York",)),
    ("020 7946 0000", "GB", "+442079460000", "fixed", "GB", ("Europe/London",)),
    # trap 28: overseas France under its own code
    ("+262692123456", "", "+262692123456", "mobile", "RE", ("Indian/Mayotte", "Indian/Reunion")),
    ("+596596601234", "", "+596596601234", "fixed", "MQ", ("America/Martinique",)),
    ("0261001234", "FR", "+33261001234", "fixed", "FR", ("Europe/Paris",)),
    ("0939012345", "FR", "+33939012345", "voip", "FR", ("Europe/Paris",)),
    ("+442890123456", "", "+442890123456", "fixed", "GB", ("Europe/London",)),
    # trap 29: enclaves that answer under +39
    ("+390549886377", "", "+390549886377", "fixed", "SM", SAN_MARINO),
    ("0549 886377", "IT", "+390549886377", "fixed", "SM", SAN_MARINO),
    ("+3780549886377", "", "+3780549886377", "fixed", "SM", SAN_MARINO),
    ("+37866661212", "", "+37866661212", "mobile", "SM", SAN_MARINO),
    ("+39066981", "", "+39066981", "fixed", "VA", ("Europe/Vatican",)),
    ("+390669812345", "", "+390669812345", "fixed", "VA", ("Europe/Vatican",)),
    ("+390669712345", "", "+390669712345", "fixed", "IT", ROME),
    ("+390669912345", "", "+390669912345", "fixed", "IT", ROME),
    # trap 50: classes that exist and are no lawful target keep their class
    ("112", "IT", "112", "emergency", "IT", ()),
    ("113", "IT", "113", "emergency", "IT", ()),
    ("115", "IT", "115", "emergency", "IT", ()),
    ("118", "IT", "118", "emergency", "IT", ()),
    ("119", "IT", "119", "short", "IT", ()),
    ("144", "IT", "144", "short", "IT", ()),
    ("187", "IT", "187", "short", "IT", ()),
    ("3331234567", "FR IT", "+393331234567", "mobile", "IT", ITALY),
    ("116000", "IT", "116000", "short", "IT", ()),
    ("911", "US", "911", "emergency", "US", ()),
    ("892123", "IT", "+39892123", "premium", "IT", ITALY),
    ("+39144123456", "", "+39144123456", "premium", "IT", ITALY),
    ("+39087812345", "", "+39087812345", "premium", "IT", ITALY),
    ("+39899123456", "", "+39899123456", "premium", "IT", ITALY),
    ("+39800123456", "", "+39800123456", "toll_free", "IT", ITALY),
    ("+39848123456", "", "+39848123456", "shared_cost", "IT", ITALY),
    ("+395512345678", "", "+395512345678", "voip", "IT", ITALY),
    ("+391781234567", "", "+391781234567", "personal", "IT", ITALY),
    ("+3933123456789", "", "+3933123456789", "voicemail", "IT", ITALY),
    ("+80012345678", "", "+80012345678", "toll_free", "", ()),
]

REFUSED = [
    # trap 23: a landline without its zero, a mobile with one; phonenumbers accepts both as possible
    ("+39612345678", "IT", "lost its leading zero"),
    ("0039 6 1234567", "IT", "lost its leading zero"),
    ("+3903331234567", "IT", "zero too many"),
    ("+390347123456", "IT", "zero too many"),
    # trap 24: read in two ways, or in none
    ("390123456", "IT", "more than one way"),
    ("33612345678", "IT", "more than one way"),
    ("0612345678", "IT FR", "more than one way"),
    ("3931234567", "", "no country code"),
    ("112", "", "no country code"),
    ("31234567", "IT", "with or without a plus sign"),
    # trap 25: anything that a switch may read differently
    ("", "IT", "is empty"),
    ("0612345678 int. 12", "IT", "letters"),
    ("+390612345678x12", "IT", "letters"),
    ("+390612345678p12", "IT", "letters"),
    ("+390612345678w12", "IT", "letters"),
    ("+390612345678,12", "IT", "pause"),
    ("+390612345678;ext=12", "IT", "pause or a parameter"),
    ("+390612345678#12", "IT", "service code or tones"),
    ("tel:+390612345678", "IT", "URI"),
    ("sip:+390612345678@example.org", "IT", "URI"),
    ("0612345678;phone-context=+39", "IT", "parameter"),
    ("0612345678@example.org", "IT", "URI"),
    ("%2B390612345678", "IT", "percent-encoded"),
    ("1800FLOWERS", "US", "letters"),
    ("+39061234567\u0668", "IT", "outside ASCII"),
    ("\uff0b\uff13\uff19\uff10\uff16\uff11\uff12\uff13\uff14\uff15\uff16", "IT", "outside ASCII"),
    ("\u202d+390612345678", "IT", "outside ASCII"),
    ("+39061234\u20115678", "IT", "outside ASCII"),
    ("+390612345678\n", "IT", "control character"),
    ("+390612\x0045678", "IT", "control character"),
    ("+39+390612345678", "IT", "two plus signs"),
    ("++390612345678", "IT", "two plus signs"),
    ("39+0612345678", "IT", "not at the start"),
    (" +390612345678", "IT", "not at the start"),
    ("0612345678 ", "IT", "not between digits"),
    ("-0612345678", "IT", "not between digits"),
    ("(06 12345678", "IT", "do not pair"),
    ("+", "IT", "not between digits"),
    ("+39 (0)6 12345678", "IT", "trunk zero in brackets"),
    ("+44 ( 0 ) 20 7946 0000", "IT", "trunk zero in brackets"),
    ("+4402079460000", "IT", "not dialled from abroad"),
    # trap 26: prefixes that hide the caller ID or choose a carrier
    ("*67 0612345678", "IT", "service code"),
    ("#31#0612345678", "IT", "service code"),
    ("10550612345678", "IT", "with or without a plus sign"),
    # trap 28: an overseas number does not belong to metropolitan France
    ("0692123456", "FR", "with or without a plus sign"),
    # ranges of overseas France and Northern Ireland that phonenumbers also accepts as French and Irish numbers
    *((national, "FR", "another country code") for national in (
        "0596601234", "02 69 01 23 45", "0263123456", "0268812345", "0268912345", "0508411234", "0598712345",
        "0598812345", "0598912345", "0939512345", "0939912345", "0947512345", "0976012345",
    )),
    ("+33596601234", "", "another country code"),
    ("0033976012345", "", "another country code"),
    ("33596601234", "US", "another country code"),
    ("33596601234", "IT", "another country code"),
    ("04890123456", "IE", "another country code"),
    ("+3534890123456", "", "another country code"),
    # national forms that phonenumbers completes or rewrites by its own rules
    ("886377", "SM", "with or without a plus sign"),
    ("011 15-2345-6789", "AR", "with or without a plus sign"),
    # no such country, no such length
    ("+9991234567", "IT", "no country's calling code"),
    ("+39", "IT", "too few"),
    ("+39112", "IT", "too few"),
    ("+39333123456789012", "IT", "too many"),
    ("+3906123456789012", "IT", "too many"),
    ("000612345678", "IT", "no country's calling code"),
    ("+390844123456", "IT", "numbering plan"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "home", "e164", "kind", "region", "zones"), READ)
def test_every_notation_is_read_as_the_number_that_is_dialled(
    raw: str, home: str, e164: str, kind: Kind, region: str, zones: tuple[str, ...]
) -> None:
    parsed = parse(raw, home)
    assert (parsed.e164, parsed.kind, parsed.region, parsed.zones) == (e164, kind, region, zones)


@pytest.mark.parametrize(("raw", "home", "problem"), REFUSED)
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
    kinds = {length: _fast("+39" + f"{beginning}123456789012"[:length]) for length in range(3, 16)}
    assert [length for length, parsed in kinds.items() if parsed and parsed.kind == kind] == list(lengths)


Form: TypeAlias = Literal["number", "short", "withheld", "invalid"]
NUMBER: Form = "number"
SHORT: Form = "short"
WITHHELD: Form = "withheld"
INVALID: Form = "invalid"
CALLER_IDS: list[tuple[str, str, Form, str, Kind, str]] = [
    ("+390612345678", "", NUMBER, "+390612345678", "fixed", "IT"),
    ("06 1234 5678", "IT", NUMBER, "+390612345678", "fixed", "IT"),
    ("393331234567", "IT", NUMBER, "+393331234567", "mobile", "IT"),
    ("061234", "IT", NUMBER, "+39061234", "fixed", "IT"),
    ("+442079460000", "IT", NUMBER, "+442079460000", "fixed", "GB"),
    # trap 22: lawful prefixes that phonenumbers rejects, of any length that Italian numbers have
    ("+390844123456", "", NUMBER, "+390844123456", "unknown", "IT"),
    ("00390843123456", "", NUMBER, "+390843123456", "unknown", "IT"),
    ("390844123456", "IT", NUMBER, "+390844123456", "unknown", "IT"),
    ("0844 123 456", "IT", NUMBER, "+390844123456", "unknown", "IT"),
    ("084412", "IT", NUMBER, "+39084412", "unknown", "IT"),
    ("084412345678", "IT", NUMBER, "+39084412345678", "unknown", "IT"),
    ("08441", "IT", INVALID, "", "unknown", ""),
    ("0844123456789", "IT", INVALID, "", "unknown", ""),
    ("0844123456", "", INVALID, "", "unknown", ""),
    ("0844123456", "US", INVALID, "", "unknown", ""),
    ("0842123456", "IT", INVALID, "", "unknown", ""),
    ("0845123456", "IT", INVALID, "", "unknown", ""),
    ("3908441234", "IT", INVALID, "", "unknown", ""),  # or a mobile of the prefix 390
    # trap 22: short codes, three to six digits
    ("187", "IT", SHORT, "187", "short", "IT"),
    ("187", "", SHORT, "187", "short", ""),
    ("456789", "IT", SHORT, "456789", "short", "IT"),
    ("18", "IT", INVALID, "", "unknown", ""),
    ("1 87", "IT", INVALID, "", "unknown", ""),
    # trap 26: prefixes that hide the caller ID
    ("*67+390612345678", "IT", WITHHELD, "", "unknown", ""),
    ("#31#0612345678", "IT", WITHHELD, "", "unknown", ""),
    ("*31#0612345678", "IT", WITHHELD, "", "unknown", ""),
    *((name, "IT", WITHHELD, "", "unknown", "") for name in (
        "", " ", "anonymous", "Anonymous", "UNKNOWN", "restricted", "private", "unavailable", "withheld",
        "asserted identity withheld", "anonymous@anonymous.invalid", "sip:anonymous@192.0.2.1",
        "sips:Anonymous@Anonymous.Invalid", '"Anonymous" <sip:anonymous@anonymous.invalid>',
    )),
    # anything else
    ("+39612345678", "IT", INVALID, "", "unknown", ""),
    ("sip:+390612345678@example.org", "IT", INVALID, "", "unknown", ""),
    ("not anonymous", "IT", INVALID, "", "unknown", ""),
    ("+390612345678\n", "IT", INVALID, "", "unknown", ""),
    ("\u0660\u0666\u0661\u0662\u0663\u0664\u0665", "IT", INVALID, "", "unknown", ""),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "home", "form", "number", "kind", "region"), CALLER_IDS)
def test_a_caller_id_is_a_number_a_short_code_withheld_or_invalid(
    raw: str, home: str, form: Form, number: str, kind: Kind, region: str
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
    if caller_id.form in {NUMBER, SHORT}:
        assert parse_caller_id(caller_id.number, home) == caller_id
    else:
        assert caller_id.number == ""


@given(ANYTHING)
def test_the_fast_path_agrees_with_the_slow_path_on_any_input(raw: str) -> None:
    """For any string, the fast path returns the result of the slow path, or None.

    For a valid number written as `+39` followed only by digits, the fast path must not return None.
    """
    fast, slow = _fast(raw), _try_parse(_slow, raw, "")
    assert fast == slow or (fast is None and (isinstance(slow, str) or not re.fullmatch(r"\+39[0-9]*", raw)))


ABROAD = st.builds(
    lambda code, rest: f"{code}{rest}",
    st.sampled_from(sorted(COUNTRY_CODE_TO_REGION_CODE)),
    st.text("0123456789", min_size=1, max_size=13),
)


@given(st.one_of(NUMBERISH, LOOSE, ABROAD), HOMES)
@example("33612345678", "IT")
def test_the_notation_of_a_number_does_not_change_the_result(raw: str, home: str) -> None:
    """`parse`, with all its shortcuts, gives the same results and errors as the slow path."""
    assert _try_parse(parse, raw, home) == _try_parse(_slow, raw, home)


def _try_parse(read: Callable[[str, str], Parsed], raw: str, home: str) -> Parsed | str:
    try:
        return read(raw, home)
    except NotANumber as refusal:
        return str(refusal)


def test_the_fast_and_the_slow_path_agree_on_the_edges_of_the_italian_plan() -> None:
    assert disagreements(6_000, seed=random.getrandbits(32)) == []
