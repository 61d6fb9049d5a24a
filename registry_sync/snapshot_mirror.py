"""A node's local copy of publications. The source is a folder or a server (HTTPS or SFTP).

The manifest is fetched first, then the files that it lists and the node lacks. A file is accepted only if its hash
matches. The manifest is replaced last, so this node's gate never uses a partial copy. A manifest older than
the local one is refused, because replaying an old signed manifest would permit calls to people who have
enrolled since.

After each successful pull, `pulled.json` contains `{"at": ms, "version": …}`. If `snapshot_behind_minutes` is set,
a gate is not ready when the last successful pull is older than this setting allows.
"""

import asyncio
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.crypto.publisher_signature import is_signed
from dialgate.lists.manifest import MANIFEST, Manifest, read_manifest, signed_text
from dialgate.lists.snapshot import PULLED, Pulled
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, write_file
from registry_sync import publication, source_settings
from registry_sync.import_checks import ImportRefused, utc
from registry_sync.publication import PublishTarget
from registry_sync.sources import Source, open_source


class Pull(Struct, frozen=True, kw_only=True):
    """The result of a pull. `fetched` counts the files that were new."""

    version: str
    published_at: Instant
    fetched: int


async def pull(settings: source_settings.Source, target: PublishTarget, key: str, now: Instant) -> Pull:
    """Update the local copy. Paths in `settings` are relative to the current folder.

    The manifest must be signed with the public key `key`, unless `key` is empty. Raises Refused, DamagedFile,
    SourceFailed and OSError, after which the local publication is unchanged.
    """
    async with open_source(settings, Path.cwd(), now) as source:
        with publication.lock_folder(target.folder):
            manifest = await _manifest(source, target.folder, key)
            local = publication.current_manifest(target.folder)
            if manifest.published_at < local.published_at:
                raise ImportRefused(
                    f"the remote manifest from {utc(manifest.published_at)} is older than the local one from"
                    f" {utc(local.published_at)}; an older publication never replaces a newer one"
                )
            files = dict(chain.from_iterable(entry.files() for entry in manifest.files))
            new = [name for name in files if not (target.folder / name).exists()]
            for name in new:
                await _fetch(source, target.folder, name, files[name])
            if manifest != local:
                publication.adopt_manifest(target, manifest)
            write_file(target.folder / PULLED, msgspec.json.encode(Pulled(at=now, version=manifest.version)))
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
        raise ImportRefused("the remote manifest is not signed with the key in --key; nothing was copied")
    for name, _ in chain.from_iterable(entry.files() for entry in manifest.files):
        if "/" in name or not name.endswith(publication.SUFFIX):
            raise ImportRefused("the remote manifest lists a file that is not a number set")
    return manifest


async def _fetch(source: Source, folder: Path, name: str, digest: str) -> None:
    with remove_on_exit(folder / f"{name}.tmp") as new:
        await source.fetch(name, new)
        await asyncio.to_thread(publication.verify_file, new, name, digest)
        publish_file(new, folder / name)
