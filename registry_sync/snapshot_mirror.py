"""A node's own copy of what is published elsewhere: in a folder, or behind HTTPS or SFTP.

The manifest comes first; then each file that it names and that is not here yet, which is taken only with the contents
that the manifest names; the manifest takes its place last. So the gate of this node never sees half of it. What is older
than what is here is refused: who replays an old manifest, signed as it is, would free those who enrolled since.

After each look that found the copy up to date, `pulled.json` says so, `{"at": ms, "version": …}`; a gate that is told to
(`snapshot_behind_minutes`) is not ready once that is too long ago.
"""

import asyncio
from pathlib import Path

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.crypto.publisher_signature import is_signed
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import MANIFEST, PULLED, Entry, Manifest, Pulled, read_manifest, signed_text
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, write_file
from registry_sync import publication
from registry_sync.import_checks import Refused, utc
from registry_sync.publication import Press
from registry_sync.sources import Source


class Pull(Struct, frozen=True, kw_only=True):
    """`fetched`: how many files were new here."""

    version: str
    published_at: Instant
    fetched: int


async def pull(source: Source, press: Press, key: str, now: Instant) -> Pull:
    """`key`: the public key that must have signed it, or nothing. Raises Refused, DamagedFile, SourceFailed, OSError;
    then what was published here stays."""
    with publication.locked(press.folder):
        manifest = await _manifest(source, press.folder, key)
        held = publication.published(press.folder)
        if manifest.published_at < held.published_at:
            raise Refused(
                f"the manifest there is of {utc(manifest.published_at)}, older than the one here, of"
                f" {utc(held.published_at)}: an old one is not taken for new"
            )
        new = [entry for entry in manifest.files if not (press.folder / entry.file).exists()]
        for entry in new:
            await _fetch(source, press.folder, entry)
        if manifest != held:
            publication.adopt(press, manifest)
        write_file(press.folder / PULLED, msgspec.json.encode(Pulled(at=now, version=manifest.version)))
    return Pull(version=manifest.version, published_at=manifest.published_at, fetched=len(new))


async def _manifest(source: Source, folder: Path, key: str) -> Manifest:
    arriving = folder / "arriving.tmp"
    arriving.mkdir(mode=0o700, exist_ok=True)
    try:
        await source.fetch(MANIFEST, arriving / MANIFEST)
        manifest = read_manifest(arriving)
    finally:
        (arriving / MANIFEST).unlink(missing_ok=True)
        arriving.rmdir()
    if key and not is_signed(signed_text(manifest), manifest.signature, key):
        raise Refused("the manifest there is not signed with the key that was named: nothing of it is taken")
    for entry in manifest.files:
        if "/" in entry.file or not entry.file.endswith(publication.SUFFIX):
            raise Refused("the manifest there names a file that is no set of numbers")
    return manifest


async def _fetch(source: Source, folder: Path, entry: Entry) -> None:
    with remove_on_exit(folder / f"{entry.file}.tmp") as new:
        await source.fetch(entry.file, new)
        await asyncio.to_thread(_verify, new, entry)
        publish_file(new, folder / entry.file)


def _verify(path: Path, entry: Entry) -> None:
    opened = NumberSet.open(path)
    try:
        if opened.sha256 != entry.sha256:
            raise DamagedFile(entry.file, "not the file that the manifest names: its sha256 differs")
        opened.verify()
    finally:
        opened.close()
