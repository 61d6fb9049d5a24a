"""A lenient reading of requests that stop calls, for every interface that accepts one.

A person who objects is not called again (GDPR art. 21(3)), so a revocation is never refused for a detail of its form. What can
be understood is in force, and a note says what was left out. Who may revoke for whom is checked as for other requests.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any, Final, TypeVar, get_type_hints

import msgspec
from msgspec import Struct, structs

from dialgate.core import lost_digits, number_format, phone
from dialgate.core.model import DAY, Instant
from dialgate.core.refusal import Refused
from dialgate.ledger import event_drafts
from dialgate.ledger.event_drafts import Misstated
from dialgate.ledger.schemas import RevocationRequest, WithdrawalRequest
from dialgate.lists.lost_zeros import DoubtfulCell

_R = TypeVar("_R", bound=Struct)
_S = TypeVar("_S", RevocationRequest, WithdrawalRequest)

AHEAD: Final = "The time lies in the future or cannot be used: the entry is in force from now."
SEVERAL: Final = "The number can be read in several ways. The revocation is in force for each of them."
_UNKNOWN: Final = "The request has fields that this endpoint does not know. They were ignored."
_ZERO_IN_BRACKETS: Final = re.compile(r"\(\s*0\s*\)")
# A run of digits with the separators in it. The upper limit is that of a telephone number with separators.
_RUN: Final = re.compile(r"\+?\d(?:[ ().\-/]{0,3}\d){4,24}")
# A number that a program stored as a decimal number, and one that a spreadsheet shows with only its first digits.
_DECIMAL: Final = re.compile(r"\+?(\d+)[.,]0+", re.ASCII)
_SCIENTIFIC: Final = re.compile(r"\+?(\d)[.,](\d+)e\+?(\d+)", re.ASCII | re.IGNORECASE)
_ODD: Final = {"Cf": "", "Pd": "-", "Zs": " "}  # by Unicode category: invisible marks, dashes, blanks
_LONGEST: Final = 256  # characters of a text in which numbers are searched
_DAY_LENGTH: Final = len("2026-11-24")
_WEST: Final = timezone(timedelta(hours=-12))  # where a local time is latest


def read(kind: type[_R], fields: Mapping[str, Any]) -> tuple[_R, str]:
    """Return the request, without the fields that cannot be read, and a note about them. Raises `Refused`.

    A number may be sent as a JSON number. It may then have lost a zero or a plus.
    """
    types = _types_of(kind)
    digits = _digits_of(fields.get("number"))
    if digits:
        fields = {**fields, "number": digits}
    values, unread = dict[str, Any](), list[str]()
    for name in sorted(fields.keys() & types.keys()):
        try:
            values[name] = msgspec.convert(fields[name], types[name])
        except msgspec.ValidationError:
            unread.append(f"`{name}` cannot be read and was ignored.")
    if digits:
        values["number"] = DoubtfulCell(digits)
    for name in _required(kind):
        if name not in values:
            raise Refused("request.invalid", f"Send `{name}`, as a text.", name)
    ignored = _UNKNOWN if fields.keys() - types.keys() else ""
    return kind(**values), join(*unread, ignored)


def _digits_of(number: Any) -> str:
    """Return the digits of a JSON number, or "" for another value."""
    if isinstance(number, bool) or not isinstance(number, int | float) or number != int(number):
        return ""
    return str(int(number))


@cache
def _types_of(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _required(kind: type[Struct]) -> Collection[str]:
    return [field.name for field in structs.fields(kind) if field.required]


def join(*notes: str) -> str:
    return " ".join(filter(None, notes))


def no_later_than(ask: _S, now: Instant) -> tuple[_S, str]:
    """Return the request without a time that cannot be used, such as one after `now`, and a note about it."""
    with suppress(Misstated):
        event_drafts.past(ask.at, now, "at")
        return ask, ""
    return structs.replace(ask, at=None), AHEAD


def numbers(raw: str, home: str) -> frozenset[str]:
    """Return every E.164 number that the text can mean. Raises `NotANumber` if there is none."""
    if digits := _digits_stored_as_decimal(raw.strip()):
        raw = DoubtfulCell(digits)
    if isinstance(raw, DoubtfulCell) and (found := lost_digits.readings(raw, home)):
        return found
    try:
        return frozenset((phone.parse(raw.strip(), home).e164,))
    except phone.NotANumber:
        if found := _find_numbers(raw[:_LONGEST], home):
            return found
        raise


def _digits_stored_as_decimal(text: str) -> str:
    """Return the digits of a decimal number, or "" for another text. Raises `NotANumber` if some of them are missing."""
    if decimal := _DECIMAL.fullmatch(text):
        return decimal[1]
    if (scientific := _SCIENTIFIC.fullmatch(text)) is None:
        return ""
    first, others, exponent = scientific.groups()
    if len(others) != int(exponent):
        raise phone.NotANumber(number_format.SCIENTIFIC)
    return first + others


def _find_numbers(raw: str, home: str) -> frozenset[str]:
    normal = unicodedata.normalize("NFKC", raw).partition("@")[0]
    plain = "".join(_ODD.get(unicodedata.category(letter), letter) for letter in normal)
    without_zero = _ZERO_IN_BRACKETS.sub("", plain)
    # A slash separates an area code, or two numbers.
    for texts in ((plain, without_zero), (plain.replace("/", ";"),)):
        runs = {run[0] for text in texts for run in _RUN.finditer(text)}
        if found := frozenset(number for run in runs for number in _read_run(run, home)):
            return found
    return frozenset()


def _read_run(run: str, home: str) -> Collection[str]:
    digits = re.sub(r"\D", "", run)
    with suppress(phone.NotANumber):
        number = phone.parse(f"+{digits}" if run.startswith("+") else digits, home).e164
        return (number,) if number.startswith("+") else ()
    digits = digits.removeprefix("00")
    return lost_digits.readings(digits, home) | lost_digits.other_zeros(digits, home)


def latest_instant(text: str, now: Instant) -> Instant:
    """Return the latest time, up to `now`, that a cell can mean, or 0 if it cannot be read.

    A time without a UTC offset is read as in the zone where it is latest, and a day as its end.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return 0
    instant = round((at if at.tzinfo else at.replace(tzinfo=_WEST)).timestamp() * 1_000)
    instant += DAY if len(text) == _DAY_LENGTH else 0
    return min(instant, now) if instant >= 0 else 0
