"""Merges new answers into a controller's set and publishes it: whole or not at all.

Order: lock the folder; write, verify and fsync a temporary file; rename it to its content's name; fsync the folder; the
same for the manifest, whose rename is the publication; only then remove what no recent manifest names. A crash between
any two steps leaves the old publication as it was, and at most files that the next run removes.

`manifest.<n>.json` are the last three manifests before the present one, the highest n the newest; their files stay.
"""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from dialgate.model import Instant
from dialgate.numberset import DamagedFile, NumberSet, distinct, write
from dialgate.snapshot import (
    MANIFEST,
    Consultation,
    Contents,
    Entry,
    Manifest,
    SnapshotMissing,
    State,
    read_contents,
    read_manifest,
)
from registry_sync.checks import Refused

Numbers: TypeAlias = NDArray[np.uint64]
Tags: TypeAlias = NDArray[np.uint16]
Said: TypeAlias = Literal["clear", "listed"]

KEPT: Final = 3
CHUNK: Final = 1 << 20
SUFFIX: Final = ".numbers"
MOST_STATES: Final = 1 << 16
SAID: Final[tuple[Said | None, ...]] = (None, "clear", "listed")


class Current(NamedTuple):
    """What is published for one registry and controller."""

    contents: Contents
    numbers: Numbers
    tags: Tags


class Merged(NamedTuple):
    """`known`: asked about now, and answered before; the others count those of them that changed."""

    contents: Contents
    numbers: Numbers
    tags: Tags
    known: int
    newly_listed: int
    newly_clear: int


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time, in this folder. Creates it, and clears what a run that crashed left. Raises Refused, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{folder}: another import is at work here: wait for it") from None
        for left in folder.glob("*.tmp"):
            left.unlink()
        yield


def published(folder: Path) -> Manifest:
    """What the folder's manifest says, or an empty one. Raises DamagedFile."""
    try:
        return read_manifest(folder)
    except SnapshotMissing:
        return Manifest(version="", published_at=0, files=())


def current(folder: Path, registry: str, controller: str) -> Current:
    """Raises DamagedFile: from a damaged set nothing is carried over."""
    for entry in published(folder).files:
        if (entry.registry, entry.controller) == (registry, controller):
            return _read(folder / entry.file)
    contents = Contents(registry=registry, controller=controller, mode="answers", consultations=(), states=())
    return Current(contents, np.empty(0, np.uint64), np.empty(0, np.uint16))


def _read(path: Path) -> Current:
    opened = NumberSet.open(path)
    try:
        opened.verify()
        numbers, tags = opened.arrays()
        if tags is None:
            raise DamagedFile(str(path), "a set without tags, where answers are to be merged")
        return Current(read_contents(opened, path), numbers, tags)
    finally:
        opened.close()


# ---- merging ---------------------------------------------------------------------------------------------------------


def merge(old: Current, consultation: Consultation, numbers: Numbers, listed: NDArray[np.bool_]) -> Merged:
    """Per number the newest consultation wins, never the last imported; of two at one instant, *listed*.

    Every number falls in one cell: its old state (or none) by what was said now (or nothing). There are few cells, so
    each is decided once. Raises Refused when there are more states than a tag can name."""
    consultations = (*old.contents.consultations, consultation)
    before: list[State | None] = [*old.contents.states, None]
    union, cell_of = _cells(old, numbers, listed)
    sizes = np.bincount(cell_of)
    tag_of = np.zeros(len(sizes), np.int64)
    states: dict[State, int] = {}
    moves: Counter[tuple[str, str]] = Counter()
    for cell in np.flatnonzero(sizes).tolist():
        past, said = before[cell // len(SAID)], SAID[cell % len(SAID)]
        state = _decide(past, said, consultations)
        tag_of[cell] = states.setdefault(state, len(states))
        if past is not None and said is not None:
            moves[past.answer, state.answer] += int(sizes[cell])
    if len(states) > MOST_STATES:
        raise Refused(f"{len(states):,} different answers are more than {MOST_STATES:,}: start a new folder")
    return Merged(
        contents=msgspec.structs.replace(old.contents, consultations=consultations, states=tuple(states)),
        numbers=union,
        tags=tag_of.astype(np.uint16)[cell_of],
        known=moves.total(),
        newly_listed=moves["clear", "listed"],
        newly_clear=moves["listed", "clear"],
    )


def _cells(old: Current, numbers: Numbers, listed: NDArray[np.bool_]) -> tuple[Numbers, NDArray[np.int64]]:
    """All numbers, sorted, and each one's cell: its old tag (or one more than there are) by its place in SAID."""
    union = distinct(np.concatenate((old.numbers, numbers)))
    row = np.full(len(union), len(old.contents.states), np.int64)
    row[np.searchsorted(union, old.numbers)] = old.tags
    cell = row * len(SAID)
    cell[np.searchsorted(union, numbers)] += 1 + listed
    return union, cell


def _decide(past: State | None, said: Said | None, consultations: tuple[Consultation, ...]) -> State:
    """The state of a number that was in `past` once the last of the consultations has said `said` of it."""
    at = len(consultations) - 1
    submitted_at = consultations[at].submitted_at
    if said is None:
        assert past is not None, "a number comes from the old set or from the new"
        return past
    listed_at = submitted_at if said == "listed" else 0
    if past is None:
        return State(answer=said, consultation=at, listed_at=listed_at)
    listed_at = max(listed_at, past.listed_at)
    standing = consultations[past.consultation].submitted_at
    if (submitted_at, said == "listed") > (standing, past.answer == "listed"):
        return State(answer=said, consultation=at, listed_at=listed_at)
    return msgspec.structs.replace(past, listed_at=listed_at)


# ---- publishing ------------------------------------------------------------------------------------------------------


def publish(folder: Path, merged: Merged, now: Instant) -> Manifest:
    """Under `locked`. Raises DamagedFile when the written file does not read back, OSError."""
    entry = _write_set(folder, merged)
    others = [
        file
        for file in published(folder).files
        if (file.registry, file.controller) != (entry.registry, entry.controller)
    ]
    files = tuple(sorted((*others, entry), key=lambda file: (file.registry, file.controller)))
    version = sha256(msgspec.json.encode(files)).hexdigest()[:16]
    manifest = Manifest(version=version, published_at=now, files=files)
    _keep_manifest(folder)
    _write_manifest(folder, manifest)
    _remove_unnamed(folder)
    return manifest


def _write_set(folder: Path, merged: Merged) -> Entry:
    contents, numbers = merged.contents, merged.numbers
    stem = f"{contents.registry}.{contents.controller}"
    chunks = (numbers[at : at + CHUNK] for at in range(0, len(numbers), CHUNK))
    with _temporary(folder / f"{stem}.tmp") as temporary:
        write(temporary, chunks, meta=msgspec.json.encode(contents), tags=merged.tags)
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
        temporary.replace(folder / name)
    _sync_folder(folder)
    return entry


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    with _temporary(folder / f"{MANIFEST}.tmp") as temporary:
        with temporary.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / MANIFEST)
    _sync_folder(folder)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Gone on every way out, unless it was renamed."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once its folder is: fsync(2), "Calling fsync() does not necessarily ensure that the entry
    # in the directory containing the file has also reached disk".
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _kept(folder: Path) -> list[tuple[int, Path]]:
    """The manifests before the present one, oldest first."""
    found = ((path.name.split(".")[1], path) for path in folder.glob("manifest.*.json"))
    return sorted((int(number), path) for number, path in found if number.isdecimal())


def _keep_manifest(folder: Path) -> None:
    present, kept = folder / MANIFEST, _kept(folder)
    # A run that crashed just after this step has kept it already.
    if present.exists() and not (kept and kept[-1][1].samefile(present)):
        os.link(present, folder / f"manifest.{kept[-1][0] + 1 if kept else 1}.json")


def _remove_unnamed(folder: Path) -> None:
    kept = [path for _, path in _kept(folder)]
    for path in kept[:-KEPT]:
        path.unlink()
    named = {
        file.file
        for path in (*kept[-KEPT:], folder / MANIFEST)
        for file in msgspec.json.decode(path.read_bytes(), type=Manifest).files
    }
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name not in named:
            path.unlink()
