"""Atomic publication of number sets, with earlier publications kept for a rollback.

The steps are: lock the folder; write, verify and fsync a temporary file; rename it to a name with its hash;
fsync the folder. The manifest is then written in the same way, and its rename completes the publication.
Finally, number sets that are not listed in any kept manifest are deleted. After a crash before the manifest's rename,
the old publication is intact. The next run deletes left-over files.

The earlier manifests are `manifest.<n>.json`; the highest n is the newest. The files named in these manifests are kept.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.lists.manifest import (
    FORMAT,
    FORMAT_WITHOUT_BASE,
    MANIFEST,
    Manifest,
    ManifestEntry,
    SnapshotMissing,
    read_manifest,
    signed_text,
)
from dialgate.lists.manifest_history import earlier_manifests, kept_manifests, read_manifest_file
from dialgate.lists.number_set import DamagedFile, Numbers, NumberSet, Tags, distinct, write
from dialgate.lists.snapshot import Consultation, Contents, read_contents
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, write_file
from dialgate.runtime.file_lock import hold_lock
from registry_sync.answer_merge import AnswersBelow, PublishedAnswers, join
from registry_sync.import_checks import ImportRefused

KEPT: Final = 3
CHUNK: Final = 1 << 20
SHARE: Final = 64  # a file above another has at most this part of its numbers: to look them up takes a second for 30 million
SUFFIX: Final = ".numbers"


class PublishTarget(Struct, frozen=True, kw_only=True):
    """The snapshot folder to publish to, and the settings for publications.

    `kept` is the number of earlier publications to keep. `sign` returns the Ed25519 signature for a text.
    """

    folder: Path
    kept: int = KEPT
    sign: Callable[[bytes], bytes] | None = None


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder against other imports. Raises Refused and OSError.

    The folder is created if it is missing. Files left by a crashed run are deleted.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(
        folder / ".lock", ImportRefused(f"another import is running in {folder}. Wait until it ends")
    ):
        for leftover in (*folder.glob("*.tmp"), *folder.glob("*.new")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield


def current_manifest(folder: Path) -> Manifest:
    """Return the folder's manifest, or an empty manifest if it has none. Raises DamagedFile."""
    try:
        return read_manifest(folder)
    except SnapshotMissing:
        return Manifest(version="", published_at=0, files=())


def read_current(
    folder: Path, registry: str, controller: str, above: Numbers | None = None
) -> PublishedAnswers:
    """Return the registry's published answers for the controller.

    If the sorted numbers `above` are few beside those of the published file, return only the answers that a new file
    above it will have: those for `above`, and for the numbers of the file that is above it now. Raises DamagedFile if
    the answers are damaged: a damaged set must not be merged.
    """
    entry = find_entry(current_manifest(folder), registry, controller)
    if entry is None:
        return empty_answers(registry, controller)
    if above is not None and len(above) * SHARE <= entry.numbers:
        return _read_above(folder, entry, above)
    return read_answers(folder, entry)


def other_consultations(folder: Path, registry: str, controller: str) -> Iterator[tuple[str, Consultation]]:
    """Yield each consultation for another controller, with the name of that controller. Raises DamagedFile.

    The consultations come from all kept publications.
    """
    manifests = [current_manifest(folder), *earlier_manifests(folder)]
    entries = {file.file: file for manifest in manifests for file in manifest.files}
    for entry in entries.values():
        if entry.registry == registry and entry.controller not in {controller, ""}:
            with closing(NumberSet.open(folder / entry.file)) as opened:
                contents = read_contents(opened, folder / entry.file)
            yield from ((entry.controller, consultation) for consultation in contents.consultations)


def empty_answers(registry: str, controller: str) -> PublishedAnswers:
    contents = Contents(registry=registry, controller=controller, mode="answers", consultations=(), states=())
    return PublishedAnswers(contents, np.empty(0, np.uint64), np.empty(0, np.uint16))


def find_entry(manifest: Manifest, registry: str, controller: str) -> ManifestEntry | None:
    return next(
        (file for file in manifest.files if (file.registry, file.controller) == (registry, controller)), None
    )


def read_answers(folder: Path, entry: ManifestEntry) -> PublishedAnswers:
    """Read all answers of an entry after verifying every byte. Raises Refused, DamagedFile and OSError."""
    top = _read_file(folder / entry.file)
    return join(_read_file(folder / entry.base), top)[0] if entry.base else top


def _read_file(path: Path) -> PublishedAnswers:
    with closing(_open_answers(path)) as opened:
        numbers, tags = opened.arrays()
        assert tags is not None, "`_open_answers` checks it"
        return PublishedAnswers(read_contents(opened, path), numbers, tags)


def _open_answers(path: Path) -> NumberSet:
    with ExitStack() as on_failure:
        opened = on_failure.enter_context(closing(NumberSet.open(path)))
        opened.verify()
        if not opened.tagged:
            raise DamagedFile(str(path), "this number set contains no answers, only numbers")
        on_failure.pop_all()
        return opened


def _read_above(folder: Path, entry: ManifestEntry, above: Numbers) -> PublishedAnswers:
    """Return the answers for `above`, and all answers of a file that is above another. See `read_current`."""
    (below, sha256_), path = entry.files()[-1], folder / entry.files()[-1][0]
    top = _read_file(folder / entry.file) if entry.base else None
    with closing(_open_answers(path)) as opened:
        if top is not None:
            above = distinct(np.concatenate((above, top.numbers)))
            if len(above) * SHARE > len(opened):
                return read_answers(folder, entry)
        tags = np.array([opened.tag(number) for number in above.tolist()], np.int64)
        known = tags >= 0
        found = PublishedAnswers(read_contents(opened, path), above[known], tags[known].astype(np.uint16))
    answers = found if top is None else join(found, top)[0]
    return answers._replace(base=AnswersBelow(below, sha256_, entry.numbers - len(answers.numbers)))


# ---- publishing ------------------------------------------------------------------------------------------------------


def publish_answers(target: PublishTarget, answers: PublishedAnswers, now: Instant) -> Manifest:
    """Publish answers. The caller must hold `lock_folder`.

    Raises OSError, and DamagedFile if the written file is not readable.
    """
    chunks = (answers.numbers[at : at + CHUNK] for at in range(0, len(answers.numbers), CHUNK))
    entry = write_set(target.folder, answers.contents, chunks, answers.tags)
    if (base := answers.base) is not None:
        below = {"base": base.file, "base_sha256": base.sha256, "numbers": answers.total()}
        entry = msgspec.structs.replace(entry, **below)
    return publish_entry(target, entry, now)


def publish_entry(target: PublishTarget, entry: ManifestEntry, now: Instant) -> Manifest:
    """Publish a number set, which replaces the current set for its registry and controller."""
    others = [
        file
        for file in current_manifest(target.folder).files
        if (file.registry, file.controller) != (entry.registry, entry.controller)
    ]
    return _publish_manifest(target, (*others, entry), now)


def write_set(
    folder: Path, contents: Contents, chunks: Iterable[Numbers], tags: Tags | None
) -> ManifestEntry:
    """Write and verify a number set's file without publishing it. Return its entry for the manifest."""
    stem = f"{contents.registry}.{contents.controller}"
    with remove_on_exit(folder / f"{stem}.tmp") as temporary:
        write(temporary, chunks, meta=msgspec.json.encode(contents), tags=tags)
        with closing(NumberSet.open(temporary)) as opened:
            opened.verify()
            name = f"{stem}.{opened.sha256[:16]}{SUFFIX}"
            entry = ManifestEntry(
                registry=contents.registry,
                controller=contents.controller,
                mode=contents.mode,
                file=name,
                sha256=opened.sha256,
                numbers=len(opened),
            )
        publish_file(temporary, folder / name)
    return entry


def _publish_manifest(target: PublishTarget, entries: Iterable[ManifestEntry], now: Instant) -> Manifest:
    files = tuple(sorted(entries, key=lambda file: (file.registry, file.controller)))
    version = sha256(msgspec.json.encode(files)).hexdigest()[:16]
    format_ = FORMAT if any(entry.base for entry in files) else FORMAT_WITHOUT_BASE
    manifest = _sign(target, Manifest(version=version, published_at=now, files=files, format=format_))
    adopt_manifest(target, manifest)
    return manifest


def adopt_manifest(target: PublishTarget, manifest: Manifest) -> None:
    """Publish a manifest. All of its files must already be in the folder."""
    _keep_manifest(target.folder)
    _write_manifest(target.folder, manifest)
    _remove_unnamed(target.folder, target.kept)


def sign_current(target: PublishTarget) -> None:
    """Sign the current publication if it is not yet signed with the key of `target.sign`.

    Without this step, a new signing key would apply only after the next change. Until that change, the other nodes
    would refuse the publication. Raises Refused, DamagedFile and OSError.
    """
    manifest = current_manifest(target.folder)
    if manifest.version and _sign(target, manifest) != manifest:
        with lock_folder(target.folder):
            _write_manifest(target.folder, _sign(target, current_manifest(target.folder)))


def _sign(target: PublishTarget, manifest: Manifest) -> Manifest:
    if target.sign is None:
        return manifest
    return msgspec.structs.replace(manifest, signature=target.sign(signed_text(manifest)).hex())


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_file(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


# ---- earlier publications --------------------------------------------------------------------------------------------


def republish(target: PublishTarget, manifest: Manifest, now: Instant) -> Manifest:
    """Publish an earlier manifest again, after verifying every byte in its files.

    Raises DamagedFile and OSError.
    """
    for name, digest in chain.from_iterable(entry.files() for entry in manifest.files):
        verify_file(target.folder / name, name, digest)
    return _publish_manifest(target, manifest.files, now)


def verify_file(path: Path, name: str, digest: str) -> None:
    """Raise DamagedFile if the number set at `path`, which is to have the name `name`, is damaged or has another hash."""
    with closing(NumberSet.open(path)) as opened:
        opened.verify()
        if opened.sha256 != digest:
            raise DamagedFile(name, "its sha256 differs from the one in the manifest")


def _keep_manifest(folder: Path) -> None:
    present, kept = folder / MANIFEST, kept_manifests(folder)
    # After a crash immediately after this step, the manifest is already kept.
    if present.exists() and not (kept and kept[-1][1].samefile(present)):
        os.link(present, folder / f"manifest.{kept[-1][0] + 1 if kept else 1}.json")


def _remove_unnamed(folder: Path, keep: int) -> None:
    kept = [path for _, path in kept_manifests(folder)]
    surplus, remaining = (kept[:-keep], kept[-keep:]) if keep else (kept, [])
    for path in surplus:
        path.unlink()
    manifests = (*remaining, folder / MANIFEST)
    entries = chain.from_iterable(read_manifest_file(path).files for path in manifests)
    named = {name for entry in entries for name, _ in entry.files()}
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name not in named:
            path.unlink()
