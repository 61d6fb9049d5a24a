"""The areas of a full list, and the functions that compute their new contents.

An area is the range of numbers under one prefix of E.164 digits; each area has its own version. The functions
are pure, apart from reading the registry's files and the published number set.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
import numpy as np

from dialgate.core import local_time
from dialgate.core.model import HOUR, Instant
from dialgate.core.numbering_plan import NumberingPlan
from dialgate.lists.number_set import NumberSet, Tags
from dialgate.lists.snapshot import Consultation, Contents, State
from registry_sync.answer_merge import MAX_STATES
from registry_sync.formats.text import Bytes, Days, Numbers
from registry_sync.import_checks import ImportRefused

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


class Update(NamedTuple):
    """A change to one area, with the consultation record for its new version.

    `added` and `removed` are counts of numbers.
    """

    prefix: str
    consultation: Consultation
    new: FullSet
    added: int
    removed: int


class File(NamedTuple):
    """A file in the source. `is_change` is true for a file of changes, which is not read."""

    name: str
    prefix: str
    version: Instant
    is_change: bool = False


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
        if prefix in new:
            yield slice_between(new[prefix].new.all(), begin, end)
        elif old is not None:
            yield from old.spans(begin, end)


def slice_between(numbers: Numbers, begin: int, end: int) -> Numbers:
    first, last = np.searchsorted(numbers, np.array([begin, end], np.uint64))
    return numbers[first:last]


# ---- reading ---------------------------------------------------------------------------------------------------------


class FileContents(NamedTuple):
    """The contents of an area's file. `sha256` is the hash of its text, and `lines` counts its lines."""

    numbers: FullSet
    sha256: str
    lines: int


def build_update(
    area: Area, file: File, contents: FileContents, old: NumberSet | None, now: Instant
) -> Update:
    """Return the change to the area that its new file makes."""
    before = np.concatenate([EMPTY, *old_numbers(area, old)])
    new = contents.numbers
    stay = len(np.intersect1d(before, new.all(), assume_unique=True)) if len(before) else 0
    consultation = Consultation(
        id=sha256(f"{area.prefix}\n{file.version}\n{contents.sha256}".encode()).hexdigest()[:16],
        submitted_at=file.version,
        answered_at=0,
        imported_at=now,
        receipt=file.name,
        request_sha256="",
        answer_sha256=contents.sha256,
        lines=contents.lines,
        listed=0,
        clear=0,
    )
    return Update(area.prefix, consultation, new, new.total() - stay, len(before) - stay)
