"""The translation of msgspec's validation errors into plain English.

Messages never contain the invalid value, because it may be a telephone number.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

MOST_CHOICES: Final = 12
TYPES: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a set of fields",
    "null": "empty",
    "date": "a day, for example 2026-11-24",
    "datetime": "a time with its UTC offset, for example 2026-11-24T10:00:00+01:00",
}
_NAME: Final = "1 to 64 lower-case letters, digits, `.`, `_` and `-`, with a letter or a digit first"
PATTERNS: Final = {
    "^(?!erasure$)": "a channel other than `erasure`, which marks stops that an erasure wrote",
    "^[A-Z]{2}$": "a two-letter country code such as IT",
    "^[0-9a-f]{64}$": "64 lower-case hexadecimal digits",
    "^([0-9a-f]{64})?$": "64 lower-case hexadecimal digits",
    "^([0-9a-fA-F]{64})?$": "64 hexadecimal digits",
    "^([0-9a-f]{8})?$": "8 hexadecimal digits",
    r"^[a-z0-9][a-z0-9_.-]{0,63}$": _NAME,
    r"^([a-z0-9][a-z0-9_.-]{0,63}|\$\{[A-Z_][A-Z0-9_]*\})$": f"{_NAME}, or an environment variable such as ${{POD_NAME}}",
    r"^[a-z0-9][a-z0-9.-]{0,252}$": "a host name such as gate-1.example",
    r"^[^\x00-\x20\x7f-\U0010ffff@,;:<>()\x22\x5c]+@[A-Za-z0-9][A-Za-z0-9.-]*$": "an e-mail address such as officer@example.com",
    r"^[A-Za-z0-9_-]{1,64}$": "1 to 64 letters, digits, `_` and `-`",
    r"^[1-9][0-9]{0,6}$": "1 to 7 digits, the first not 0",
    "^[0-9]{0,4}$": "at most 4 digits",
    r"^https?://[^?#@]+$": "a URL without user, query or fragment, for example https://login.example/realms/sales",
    r"^\+[0-9]{5,15}$": "a number in E.164, for example +390612345678",
    r"^([1-9]\d{0,3}d|P[1-9]\d{0,2}[MY])$": "days, months or years, for example 30d, P18M or P1Y",
    r"^([1-9]|[1-5]\d|60)d$": "1 to 60 days, for example 30d",
    r"^[1-9]\d{0,3}[hd]$": "hours or days, for example 72h or 30d",
    r"^([1-9]\d{0,3}[hd]|P[1-9]\d{0,2}[MY])$": "hours, days, months or years, for example 72h, 30d, P18M or P1Y",
    r"^([1-9]\d{0,3}[hd]|[1-9]wd|P[1-9]\d{0,2}[MY])$": "hours, days, working days, months or years, for example 72h, 30d, 5wd, P18M or P1Y",
    r"^([^/]*\{date\}[^/]*)?$": "a file name that contains {date}, without a slash",
    r"^\d\d:\d\d-\d\d:\d\d$": "a time window, for example 09:00-20:00",
    r"^\d{4}-(0[1-9]|1[0-2])$": "a month, for example 2026-11",
    r"^((\d{4}-)?\d\d-\d\d|[a-z]{3} after \d\d-\d\d|[a-z_]+)$": "a day, for example 2026-11-03, 06-14, `tue after 11-01` or good_friday",
    r"^((base64:)?(body|event|query|header)(\.[A-Za-z0-9_-]+)+|=.*)$": "body.NAME, event.NAME, query.NAME, header.NAME or =TEXT",
    r"^(body(\.[A-Za-z0-9_-]+)*)?$": "body, or body.NAME",
    r"^(https://[^?#]+)?$": "an address that begins with https://, without a query",
    r"^(https://\S+)?$": "an address that begins with https://, without blanks",
    r"^https?://": "an address that begins with https:// or http://",
    r"^https?://[^/?#@]+/?$": "an address without a path, for example https://gate-2.example:8080",
    r"^https://.*/$": "an address that begins with https:// and ends with /",
    r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$": "a path of names and dots",
    r"^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?$": "a path of names and dots, or empty",
}
_RULES: Final = tuple(
    (re.compile(pattern, re.DOTALL), wording)
    for pattern, wording in (
        (r"Expected `(?:str|bytes)` of length >= (\d+)", "must have at least {0} characters"),
        (r"Expected `(?:str|bytes)` of length <= (\d+)", "must have at most {0} characters"),
        (r"Expected `(?:array|object)` of length >= (\d+)", "must have at least {0} entries"),
        (r"Expected `(?:array|object)` of length <= (\d+)", "must have at most {0} entries"),
        (r"Expected `array` of length (\d+), got (\d+)", "must have {0} entries, not {1}"),
        (r"Expected `\w+` >= (\S+)", "must be at least {0}"),
        (r"Expected `\w+` <= (\S+)", "must be at most {0}"),
        (r"Expected `\w+` > (\S+)", "must be more than {0}"),
        (r"Expected `\w+` < (\S+)", "must be less than {0}"),
        (r"Expected `datetime` with a timezone component", f"must be {TYPES['datetime']}"),
        (r"Invalid RFC3339 encoded datetime", f"must be {TYPES['datetime']}"),
        (r"Invalid RFC3339 encoded date", "must be a day that exists, for example 2026-11-24"),
        (r"Invalid (?:enum )?value .*", "must be one of the permitted values"),
    )
)
_ONE: Final = re.compile(r"\b1 (?:characters|entries)")
_SINGULARS: Final = {"1 characters": "1 character", "1 entries": "1 entry"}
_TYPE: Final = re.compile(r"Expected `([\w |]+)`, got `(\w+)`")
_PATTERN: Final = re.compile(r"Expected `str` matching regex (.+)", re.DOTALL)
_KEY: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)


def plain(text: str, noun: str = "field") -> str:
    """Translate a msgspec error into plain English. `text` is the error without its path.

    `noun` is the word for a member of an object: "field" or "key".
    """
    if found := _KEY.fullmatch(text):
        return f"{'unknown' if 'unknown' in found[1] else 'missing'} {noun} `{found[2]}`"
    if found := _TYPE.fullmatch(text):
        kinds = [_type(name, noun) for name in found[1].split(" | ")]
        either = ", or " if any("," in wording for wording in kinds) else " or "
        return f"must be {either.join(kinds)}, not {_type(found[2], noun).partition(',')[0]}"
    if found := _PATTERN.fullmatch(text):
        return f"must be {_pattern(found[1])}"
    for rule, wording in _RULES:
        if found := rule.fullmatch(text):
            message = wording.format(*(group.removesuffix(".0") for group in found.groups()))
            return _ONE.sub(lambda one: _SINGULARS[one[0]], message)
    return text


def choices(kind: Any, place: str) -> tuple[str, ...]:
    """Return the permitted values of a field in the type `kind`, or () if the field has no fixed set of values.

    `place` is the path of the field, such as `.calls[0].purpose`.
    """
    named = (get_args(found) for found in _kinds_at(kind, place) if get_origin(found) is Literal)
    return tuple(dict.fromkeys(str(value) for values in named for value in values))


def field_names(kind: Any, place: str) -> list[str]:
    """Return the names of the fields at a path in the type `kind`, as for `choices`."""
    structs = (
        found for found in _kinds_at(kind, place) if isinstance(found, type) and issubclass(found, Struct)
    )
    return [field.encode_name for struct in structs for field in fields(struct)]


def _kinds_at(kind: Any, place: str) -> list[Any]:
    kinds = list(_members(kind))
    for name, _ in re.findall(r"\.([A-Za-z_]+)|(\[)", place):
        kinds = [inner for outer in kinds for part in _inner(outer, name) for inner in _members(part)]
    return kinds


def _type(name: str, noun: str) -> str:
    return f"a set of {noun}s" if name == "object" else TYPES.get(name, name)


def _pattern(quoted: str) -> str:
    try:
        pattern = ast.literal_eval(quoted)
    except (SyntaxError, ValueError):
        pattern = quoted
    return PATTERNS.get(pattern, f"of the form {pattern}")


def _members(kind: Any) -> Iterator[Any]:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in {Union, UnionType}:
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _inner(kind: Any, name: str) -> Iterator[Any]:
    """Yield the possible types of the field `name`, or of the array's items if `name` is empty."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        shape = kind.__struct_config__
        if name and name == shape.tag_field:
            yield Literal[shape.tag]
        yield from (field.type for field in fields(kind) if field.encode_name == name)
    elif name and get_origin(kind) in {Mapping, dict}:
        yield get_args(kind)[1]
    elif not name and get_origin(kind) in {tuple, list}:
        yield get_args(kind)[0]
