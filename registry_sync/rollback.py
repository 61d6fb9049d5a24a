"""Comparison of two publications, and rollback to an earlier one."""

from contextlib import closing
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from dialgate.core.model import Instant
from dialgate.lists import release_holds
from dialgate.lists.manifest import Manifest, ManifestEntry
from dialgate.lists.manifest_history import earlier_manifests
from dialgate.lists.number_set import NumberSet
from registry_sync import publication
from registry_sync.answer_merge import PublishedAnswers
from registry_sync.formats.text import Mask, Numbers
from registry_sync.import_checks import ImportRefused
from registry_sync.publication import PublishTarget

_NONE = ManifestEntry(registry="", controller="", mode="answers", file="", sha256="", numbers=0)


class PublicationDifference(Struct, frozen=True, kw_only=True):
    """The effect of replacing one publication with another, for one registry and controller.

    In a rollback, the new publication is the one that is published again. `before` and `after` count all numbers in the
    old and the new publication. `added` counts the numbers that only the new publication contains. `removed` counts the
    numbers that only the old publication contains. `freed` counts the numbers that are no longer listed: it equals
    `removed` for a full list, and `newly_clear` for a set of answers.
    """

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


def differences(folder: Path, old: Manifest, new: Manifest) -> list[PublicationDifference]:
    """Compare two publications. Raises DamagedFile and OSError."""
    names = sorted({(file.registry, file.controller) for manifest in (old, new) for file in manifest.files})
    return [
        _difference(folder, name, publication.find_entry(old, *name), publication.find_entry(new, *name))
        for name in names
    ]


def _difference(
    folder: Path, name: tuple[str, str], old: ManifestEntry | None, new: ManifestEntry | None
) -> PublicationDifference:
    sizes = PublicationDifference(
        registry=name[0],
        controller=name[1],
        before=old.numbers if old else 0,
        after=new.numbers if new else 0,
    )
    if old is not None and new is not None and old.files() == new.files():
        return sizes
    if (old or new or _NONE).mode == "full_list":
        added, removed = _compare_lists(folder, old, new)
        return replace(sizes, added=added, removed=removed, freed=removed)
    was, now = (_read_answers(folder, name, entry) for entry in (old, new))
    known = {consultation.id for consultation in was.contents.consultations}
    added_consultations = (new for new in now.contents.consultations if new.id not in known)
    receipts = tuple(consultation.receipt for consultation in added_consultations)
    changes = _compare_answers(was, now)
    return replace(sizes, **changes, freed=changes["newly_clear"], consultations=receipts)


def _read_answers(folder: Path, name: tuple[str, str], entry: ManifestEntry | None) -> PublishedAnswers:
    return publication.read_answers(folder, entry) if entry else publication.empty_answers(*name)


def _compare_answers(old: PublishedAnswers, new: PublishedAnswers) -> dict[str, int]:
    both, was_at, now_at = np.intersect1d(old.numbers, new.numbers, assume_unique=True, return_indices=True)
    was, now = _listed_mask(old)[was_at], _listed_mask(new)[now_at]
    return {
        "added": len(new.numbers) - len(both),
        "removed": len(old.numbers) - len(both),
        "newly_listed": int((now & ~was).sum()),
        "newly_clear": int((was & ~now).sum()),
    }


def _listed_mask(current: PublishedAnswers) -> Mask:
    listed = np.array([state.answer == "listed" for state in current.contents.states], np.bool_)
    mask: Mask = listed[current.tags]
    return mask


def _compare_lists(folder: Path, old: ManifestEntry | None, new: ManifestEntry | None) -> tuple[int, int]:
    """Return how many numbers are added and removed.

    To limit memory, one span of numbers is compared at a time.
    """
    common = 0
    if old is not None and new is not None:
        with (
            closing(NumberSet.open(folder / old.file)) as was,
            closing(NumberSet.open(folder / new.file)) as now,
        ):
            common = sum(_count_common(run, was) for run in now.spans() if len(run))
    return (new.numbers if new else 0) - common, (old.numbers if old else 0) - common


def _count_common(run: Numbers, other: NumberSet) -> int:
    others = np.concatenate([run[:0], *other.spans(int(run[0]), int(run[-1]) + 1)])
    return len(np.intersect1d(run, others, assume_unique=True))


def find_manifest(folder: Path, version: str) -> Manifest:
    """Return the newest earlier publication. Raises Refused if there is none.

    If `version` is not empty, only publications with this version are considered.
    """
    earlier = earlier_manifests(folder)
    matching = [manifest for manifest in earlier if not version or manifest.version == version]
    if not matching:
        if not earlier:
            raise ImportRefused("there is no earlier publication")
        versions = ", ".join(dict.fromkeys(manifest.version for manifest in earlier))
        raise ImportRefused(f"no earlier publication has version {version!r}. Available versions: {versions}")
    return matching[0]


def roll_back(
    target: PublishTarget, version: str, now: Instant
) -> tuple[Manifest, list[PublicationDifference]]:
    """Publish an earlier version again, while holding the folder's lock.

    If the rollback would permit calls to numbers that are now listed, two people must release it first.
    Raises Refused, DamagedFile and OSError.
    """
    with publication.lock_folder(target.folder):
        present, earlier = publication.current_manifest(target.folder), find_manifest(target.folder, version)
        changes = differences(target.folder, present, earlier)
        subject = ("rollback", "", present.version, earlier.version)
        if freed := sum(difference.freed for difference in changes):
            why = f"going back from {present.version} to {earlier.version} would permit calls to {freed:,} listed numbers"
            release_holds.require_release(target.folder, subject, why, now)
        manifest = publication.republish(target, earlier, now)
        release_holds.remove_hold(target.folder, subject)
    return manifest, changes
