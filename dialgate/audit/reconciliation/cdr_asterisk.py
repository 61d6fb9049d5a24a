"""A filter for Asterisk's Master.csv that finds the calls that left through a trunk, and their called numbers.

The `lastapp` and `lastdata` columns are not enough. `RetryDial` writes "Retrying" there, and an originated call
(`channel originate PJSIP/NUMBER@trunk`, AMI, ARI, a call file) has no Dial at all. The channel names are reliable: a
dialled channel is in `dstchannel`, an originated or incoming one in `channel`. Source: main/cdr.c; checked with
Asterisk 22.10.1.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field

_COLUMNS: Final = (
    "accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata", "start", "answer",
    "end", "duration", "billsec", "disposition", "amaflags",
)  # fmt: skip
_IDENTIFIERS: Final = ("uniqueid", "userfield")  # written if loguniqueid, loguserfield are on
_NEW: Final = ("peeraccount", "linkedid", "sequence")  # written if newcdrcolumns is on
_UNIQUEID: Final = re.compile(r"(.*-)?\d+\.\d+")
ANSWERED: Final = "ANSWERED"
_DIALS: Final = ("Dial", "RetryDial")
# A channel's name: technology, endpoint, serial number. DAHDI puts the called number between the last two.
_CHANNEL: Final = r"^(?P<kind>[A-Za-z0-9_]+)/(?P<name>[^/]+?)(?:/.*)?-[0-9a-f]+$"
# The number is read from Dial's argument, because the extension may have a prefix. `&` separates destinations.
# A carrier's prefix ends in `#` or `*`; `w` is a pause.
_DIALLED: Final = r"^[A-Za-z0-9_]+/(?:[^,&/]*/)?(?:sips?:|tel:)?(?:[0-9]*[#*]|[wW])*(?P<number>\+?[0-9]+)(?:[;@][^,&]*)?(?:,|$)"  # fmt: skip
# `PJSIP/NUMBER@trunk`, `PJSIP/trunk/sip:NUMBER@host`, `IAX2/user:secret@trunk/NUMBER`
_DESTINATION: Final = r"(?P<kind>[A-Za-z0-9_]+)/(?:[^@/]*@)?(?:(?P<before>[^/]+)/|(?P<after>[^/]+)$)"
_NO_NUMBER: Final = ("", "s")


class Trunks(Struct, frozen=True, kw_only=True):
    """The endpoints that are trunks. If there are none, no call left."""

    names: tuple[str, ...] = ()  # endpoints, such as `trunk` or `PJSIP/trunk`
    # contexts that calls from these trunks enter, such as `dialgate-recall` or `ivr/s`
    incoming: tuple[str, ...] = ()

    def has(self, channel: str) -> bool:
        return channel in self.names or channel.partition("/")[2] in self.names


class ChannelCounts(Struct, frozen=True):
    """The number of rows for each channel endpoint, and the number of originated calls for each context."""

    channels: Counter[str] = field(default_factory=Counter[str])
    contexts: Counter[str] = field(default_factory=Counter[str])


def column_names(first: Sequence[str]) -> list[str] | None:
    """Return the column names for a file with this first row, or None if it is not a Master.csv."""
    extra = len(first) - len(_COLUMNS)
    if extra not in range(len(_IDENTIFIERS) + len(_NEW) + 1):
        return None
    new = _NEW if extra >= len(_NEW) else ()
    identifiers = extra - len(new)
    if identifiers == 1:
        is_id = _UNIQUEID.fullmatch(first[len(_COLUMNS)])
        return [*_COLUMNS, _IDENTIFIERS[0 if is_id else 1], *new]
    return [*_COLUMNS, *_IDENTIFIERS[:identifiers], *new]


def departed(table: pa.Table, trunks: Trunks) -> tuple[pa.Table, ChannelCounts]:
    """Select the calls that left through a trunk, and add the `called` and `originated` columns."""
    table = _answer_retries(table)
    dialled, called = _endpoints(table.column("dstchannel")), _endpoints(table.column("channel"))
    dials = pc.is_in(table.column("lastapp"), pa.array(_DIALS))
    channels = _count_values(dialled) + _count_values(called)
    wanted = pa.array([name for name in channels if trunks.has(name)], pa.string())
    dialled_here, called_here = pc.is_in(dialled, wanted), pc.is_in(called, wanted)
    outgoing = pc.and_(dials, pc.or_(dialled_here, _unconnected(table, trunks)))
    left = table.filter(outgoing)
    others = table.take(pa.array(_originated(table, outgoing, dialled_here, called_here, trunks), pa.int64()))
    parts = [_marked(left, _numbers(left, trunks), originated=False)]
    parts += [_marked(others, pa.array([""] * len(others), pa.string()), originated=True)]
    return pa.concat_tables(parts), ChannelCounts(channels, _count_values(others.column("dcontext")))


def _answer_retries(table: pa.Table) -> pa.Table:
    """Mark RetryDial's rows as answered.

    When RetryDial calls a person again, that is a new call. If the first row were unanswered, the next row would be
    treated as the same call, tried again on another trunk.
    """
    retried = pc.equal(table.column("lastapp"), "RetryDial")
    at = table.column_names.index("disposition")
    disposition = pc.if_else(retried, ANSWERED, table.column("disposition"))
    return table.set_column(at, "disposition", disposition)


def _marked(table: pa.Table, called: Any, *, originated: bool) -> pa.Table:
    flags = pa.array(np.full(len(table), originated, np.bool_))
    return table.append_column("called", called).append_column("originated", flags)


def _endpoints(column: Any) -> Any:
    """Return the endpoint of each channel, such as `PJSIP/trunk`, or "" for a Local channel or no channel."""
    parts = pc.extract_regex(column, _CHANNEL)
    kind, name = pc.struct_field(parts, "kind"), pc.struct_field(parts, "name")
    return pc.fill_null(pc.binary_join_element_wise(kind, name, "/"), "")


def _count_values(column: Any) -> Counter[str]:
    counts = pc.value_counts(column)
    return Counter({row["values"]: row["counts"] for row in counts.to_pylist() if row["values"]})


def _unconnected(table: pa.Table, trunks: Trunks) -> Any:
    """Return a mask of the calls to a trunk that ended before a channel existed."""
    here = np.zeros(len(table), np.bool_)
    rows = np.flatnonzero(pc.equal(table.column("dstchannel"), "").to_numpy())
    arguments = table.column("lastdata").take(pa.array(rows)).to_pylist()
    here[rows] = [bool(_at_trunk(argument, trunks)) for argument in arguments]
    return pa.array(here)


def _at_trunk(argument: str, trunks: Trunks) -> list[str]:
    """Return the destinations in the argument of `Dial()` that use a trunk."""
    return [dest for dest in argument.partition(",")[0].split("&") if trunks.has(_endpoint(dest))]


def _endpoint(destination: str) -> str:
    match = re.match(_DESTINATION, destination)
    return f"{match['kind']}/{match['before'] or match['after']}" if match else ""


def _numbers(table: pa.Table, trunks: Trunks) -> Any:
    """Return the dialled number of each row, or "" if the row does not show which of several destinations was used."""
    argument = table.column("lastdata")
    number = pc.struct_field(pc.extract_regex(argument, _DIALLED), "number")
    called = pc.coalesce(number, table.column("dst"))
    several = np.flatnonzero(pc.match_substring(argument, "&").to_numpy())
    if not len(several):
        return called
    numbers = called.to_pylist()
    for row in several.tolist():
        here = _at_trunk(str(argument[row]), trunks)
        dialled = re.match(_DIALLED, here[0]) if len(here) == 1 else None
        numbers[row] = dialled["number"] if dialled else ""
    return pa.array(numbers, pa.string())


class _Use(NamedTuple):
    """A row that names a trunk's channel: in `channel` if `is_caller` is true, otherwise in `dstchannel`."""

    start: str
    end: str
    row: int
    is_caller: bool


def _originated(
    table: pa.Table, outgoing: Any, dialled_here: Any, called_here: Any, trunks: Trunks
) -> list[int]:
    """Return the rows of calls that Originate placed through a trunk. Dialled and incoming calls are left out."""
    undialled = pc.and_(dialled_here, pc.invert(outgoing))
    named = [table.column("channel").filter(called_here), table.column("dstchannel").filter(undialled)]
    suspects = pc.unique(
        pa.chunked_array([chunk for column in named for chunk in column.chunks], pa.string())
    )
    touched = pc.or_(called_here, pc.and_(dialled_here, pc.is_in(table.column("dstchannel"), suspects)))
    rows = np.flatnonzero(np.asarray(touched))
    by_dial, called, dialled = (np.asarray(flags)[rows] for flags in (outgoing, called_here, dialled_here))
    columns = table.select(["start", "end", "dcontext", "dst", "channel", "dstchannel"]).take(pa.array(rows))
    starts, ends, contexts, extensions, *channels = (column.to_pylist() for column in columns.columns)
    uses: dict[str, list[_Use]] = defaultdict(list)
    for names, here, is_caller in zip(channels, (called, dialled), (True, False), strict=True):
        for row in np.flatnonzero(here).tolist():
            uses[names[row]].append(_Use(starts[row], ends[row], row, is_caller))
    originated: list[int] = []
    for channel_uses in uses.values():
        until = ""
        for use in sorted(channel_uses):
            is_further, until = use.start <= until, max(until, use.end)
            is_dialled = by_dial[use.row] and not use.is_caller
            came_in = use.is_caller and _is_incoming(contexts[use.row], extensions[use.row], trunks)
            if not (is_further or is_dialled or came_in):
                originated.append(use.row)
    return sorted(rows[originated].tolist())


def _is_incoming(context: str, extension: str, trunks: Trunks) -> bool:
    """Return whether a call on the trunk is incoming.

    In an incoming context, a call whose extension is `s` or empty counts as originated. If incoming calls use the
    extension `s`, `trunks.incoming` must contain both the context and the extension, such as `ivr/s`.
    """
    if f"{context}/{extension}" in trunks.incoming:
        return True
    return context in trunks.incoming and extension not in _NO_NUMBER
