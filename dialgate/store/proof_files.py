"""The files that prove consents, in `proofs/` in the data folder.

Each is encrypted. Its name is a keyed hash of its controller and of the SHA-256 of its content, which consents have as
`artefact_sha256`. Its time of modification is that of its last upload.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Final

from dialgate.core.ledger_events import ConsentGiven, Entry
from dialgate.core.model import SECOND, Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.runtime.atomic_write import sync_folder, write_file

_PURPOSE: Final = b"consent proof "


class ProofFiles:
    """The files on this gate. Its methods block."""

    def __init__(self, data: Path, keys: Keys) -> None:
        self._folder, self._keys, self._nonces = data / "proofs", keys, nonces()
        self._lock = RLock()  # an upload must not be removed as the older file that it replaces

    def keep(self, controller: str, content: bytes, now: Instant) -> str:
        """Write a file durably, and return its SHA-256. Raises `OSError`."""
        digest = sha256(content).hexdigest()
        name = self.name(controller, digest)
        path = self._folder / name
        with self._lock:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folder.parent)
            write_file(path, self._keys.proofs.close(content, next(self._nonces), _PURPOSE + name.encode()))
            os.utime(path, (now / SECOND, now / SECOND))
        return digest

    def read(self, controller: str, digest: str) -> bytes | None:
        """Return the content with this SHA-256, or None. Raises `KeysUnusable` if it is damaged, and `OSError`."""
        name = self.name(controller, digest)
        try:
            box = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        return self._keys.proofs.open(box, _PURPOSE + name.encode())

    def kept(self, controller: str, digests: Iterable[str]) -> set[str]:
        """Return those of the SHA-256 whose files are here."""
        return {digest for digest in digests if (self._folder / self.name(controller, digest)).exists()}

    def uploaded_before(self, before: Instant) -> set[str]:
        """Return the names of the files whose last upload was before an instant, also of those left behind by a crash."""
        with self._lock, suppress(FileNotFoundError), os.scandir(self._folder) as files:
            return {file.name for file in files if file.stat().st_mtime * SECOND < before}
        return set()  # nothing was uploaded yet

    def remove(self, names: set[str], before: Instant) -> None:
        """Remove those of the files whose last upload was before an instant."""
        with self._lock:
            for name in names & self.uploaded_before(before):
                (self._folder / name).unlink()

    def named_in(self, entries: Iterable[Entry]) -> set[str]:
        """Return the names of the files that the consents among the entries refer to."""
        return {
            self.name(entry.controller, entry.event.artefact_sha256)
            for entry in entries
            if isinstance(entry.event, ConsentGiven) and entry.event.artefact_sha256
        }

    def name(self, controller: str, digest: str) -> str:
        return f"{self._keys.named(controller, _PURPOSE + digest.lower().encode()).hex()}.proof"
