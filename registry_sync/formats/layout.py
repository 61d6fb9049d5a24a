"""The settings that describe the layout of a registry's text files, and the published layouts.

`table.py` reads and writes files with any layout. A registry whose layout is published needs only an entry in
`LAYOUTS`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from dialgate.config.fields import Strict
from dialgate.core.numbering_plan import numbering_plan

Column: TypeAlias = Annotated[int, Meta(ge=1, le=1024)] | Annotated[str, Meta(min_length=1)]

_SOME_DAY: Final = date(2026, 11, 27)


class FileLayout(Strict, frozen=True, kw_only=True):
    """The columns of a registry's text files (`layout`, for `format: csv`).

    A column is a position, counted from 1, or a name from the header.
    """

    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}$")]
    """Country that the numbers belong to, as an ISO 3166 code. It determines the country code, the trunk prefix and the possible lengths."""
    numbers: Literal["national", "international"] = "national"
    """Number format. `national`: without the country code; the trunk prefix, such as the first 0, may be absent. `international`: with the country code; a plus sign or 00 may precede it."""
    separator: Literal[",", ";", "|", "tab", "none"] = ","
    """Character between columns. `none`: each line is one number."""
    header: bool = False
    """Whether the first line contains the column names."""
    line: str = ""
    """Regular expression that each line after the header must match, with its line break. A file with another line is refused. Empty: no further check."""
    encoding: Literal["ascii", "utf-8", "latin-1"] = "ascii"
    """Character encoding. `utf-8` permits a byte order mark."""
    number: Column = 1
    """Column with the number."""
    status: Column | None = None
    """Column with the registry's answer. Without it, every number in a full list is listed. Every number in the answer to a query is then clear, and the other numbers in the query are listed."""
    clear: tuple[str, ...] = ()
    """Values of `status` that mean clear."""
    listed: tuple[str, ...] = ()
    """Values of `status` that mean listed. Other values are an error. Empty: every value that is not in `clear` means listed."""
    unknown: tuple[str, ...] = ()
    """Values of `status` for numbers about which the registry has no data. They stay unknown. Only for queries."""
    date: Column | None = None
    """In full lists with one prefix in `coverage`, the column with the date of registration. A consent after that day can open the call (`consent_after_listing`). A date after the version of the file is an error. In `request`, the name of the column with the day from which a disconnection counts."""
    date_format: str = "%Y-%m-%d"
    """Date format in strftime notation, for example `%d/%m/%Y`."""
    excluded: tuple[str, ...] = ()
    """Beginnings of national numbers that the registry does not cover. Such numbers are not submitted. Only for queries."""
    request: tuple[str, ...] = ()
    """Column names for a query, if the registry expects a header. The number is written in the column named in `number`, and the position of the row in the other columns. Empty: one number on each line."""


# Published layouts, each with its source.
LAYOUTS: Final = {
    # Telephone Preference Service and its corporate counterpart: 0 and 9 or 10 digits in lines of 12 characters. A shorter line
    # lost a digit, and the number that is left is another one. Source: corporate.mpsonline.org.uk/shared/technical_desc.asp
    "tps": FileLayout(country="GB", separator="none", line=r"(?=.{12}\r)0\d{9,10} +\r\n"),
    # The same with spaces: the dialling code, left-justified in 5 characters, and the rest, right-justified in 7.
    "tps_spaced": FileLayout(
        country="GB", separator="none", line=r"(?=.{12}\r)(?=0(?: *\d){9,10}\r)(?=\d+ *.{7}\r).{5} *\d+\r\n"
    ),
    # Registro Pubblico delle Opposizioni (Italy): `number,status`, where only an explicit 0 means that the number is not enrolled
    # (DPR 26/2022 art. 8). Landline numbers keep their leading 0. The registry covers subscriber numbers; San Marino's landlines,
    # also reachable under 0549, are not Italian (L. 5/2018: national numbers).
    "rpo": FileLayout(
        country="IT",
        status=2,
        clear=("0",),
        listed=("1",),
        # No Italian number begins with 2, 6 or 9: such a landline lacks its 0. 39 and more than 8 digits contain the country code.
        line=r"(?!39\d{9})[0134578]\d{5,11}+,[01](?:\r?\n)?+",
        excluded=("1", "2", "4", "6", "8", "9", "0549"),
    ),
}


def find_problems(layout: FileLayout, *, queried: bool) -> Iterator[str]:
    """Yield the errors in a layout. Set `queried` for a registry that answers queries."""
    if numbering_plan(layout.country) is None:
        yield f"country {layout.country} is unknown; use an ISO 3166 code, for example BE"
    try:
        re.compile(layout.line)
    except re.error as error:
        yield f"line is not a regular expression: {error}"
    columns = [layout.number, *(column for column in (layout.status, layout.date) if column is not None)]
    for column in columns:
        if isinstance(column, str) and not layout.header:
            yield f"column {column!r} is a name, so the file needs `header: true`; otherwise use a position such as 2"
    if any(count > 1 for count in Counter(columns).values()):
        yield "number, status and date must be different columns"
    if layout.separator == "none" and columns != [1]:
        yield "separator is none, so the number is the only column; set `separator` to one of , ; | tab"
    yield from _status_problems(layout)
    yield from _date_problems(layout, queried=queried)
    yield from _request_problems(layout, queried=queried)


def _status_problems(layout: FileLayout) -> Iterator[str]:
    if layout.status is None and (layout.clear or layout.listed or layout.unknown):
        yield "clear, listed and unknown are values in the `status` column; set `status`"
    if layout.status is not None and not layout.clear:
        yield "`clear` is empty; list the values of `status` that mean clear. Every other value means listed"
    values = Counter([*layout.clear, *layout.listed, *layout.unknown])
    yield from (
        f"{value!r} has two meanings; list it only once, under clear, listed or unknown"
        for value, count in values.items()
        if count > 1
    )


def _date_problems(layout: FileLayout, *, queried: bool) -> Iterator[str]:
    if queried and layout.date is not None and layout.date not in layout.request:
        yield f"date must be one of the columns in `request`, not {layout.date!r}"
    for name in ("unknown", "excluded"):
        if not queried and getattr(layout, name):
            yield f"`{name}` is only for answers to queries, but this registry publishes full lists; remove it"
    try:
        read = datetime.strptime(_SOME_DAY.strftime(layout.date_format), layout.date_format)  # noqa: DTZ007 - a date only
    except ValueError:
        read = None
    if read is None or read.date() != _SOME_DAY:
        yield f"date_format {layout.date_format!r} must contain the year, the month and the day, for example %d/%m/%Y"


def _request_problems(layout: FileLayout, *, queried: bool) -> Iterator[str]:
    if layout.request and not queried:
        yield "`request` is the header of a query, but this registry publishes full lists; remove it"
    if layout.request and layout.number not in layout.request:
        yield f"request must contain the number column, {layout.number!r}"
    if layout.request and layout.separator == "none":
        yield "`request` needs a file with several columns; set `separator` to one of , ; | tab"
