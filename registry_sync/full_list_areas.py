"""The areas of a full list, and the functions that choose the files for an area and read its new numbers.

An area is the range of numbers under one prefix of E.164 digits; each area has its own version. The functions
are pure, apart from reading the registry's files and the published number set.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from dialgate.core import local_time
from dialgate.core.model import HOUR, Instant
from dialgate.core.numbering_plan import NumberingPlan
from dialgate.lists.number_set import NumberSet, Tags
from dialgate.lists.snapshot import Consultation, Contents, State
from registry_sync.answer_merge import MAX_STATES
from registry_sync.formats import dnc
from registry_sync.formats.text import Bytes, Days, Mask, Numbers
from registry_sync.import_checks import ImportRefused, utc

EMPTY: Final = np.empty(0, np.uint64)


class Area(NamedTuple):
    """The numbers under a prefix, as half-open ranges.

    A prefix has one range for each number length that is possible in its country.
    """

    prefix: str
    ranges: tuple[tuple[int, int], ...]


class FullSet(NamedTuple):
    """All numbers in an area, which replace the area's old numbers.

    A dense area has `bits`, one for each number from `begin`. Otherwise the sorted numbers are in `numbers`.
    `days` contains the registration days of the numbers, if known.
    """

    begin: int
    bits: Bytes | None
    numbers: Numbers
    days: Days | None = None

    def total(self) -> int:
        return (
            len(self.numbers) if self.bits is None else int(np.bitwise_count(self.bits).sum(dtype=np.int64))
        )

    def all(self) -> Numbers:
        if self.bits is None:
            return self.numbers
        offsets: Numbers = np.flatnonzero(np.unpackbits(self.bits, bitorder="little")).astype(np.uint64)
        return offsets + np.uint64(self.begin)


class Patch(NamedTuple):
    """Numbers to add and to remove, both sorted and disjoint."""

    added: Numbers
    removed: Numbers


class Update(NamedTuple):
    """A change to one area, with the consultation record for its new version.

    `added` and `removed` are counts of numbers.
    """

    prefix: str
    consultation: Consultation
    change: FullSet | Patch
    added: int
    removed: int


class File(NamedTuple):
    """A file in the source.

    `since` is the version to which a change file applies, and None for a full file.
    """

    name: str
    prefix: str
    version: Instant
    since: Instant | None


def version_instant(day: date, zone: str = "") -> Instant:
    """Return the instant at which the day begins in `zone`.

    Without a zone, return the earliest instant at which the day can begin in the UK or the US. This is one hour before
    midnight UTC, because British summer time is UTC+1.
    """
    if zone:
        return local_time.midnight(zone, day)
    return local_time.midnight("UTC", day) - HOUR


def version_day(version: Instant, zone: str = "") -> date:
    return local_time.day_in(zone or "UTC", version if zone else version + HOUR)


def build_area(prefix: str, plan: NumberingPlan) -> Area:
    lengths = (len(plan.country_code) + length - len(prefix) for length in plan.lengths)
    scales = [10**length for length in lengths if length >= 0]
    return Area(prefix, tuple((int(prefix) * scale, (int(prefix) + 1) * scale) for scale in scales))


# ---- versions --------------------------------------------------------------------------------------------------------


def area_versions(contents: Contents) -> dict[str, Instant]:
    """Return the version of each covered area, by prefix."""
    return {
        prefix: consultation.submitted_at for prefix, consultation in _area_consultations(contents).items()
    }


def _area_consultations(contents: Contents) -> dict[str, Consultation]:
    return {
        prefix: contents.consultations[at]
        for prefix, at in zip(contents.coverage, contents.covered_by, strict=True)
    }


def choose_chain(current: Instant, files: list[File]) -> list[File]:
    """Return the files that lead from the `current` version to the newest one.

    Of two chains to the same version, the one with fewer files wins. If both are equally long, the one
    without a full file wins.
    """
    fulls = [file for file in files if file.since is None and file.version > current]
    chains = [_follow_changes(current, files)] if current else []
    chains += [[full, *_follow_changes(full.version, files)] for full in fulls]

    def preference(chain: list[File]) -> tuple[Instant, int]:
        return chain[-1].version if chain else current, -len(chain)

    # `max` returns the first of equal chains, and the chain without a full file is the first of all.
    return max(chains, key=preference, default=[])


def _follow_changes(version: Instant, files: list[File]) -> list[File]:
    chain: list[File] = []
    while applicable := [
        file for file in files if file.since is not None and file.since <= version < file.version
    ]:
        chain.append(max(applicable, key=lambda file: file.version))
        version = chain[-1].version
    return chain


def describe_gap(prefix: str, end: Instant, unreachable: list[File]) -> str:
    first = min(unreachable, key=lambda file: file.version)
    if not end:
        return f"{first.name}: there is no full file to which the changes for area {prefix} apply. Get a full file"
    return f"{first.name}: a gap in the changes for area {prefix} after {utc(end)}. Get a full file"


def replace_areas(contents: Contents, new: Mapping[str, Update], subscribed: Iterable[str]) -> Contents:
    """Return the contents with the updated areas.

    Areas that are no longer subscribed are dropped, and so are consultations that no area uses.
    """
    updated = {prefix: update.consultation for prefix, update in new.items()}
    by_area = _area_consultations(contents) | updated
    kept = set(subscribed)
    by_area = {prefix: consultation for prefix, consultation in sorted(by_area.items()) if prefix in kept}
    consultations = tuple(dict.fromkeys(by_area.values()))
    index = {consultation: at for at, consultation in enumerate(consultations)}
    newest = max(range(len(consultations)), key=lambda at: consultations[at].submitted_at, default=0)
    listed_at = consultations[newest].submitted_at if consultations else 0
    return msgspec.structs.replace(
        contents,
        consultations=consultations,
        states=(State(answer="listed", consultation=newest, listed_at=listed_at),) if consultations else (),
        coverage=tuple(by_area),
        covered_by=tuple(index[consultation] for consultation in by_area.values()),
    )


def tag_days(contents: Contents, days: Days, zone: str) -> tuple[Contents, Tags]:
    """Replace the single state of a one-area list with one state for each registration day.

    Return the new contents, and a tag for each number: the index of the number's state. Raises Refused if there are
    more days than a 16-bit tag can represent.
    """
    distinct_days, tags = np.unique(days, return_inverse=True)
    if len(distinct_days) > MAX_STATES:
        raise ImportRefused(f"{len(distinct_days):,} registration days exceed the limit of {MAX_STATES:,}")
    (state,) = contents.states
    ends = (version_instant(date.fromordinal(day + 1), zone) - 1 for day in distinct_days.tolist())
    states = tuple(msgspec.structs.replace(state, since=end) for end in ends)
    return msgspec.structs.replace(contents, states=states), tags.astype(np.uint16)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def old_numbers(area: Area, old: NumberSet | None) -> Iterator[Numbers]:
    if old is not None:
        for begin, end in area.ranges:
            yield from old.spans(begin, end)


def merge_areas(
    areas: Iterable[Area], old: NumberSet | None, new: Mapping[str, Update], covered: set[str]
) -> Iterator[Numbers]:
    """Yield the numbers in all covered areas in ascending order.

    Areas do not overlap, so sorting their ranges is enough.
    """
    bounds = sorted(
        (begin, end, area.prefix) for area in areas if area.prefix in covered for begin, end in area.ranges
    )
    for begin, end, prefix in bounds:
        change = new[prefix].change if prefix in new else Patch(EMPTY, EMPTY)
        if isinstance(change, FullSet):
            yield slice_between(change.all(), begin, end)
        else:
            yield from _patch_range(begin, end, old, change)


def slice_between(numbers: Numbers, begin: int, end: int) -> Numbers:
    first, last = np.searchsorted(numbers, np.array([begin, end], np.uint64))
    return numbers[first:last]


def _patch_range(begin: int, end: int, old: NumberSet | None, patch: Patch) -> Iterator[Numbers]:
    """Patch the old numbers in a range, and yield the new numbers in sorted chunks."""
    at = begin
    for run in old.spans(begin, end) if old is not None else ():
        if len(run):
            until = int(run[-1]) + 1
            yield apply_patch(
                run, slice_between(patch.added, at, until), slice_between(patch.removed, at, until)
            )
            at = until
    yield slice_between(patch.added, at, end)


def apply_patch(run: Numbers, added: Numbers, removed: Numbers) -> Numbers:
    if len(removed):
        run = np.delete(run, np.searchsorted(run, removed))
    if len(added):
        run = np.insert(run, np.searchsorted(run, added), added)
    return run


# ---- reading ---------------------------------------------------------------------------------------------------------


class FileContents(NamedTuple):
    """The contents of an area's files.

    `sums` contains the SHA-256 of each file's text, and `lines` counts the lines of all files.
    """

    change: FullSet | Patch
    sums: list[str]
    lines: int


def read_update(
    area: Area,
    files: list[tuple[File, Path]],
    old: NumberSet | None,
    read_full: Callable[[Area, File, Path], FileContents],
) -> Update:
    """Read a chain of files, and return the change to the area. Raises FaultyFile and OSError."""
    if files[0][0].since is not None:
        contents = _read_changes(area, files, lambda numbers: _contains(numbers, old))
    else:
        contents = read_full(area, *files[0])
        if files[1:]:
            contents = _apply_changes(area, contents, files[1:])
    change = contents.change
    if isinstance(change, Patch):
        added, removed = len(change.added), len(change.removed)
    else:
        added, removed = _count_added_and_removed(area, old, change)
    return Update(area.prefix, _build_consultation(area, files[-1][0], contents), change, added, removed)


def _apply_changes(area: Area, full: FileContents, files: list[tuple[File, Path]]) -> FileContents:
    assert isinstance(full.change, FullSet), "read from a full file"
    base = full.change.all()
    changes = _read_changes(area, files, lambda numbers: np.isin(numbers, base))
    assert isinstance(changes.change, Patch), "read from change files"
    now = FullSet(0, None, apply_patch(base, *changes.change))
    return FileContents(now, full.sums + changes.sums, full.lines + changes.lines)


def _read_changes(
    area: Area, files: list[tuple[File, Path]], contains: Callable[[Numbers], Mask]
) -> FileContents:
    """Combine change files into one patch. `contains` returns a mask of the numbers that are listed now.

    The latest change of a number counts, because a file can remove a number and add it again. If an addition and a
    deletion have the same time, the addition counts, because it forbids calls.
    """
    records = [dnc.read_changes(path, area.prefix) for _, path in files]
    numbers = np.concatenate([file.numbers for file in records])
    times = np.concatenate([file.times for file in records])
    added = np.concatenate([file.added for file in records])
    order = np.lexsort((added, times, numbers))
    numbers, added = numbers[order], added[order]
    last = np.ones(len(numbers), np.bool_)
    last[:-1] = numbers[1:] != numbers[:-1]
    numbers, added = numbers[last], added[last]
    is_listed = contains(numbers)
    patch = Patch(numbers[added & ~is_listed], numbers[~added & is_listed])
    return FileContents(patch, [file.sha256 for file in records], len(times))


def _contains(numbers: Numbers, old: NumberSet | None) -> Mask:
    return np.array([old is not None and number in old for number in numbers.tolist()], np.bool_)


def _count_added_and_removed(area: Area, old: NumberSet | None, new: FullSet) -> tuple[int, int]:
    before = np.concatenate([EMPTY, *old_numbers(area, old)])
    stay = len(np.intersect1d(before, new.all(), assume_unique=True)) if len(before) else 0
    return new.total() - stay, len(before) - stay


def _build_consultation(area: Area, last: File, contents: FileContents) -> Consultation:
    digest = (
        contents.sums[0] if len(contents.sums) == 1 else sha256("\n".join(contents.sums).encode()).hexdigest()
    )
    return Consultation(
        id=sha256(f"{area.prefix}\n{last.version}\n{digest}".encode()).hexdigest()[:16],
        submitted_at=last.version,
        answered_at=0,
        imported_at=0,
        receipt=last.name,
        request_sha256="",
        answer_sha256=digest,
        lines=contents.lines,
        listed=0,
        clear=0,
    )
