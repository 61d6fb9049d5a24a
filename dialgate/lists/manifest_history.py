"""The earlier manifests in a snapshot folder: `manifest.<n>.json`, the highest n being the newest."""

from pathlib import Path

import msgspec

from dialgate.core.model import Instant
from dialgate.lists.manifest import Manifest, SnapshotMissing, read_manifest
from dialgate.lists.number_set import DamagedFile


def kept_manifests(folder: Path) -> list[tuple[int, Path]]:
    """Return `n` and the path of each earlier manifest, oldest first."""
    numbered = ((path.name.split(".")[1], path) for path in folder.glob("manifest.*.json"))
    return sorted((int(number), path) for number, path in numbered if number.isdecimal())


def read_manifest_file(path: Path) -> Manifest:
    """Return the manifest in a file. Raises `DamagedFile` and `OSError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedFile(str(path), f"not a manifest: {error}") from error


def earlier_manifests(folder: Path) -> list[Manifest]:
    """Return the earlier manifests, newest first. Raises `DamagedFile` and `OSError`."""
    return [read_manifest_file(path) for _, path in reversed(kept_manifests(folder))]


def manifest_before(folder: Path, at: Instant) -> Manifest | None:
    """Return the last manifest published before `at`, or None if it is no longer kept. Raises `DamagedFile` and `OSError`."""
    try:
        manifests = [read_manifest(folder), *earlier_manifests(folder)]
    except SnapshotMissing:
        return None
    return next((manifest for manifest in manifests if manifest.published_at < at), None)
