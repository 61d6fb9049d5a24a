"""Packages of numbers submitted to a registry, and the state of each.

Each registry and controller has a folder `<registry>.<controller>/` with one folder for each package:

    <id>/package.json   the fields of `Package`, replaced as a whole; append new fields with a default
    <id>/numbers.zip    the request: `numbers.txt`, zipped
    <id>/receipt.txt, <id>/answer.*   the registry's reply

A package's folder is renamed into place when its contents are complete.

A package is `prepared`, then `uploaded`, then `submitted`. The state `uploaded` is recorded before the package is
handed over, with the instant at which the answer's validity begins. After a crash in this state, the next run asks
the source whether the package was handed over. The final states are `answered`, `refused` and `expired` (no answer
arrived in time). A later answer to an expired package is still accepted.
"""

import io
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct

from dialgate.core.model import DAY, SECOND, Instant
from dialgate.runtime.atomic_write import sync_folder, write_file
from registry_sync import disconnection
from registry_sync.config import QueriedRegistry
from registry_sync.formats.table import TableFormat
from registry_sync.formats.text import Numbers
from registry_sync.import_checks import ImportRefused

State: TypeAlias = Literal["prepared", "uploaded", "submitted", "answered", "refused", "expired"]
OPEN: Final[tuple[State, ...]] = ("prepared", "uploaded", "submitted")
RECORD, REQUEST = "package.json", "numbers.zip"


class Package(Struct, frozen=True, kw_only=True):
    """The record of one package.

    `sha256` is the hash of the request's text. `fault` is the reason why the reply was rejected or the package
    refused. `faulty` identifies the rejected files, so that they are not fetched again. `ended_at` is the time of
    the final state. `since` is the time from which a disconnection counts, or 0 if the registry is not asked about
    disconnections.
    """

    id: str
    state: State
    numbers: int
    sha256: str
    prepared_at: Instant
    submitted_at: Instant = 0
    ended_at: Instant = 0
    receipt: str = ""
    consultation: str = ""
    fault: str = ""
    faulty: str = ""
    since: Instant = 0

    @property
    def file_name(self) -> str:
        return f"{self.id}.zip"


class PackageStore:
    """The packages for one registry and controller.

    Only one run may use them at a time (`nightly_job.lock_work_folder`).
    """

    def __init__(self, work: Path, settings: QueriedRegistry) -> None:
        self.name = f"{settings.registry}.{settings.controller}"
        self.format = TableFormat(settings.used_layout)
        self._folder = work / self.name
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def all(self) -> list[Package]:
        """Return all packages, oldest first. Raises Refused if a record is damaged."""
        return [_read(path) for path in sorted(self._folder.glob(f"*/{RECORD}"))]

    def folder(self, package: Package) -> Path:
        return self._folder / package.id

    def prepare(self, numbers: Numbers, now: Instant, since: Instant = 0) -> Package:
        """Create a package with these sorted numbers, ready for submission."""
        text = self.format.request_text(numbers, disconnection.day_of(since) if since else None)
        stamp = datetime.fromtimestamp(now // SECOND, UTC).strftime("%Y%m%dT%H%M%S")
        package = Package(
            id=f"{self.name}.{stamp}.{secrets.token_hex(4)}",
            state="prepared",
            numbers=len(numbers),
            sha256=sha256(text).hexdigest(),
            prepared_at=now,
            since=since,
        )
        new = self._folder / f"{package.id}.new"
        new.mkdir(mode=0o700)
        write_file(new / REQUEST, _zip(text))
        write_file(new / RECORD, msgspec.json.encode(package))
        new.replace(self.folder(package))
        sync_folder(self._folder)
        return package

    def record(self, package: Package, state: State, fault: str = "", **changes: Any) -> Package:
        """Store a package's new state and other changed fields durably.

        If `fault` is empty, an earlier fault is cleared.
        """
        changed = msgspec.structs.replace(package, state=state, fault=fault, **changes)
        if changed != package:
            write_file(self.folder(package) / RECORD, msgspec.json.encode(changed))
        return changed

    def has_numbers(self, package: Package) -> bool:
        """Return whether the package's numbers are still stored.

        `tidy` deletes the numbers some time after the package has ended.
        """
        return (self.folder(package) / REQUEST).exists()

    def numbers(self, packages: Iterable[Package]) -> Numbers:
        """Return the numbers in these packages, unsorted. Raises FaultyFile and OSError."""
        parts = [self.format.read_request(self.folder(package) / REQUEST).numbers for package in packages]
        return np.concatenate([np.empty(0, np.uint64), *parts])

    def tidy(self, now: Instant, files_days: int, receipts_days: int) -> None:
        """Delete incomplete packages left by a crashed run, and old data from packages in a final state.

        Files with numbers are deleted `files_days` days after a package reached its final state. The whole package,
        with its receipt, is deleted after `receipts_days` days. The registry keeps its own log for 24 months
        (DPR 26/2022 art. 8 c. 5).
        """
        for incomplete in self._folder.glob("*.new"):
            shutil.rmtree(incomplete)
        for package in self.all():
            if package.state in OPEN:
                continue
            if now - package.ended_at > receipts_days * DAY:
                shutil.rmtree(self.folder(package))
            elif now - package.ended_at > files_days * DAY:
                for path in self._files_with_numbers(package):
                    path.unlink()

    def _files_with_numbers(self, package: Package) -> Iterator[Path]:
        for path in self.folder(package).iterdir():
            if path.name not in {RECORD, "receipt.txt"}:
                yield path


def _read(path: Path) -> Package:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Package)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImportRefused(
            f"{path} is unreadable ({error}). Restore the file, or move its folder elsewhere"
        ) from error


def _zip(content: bytes) -> bytes:
    """Zip a request reproducibly, so that equal text gives equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("numbers.txt")
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
    return packed.getvalue()
