"""Comparison of two publications, and rollback to an earlier one."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from dialgate.core.model import Instant
from dialgate.lists.manifest_history import earlier_manifests
from dialgate.lists.number_set import BLOCK, BLOCKS, NumberSet
from dialgate.lists.snapshot import Manifest, ManifestEntry
from registry_sync import publication, release_holds
from registry_sync.answer_merge import PublishedAnswers
from registry_sync.formats.text import Mask, Numbers
from registry_sync.import_checks import ImportRefused
from registry_sync.publication import PublishTarget

SPAN = BLOCK * BLOCKS
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
    if old is not None and new is not None and old.sha256 == new.sha256:
        return sizes
    if (old or new or _NONE).mode == "full_list":
        added, removed = _compare_lists(folder, old, new)
        return replace(sizes, added=added, removed=removed, freed=removed)
    was, now = (_read_answers(folder, name, entry) for entry in (old, new))
    known = {consultation.id for consultation in was.contents.consultations}
    added_consultations = (new for new in now.contents.consultations if new.id not in known)
    receipts = tuple(consultation.receipt for consultation in added_consultations)
    added, removed, newly_listed, newly_clear = _compare_answers(was, now)
    return replace(
        sizes,
        added=added,
        removed=removed,
        newly_listed=newly_listed,
        newly_clear=newly_clear,
        freed=newly_clear,
        consultations=receipts,
    )


def _read_answers(folder: Path, name: tuple[str, str], entry: ManifestEntry | None) -> PublishedAnswers:
    return publication.read_answers(folder / entry.file) if entry else publication.empty_answers(*name)


def _compare_answers(old: PublishedAnswers, new: PublishedAnswers) -> tuple[int, int, int, int]:
    both, was_at, now_at = np.intersect1d(old.numbers, new.numbers, assume_unique=True, return_indices=True)
    was, now = _listed_mask(old)[was_at], _listed_mask(new)[now_at]
    return (
        len(new.numbers) - len(both),
        len(old.numbers) - len(both),
        int((now & ~was).sum()),
        int((was & ~now).sum()),
    )


def _listed_mask(current: PublishedAnswers) -> Mask:
    listed = np.array([state.answer == "listed" for state in current.contents.states], np.bool_)
    mask: Mask = listed[current.tags]
    return mask


def _compare_lists(folder: Path, old: ManifestEntry | None, new: ManifestEntry | None) -> tuple[int, int]:
    """Return how many numbers are added and removed.

    To limit memory, one span of numbers is compared at a time.
    """
    added = removed = 0
    olds, news = _spans(folder, old), _spans(folder, new)
    was, now = next(olds, None), next(news, None)
    while was is not None or now is not None:
        place = min(_span_index(was), _span_index(now))
        left = was if was is not None and _span_index(was) == place else None
        right = now if now is not None and _span_index(now) == place else None
        stay = 0 if left is None or right is None else len(np.intersect1d(left, right, assume_unique=True))
        added += (0 if right is None else len(right)) - stay
        removed += (0 if left is None else len(left)) - stay
        was = next(olds, None) if left is not None else was
        now = next(news, None) if right is not None else now
    return added, removed


def _spans(folder: Path, entry: ManifestEntry | None) -> Iterator[Numbers]:
    if entry is not None:
        with closing(NumberSet.open(folder / entry.file)) as opened:
            yield from opened.spans()


def _span_index(run: Numbers | None) -> float:
    return float("inf") if run is None else int(run[0]) // SPAN


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
    """Publish an earlier version again. The caller must hold `publication.lock_folder`.

    If the rollback would permit calls to numbers that are now listed, two people must release it first.
    Raises Refused, DamagedFile and OSError.
    """
    present, earlier = publication.current_manifest(target.folder), find_manifest(target.folder, version)
    changes = differences(target.folder, present, earlier)
    subject = ("rollback", "", present.version, earlier.version)
    if freed := sum(difference.freed for difference in changes):
        why = f"going back from {present.version} to {earlier.version} would permit calls to {freed:,} listed numbers"
        release_holds.require_release(target.folder, subject, why, now)
    manifest = publication.republish(target, earlier, now)
    release_holds.remove_hold(target.folder, subject)
    return manifest, changes
