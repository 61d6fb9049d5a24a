"""The snapshot of registry answers, published by `registry_sync` and read by the gate.

A published folder contains number sets, whose names contain a hash of their content, and `manifest.json`.
A new `manifest.json` publishes a new snapshot. The manifest is one JSON object:

    {"version": "16 hex digits", "published_at": ms, "files": [
        {"registry": "rpo", "controller": "acme", "mode": "answers", "file": "rpo.acme.0123456789abcdef.numbers",
         "sha256": "64 hex digits", "numbers": 1234}], "format": 1}

There is one file for each registry and controller. A few new answers do not rewrite millions: such a file has only them,
and names the file of the others as its `base`. Controller "" is a full list, which applies to all controllers. Both modes have the same file format; the metadata of the number set is the JSON of `Contents`:

    answers     the registry's answers to one controller, number by number (Italy: DPR 26/2022 art. 8 c. 3). A number's
                tag is the index of its `State`. A number that is not in the set was not submitted: unknown.
    full_list   all listed numbers of the registry. Any other number is *clear* if it begins with a prefix in `coverage`
                (E.164 prefixes in digits), and otherwise *uncovered*. `covered_by` has the index of the consultation
                for each prefix. If `covered_by` is empty, the newest consultation applies to all prefixes. In a set
                without tags, all numbers are *listed*, and the consultation is the one for the prefix of the number.

A base, which has mode `answers`, makes `format` 2. Numbers in both files have the answer of the first, whose consultations
begin with those of the base. `numbers` counts the numbers of both.

`signature` is the Ed25519 signature of `signed_text` in hexadecimal, if the publisher has a key.

Compatibility: never rename, remove or redefine a field. Add new fields at the end with a default. Any other
change needs a higher `format` of the manifest, which older programs reject.
"""

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.core.model import DAY, Block, Instant, RegistryAnswer
from dialgate.crypto.publisher_signature import is_signed
from dialgate.lists.manifest import (
    MANIFEST,
    Manifest,
    ManifestEntry,
    Mode,
    Stamp,
    read_stamped,
    signed_text,
    stamp_of,
)
from dialgate.lists.number_set import DamagedFile, Numbers, NumberSet, longest_prefixes

PULLED = "pulled.json"
PUBLIC_KEY = re.compile("[0-9a-f]{64}")


class Consultation(Struct, frozen=True, kw_only=True):
    """One consultation of a registry, with its proof.

    The consultation is valid from `submitted_at`: the time of the submission or, for a full list, the time of
    the list's version. `answered_at` is 0 if unknown. The hashes cover the unpacked texts. If the registry was asked
    which numbers had been disconnected since a given time, `asked_since` is that time; otherwise it is 0.
    """

    id: str
    submitted_at: Instant
    answered_at: Instant
    imported_at: Instant
    receipt: str
    request_sha256: str
    answer_sha256: str
    lines: int
    listed: int
    clear: int
    asked_since: Instant = 0

    @property
    def listed_by(self) -> Instant:
        """The latest time at which a number that the answer reports as listed was listed.

        The registry answers within 24 hours (D.P.R. 26/2022 art. 8 c. 3) and may report enrolments until then. About
        disconnections it is asked again after each new consent, so the time of the submission counts.
        """
        latest = self.answered_at or min(self.imported_at, self.submitted_at + DAY)
        return self.submitted_at if self.asked_since else max(self.submitted_at, latest)


class State(Struct, frozen=True, kw_only=True):
    """An answer that many numbers share. `consultation` is an index into `Contents.consultations`.

    `listed_at` is the `submitted_at` of the newest consultation that answered *listed*. It is kept even if a later
    consultation answers *clear*, because earlier consents stay void (L. 5/2018 art. 1 c. 5). `blocks` and `since`
    are as in `RegistryAnswer`.
    """

    answer: Literal["listed", "clear"]
    consultation: int
    listed_at: Instant = 0
    blocks: tuple[Block, ...] = ()
    since: Instant = 0


class Contents(Struct, frozen=True, kw_only=True):
    """The metadata of a number set.

    In mode `answers`, every state applies to at least one number. A consultation can lack states, for example
    if later consultations replaced all its answers.
    """

    registry: str
    controller: str
    mode: Mode
    consultations: tuple[Consultation, ...]
    states: tuple[State, ...]
    coverage: tuple[str, ...] = ()
    covered_by: tuple[int, ...] = ()


class SnapshotPart(Struct, frozen=True, kw_only=True):
    """The summary of a snapshot file. `newest_consulted_at` is 0 if the file has no answers."""

    registry: str
    controller: str
    numbers: int
    newest_consulted_at: Instant


class Pulled(Struct, frozen=True, kw_only=True):
    """The content of `pulled.json`, which each successful `registry-sync pull` writes into the local copy.

    `at` is the time of the pull. `version` is the version of the snapshot that the pull found.
    """

    at: Instant
    version: str


def read_contents(numbers: NumberSet, path: Path) -> Contents:
    """Return the metadata of a number set. Raises `DamagedFile`."""
    try:
        return msgspec.json.decode(numbers.meta, type=Contents)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedFile(str(path), f"its metadata does not describe registry answers: {error}") from error


def has_changed(folder: Path, snapshot: "Snapshot | None", key: str = "") -> bool:
    """Return whether the manifest or the required key has changed since `snapshot` was opened.

    The check makes only one `stat` call, so it can run every second.
    """
    try:
        stat = (folder / MANIFEST).stat()
    except FileNotFoundError:
        return False
    return snapshot is None or stamp_of(stat) != snapshot.stamp or key != snapshot.key


class RegistryAnswers(NamedTuple):
    """A registry's answers to one controller.

    `place` returns the index of a number's answer in `answers`, or raises `DamagedFile`. `places` returns those of sorted numbers.
    """

    place: Callable[[int], int]
    places: "Callable[[Numbers], NDArray[np.int32]]"
    answers: tuple[RegistryAnswer, ...]


def pulled_at(folder: Path) -> Instant | None:
    """Return when a pulled copy was last up to date, or None if the folder is not a pulled copy."""
    try:
        return msgspec.json.decode((folder / PULLED).read_bytes(), type=Pulled).at
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0


class Snapshot:
    """An open snapshot. To get later publications, open the folder again.

    `key` is the public key that signed the manifest, or empty if the signature was not checked.
    """

    def __init__(
        self, manifest: Manifest, stamp: Stamp, files: "tuple[_OpenFile, ...]", key: str = ""
    ) -> None:
        self.key, self.stamp = key, stamp
        self.version, self.published_at = manifest.version, manifest.published_at
        self._files = {(file.contents.registry, file.contents.controller): file for file in files}

    @classmethod
    def open(cls, folder: Path, key: str = "", void: Collection[str] = ()) -> "Snapshot":
        """Open the published snapshot, without reading all of it. Raises `SnapshotMissing` and `DamagedFile`.

        The manifest must be signed with the public key `key`, unless `key` is empty. `verify` checks the
        content of the files. Answers from the consultations `void` have expired; see `void_consultations`.
        """
        manifest, stamp = read_stamped(folder)
        if key and not is_signed(signed_text(manifest), manifest.signature, key):
            raise DamagedFile(str(folder / MANIFEST), "not signed with the key in `snapshot_key`")
        with ExitStack() as on_failure:
            files = tuple(
                _open_entry(folder, entry, manifest.version, void, on_failure) for entry in manifest.files
            )
            on_failure.pop_all()
        return cls(manifest, stamp, files, key)

    def answer(self, registry: str, controller: str, number: int) -> RegistryAnswer:
        """Return the answer for a number (E.164 digits). Raises `DamagedFile`."""
        answers = self.answers_for(registry, controller)
        return answers.answers[answers.place(number)]

    def answers_for(self, registry: str, controller: str) -> "RegistryAnswers":
        """Return a registry's answers to a controller, for repeated look-ups."""
        file = self._files.get((registry, controller)) or self._files.get((registry, ""))
        if file is not None:
            return RegistryAnswers(file.place, file.places, file.answers)
        unknown = RegistryAnswer(registry=registry, answer="unknown", snapshot=self.version)
        return RegistryAnswers(lambda _: 0, lambda numbers: np.zeros(len(numbers), np.int32), (unknown,))

    def consultations(self, part: SnapshotPart) -> tuple[Consultation, ...]:
        return self._files[part.registry, part.controller].contents.consultations

    def parts(self) -> tuple[SnapshotPart, ...]:
        return tuple(file.part() for file in self._files.values())

    def verify(self) -> None:
        """Verify every byte of every file. Raises `DamagedFile`."""
        for file in self._files.values():
            for numbers in file.opened:
                numbers.verify()

    def close(self) -> None:
        """Close the files. Later look-ups raise `ValueError`."""
        for file in self._files.values():
            for numbers in file.opened:
                numbers.close()


class _OpenFile:
    """The open number sets of an entry, with a `RegistryAnswer` for every possible result of a look-up.

    The constructor creates the answers in advance, because every call needs a look-up.
    """

    def __init__(
        self,
        path: Path,
        opened: Sequence[NumberSet],
        entry: ManifestEntry,
        version: str,
        void: Collection[str],
    ) -> None:
        self.path, self.opened, self._entry, self._void = path, opened, entry, void
        self.contents, *bases = contents, *_ = [read_contents(numbers, path) for numbers in opened]
        self._numbers = opened[0]
        self._base = opened[1] if bases else None
        self._full = contents.mode == "full_list"
        self._absent = RegistryAnswer(registry=contents.registry, answer="unknown", snapshot=version)
        # A full list is complete at the time of its version.
        by_time = [] if self._full else sorted(contents.consultations, key=lambda asked: asked.listed_by)
        self._listed_by = {asked.submitted_at: asked.listed_by for asked in by_time}
        self._base_begin = len(contents.states)
        states = (*contents.states, *chain.from_iterable(base.states for base in bases))
        self._states = tuple(self._answer(state) for state in states)
        areas = self._opened_areas() if self._full else {}
        first = len(self._states)
        self._areas = {prefix: first + 2 * at for at, prefix in enumerate(areas)}
        self._widths = sorted({len(prefix) for prefix in areas}, reverse=True)
        # First the states; then, for each area, the answers for numbers outside and inside the set; last, for other areas.
        self.answers = (*self._states, *chain.from_iterable(areas.values()), self._absent)

    def _opened_areas(self) -> dict[str, tuple[RegistryAnswer, RegistryAnswer]]:
        contents = self.contents
        newest = max(
            range(len(contents.consultations)), key=lambda at: contents.consultations[at].submitted_at
        )
        covered_by = contents.covered_by or (newest,) * len(contents.coverage)
        if len(covered_by) != len(contents.coverage):
            raise DamagedFile(
                str(self.path), "`covered_by` and `coverage` have different lengths: import again"
            )
        areas = {prefix: self._area(at) for prefix, at in zip(contents.coverage, covered_by, strict=True)}
        self._absent = msgspec.structs.replace(self._area(newest)[0], answer="uncovered")
        return areas

    def _answer(self, state: State) -> RegistryAnswer:
        consultation = self.contents.consultations[state.consultation]
        return msgspec.structs.replace(
            self._absent,
            answer=state.answer,
            consulted_at=0 if consultation.id in self._void else consultation.submitted_at,
            listed_at=self._listed_by.get(state.listed_at, state.listed_at),
            consultation=consultation.id,
            blocks=state.blocks,
            since=state.since,
            asked_since=consultation.asked_since,
        )

    def _area(self, at: int) -> tuple[RegistryAnswer, RegistryAnswer]:
        """Return the answers *clear* and *listed* from the consultation with index `at`.

        A number that is not in the number set gets *clear*. A number in the number set gets *listed*.
        """
        version = self.contents.consultations[at].submitted_at
        clear = self._answer(State(answer="clear", consultation=at))
        return clear, self._answer(State(answer="listed", consultation=at, listed_at=version))

    def place(self, number: int) -> int:
        """Return the index of a number's answer in `answers`. Raises `DamagedFile`."""
        try:
            tag, end = self._numbers.tag(number), self._base_begin
            if tag < 0 and self._base is not None and (tag := self._base.tag(number)) >= 0:
                tag, end = tag + self._base_begin, len(self._states)
        except IndexError:
            tag = end = 0
        if tag >= end:
            raise self._damage()
        if not self._full:
            return tag
        area = self._area_of(number)
        if tag >= 0:
            return area + 1 if area >= 0 and not self._numbers.tagged else tag
        return area

    def places(self, numbers: Numbers) -> "NDArray[np.int32]":
        """Return what `place` returns for each of the sorted numbers. Raises `DamagedFile`."""
        tags = self._numbers.tags_of(numbers)
        if tags.max(initial=-1) >= self._base_begin:
            raise self._damage()
        if self._base is not None:
            below = self._base.tags_of(numbers)
            if below.max(initial=-1) >= len(self._states) - self._base_begin:
                raise self._damage()
            below[below >= 0] += self._base_begin
            tags = np.where(tags >= 0, tags, below)
        if not self._full:
            return tags
        areas = np.array([*self._areas.values(), -1], np.int32)[longest_prefixes(numbers, [*self._areas])]
        if self._numbers.tagged:
            return np.where(tags >= 0, tags, areas)
        return np.where(tags >= 0, np.where(areas >= 0, areas + 1, tags), areas)

    def _damage(self) -> DamagedFile:
        return DamagedFile(str(self.path), "an offset or a tag is out of range: import again")

    def _area_of(self, number: int) -> int:
        digits = str(number)
        for width in self._widths:
            if (area := self._areas.get(digits[:width], -1)) >= 0:
                return area
        return -1

    def part(self) -> SnapshotPart:
        contents = self.contents
        answers = [self.answers[at] for at in self._areas.values()] if self._full else self._states
        return SnapshotPart(
            registry=contents.registry,
            controller=contents.controller,
            numbers=self._entry.numbers,
            newest_consulted_at=max((answer.consulted_at for answer in answers), default=0),
        )


def _open_entry(
    folder: Path, entry: ManifestEntry, version: str, void: Collection[str], on_failure: ExitStack
) -> _OpenFile:
    opened: list[NumberSet] = []
    for name, digest in entry.files():
        path = folder / name
        try:
            numbers = NumberSet.open(path)
        except FileNotFoundError:
            raise DamagedFile(
                str(path), "missing, but listed in the manifest: import again or roll back"
            ) from None
        on_failure.callback(numbers.close)
        if numbers.sha256 != digest:
            raise DamagedFile(str(path), "its SHA-256 differs from the manifest: import again or roll back")
        opened.append(numbers)
    path = folder / entry.file
    file = _OpenFile(path, opened, entry, version, void)
    holds = (file.contents.registry, file.contents.controller, file.contents.mode)
    if holds != (entry.registry, entry.controller, entry.mode):
        raise DamagedFile(
            str(path), "its registry, controller or mode differs from the manifest: import again or roll back"
        )
    return file
