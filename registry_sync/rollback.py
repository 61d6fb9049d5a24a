"""What two publications differ in, and the way back to an earlier one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from dialgate.core.model import Instant
from dialgate.lists.number_set import BLOCK, BLOCKS, NumberSet
from dialgate.lists.snapshot import Entry, Manifest
from registry_sync import publication, release_holds
from registry_sync.answer_merge import Current
from registry_sync.formats.text import Mask, Numbers
from registry_sync.import_checks import Refused
from registry_sync.publication import Press

SPAN = BLOCK * BLOCKS
_NONE = Entry(registry="", controller="", mode="answers", file="", sha256="", numbers=0)


class Difference(Struct, frozen=True, kw_only=True):
    """Of one registry and controller. `added` and `removed` count numbers that have an answer in one of the two only;
    of a full list, those that are listed in one only. `freed`: numbers that were listed before and are not after."""

    registry: str
    controller: str
    before: int
    after: int
    added: int = 0
    removed: int = 0
    newly_listed: int = 0
    newly_clear: int = 0
    freed: int = 0
    consultations: tuple[str, ...] = ()


def differences(folder: Path, old: Manifest, new: Manifest) -> list[Difference]:
    """Raises DamagedFile, OSError."""
    names = sorted({(file.registry, file.controller) for each in (old, new) for file in each.files})
    return [
        _difference(folder, name, publication.entry_of(old, *name), publication.entry_of(new, *name))
        for name in names
    ]


def _difference(folder: Path, name: tuple[str, str], old: Entry | None, new: Entry | None) -> Difference:
    found = Difference(
        registry=name[0],
        controller=name[1],
        before=old.numbers if old else 0,
        after=new.numbers if new else 0,
    )
    if old is not None and new is not None and old.sha256 == new.sha256:
        return found
    if (old or new or _NONE).mode == "full_list":
        added, removed = _compare_lists(folder, old, new)
        return replace(found, added=added, removed=removed, freed=removed)
    was, now = (_answers(folder, name, entry) for entry in (old, new))
    known = {each.id for each in was.contents.consultations}
    receipts = tuple(each.receipt for each in now.contents.consultations if each.id not in known)
    added, removed, newly_listed, newly_clear = _compare_answers(was, now)
    return replace(
        found,
        added=added,
        removed=removed,
        newly_listed=newly_listed,
        newly_clear=newly_clear,
        freed=newly_clear,
        consultations=receipts,
    )


def _answers(folder: Path, name: tuple[str, str], entry: Entry | None) -> Current:
    return publication.read(folder / entry.file) if entry else publication.no_answers(*name)


def _compare_answers(old: Current, new: Current) -> tuple[int, int, int, int]:
    both, was_at, now_at = np.intersect1d(old.numbers, new.numbers, assume_unique=True, return_indices=True)
    was, now = _listed(old)[was_at], _listed(new)[now_at]
    return (
        len(new.numbers) - len(both),
        len(old.numbers) - len(both),
        int((now & ~was).sum()),
        int((was & ~now).sum()),
    )


def _listed(current: Current) -> Mask:
    listed = np.array([state.answer == "listed" for state in current.contents.states], np.bool_)
    found: Mask = listed[current.tags]
    return found


def _compare_lists(folder: Path, old: Entry | None, new: Entry | None) -> tuple[int, int]:
    """Span by span, in little memory."""
    added = removed = 0
    olds, news = _spans(folder, old), _spans(folder, new)
    was, now = next(olds, None), next(news, None)
    while was is not None or now is not None:
        place = min(_place(was), _place(now))
        left = was if was is not None and _place(was) == place else None
        right = now if now is not None and _place(now) == place else None
        stay = 0 if left is None or right is None else len(np.intersect1d(left, right, assume_unique=True))
        added += (0 if right is None else len(right)) - stay
        removed += (0 if left is None else len(left)) - stay
        was = next(olds, None) if left is not None else was
        now = next(news, None) if right is not None else now
    return added, removed


def _spans(folder: Path, entry: Entry | None) -> Iterator[Numbers]:
    if entry is not None:
        opened = NumberSet.open(folder / entry.file)
        try:
            yield from opened.spans()
        finally:
            opened.close()


def _place(run: Numbers | None) -> float:
    return float("inf") if run is None else int(run[0]) // SPAN


def find(folder: Path, version: str) -> Manifest:
    """The newest publication of this version, or the one before the present where none is named. Raises Refused."""
    known = publication.earlier(folder)
    chosen = [each for each in known if not version or each.version == version]
    if not chosen:
        if not known:
            raise Refused("there is no earlier publication yet: this is the first")
        versions = ", ".join(dict.fromkeys(each.version for each in known))
        raise Refused(f"there is no earlier publication {version}; there is {versions}")
    return chosen[0]


def roll_back(press: Press, version: str, now: Instant) -> tuple[Manifest, list[Difference]]:
    """Under `publish.locked`. Where somebody who is listed would no longer be, two people must release it: an older
    answer never makes a call lawful that a newer one forbids. Raises Refused, DamagedFile, OSError."""
    present, target = publication.published(press.folder), find(press.folder, version)
    found = differences(press.folder, present, target)
    subject = ("rollback", "", present.version, target.version)
    if freed := sum(each.freed for each in found):
        why = f"going back from {present.version} to {target.version} would free {freed:,} numbers"
        release_holds.demand(press.folder, subject, why, now)
    manifest = publication.bring_back(press, target, now)
    release_holds.forget(press.folder, subject)
    return manifest, found
