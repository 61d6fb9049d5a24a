"""The parser of telephone numbers and caller IDs.

The number that is checked must be the number that is dialled. So input is rejected if `phonenumbers` would add, drop or
translate a digit. Numbers are personal data, so they are not cached.

`_exactly` asks `phonenumbers` about a plus sign followed by digits. All numbers of a range (`number_ranges`) are parsed alike,
and the ranges found are kept, so it is asked about few numbers. `tests/properties/phone_fast_path.py` compares both.
"""

import re
from bisect import bisect_right, insort
from importlib.resources import files
from typing import NamedTuple

import msgspec
import phonenumbers
from msgspec import Struct
from phonenumbers import (
    NumberParseException,
    PhoneNumber,
    PhoneNumberFormat,
    PhoneNumberType,
    ValidationResult,
    is_number_type_geographical,
)
from phonenumbers.phonemetadata import REGION_CODE_FOR_NON_GEO_ENTITY

from dialgate.core import number_format, numbering_plan
from dialgate.core.model import CallerId, Kind
from dialgate.core.number_ranges import range_of


class NotANumber(ValueError):
    """The text is not a telephone number. The message contains no digits, so it can be logged."""


class Parsed(Struct, frozen=True):
    """A parsed telephone number. For a short or emergency number, `e164` holds the plain digits."""

    e164: str
    kind: Kind
    region: str  # ISO 3166 code, or "" for a number without a country
    zones: tuple[str, ...]  # sorted IANA names of all time zones that the called person may be in
    places: tuple[str, ...] = ()  # subdivisions that the number's area serves, such as `US-FL`, if known


COUNTRIES = phonenumbers.SUPPORTED_REGIONS  # ISO 3166 codes
_KINDS: dict[int, Kind] = {
    PhoneNumberType.FIXED_LINE: "fixed",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed_or_mobile",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.PERSONAL_NUMBER: "personal",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.UAN: "uan",
    PhoneNumberType.VOICEMAIL: "voicemail",
}

# San Marino's landlines can be dialled with Italy's country code or with their own. `phonenumbers` classifies them as
# Italian, but the Registro Pubblico delle Opposizioni does not: L. 5/2018 and DPR 26/2022 are about national numbers.
_SAN_MARINO = "+390549"


class _Areas(Struct, frozen=True):
    """The tables of `phone_areas.json`."""

    version: str  # of `phonenumbers`
    zones: dict[str, str]  # prefixes, by the names of their time zones
    places: dict[str, str]  # area codes, by the subdivisions that they serve
    zones_of_places: dict[str, str]  # subdivisions, by the names of their time zones


def _by_key(table: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Invert a table. For example, `zones` becomes a map from each prefix to its time zones."""
    return {key: tuple(values.split()) for values, keys in table.items() for key in keys.split()}


AREAS = msgspec.json.decode(files("dialgate.core").joinpath("phone_areas.json").read_bytes(), type=_Areas)
# A number has the zones and subdivisions of the longest matching prefix.
_ZONES_OF_PREFIX = _by_key(AREAS.zones)
_PLACES_OF_PREFIX = _by_key(AREAS.places)
ZONES_OF_PLACES = _by_key(AREAS.zones_of_places)  # of subdivisions, and of regions that are territories
_LONGEST_PREFIX = max(map(len, _ZONES_OF_PREFIX))
_SAN_MARINO_ZONES = _ZONES_OF_PREFIX["378"]


# ---- a called number -------------------------------------------------------------------------------------------------


def parse(raw: str, home: str = "") -> Parsed:
    """Parse a called number. Raises `NotANumber`.

    `home` is the ISO region for numbers without a country code, or several regions separated by spaces. Such a number
    is rejected if `home` is empty or the number has two readings. Numbers that exist but must not be called, such as
    premium or emergency numbers, are returned with their kind.
    """
    return _fast(raw) or _in_any_form(raw, home)


def find(e164: str) -> Parsed | None:
    """Return the number, or None if it is invalid. Raises `NotANumber` if it has another country code."""
    return _fast(e164) if _E164.fullmatch(e164) else _exactly(e164)


def national(e164: str) -> str:
    """Return the digits of a valid number without country code and leading zeros."""
    return str(phonenumbers.parse(e164).national_number)


def examples(region: str) -> list[Parsed]:
    """Return the example numbers of a region, one for each class that has one."""
    found = (
        phonenumbers.example_number_for_type(region or None, type_) for type_ in PhoneNumberType.values()
    )
    texts = [phonenumbers.format_number(number, PhoneNumberFormat.E164) for number in found if number]
    return [number for text in texts if (number := find(text))]


# ---- a caller ID -----------------------------------------------------------------------------------------------------

# Texts that switches and dialers send for a missing caller ID, and dialled prefixes that hide it.
_WITHHELD = re.compile(
    r"(?:anonymous|unknown|restricted|private|unavailable|withheld)?"
    r"|asserted.*|.*\banonymous@.*|.*@anonymous\.invalid.*|(?:\*67|[*#]31#).*",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
# AGCOM 21/26/CIR of 2026-04-14 permits short codes as caller IDs. They do not begin with 0. A landline may have six digits.
_SHORT_CODE = re.compile(r"[1-9]\d{2,5}", re.ASCII)
# 0843 statistics, 0844 sale (AGCOM 156/18/CIR). `phonenumbers` has neither. Their length is not published, so any length
# of an Italian number is accepted.
_AGCOM_ABROAD = re.compile(r"(?:\+|00)39(?P<national>084[34]\d{2,8})", re.ASCII)
_AGCOM_AT_HOME = re.compile(r"(?:(?:\+|00)?39)?(?P<national>084[34]\d{2,8})", re.ASCII)


def parse_caller_id(raw: str, home: str = "") -> CallerId:
    """Parse a caller ID; for `home`, see `parse`. Text that cannot be parsed gets the form `invalid`."""
    if parsed := _fast(raw):
        return CallerId(number=raw, form="number", kind=parsed.kind, region=parsed.region)
    if _WITHHELD.fullmatch(raw.strip()):
        return CallerId(number="", form="withheld")
    if _SHORT_CODE.fullmatch(raw):
        return CallerId(number=raw, form="short", kind="short", region=home)
    try:
        return _agcom(raw, home) or _ordinary(raw, home)
    except NotANumber:
        return CallerId(number="", form="invalid")


def _agcom(raw: str, home: str) -> CallerId | None:
    pattern = _AGCOM_AT_HOME if home == "IT" else _AGCOM_ABROAD
    match = pattern.fullmatch(raw) or pattern.fullmatch(_undecorated(raw))
    if match is None:
        return None
    # A short `39084…` may also be a mobile with the prefix 390.
    if match[0].startswith("39") and _in_country(match[0], home):
        raise NotANumber("can be read as a number with the prefix 0843 or 0844, or as a mobile number")
    return CallerId(number="+39" + match["national"], form="number", region="IT")


def _ordinary(raw: str, home: str) -> CallerId:
    parsed = parse(raw, home)
    if not parsed.e164.startswith("+"):
        raise NotANumber("is a short code; write it without separators")
    return CallerId(number=parsed.e164, form="number", kind=parsed.kind, region=parsed.region)


# ---- other forms -----------------------------------------------------------------------------------------------------


def _in_any_form(raw: str, home: str) -> Parsed:
    written = _undecorated(raw)
    if written.startswith("00"):
        written = "+" + written[2:]
    if written.startswith("+"):
        parsed = find(written)
        if parsed is None:
            raise NotANumber(_why_not(written))
        return parsed
    if not home:
        raise NotANumber(number_format.NO_COUNTRY_CODE)
    return _only_reading(written, home)


def _only_reading(digits: str, home: str) -> Parsed:
    national = (read(digits, region) for region in home.split() for read in (_in_country, _short))
    readings = {parsed.e164: parsed for parsed in (find("+" + digits), *national) if parsed}
    if not readings:
        raise NotANumber("is not a valid number, with or without a plus sign in front")
    if len(readings) > 1:
        raise NotANumber(number_format.TWO_READINGS)
    return next(iter(readings.values()))


def _exactly(e164: str) -> Parsed | None:
    """Return the number, or None if it is invalid or `phonenumbers` would change a digit of it.

    Raises `NotANumber` if the number has another country code.
    """
    try:
        number = phonenumbers.parse(e164)
    except NumberParseException:
        return None
    number_type, region = phonenumbers.number_type(number), phonenumbers.region_code_for_number(number) or ""
    country_code = number.country_code or 0
    kind = _KINDS.get(number_type)
    if kind is None or phonenumbers.format_number(number, PhoneNumberFormat.E164) != e164:
        return None
    if number_format.FOREIGN_RANGE.match(e164):
        raise NotANumber(number_format.OTHER_COUNTRY_CODE)
    if e164.startswith(_SAN_MARINO):
        return Parsed(e164, kind, "SM", _SAN_MARINO_ZONES)
    if region == REGION_CODE_FOR_NON_GEO_ENTITY:
        region = ""
    local = e164[1:] if is_number_type_geographical(number_type, country_code) else str(country_code)
    prefix = _area(local)
    return Parsed(e164, kind, region, _ZONES_OF_PREFIX.get(prefix, ()), _PLACES_OF_PREFIX.get(prefix, ()))


def _area(digits: str) -> str:
    prefixes = (digits[:length] for length in range(_LONGEST_PREFIX, 0, -1))
    return next((prefix for prefix in prefixes if prefix in _ZONES_OF_PREFIX), "")


def _in_country(digits: str, home: str) -> Parsed | None:
    if not numbering_plan.has_trunk_prefix(home):
        return find(f"+{numbering_plan.country_code(home)}{digits}")
    try:
        number = phonenumbers.parse(digits, home)
    except NumberParseException:
        return None
    significant = phonenumbers.national_significant_number(number)
    trunk = phonenumbers.ndd_prefix_for_region(home, strip_non_digits=True) or ""
    # Some countries' rules rewrite more than the trunk prefix. The result would then be a guess.
    if digits not in {significant, trunk + significant}:
        return None
    return find(f"+{number.country_code}{significant}")


def _short(digits: str, home: str) -> Parsed | None:
    if digits.startswith("0") or len(digits) > numbering_plan.longest_short_number(home):
        return None
    number = PhoneNumber(country_code=phonenumbers.country_code_for_region(home), national_number=int(digits))
    emergency = phonenumbers.is_emergency_number(digits, home)
    if not emergency and not phonenumbers.is_valid_short_number_for_region(number, home):
        return None
    return Parsed(digits, "emergency" if emergency else "short", home, ())


# ---- problems --------------------------------------------------------------------------------------------------------

# Separators are between digits, brackets around digits. Possessive quantifiers avoid exponential time on 32 digits.
_WRITTEN = re.compile(r"\+?(?:\(\d++\)|\d++)(?:[-. /]*+(?:\(\d++\)|\d++))*+", re.ASCII)
_UNDECORATED = re.compile(r"\+?\d{1,31}", re.ASCII)
_SEPARATORS = str.maketrans("", "", " -./()")

_LENGTH_PROBLEMS: dict[int, str] = {
    ValidationResult.TOO_SHORT: "has too few digits for its country",
    ValidationResult.TOO_LONG: "has too many digits for its country",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "lacks its area code",
    ValidationResult.INVALID_LENGTH: "has a number of digits that its country does not use",
}


def _undecorated(raw: str) -> str:
    if _UNDECORATED.fullmatch(raw):
        return raw
    for pattern, problem in number_format.FOREIGN_MATTER:
        if pattern.search(raw):
            raise NotANumber(problem)
    if not _WRITTEN.fullmatch(raw):
        raise NotANumber(number_format.STRAY_SEPARATOR)
    return raw.translate(_SEPARATORS)


def _why_not(e164: str) -> str:
    try:
        number = phonenumbers.parse(e164)
    except NumberParseException as error:
        if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
            return "begins with no country's calling code"
        return "has too few or too many digits for a telephone number"
    if phonenumbers.format_number(number, PhoneNumberFormat.E164) != e164:
        return "holds a digit that is not dialled from abroad, such as a trunk zero"
    if e164.startswith("+39") and find("+390" + e164[3:]):
        return "looks like an Italian landline that has lost its leading zero"
    if e164.startswith("+390") and find("+39" + e164[4:]):
        return "looks like an Italian mobile or service number with a zero too many"
    length = phonenumbers.is_possible_number_with_reason(number)
    return _LENGTH_PROBLEMS.get(length, "is not a number of its country's numbering plan")


# ---- a plus sign and digits ------------------------------------------------------------------------------------------

_E164 = re.compile(r"\+[1-9]\d{3,14}", re.ASCII)
# In a range, the prefix of zones and the rules of `_exactly` are the same: they examine at most the first six digits.
_FEWEST_DIGITS = 6
_STEMS = frozenset(prefix[:end] for prefix in _ZONES_OF_PREFIX for end in range(len(prefix)))
_MOST_RANGES = 100_000


class NumberRange(NamedTuple):
    """The numbers from `first` to `last`, which are parsed like `like`, or are invalid if it is None."""

    first: int
    last: int
    like: Parsed | None


_firsts: list[int] = []  # sorted
_ranges: dict[int, NumberRange] = {}


def find_range(e164: str) -> NumberRange:
    """Return a range that contains a number. Raises `NotANumber` if the number has another country code."""
    number = int(e164)
    at = bisect_right(_firsts, number)
    if at and number <= (known := _ranges[_firsts[at - 1]]).last:
        return known
    like = _exactly(e164)
    first, last = range_of(e164[1:], _STEMS, _FEWEST_DIGITS) or (number, number)
    found = NumberRange(first, last, like)
    if first < last and len(_firsts) < _MOST_RANGES:
        _ranges[first] = found  # before its number is in the list, which other threads search
        insort(_firsts, first)
    return found


def _fast(raw: str) -> Parsed | None:
    """Parse a plus sign followed by digits as `_exactly` does. Return None for other input or an invalid number."""
    if not _E164.fullmatch(raw) or (like := find_range(raw).like) is None:
        return None
    return Parsed(raw, like.kind, like.region, like.zones, like.places)
