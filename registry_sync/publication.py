"""Publishes sets: whole or not at all; keeps the publications before, and brings one of them back.

Order: lock the folder; write, verify and fsync a temporary file; rename it to its content's name; fsync the folder; the
same for the manifest, whose rename is the publication; only then remove what no recent manifest names. A crash between
any two steps leaves the old publication as it was, and at most files that the next run removes.

`manifest.<n>.json` are the last manifests before the present one, the highest n the newest; their files stay.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.lists.number_set import DamagedFile, NumberSet, write
from dialgate.lists.snapshot import (
    MANIFEST,
    Consultation,
    Contents,
    Entry,
    Manifest,
    SnapshotMissing,
    read_contents,
    read_manifest,
    signed_text,
)
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, write_file
from dialgate.runtime.file_lock import hold_lock
from registry_sync import answer_merge
from registry_sync.answer_merge import Answered, Current, Mask, Merged, Numbers, Tags
from registry_sync.import_checks import Refused

KEPT: Final = 3
CHUNK: Final = 1 << 20
SUFFIX: Final = ".numbers"


class Press(Struct, frozen=True, kw_only=True):
    """Where and how to publish. `kept`: how many publications before the present one stay. `sign` gives the Ed25519
    signature of a text."""

    folder: Path
    kept: int = KEPT
    sign: Callable[[bytes], bytes] | None = None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time, in this folder. Creates it, and clears what a run that crashed left. Raises Refused, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(folder / ".lock", Refused(f"{folder}: another import is at work here: wait for it")):
        for left in (*folder.glob("*.tmp"), *folder.glob("*.new")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def published(folder: Path) -> Manifest:
    """What the folder's manifest says, or an empty one. Raises DamagedFile."""
    try:
        return read_manifest(folder)
    except SnapshotMissing:
        return Manifest(version="", published_at=0, files=())


def current(folder: Path, registry: str, controller: str) -> Current:
    """Raises DamagedFile: from a damaged set nothing is carried over."""
    if entry := entry_of(published(folder), registry, controller):
        return read(folder / entry.file)
    return no_answers(registry, controller)


def consultations_of_others(
    folder: Path, registry: str, controller: str
) -> Iterator[tuple[str, Consultation]]:
    """The consultations of every other controller, in this publication and in those before that are kept. Raises
    DamagedFile."""
    manifests = [published(folder), *earlier(folder)]
    entries = {file.file: file for each in manifests for file in each.files}
    for entry in entries.values():
        if entry.registry == registry and entry.controller not in {controller, ""}:
            opened = NumberSet.open(folder / entry.file)
            try:
                contents = read_contents(opened, folder / entry.file)
            finally:
                opened.close()
            yield from ((entry.controller, each) for each in contents.consultations)


def no_answers(registry: str, controller: str) -> Current:
    contents = Contents(registry=registry, controller=controller, mode="answers", consultations=(), states=())
    return Current(contents, np.empty(0, np.uint64), np.empty(0, np.uint16))


def entry_of(manifest: Manifest, registry: str, controller: str) -> Entry | None:
    return next(
        (file for file in manifest.files if (file.registry, file.controller) == (registry, controller)), None
    )


def read(path: Path) -> Current:
    """A set of answers, every byte verified. Raises DamagedFile, OSError."""
    opened = NumberSet.open(path)
    try:
        opened.verify()
        numbers, tags = opened.arrays()
        if tags is None:
            raise DamagedFile(str(path), "a set without tags, where answers are to be merged")
        return Current(read_contents(opened, path), numbers, tags)
    finally:
        opened.close()


def merge(old: Current, consultation: Consultation, numbers: Numbers, listed: Mask) -> Merged:
    return answer_merge.merge(old, [Answered(consultation, numbers, listed)])


# ---- publishing ------------------------------------------------------------------------------------------------------


def publish(folder: Path, merged: Merged, now: Instant) -> Manifest:
    """Under `locked`. Raises DamagedFile when the written file does not read back, OSError."""
    return publish_answers(Press(folder=folder), merged, now)


def publish_answers(press: Press, merged: Merged, now: Instant) -> Manifest:
    chunks = (merged.numbers[at : at + CHUNK] for at in range(0, len(merged.numbers), CHUNK))
    return publish_entry(press, write_set(press.folder, merged.contents, chunks, merged.tags), now)


def publish_entry(press: Press, entry: Entry, now: Instant) -> Manifest:
    """In the place of the present one of its registry and controller."""
    others = [
        file
        for file in published(press.folder).files
        if (file.registry, file.controller) != (entry.registry, entry.controller)
    ]
    return _announce(press, (*others, entry), now)


def write_set(folder: Path, contents: Contents, chunks: Iterable[Numbers], tags: Tags | None) -> Entry:
    """Writes the file that a manifest may name; nobody is told of it yet."""
    stem = f"{contents.registry}.{contents.controller}"
    with remove_on_exit(folder / f"{stem}.tmp") as temporary:
        write(temporary, chunks, meta=msgspec.json.encode(contents), tags=tags)
        opened = NumberSet.open(temporary)
        try:
            opened.verify()
            name = f"{stem}.{opened.sha256[:16]}{SUFFIX}"
            entry = Entry(
                registry=contents.registry,
                controller=contents.controller,
                mode=contents.mode,
                file=name,
                sha256=opened.sha256,
                numbers=len(opened),
            )
        finally:
            opened.close()
        publish_file(temporary, folder / name)
    return entry


def _announce(press: Press, entries: Iterable[Entry], now: Instant) -> Manifest:
    files = tuple(sorted(entries, key=lambda file: (file.registry, file.controller)))
    version = sha256(msgspec.json.encode(files)).hexdigest()[:16]
    manifest = Manifest(version=version, published_at=now, files=files)
    if press.sign:
        signature = press.sign(signed_text(manifest)).hex()
        manifest = msgspec.structs.replace(manifest, signature=signature)
    adopt(press, manifest)
    return manifest


def adopt(press: Press, manifest: Manifest) -> None:
    """Makes it the publication. All files that it names are here."""
    _keep_manifest(press.folder)
    write_file(press.folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    _remove_unnamed(press.folder, press.kept)


# ---- the publications before -----------------------------------------------------------------------------------------


def earlier(folder: Path) -> list[Manifest]:
    """Those that can be brought back, newest first."""
    return [_manifest(path) for _, path in reversed(_kept(folder))]


def bring_back(press: Press, manifest: Manifest, now: Instant) -> Manifest:
    """Publishes an earlier publication's files again, after reading every byte of them. Raises DamagedFile, OSError."""
    for entry in manifest.files:
        opened = NumberSet.open(press.folder / entry.file)
        try:
            opened.verify()
            if opened.sha256 != entry.sha256:
                raise DamagedFile(entry.file, "not the file that the manifest names: its sha256 differs")
        finally:
            opened.close()
    return _announce(press, manifest.files, now)


def _manifest(path: Path) -> Manifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedFile(str(path), f"not a manifest: {error}") from error


def _kept(folder: Path) -> list[tuple[int, Path]]:
    """The manifests before the present one, oldest first."""
    found = ((path.name.split(".")[1], path) for path in folder.glob("manifest.*.json"))
    return sorted((int(number), path) for number, path in found if number.isdecimal())


def _keep_manifest(folder: Path) -> None:
    present, kept = folder / MANIFEST, _kept(folder)
    # A run that crashed just after this step has kept it already.
    if present.exists() and not (kept and kept[-1][1].samefile(present)):
        os.link(present, folder / f"manifest.{kept[-1][0] + 1 if kept else 1}.json")


def _remove_unnamed(folder: Path, keep: int) -> None:
    kept = [path for _, path in _kept(folder)]
    gone, stay = (kept[:-keep], kept[-keep:]) if keep else (kept, [])
    for path in gone:
        path.unlink()
    named = {file.file for path in (*stay, folder / MANIFEST) for file in _manifest(path).files}
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name not in named:
            path.unlink()
