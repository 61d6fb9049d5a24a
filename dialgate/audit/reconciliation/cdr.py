"""A reader for a trunk's call detail records (CDR).

A row with an unreadable number or time is kept and later reported, because nothing shows that the call was allowed. Messages
name files, columns and line numbers, but never quote values.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from dialgate.audit.reconciliation import cdr_asterisk
from dialgate.audit.reconciliation.cdr_asterisk import ANSWERED, Cells, ChannelCounts, Trunks
from dialgate.core import local_time
from dialgate.core.model import SECOND, Instant

Format: TypeAlias = Literal["kamailio", "asterisk", "csv"]

UNREADABLE: Final = -1  # a time that is unreadable
_SAMPLE: Final = 1 << 14
_LOGGED: Final = re.compile("timestamp=(?P<timestamp>[0-9]+);method=(?P<method>[^;]*)")
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?(?P<offset>Z|[+-]\d\d:?\d\d)?")
_EPOCH: Final = re.compile(r"\d{9,10}(\.\d+)?")


class CdrUnreadable(Exception):
    """Raised if a file is not in the expected format. The message does not quote it."""


class Columns(Struct, frozen=True, kw_only=True):
    """A file's column names. An empty name means the format's default name.

    `only` holds pairs of column and value. Rows with another value in such a column are skipped.
    """

    time: str = ""
    called: str = ""
    caller: str = ""
    call_id: str = ""
    decision: str = ""
    status: str = ""
    only: tuple[tuple[str, str], ...] = ()


_NAMES: Final[dict[Format, tuple[dict[str, tuple[str, ...]], tuple[str, ...]]]] = {
    # Columns of Kamailio's `acc`, in a database or in the log: https://kamailio.org/docs/modules/stable/modules/acc.html
    "kamailio": (
        {
            "time": ("time", "timestamp"), "called": ("dst_user", "dst_ouser", "callee"),
            "caller": ("src_user", "caller"), "call_id": ("callid", "call_id"), "decision": ("decision",),
            "status": ("sip_code", "code"),
        },
        ("200",),
    ),
    "asterisk": (
        {
            "time": ("start",), "called": ("called",), "caller": ("src",), "call_id": ("uniqueid",),
            "decision": ("userfield",), "status": ("disposition",),
        },
        (ANSWERED,),
    ),
    "csv": (
        {
            "time": ("time", "start", "started_at"), "called": ("called", "to", "callee", "dst"),
            "caller": ("caller", "from", "src"), "call_id": ("call_id", "callid"), "decision": ("decision", "decision_id"),
            "status": ("status", "disposition"),
        },
        ("200", "ANSWERED", "answered"),
    ),
}  # fmt: skip


class PlacedCall(Struct, frozen=True, kw_only=True, gc=False):
    """One row of a file: a call that left, with its texts as in the file."""

    file: str
    line: int
    at: Instant  # or `UNREADABLE`
    called: str
    caller: str
    call_id: str
    decision: str
    is_answered: bool  # also if the file does not say
    # The call was placed through the trunk without Dial, so the row has no called number.
    is_originated: bool


class CallRecords(Struct, frozen=True):
    """The calls from one file, in its order, and what an Asterisk file says of channels and contexts."""

    calls: list[PlacedCall]
    seen: ChannelCounts


_Rows: TypeAlias = Iterable[tuple[int, Cells]]


def read(
    path: Path, format_: Format, columns: Columns, zone: str, strip: str = "", trunks: Trunks | None = None
) -> CallRecords:
    """Read the calls from a file. Raises `CdrUnreadable`, `OSError`.

    `zone` is the time zone for times without an offset, such as `Europe/Rome`. `strip` is a prefix that the
    trunk adds to each number. `trunks` is for Asterisk only.
    """
    seen = ChannelCounts()
    names, rows = _table(path, format_)
    if format_ == "asterisk":
        names = [*names, *cdr_asterisk.ADDED]
        rows = cdr_asterisk.departed(rows, trunks or Trunks(), seen)
    only = columns.only + ((("method", "INVITE"),) if format_ == "kamailio" and "method" in names else ())
    for name, _ in only:
        if name not in names:
            raise CdrUnreadable(f"there is no column {name}. The columns are: {', '.join(names)}.")
    roles = {role: _column(names, format_, columns, role) for role in _NAMES[format_][0]}
    layout = _Layout(path.name, roles, _NAMES[format_][1], strip, _checked_zone(zone))
    calls = [
        layout.call(line, cells)
        for line, cells in rows
        if all(cells.get(name) == value for name, value in only)
    ]
    return CallRecords(sorted(calls, key=lambda call: call.line), seen)


class _Layout(Struct, frozen=True):
    """The meaning of a file's columns: their names by role, and the values of an answered call's status."""

    file: str
    roles: dict[str, str]
    answered: tuple[str, ...]
    strip: str
    zone: str

    def call(self, line: int, cells: Cells) -> PlacedCall:
        texts = {role: cells.get(name, "") if name else "" for role, name in self.roles.items()}
        return PlacedCall(
            file=self.file,
            line=line,
            at=_instant(texts["time"], self.zone),
            called=texts["called"].strip().removeprefix(self.strip),
            caller=texts["caller"],
            call_id=texts["call_id"],
            decision=texts["decision"],
            is_answered=not self.roles["status"] or texts["status"] in self.answered,
            is_originated="originated" in cells,
        )


def _column(names: Sequence[str], format_: Format, columns: Columns, role: str) -> str:
    """Return the name of the column with this role, or an empty string if it is optional and absent.

    Raises `CdrUnreadable` if a required column or one named in `columns` is missing.
    """
    name = getattr(columns, role)
    candidates = (name,) if name else _NAMES[format_][0][role]
    present = next((candidate for candidate in candidates if candidate in names), "")
    if not present and (name or role in {"time", "called", "caller"}):
        known = ", ".join(name for name in names if name.isidentifier())
        raise CdrUnreadable(
            f"there is no column for {role}. Set --{role.replace('_', '-')} to one of: {known}."
        )
    return present


# ---- rows ------------------------------------------------------------------------------------------------------------


def _table(path: Path, format_: Format) -> tuple[list[str], _Rows]:
    """Return the column names of a file and its rows, each with its line number."""
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
    if format_ == "kamailio" and b";method=" in head:
        rows = list(_kamailio_log(path))
        return list(rows[0][1]) if rows else [], rows
    if not head.strip():
        raise CdrUnreadable(f"{path.name} is empty")
    line = head.partition(b"\n")[0].decode(errors="replace")
    lines = _lines(path, "," if format_ == "asterisk" else max(",;\t|", key=line.count))
    first = next(lines, (1, []))
    if format_ != "asterisk":
        names = [name.strip() for name in first[1]]
        return names, _rows(path, names, lines)
    names = cdr_asterisk.column_names(first[1])
    if not names:
        raise CdrUnreadable(
            f"{path.name} is not an Asterisk Master.csv: its first row has {len(first[1])} cells, not 16 to 21"
        )
    return names, _rows(path, names, chain([first], lines))


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line that is not empty.

    Raises `CdrUnreadable` at a row of several lines: a stray quotation mark, which a dialer can send in a name, would hide the
    rows up to the next one.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows, before = csv.reader(file, delimiter=delimiter), 0
        try:
            for cells in rows:
                if rows.line_num != before + 1:
                    raise CdrUnreadable(f"{path.name}, line {before + 1}: a quotation mark is not closed")
                before = rows.line_num
                if cells:
                    yield before, cells
        except csv.Error as error:
            raise CdrUnreadable(f"{path.name}, line {before + 1}: {error}") from None


def _rows(path: Path, names: list[str], lines: Iterator[tuple[int, list[str]]]) -> _Rows:
    for line, cells in lines:
        if len(cells) != len(names):
            raise CdrUnreadable(f"{path.name}, line {line}: {len(cells)} cells instead of {len(names)}")
        yield line, dict(zip(names, cells, strict=True))


def _kamailio_log(path: Path) -> _Rows:
    """Read the lines that `acc` logged: `ACC: …: timestamp=…;method=INVITE;…`. Other lines are skipped.

    A dialer chooses its Call-ID, which may contain `;dst_user=…`. It is logged before `code`, the other fields after it.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for line, text in enumerate(file, 1):
            if logged := _LOGGED.search(text):
                before, has_code, after = text[logged.end() :].rstrip("\n").rpartition(";code=")
                pairs = (pair.partition("=")[::2] for pair in f"code={after}".split(";")) if has_code else ()
                call_id = before.partition(";call_id=")[2]
                yield line, dict(pairs) | logged.groupdict() | {"call_id": call_id}


# ---- times -----------------------------------------------------------------------------------------------------------


def _checked_zone(zone: str) -> str:
    try:
        local_time.day_in(zone, 0)
    except (KeyError, ValueError, OSError):
        raise CdrUnreadable(f"unknown time zone {zone!r}. Use an IANA name such as Europe/Rome.") from None
    return zone


def _instant(text: str, zone: str) -> Instant:
    """Parse a time: epoch seconds, or ISO 8601 with or without an offset."""
    if _EPOCH.fullmatch(text):
        return round(float(text) * SECOND)
    iso = _ISO.fullmatch(text)
    if iso is None:
        return UNREADABLE
    try:
        clock = datetime.fromisoformat(text)
    except ValueError:  # such as a month 13
        return UNREADABLE
    return round(clock.timestamp() * SECOND) if iso["offset"] else local_time.instant_in(zone, clock)
