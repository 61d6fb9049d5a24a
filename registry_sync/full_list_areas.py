"""The areas of a full list: which files lead an area to a newer version, what they make of its numbers.

An area is what one prefix of E.164 digits covers; each has a version of its own. Pure but for reading the files and the
mapped set that is replaced.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.lists.number_set import NumberSet
from dialgate.lists.snapshot import Consultation, Contents, State
from registry_sync.config import Format
from registry_sync.formats import dnc, text, tps
from registry_sync.formats.text import Bytes, Mask, Numbers
from registry_sync.import_checks import utc

Bar: TypeAlias = Callable[[str, int], Callable[[int], None]]
EMPTY: Final = np.empty(0, np.uint64)


class Area(NamedTuple):
    """The numbers that a prefix covers: from `begin` on and below `end`. British numbers have 9 or 10 digits after the
    country code, so that a prefix covers two ranges of numbers; `ranges` are all."""

    prefix: str
    ranges: tuple[tuple[int, int], ...]


class Everybody(NamedTuple):
    """Takes an area's place. Of a dense area one bit a number, from `begin` on; else the numbers themselves, rising."""

    begin: int
    bits: Bytes | None
    numbers: Numbers

    def total(self) -> int:
        return (
            len(self.numbers) if self.bits is None else int(np.bitwise_count(self.bits).sum(dtype=np.int64))
        )

    def all(self) -> Numbers:
        if self.bits is None:
            return self.numbers
        found: Numbers = np.flatnonzero(np.unpackbits(self.bits, bitorder="little")).astype(np.uint64)
        return found + np.uint64(self.begin)


class Patch(NamedTuple):
    """Numbers that come and that go, both rising; none stands in both."""

    added: Numbers
    removed: Numbers


class Update(NamedTuple):
    """What an area becomes, and the version it then has."""

    prefix: str
    consultation: Consultation
    what: Everybody | Patch
    added: int
    removed: int


class File(NamedTuple):
    """A file that is there to be taken. `since`: of changes; of a full file None."""

    name: str
    prefix: str
    version: Instant
    since: Instant | None


def version_of(day: date) -> Instant:
    """The earliest that the day may have begun where the registry is: an hour before UTC's, in British summer."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND - HOUR


def area_of(prefix: str, format_: Format) -> Area:
    """Where the numbers of a prefix lie. A prefix of `us_dnc` is an area code: 1AAA and seven digits."""
    lengths = (11,) if format_ == "us_dnc" else (11, 12)
    ranges = [
        (int(prefix) * 10 ** (length - len(prefix)), (int(prefix) + 1) * 10 ** (length - len(prefix)))
        for length in lengths
    ]
    return Area(prefix, tuple(ranges))


# ---- versions --------------------------------------------------------------------------------------------------------


def versions(contents: Contents) -> dict[str, Instant]:
    """Of each area that is covered."""
    return {
        prefix: contents.consultations[at].submitted_at
        for prefix, at in zip(contents.coverage, contents.covered_by, strict=True)
    }


def chain(held: Instant, files: list[File]) -> list[File]:
    """The files that lead to the newest version; of two ways the one with fewer files, or without a full one."""
    fulls = [file for file in files if file.since is None and file.version > held]
    ways = [_follow(held, files)] if held else []
    ways += [[full, *_follow(full.version, files)] for full in fulls]
    return max(
        ways, key=lambda way: (way[-1].version if way else held, -len(way), not _is_full(way)), default=[]
    )


def _is_full(way: list[File]) -> bool:
    return bool(way) and way[0].since is None


def _follow(version: Instant, files: list[File]) -> list[File]:
    way: list[File] = []
    while next_ := [
        file for file in files if file.since is not None and file.since <= version < file.version
    ]:
        way.append(max(next_, key=lambda file: file.version))
        version = way[-1].version
    return way


def gap(prefix: str, end: Instant, beyond: list[File]) -> str:
    first = min(beyond, key=lambda file: file.version)
    if not end:
        return f"{first.name}: changes without a full file of area {prefix}: get one"
    return (
        f"{first.name}: a gap in the changes of area {prefix}, of which {utc(end)} is held: get a full file"
    )


def renewed(contents: Contents, new: Mapping[str, Update], subscribed: Iterable[str]) -> Contents:
    """Areas without a version are not covered; consultations that no area has any more are left out."""
    by_area = {
        prefix: contents.consultations[at]
        for prefix, at in zip(contents.coverage, contents.covered_by, strict=True)
    } | {prefix: update.consultation for prefix, update in new.items()}
    by_area = {prefix: each for prefix, each in sorted(by_area.items()) if prefix in set(subscribed)}
    consultations = tuple(dict.fromkeys(by_area.values()))
    place = {each: at for at, each in enumerate(consultations)}
    newest = max(range(len(consultations)), key=lambda at: consultations[at].submitted_at, default=0)
    listed_at = consultations[newest].submitted_at if consultations else 0
    return msgspec.structs.replace(
        contents,
        consultations=consultations,
        states=(State(answer="listed", consultation=newest, listed_at=listed_at),) if consultations else (),
        coverage=tuple(by_area),
        covered_by=tuple(place[each] for each in by_area.values()),
    )


# ---- numbers ---------------------------------------------------------------------------------------------------------


def standing(area: Area, old: NumberSet | None) -> Iterator[Numbers]:
    if old is not None:
        for begin, end in area.ranges:
            yield from old.spans(begin, end)


def everything(
    areas: Iterable[Area], old: NumberSet | None, new: Mapping[str, Update], covered: set[str]
) -> Iterator[Numbers]:
    """Every area's numbers, rising: areas lie apart, so their ranges are taken in order."""
    pieces = sorted(
        (begin, end, area.prefix) for area in areas if area.prefix in covered for begin, end in area.ranges
    )
    for begin, end, prefix in pieces:
        what = new[prefix].what if prefix in new else Patch(EMPTY, EMPTY)
        if isinstance(what, Everybody):
            yield between(what.all(), begin, end)
        else:
            yield from _patched(begin, end, old, what)


def between(numbers: Numbers, begin: int, end: int) -> Numbers:
    first, last = np.searchsorted(numbers, np.array([begin, end], np.uint64))
    return numbers[first:last]


def _patched(begin: int, end: int, old: NumberSet | None, patch: Patch) -> Iterator[Numbers]:
    """The old numbers in runs; what is added comes with the run it lies before or in."""
    at = begin
    for run in old.spans(begin, end) if old is not None else ():
        if len(run):
            until = int(run[-1]) + 1
            yield apply(run, between(patch.added, at, until), between(patch.removed, at, until))
            at = until
    yield between(patch.added, at, end)


def apply(run: Numbers, added: Numbers, removed: Numbers) -> Numbers:
    if len(removed):
        run = np.delete(run, np.searchsorted(run, removed))
    if len(added):
        run = np.insert(run, np.searchsorted(run, added), added)
    return run


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Told(NamedTuple):
    """What files say, the sums of their texts, and how many lines they have."""

    what: Everybody | Patch
    sums: list[str]
    lines: int


def read(
    area: Area, format_: Format, files: list[tuple[File, Path]], old: NumberSet | None, bar: Bar
) -> Update:
    """`files`: a chain. Raises FaultyFile, OSError."""
    if files[0][0].since is not None:
        told = _changed(area, files, lambda numbers: _standing_of(numbers, old))
    else:
        told = _full(area, format_, files[0][1], bar)
        if files[1:]:
            told = _renew(area, told, files[1:])
    if isinstance(told.what, Patch):
        added, removed = len(told.what.added), len(told.what.removed)
    else:
        added, removed = _difference(area, old, told.what)
    return Update(area.prefix, _consultation(area, files[-1][0], told), told.what, added, removed)


def _full(area: Area, format_: Format, path: Path, bar: Bar) -> _Told:
    advance = bar(path.name, text.size(path))
    if format_ == "us_dnc":
        dense = dnc.read_full(path, area.prefix, advance)
        return _Told(Everybody(area.ranges[0][0], dense.bits, EMPTY), [dense.sha256], dense.lines)
    found = tps.read(path, advance, spaced=format_ == "tps_spaced")
    numbers = np.concatenate([between(found.numbers, *each) for each in area.ranges])
    return _Told(Everybody(0, None, numbers), [found.sha256], found.lines)


def _renew(area: Area, full: _Told, files: list[tuple[File, Path]]) -> _Told:
    assert isinstance(full.what, Everybody), "it is a full file's"
    base = full.what.all()
    changed = _changed(area, files, lambda numbers: np.isin(numbers, base))
    assert isinstance(changed.what, Patch), "it is that of change files"
    now = Everybody(0, None, apply(base, *changed.what))
    return _Told(now, full.sums + changed.sums, full.lines + changed.lines)


def _changed(area: Area, files: list[tuple[File, Path]], there: Callable[[Numbers], Mask]) -> _Told:
    """What the changes come to against what is there, in the order of time: a number may go and come again in one file.
    Of one instant's A and D the A stands, which forbids."""
    told = [dnc.read_changes(path, area.prefix) for _, path in files]
    numbers = np.concatenate([each.numbers for each in told])
    times = np.concatenate([each.times for each in told])
    added = np.concatenate([each.added for each in told])
    order = np.lexsort((added, times, numbers))
    numbers, added = numbers[order], added[order]
    last = np.ones(len(numbers), np.bool_)
    last[:-1] = numbers[1:] != numbers[:-1]
    numbers, added = numbers[last], added[last]
    known = there(numbers)
    patch = Patch(numbers[added & ~known], numbers[~added & known])
    return _Told(patch, [each.sha256 for each in told], len(times))


def _standing_of(numbers: Numbers, old: NumberSet | None) -> Mask:
    return np.array([old is not None and number in old for number in numbers.tolist()], np.bool_)


def _difference(area: Area, old: NumberSet | None, new: Everybody) -> tuple[int, int]:
    """How many numbers come, and how many go."""
    before = np.concatenate([EMPTY, *standing(area, old)])
    stay = len(np.intersect1d(before, new.all(), assume_unique=True)) if len(before) else 0
    return new.total() - stay, len(before) - stay


def _consultation(area: Area, last: File, told: _Told) -> Consultation:
    digest = told.sums[0] if len(told.sums) == 1 else sha256("\n".join(told.sums).encode()).hexdigest()
    return Consultation(
        id=sha256(f"{area.prefix}\n{last.version}\n{digest}".encode()).hexdigest()[:16],
        submitted_at=last.version,
        answered_at=0,
        imported_at=0,
        receipt=last.name,
        request_sha256="",
        answer_sha256=digest,
        lines=told.lines,
        listed=0,
        clear=0,
    )
