"""A reader for a trunk's call detail records (CDR).

The whole file is held in memory, at about 300 bytes per row. A row with an unreadable number or time is kept and later
reported, because nothing shows that the call was allowed. Messages name files, columns and line numbers, but never
quote values.
"""

import csv as plain_csv
import re
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, structs
from numpy.typing import NDArray
from pyarrow import csv

from dialgate.audit.reconciliation.cdr_asterisk import ANSWERED, ChannelCounts, Trunks, column_names, departed

Format: TypeAlias = Literal["kamailio", "asterisk", "csv"]
Longs: TypeAlias = NDArray[np.int64]

UNREADABLE: Final = -1  # a time that is unreadable
_SAMPLE: Final = 1 << 14
_LOGGED: Final = "timestamp=[0-9]+;method="
_LOGGED_CALL_ID: Final = re.compile(";call_id=.*;code=")
_ISO: Final = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?$"
_OFFSET: Final = r"(?:Z|[+-]\d\d:?\d\d)$"
_EPOCH: Final = r"^\d{9,10}(\.\d+)?$"


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


class CallRecords(Struct, frozen=True, kw_only=True):
    """The calls from one file, as columns of equal length."""

    file: str
    line: Longs  # in the file, from 1
    at: Longs  # in ms, or `UNREADABLE`
    called: Longs  # index into `numbers`, which holds the texts from the file
    numbers: list[str]
    caller: Longs  # index into `callers`, which holds the texts from the file
    callers: list[str]
    call: Longs  # index into `call_ids`, the same for all legs of a call; -1 without a call id
    call_ids: list[str]
    decision: list[str] | None
    answered: NDArray[np.bool_]  # true if the file does not say
    # the call was placed through the trunk without Dial, so the row has no called number
    originated: NDArray[np.bool_]
    seen: ChannelCounts = ChannelCounts()  # endpoints and contexts in an Asterisk file


def read(
    path: Path, format_: Format, columns: Columns, zone: str, strip: str = "", trunks: Trunks | None = None
) -> CallRecords:
    """Read the calls from a file. Raises `CdrUnreadable`, `OSError`.

    `zone` is the time zone for times without an offset, such as `Europe/Rome`. `strip` is a prefix that the
    trunk adds to each number. `trunks` is for Asterisk only.
    """
    try:
        table = _table(path, format_)
        seen = ChannelCounts()
        if format_ == "asterisk":
            table, seen = departed(table, trunks or Trunks())
        calls = _calls(path.name, _filter(table, format_, columns), format_, columns, zone, strip)
        return structs.replace(calls, seen=seen)
    except pa.ArrowInvalid as error:
        reason = str(error).partition(":")[0].partition("\n")[0]
        raise CdrUnreadable(f"{path.name} cannot be read as {format_}: {reason}") from None


def _table(path: Path, format_: Format) -> pa.Table:
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
    if format_ == "kamailio" and b";method=" in head:
        return _kamailio_log(path)
    if not head.strip():
        raise CdrUnreadable(f"{path.name} is empty")
    if format_ == "asterisk":
        return _with_line_numbers(_parsed(path, ",", _columns_of(path)), 1)
    line = head.partition(b"\n")[0]
    delimiter = max(",;\t|", key=lambda candidate: line.count(candidate.encode()))
    return _with_line_numbers(_parsed(path, delimiter, None), 2)


def _columns_of(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        first = next(plain_csv.reader(file), [])
    names = column_names(first)
    if names is None:
        raise CdrUnreadable(
            f"{path.name} is not an Asterisk Master.csv: its first row has {len(first)} cells, not 16 to 21"
        )
    return names


def _parsed(path: Path, delimiter: str, names: list[str] | None) -> pa.Table:
    read_options = csv.ReadOptions(column_names=names, block_size=1 << 24)
    with path.open("rb") as file:
        header = file.readline().decode("utf-8", "replace").strip().lstrip("\ufeff")
    every = names or [name.strip().strip('"') for name in header.split(delimiter)]
    convert = csv.ConvertOptions(column_types=dict.fromkeys(every, pa.string()), strings_can_be_null=False)
    return csv.read_csv(path, read_options, csv.ParseOptions(delimiter=delimiter), convert)


def _with_line_numbers(table: pa.Table, first: int) -> pa.Table:
    return table.append_column("line ", pa.array(np.arange(first, first + len(table))))


def _kamailio_log(path: Path) -> pa.Table:
    """Read the lines that `acc` logged: `ACC: …: timestamp=…;method=INVITE;…`. Other lines are skipped."""
    options = csv.ReadOptions(column_names=["text"], block_size=1 << 24)
    parse = csv.ParseOptions(delimiter="\x01", quote_char=False)
    table = _with_line_numbers(
        csv.read_csv(path, options, parse, csv.ConvertOptions(column_types={"text": pa.string()})), 1
    )
    table = table.filter(pc.match_substring_regex(table.column("text"), _LOGGED))
    first = _LOGGED_CALL_ID.sub(";call_id=;code=", str(table.column("text")[0]) if len(table) else "")
    names = [pair.partition("=")[0].rpartition(" ")[2] for pair in first.split(";")]
    for name in dict.fromkeys(names):
        if name.isidentifier():
            # A dialer chooses its Call-ID, which may contain `;dst_user=…`. Only these two fields are logged before it.
            begin = "(?:^|[ ;])" if name in {"timestamp", "method"} else ".*[ ;]"
            matches = pc.extract_regex(table.column("text"), rf"{begin}{name}=(?P<value>[^;]*)")
            values = pc.fill_null(pc.struct_field(matches, "value"), "")
            table = table.append_column(name, values)
    return table


def _filter(table: pa.Table, format_: Format, columns: Columns) -> pa.Table:
    only = columns.only + (
        (("method", "INVITE"),) if format_ == "kamailio" and "method" in table.column_names else ()
    )
    for name, value in only:
        if name not in table.column_names:
            raise CdrUnreadable(
                f"there is no column {name}. The columns are: {', '.join(table.column_names[:-1])}."
            )
        table = table.filter(pc.equal(table.column(name), value))
    return table


def _column(table: pa.Table, format_: Format, columns: Columns, role: str) -> Any:
    """Return the column with this role, or None if it is optional and absent.

    Raises `CdrUnreadable` if a required column or one named in `columns` is missing.
    """
    name = getattr(columns, role)
    candidates = (name,) if name else _NAMES[format_][0][role]
    present = next((candidate for candidate in candidates if candidate in table.column_names), None)
    if present is None and (name or role in {"time", "called", "caller"}):
        names = ", ".join(name for name in table.column_names if name.isidentifier())
        raise CdrUnreadable(
            f"there is no column for {role}. Set --{role.replace('_', '-')} to one of: {names}."
        )
    return None if present is None else table.column(present)


def _calls(
    name: str, table: pa.Table, format_: Format, columns: Columns, zone: str, strip: str
) -> CallRecords:
    column = {
        role: _column(table, format_, columns, role) for role in Columns.__struct_fields__ if role != "only"
    }
    called, numbers = _encoded(column["called"])
    caller, callers = _encoded(column["caller"])
    call, call_ids = (
        _encoded(column["call_id"]) if column["call_id"] else (np.full(len(table), -1, np.int64), [])
    )
    if "" in call_ids:
        call = np.where(call == call_ids.index(""), -1, call)
    status = column["status"]
    answered = np.ones(len(table), np.bool_)
    if status is not None:
        answered = pc.is_in(status, pa.array(_NAMES[format_][1])).to_numpy(zero_copy_only=False)
    return CallRecords(
        file=name,
        line=table.column("line ").to_numpy(),
        at=_instants(column["time"], zone),
        called=called,
        numbers=[number.strip().removeprefix(strip) for number in numbers],
        caller=caller,
        callers=callers,
        call=call,
        call_ids=call_ids,
        decision=None if column["decision"] is None else column["decision"].to_pylist(),
        answered=answered,
        originated=_originated(table),
    )


def _originated(table: pa.Table) -> NDArray[np.bool_]:
    if "originated" not in table.column_names:
        return np.zeros(len(table), np.bool_)
    return np.asarray(table.column("originated"))


def _encoded(column: Any) -> tuple[Longs, list[str]]:
    whole = pa.chunked_array(column).combine_chunks().dictionary_encode()
    return whole.indices.to_numpy().astype(np.int64), whole.dictionary.to_pylist()


def _instants(column: Any, zone: str) -> Longs:
    """Parse times: epoch seconds, or ISO 8601 with or without an offset."""
    at = np.full(len(column), UNREADABLE, np.int64)
    epoch = pc.match_substring_regex(column, _EPOCH)
    local = pc.match_substring_regex(column, _ISO)
    offset = pc.and_(pc.match_substring_regex(column, _OFFSET), pc.invert(pc.or_(epoch, local)))
    if pc.any(epoch).as_py():
        seconds = pc.filter(column, epoch).cast(pa.float64()).to_numpy()
        at[epoch.to_numpy()] = np.rint(seconds * 1000).astype(np.int64)
    if pc.any(local).as_py():
        naive = pc.filter(column, local).cast(pa.timestamp("us"))
        try:
            zoned = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="earliest")
        except (pa.ArrowInvalid, OSError):
            raise CdrUnreadable(
                f"unknown time zone {zone!r}. Use an IANA name such as Europe/Rome."
            ) from None
        at[local.to_numpy()] = zoned.cast(pa.int64()).to_numpy() // 1000
    if pc.any(offset).as_py():
        zoned = pc.filter(column, offset).cast(pa.timestamp("us", "UTC"))
        at[offset.to_numpy()] = zoned.cast(pa.int64()).to_numpy() // 1000
    return at
