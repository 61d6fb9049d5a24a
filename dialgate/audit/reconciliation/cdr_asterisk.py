"""A filter for Asterisk's Master.csv that finds the calls that left through a trunk, and their called numbers.

The `lastapp` and `lastdata` columns are not enough. `RetryDial` writes "Retrying" there, and an originated call
(`channel originate PJSIP/NUMBER@trunk`, AMI, ARI, a call file) has no Dial at all. The channel names are reliable: a
dialled channel is in `dstchannel`, an originated or incoming one in `channel`. Source: main/cdr.c; checked with
Asterisk 22.10.1.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct, field

_COLUMNS: Final = (
    "accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata", "start", "answer",
    "end", "duration", "billsec", "disposition", "amaflags",
)  # fmt: skip
_IDENTIFIERS: Final = ("uniqueid", "userfield")  # written if loguniqueid, loguserfield are on
_NEW: Final = ("peeraccount", "linkedid", "sequence")  # written if newcdrcolumns is on
ADDED: Final = ["called"]  # by `departed`
_UNIQUEID: Final = re.compile(r"(.*-)?\d+\.\d+")
ANSWERED: Final = "ANSWERED"
_DIALS: Final = ("Dial", "RetryDial")
# A channel's name: technology, endpoint, serial number. DAHDI puts the called number between the last two.
_CHANNEL: Final = re.compile(r"(?P<kind>[A-Za-z0-9_]+)/(?P<name>[^/]+?)(?:/.*)?-[0-9a-f]+")
# The number is read from Dial's argument, because the extension may have a prefix. `&` separates destinations.
# A carrier's prefix ends in `#` or `*`; `w` is a pause.
_DIALLED: Final = re.compile(
    r"[A-Za-z0-9_]+/(?:[^,&/]*/)?(?:sips?:|tel:)?(?:[0-9]*[#*]|[wW])*(?P<number>\+?[0-9]+)(?:[;@][^,&]*)?(?:,|$)"
)
# `PJSIP/NUMBER@trunk`, `PJSIP/trunk/sip:NUMBER@host`, `IAX2/user:secret@trunk/NUMBER`
_DESTINATION: Final = re.compile(
    r"(?P<kind>[A-Za-z0-9_]+)/(?:[^@/]*@)?(?:(?P<before>[^/]+)/|(?P<after>[^/]+)$)"
)
_NO_NUMBER: Final = ("", "s")

Cells: TypeAlias = dict[str, str]  # of a row, by column


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


class _Use(NamedTuple):
    """A row that names a trunk's channel. `call` is empty if the row alone explains the channel."""

    start: str
    end: str
    line: int
    call: Cells


def column_names(first: Sequence[str]) -> list[str]:
    """Return the column names for a file with this first row, or an empty list if it is not a Master.csv."""
    extra = len(first) - len(_COLUMNS)
    if extra not in range(len(_IDENTIFIERS) + len(_NEW) + 1):
        return []
    new = _NEW if extra >= len(_NEW) else ()
    identifiers = extra - len(new)
    if identifiers == 1:
        is_id = _UNIQUEID.fullmatch(first[len(_COLUMNS)])
        return [*_COLUMNS, _IDENTIFIERS[0 if is_id else 1], *new]
    return [*_COLUMNS, *_IDENTIFIERS[:identifiers], *new]


def departed(
    rows: Iterable[tuple[int, Cells]], trunks: Trunks, seen: ChannelCounts
) -> Iterator[tuple[int, Cells]]:
    """Yield the rows of calls that left through a trunk, with the cell `called`. Count all channels in `seen`.

    The calls that Originate placed through a trunk come last, with the cell `originated`.
    """
    uses: dict[str, list[_Use]] = defaultdict(list)
    for line, row in rows:
        cells = _answer_retries(row)
        dialled, caller = _endpoint_of_channel(cells["dstchannel"]), _endpoint_of_channel(cells["channel"])
        seen.channels.update(filter(None, (dialled, caller)))
        is_here = trunks.has(dialled)
        # A call that ended before a channel existed shows the trunk only in Dial's argument.
        is_unconnected = not cells["dstchannel"] and bool(_at_trunk(cells["lastdata"], trunks))
        is_dialled = cells["lastapp"] in _DIALS and (is_here or is_unconnected)
        if is_dialled:
            yield line, cells | {"called": _number(cells, trunks)}
        use = _Use(cells["start"], cells["end"], line, cells)
        if is_here:
            uses[cells["dstchannel"]].append(use._replace(call={}) if is_dialled else use)
        if trunks.has(caller):
            uses[cells["channel"]].append(use._replace(call={}) if _is_incoming(cells, trunks) else use)
    for line, cells in _originated(uses.values()):
        seen.contexts[cells["dcontext"]] += 1
        yield line, cells | {"called": "", "originated": ""}


def _originated(uses: Iterable[list[_Use]]) -> Iterator[tuple[int, Cells]]:
    """Yield the row that first names each channel, unless the row dialled the channel or is an incoming call."""
    for channel_uses in uses:
        until = ""
        for use in sorted(channel_uses, key=lambda use: use[:3]):
            is_further, until = use.start <= until, max(until, use.end)
            if use.call and not is_further:
                yield use.line, use.call


def _answer_retries(cells: Cells) -> Cells:
    """Mark RetryDial's rows as answered.

    When RetryDial calls a person again, that is a new call. If the first row were unanswered, the next row would be
    treated as the same call, tried again on another trunk.
    """
    return cells | {"disposition": ANSWERED} if cells["lastapp"] == "RetryDial" else cells


def _endpoint_of_channel(channel: str) -> str:
    """Return the endpoint of a channel, such as `PJSIP/trunk`, or "" for a Local channel or no channel."""
    match = _CHANNEL.fullmatch(channel)
    return f"{match['kind']}/{match['name']}" if match else ""


def _at_trunk(argument: str, trunks: Trunks) -> list[str]:
    """Return the destinations in the argument of `Dial()` that use a trunk."""
    return [dest for dest in argument.partition(",")[0].split("&") if trunks.has(_endpoint(dest))]


def _endpoint(destination: str) -> str:
    match = _DESTINATION.match(destination)
    return f"{match['kind']}/{match['before'] or match['after']}" if match else ""


def _number(cells: Cells, trunks: Trunks) -> str:
    """Return the dialled number, or "" if the row does not show which of several destinations was used."""
    argument = cells["lastdata"]
    if "&" in argument:
        here = _at_trunk(argument, trunks)
        dialled = _DIALLED.match(here[0]) if len(here) == 1 else None
        return dialled["number"] if dialled else ""
    dialled = _DIALLED.match(argument)
    return dialled["number"] if dialled else cells["dst"]


def _is_incoming(cells: Cells, trunks: Trunks) -> bool:
    """Return whether a call on the trunk is incoming.

    In an incoming context, a call whose extension is `s` or empty counts as originated. If incoming calls use the
    extension `s`, `trunks.incoming` must contain both the context and the extension, such as `ivr/s`.
    """
    context, extension = cells["dcontext"], cells["dst"]
    if f"{context}/{extension}" in trunks.incoming:
        return True
    return context in trunks.incoming and extension not in _NO_NUMBER
