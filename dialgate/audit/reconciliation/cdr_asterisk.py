"""Asterisk's Master.csv: which rows are calls that left through a trunk, and to which number.

`lastapp` and `lastdata` alone do not say it: `RetryDial` leaves "Retrying" there, and a call that was originated at the
trunk (`channel originate PJSIP/NUMBER@trunk`, AMI, ARI, a call file) has no Dial at all. The channel names do: what is
dialled is `dstchannel`, what is originated or came in is `channel`. Read from main/cdr.c and seen on 22.10.1.
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
_IDENTIFIED: Final = ("uniqueid", "userfield")  # loguniqueid, loguserfield
_NEW: Final = ("peeraccount", "linkedid", "sequence")  # newcdrcolumns
_UNIQUEID: Final = re.compile(r"(.*-)?\d+\.\d+")
ANSWERED: Final = "ANSWERED"
_DIALS: Final = ("Dial", "RetryDial")
# The name of a channel: a technology, an endpoint, and a serial number. DAHDI puts the number between the last two.
_CHANNEL: Final = r"^(?P<kind>[A-Za-z0-9_]+)/(?P<name>[^/]+?)(?:/.*)?-[0-9a-f]+$"
# The extension may have had a prefix, so the number is read from the argument of Dial. `&` separates destinations.
_DIALLED: Final = r"^[A-Za-z0-9_]+/(?:[^,&/]*/)?(?:sips?:)?(?P<number>\+?[0-9]+)(?:@[^,&]*)?(?:,|$)"
# `PJSIP/NUMBER@trunk`, `PJSIP/trunk/sip:NUMBER@host`, `IAX2/user:secret@trunk/NUMBER`
_DESTINATION: Final = r"(?P<kind>[A-Za-z0-9_]+)/(?:[^@/]*@)?(?:(?P<before>[^/]+)/|(?P<after>[^/]+)$)"
_LOCAL: Final = "Local/"
_NO_NUMBER: Final = ("", "s")
_MANY_DIGITS: Final = re.compile(r"\d{7,}")


class Trunks(Struct, frozen=True, kw_only=True):
    """`names`: endpoints, as `trunk` or `PJSIP/trunk`; empty: every Dial counts, and nothing that was originated.
    `incoming`: contexts in which calls from these trunks end, as `dialgate-recall` or `ivr/s`."""

    names: tuple[str, ...] = ()
    incoming: tuple[str, ...] = ()

    def has(self, channel: str) -> bool:
        return channel in self.names or channel.partition("/")[2] in self.names


class Seen(Struct, frozen=True):
    """Rows by the endpoint of a channel, and calls that were originated by their context."""

    channels: Counter[str] = field(default_factory=Counter[str])
    contexts: Counter[str] = field(default_factory=Counter[str])


def column_names(first: Sequence[str]) -> list[str] | None:
    """Return the columns of a file with this first row; None if it is no Master.csv."""
    extra = len(first) - len(_COLUMNS)
    if extra not in range(len(_IDENTIFIED) + len(_NEW) + 1):
        return None
    new = _NEW if extra >= len(_NEW) else ()
    identified = extra - len(new)
    if identified == 1:
        is_id = _UNIQUEID.fullmatch(first[len(_COLUMNS)])
        return [*_COLUMNS, _IDENTIFIED[0 if is_id else 1], *new]
    return [*_COLUMNS, *_IDENTIFIED[:identified], *new]


def departed(table: pa.Table, trunks: Trunks) -> tuple[pa.Table, Seen]:
    """Select the calls that left. With trunks: what was dialled or originated there; else: every Dial.

    The table gets the columns `called` and `originated`."""
    table = _each_retry_its_own(table)
    dialled, called = _endpoints(table.column("dstchannel")), _endpoints(table.column("channel"))
    dials = pc.is_in(table.column("lastapp"), pa.array(_DIALS))
    channels = _counted(dialled) + _counted(called)
    if not trunks.names:
        left = table.filter(pc.and_(dials, pc.invert(_locals(table))))
        return _marked(left, _numbers(left, trunks), originated=False), Seen(channels)
    wanted = pa.array([name for name in channels if trunks.has(name)], pa.string())
    dialled_here, called_here = pc.is_in(dialled, wanted), pc.is_in(called, wanted)
    outgoing = pc.and_(dials, pc.or_(dialled_here, _unconnected(table, trunks)))
    left = table.filter(outgoing)
    others = table.take(pa.array(_originated(table, outgoing, dialled_here, called_here, trunks), pa.int64()))
    parts = [_marked(left, _numbers(left, trunks), originated=False)]
    parts += [_marked(others, pa.array([""] * len(others), pa.string()), originated=True)]
    return pa.concat_tables(parts), Seen(channels, _counted(others.column("dcontext")))


def masked(name: str) -> str:
    """Hide what may be a telephone number in the name of a channel or a context."""
    return _MANY_DIGITS.sub("…", name)


def _each_retry_its_own(table: pa.Table) -> pa.Table:
    """RetryDial rings the same person again: a further row of it must not pass for a call that goes on to another trunk."""
    retried = pc.equal(table.column("lastapp"), "RetryDial")
    at = table.column_names.index("disposition")
    ended = pc.if_else(retried, ANSWERED, table.column("disposition"))
    return table.set_column(at, "disposition", ended)


def _marked(table: pa.Table, called: Any, *, originated: bool) -> pa.Table:
    flags = pa.array(np.full(len(table), originated, np.bool_))
    return table.append_column("called", called).append_column("originated", flags)


def _endpoints(column: Any) -> Any:
    """`PJSIP/trunk` of `PJSIP/trunk-0000002a`; empty where there is no channel, or a Local one."""
    parts = pc.extract_regex(column, _CHANNEL)
    kind, name = pc.struct_field(parts, "kind"), pc.struct_field(parts, "name")
    return pc.fill_null(pc.binary_join_element_wise(kind, name, "/"), "")


def _counted(column: Any) -> Counter[str]:
    counts = pc.value_counts(column)
    return Counter({each["values"]: each["counts"] for each in counts.to_pylist() if each["values"]})


def _locals(table: pa.Table) -> Any:
    """A Local channel leaves nothing: what it leads to has a row of its own."""
    dialled, argument = table.column("dstchannel"), table.column("lastdata")
    return pc.starts_with(pc.if_else(pc.equal(dialled, ""), argument, dialled), _LOCAL)


def _unconnected(table: pa.Table, trunks: Trunks) -> Any:
    """Calls that ended before they had a channel, by the trunk in Dial's argument."""
    here = np.zeros(len(table), np.bool_)
    rows = np.flatnonzero(pc.equal(table.column("dstchannel"), "").to_numpy())
    arguments = table.column("lastdata").take(pa.array(rows)).to_pylist()
    here[rows] = [bool(_at_trunk(each, trunks)) for each in arguments]
    return pa.array(here)


def _at_trunk(argument: str, trunks: Trunks) -> list[str]:
    """The destinations of Dial's argument that are at a trunk."""
    return [each for each in argument.partition(",")[0].split("&") if trunks.has(_endpoint(each))]


def _endpoint(destination: str) -> str:
    found = re.match(_DESTINATION, destination)
    return f"{found['kind']}/{found['before'] or found['after']}" if found else ""


def _numbers(table: pa.Table, trunks: Trunks) -> Any:
    """What was dialled; nothing where several numbers were and the trunk does not say which."""
    argument = table.column("lastdata")
    found = pc.struct_field(pc.extract_regex(argument, _DIALLED), "number")
    called = pc.coalesce(found, table.column("dst"))
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
    """A row in which a channel of a trunk was used."""

    start: str
    end: str
    row: int
    is_caller: bool


def _originated(
    table: pa.Table, outgoing: Any, dialled_here: Any, called_here: Any, trunks: Trunks
) -> list[int]:
    """Return the rows of calls at a trunk that no Dial placed and that did not come in; one row for each channel."""
    undialled = pc.and_(dialled_here, pc.invert(outgoing))
    named = [table.column("channel").filter(called_here), table.column("dstchannel").filter(undialled)]
    suspects = pc.unique(
        pa.chunked_array([chunk for column in named for chunk in column.chunks], pa.string())
    )
    touched = pc.or_(called_here, pc.and_(dialled_here, pc.is_in(table.column("dstchannel"), suspects)))
    rows = np.flatnonzero(np.asarray(touched))
    by_dial, called, dialled = (np.asarray(each)[rows] for each in (outgoing, called_here, dialled_here))
    columns = table.select(["start", "end", "dcontext", "dst", "channel", "dstchannel"]).take(pa.array(rows))
    starts, ends, contexts, extensions, *channels = (each.to_pylist() for each in columns.columns)
    uses: dict[str, list[_Use]] = defaultdict(list)
    for names, here, is_caller in zip(channels, (called, dialled), (True, False), strict=True):
        for row in np.flatnonzero(here).tolist():
            uses[names[row]].append(_Use(starts[row], ends[row], row, is_caller))
    found: list[int] = []
    for channel_uses in uses.values():
        until = ""
        for use in sorted(channel_uses):
            is_further, until = use.start <= until, max(until, use.end)
            is_dialled = by_dial[use.row] and not use.is_caller
            came_in = use.is_caller and _came_in(contexts[use.row], extensions[use.row], trunks)
            if not (is_further or is_dialled or came_in):
                found.append(use.row)
    return sorted(rows[found].tolist())


def _came_in(context: str, extension: str, trunks: Trunks) -> bool:
    """Whether a call at the trunk came from there. An originated one has the trunk's context too, but the extension `s`."""
    if f"{context}/{extension}" in trunks.incoming:
        return True
    return context in trunks.incoming and extension not in _NO_NUMBER
