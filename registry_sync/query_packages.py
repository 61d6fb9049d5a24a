"""The packages that were made to be submitted to a registry, and how far each has got.

One folder for each registry and controller, `<registry>.<controller>/`, and in it one for each package:

    <id>/package.json   the fields of `Package`, replaced whole; a new field goes last with a default
    <id>/numbers.zip    what is submitted, with `numbers.txt` in it
    <id>/receipt.txt, <id>/answer.*   what came back

A package's folder appears by one rename, with all that is in it. It goes from `prepared` over `uploaded` to `submitted`:
`uploaded` is noted, with the time from which the answer's validity will run, before the one step at the registry that
hands it over, so that a run that finds `uploaded` can tell from the registry's side whether that step was done. The end
is `answered`, `refused` or, when no answer came, `expired`; what answers an expired package late is still taken.
"""

import secrets
import shutil
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
from registry_sync.formats import rpo
from registry_sync.formats.text import Numbers
from registry_sync.import_checks import Refused

State: TypeAlias = Literal["prepared", "uploaded", "submitted", "answered", "refused", "expired"]
OPEN: Final[tuple[State, ...]] = ("prepared", "uploaded", "submitted")
RECORD, REQUEST = "package.json", "numbers.zip"


class Package(Struct, frozen=True, kw_only=True):
    """`sha256`: of the request's text. `fault`: why what came back was not taken; the package still waits; `faulty` names just those
    files, so that they are not fetched again. `ended_at`: when it was answered, refused or given up."""

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

    @property
    def file_name(self) -> str:
        """Under which it is handed over."""
        return f"{self.id}.zip"


class Shelf:
    """One run has it at a time: see `job`."""

    def __init__(self, work: Path, registry: str, controller: str) -> None:
        self.name = f"{registry}.{controller}"
        self._folder = work / self.name
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def all(self) -> list[Package]:
        """Oldest first. Raises Refused where a record is damaged: nothing may be submitted on a guess."""
        return [_read(path) for path in sorted(self._folder.glob(f"*/{RECORD}"))]

    def folder(self, package: Package) -> Path:
        return self._folder / package.id

    def prepare(self, numbers: Numbers, now: Instant) -> Package:
        """`numbers` rise."""
        text = rpo.request_text(numbers)
        stamp = datetime.fromtimestamp(now // SECOND, UTC).strftime("%Y%m%dT%H%M%S")
        package = Package(
            id=f"{self.name}.{stamp}.{secrets.token_hex(4)}",
            state="prepared",
            numbers=len(numbers),
            sha256=sha256(text).hexdigest(),
            prepared_at=now,
        )
        new = self._folder / f"{package.id}.new"
        new.mkdir(mode=0o700)
        write_file(new / REQUEST, rpo.request_zip(text))
        write_file(new / RECORD, msgspec.json.encode(package))
        new.replace(self.folder(package))
        sync_folder(self._folder)
        return package

    def note(self, package: Package, state: State, fault: str = "", **changes: Any) -> Package:
        """Durable at return. A `fault` is over when it is not given again. `changes`: other fields of Package."""
        noted = msgspec.structs.replace(package, state=state, fault=fault, **changes)
        if noted != package:
            write_file(self.folder(package) / RECORD, msgspec.json.encode(noted))
        return noted

    def has_numbers(self, package: Package) -> bool:
        """Not long after its end."""
        return (self.folder(package) / REQUEST).exists()

    def numbers(self, packages: Iterable[Package]) -> Numbers:
        """All numbers that these ask about, in no order. Raises FaultyFile, OSError."""
        parts = [
            rpo.read_request(self.folder(package) / REQUEST, lambda _: None).numbers for package in packages
        ]
        return np.concatenate([np.empty(0, np.uint64), *parts])

    def tidy(self, now: Instant, files_days: int, receipts_days: int) -> None:
        """Removes what a run that crashed left half made, the numbers of packages that ended long ago, and, after the
        years for which the registry itself keeps its log, the packages (DPR 26/2022 art. 8 c. 5: 24 months)."""
        for left in self._folder.glob("*.new"):
            shutil.rmtree(left)
        for package in self.all():
            if package.state in OPEN:
                continue
            if now - package.ended_at > receipts_days * DAY:
                shutil.rmtree(self.folder(package))
            elif now - package.ended_at > files_days * DAY:
                for path in self._clear_files(package):
                    path.unlink()

    def _clear_files(self, package: Package) -> Iterator[Path]:
        for path in self.folder(package).iterdir():
            if path.name not in {RECORD, "receipt.txt"}:
                yield path


def _read(path: Path) -> Package:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Package)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: unreadable ({error}): restore it, or move its folder away") from error
