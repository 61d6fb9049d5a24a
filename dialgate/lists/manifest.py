"""The manifest of a snapshot folder, which lists the published files: see `snapshot`."""

import os
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.lists.number_set import DamagedFile

MANIFEST = "manifest.json"
FORMAT, FORMAT_WITHOUT_BASE = 2, 1

Mode: TypeAlias = Literal["answers", "full_list"]
Stamp: TypeAlias = tuple[int, int, int]


class SnapshotMissing(Exception):
    """Raised for a folder without a published snapshot."""


class ManifestEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    registry: str
    controller: str
    mode: Mode
    file: str
    sha256: str
    numbers: int
    base: str = ""
    base_sha256: str = ""

    def files(self) -> tuple[tuple[str, str], ...]:
        """Return the name and SHA-256 of each file. A file beside a base comes first."""
        return ((self.file, self.sha256), *(((self.base, self.base_sha256),) if self.base else ()))


class Manifest(Struct, frozen=True, kw_only=True):
    version: str
    published_at: Instant
    files: tuple[ManifestEntry, ...]
    format: int = FORMAT_WITHOUT_BASE
    signature: str = ""


def signed_text(manifest: Manifest) -> bytes:
    """Return the text that the publisher signs: version, time and files of a snapshot.

    Its format must never change.
    """
    lines = [f"dialgate snapshot 1 {manifest.version} {manifest.published_at}"]
    lines += [
        " ".join((entry.registry, entry.controller, entry.mode, *chain.from_iterable(entry.files())))
        for entry in manifest.files
    ]
    return "\n".join(lines).encode()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in a folder. Raises `SnapshotMissing` and `DamagedFile`."""
    return read_stamped(folder)[0]


def stamp_of(stat: os.stat_result) -> Stamp:
    """Return what differs between a file and the one that replaces it."""
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def read_stamped(folder: Path) -> tuple[Manifest, Stamp]:
    """Return the manifest in a folder, and the stamp of its file. Raises as `read_manifest`."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            manifest = msgspec.json.decode(file.read(), type=Manifest)
    except FileNotFoundError:
        raise SnapshotMissing(
            f"{folder}: no registry answers have been published here. Run `registry-sync import`, or specify the snapshot folder that `registry-sync` publishes to"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedFile(str(path), f"not a manifest: {error}") from error
    if manifest.format > FORMAT:
        raise DamagedFile(
            str(path),
            f"format {manifest.format} is newer than this version supports ({FORMAT}): update dialgate",
        )
    return manifest, stamp
