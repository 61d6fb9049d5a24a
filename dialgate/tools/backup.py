"""A backup of a gate's data folder, made while the gate runs.

The files are copied in the order below. In this order, the copy misses as few revocations and calls as possible, and
contains every key that its files need.

    1. the log, which is most of the data; checkpoints before the segments that they sign;
    2. the call lists, because an erasure replaces a list's file;
    3. the databases, so that the ledger is as recent as possible;
    4. what was added to the log since step 1, so that each attempt in the copied store has its record;
    5. the snapshot's manifest, then the files that it names;
    6. the other files, among them new call lists;
    7. the keys.

A gate that starts on the copy begins a new log (module `chains`) and recovers as it does after a crash: it adds the
attempts and revocations that the copied log contains but the copied store lacks. A revocation made after step 3 is lost
unless the copied log contains it. `ledger_end` returns the sequence number of the last ledger entry in the copy.

A copy contains the keys, so it gives access to the same personal data as the original. When the keys
of a month are destroyed or a number is erased, remove the same data from the copy (GDPR art. 5(1)(e), 17).
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dialgate.core.local_time import instant_of, rfc3339
from dialgate.core.model import SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.decision_log import chains
from dialgate.lists.manifest import MANIFEST
from dialgate.runtime.atomic_write import open_private, sync_file, sync_folder, write_file
from dialgate.store.sqlite.backup import copy_database, newest_entry

_LAST = ("signing.json", "keys.json")
# Unfinished files, files that a program recreates when it opens the database or log, and positions of pulls and counts of days,
# which could be ahead of the copied store or log.
_LEFT_OUT = (
    "-wal", "-shm", "-journal", ".new", ".lock", ".archiving", ".durable", ".sieve", ".cursor", ".history",
)  # fmt: skip
_TRIES = 5  # files may be archived or replaced after they were listed
_RECORD = "last-backup"  # holds the time of the last complete backup

Progress = Callable[[int, int], None]


def record_backup(data: Path, at: Instant) -> None:
    """Record in the data folder that a backup begun at `at` is complete and intact. Raises `OSError`."""
    write_file(data / _RECORD, rfc3339(at).encode())


def last_backup(data: Path) -> Instant:
    """Return when the last recorded backup began, or, if there is none, when the data folder got its newest signing key.

    Return 0 if neither is known. An unreadable record counts as none: the board must be shown all the same.
    """
    with suppress(OSError, ValueError):
        return instant_of((data / _RECORD).read_text("ascii"))
    return signing_key_at(data)


def signing_key_at(data: Path) -> Instant:
    """Return when the data folder got its newest signing key, or 0."""
    with suppress(OSError):
        return int((data / "signing.json").stat().st_mtime * SECOND)
    return 0


def back_up(data: Path, out: Path, progress: Progress) -> int:
    """Copy the data folder to the new folder `out`, and return the number of files. The copy is durable on return.

    Call `progress` with the number of bytes copied and the total. Raises `Refused` and `OSError`. An incomplete copy must not be used.
    """
    if not (data / "keys.json").is_file():
        raise Refused(
            "backup.failed", f"{data} has no keys.json. Check `data`; the gate must have run at least once."
        )
    try:
        out.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Refused("backup.failed", f"{out} already exists. Choose a new folder.") from None
    total, done, copied = sum(path.stat().st_size for path in _files(data)), 0, set[Path]()
    for _ in range(_TRIES):
        missed = False
        for path in _in_order(data):
            name = path.relative_to(data)
            if name in copied and _is_current(path, out / name):
                continue
            try:
                done += _copy(path, out / name)
            except FileNotFoundError:  # archived or replaced since it was listed
                missed = True
                continue
            copied.add(name)
            progress(min(done, total), total)
        if not missed:
            chains.mark_as_copy(out)
            _sync_folders(out)
            return len(copied)
    raise Refused("backup.failed", f"{data} changed too often during the copy. Try again.")


def _in_order(data: Path) -> Iterator[Path]:
    yield from _logs(data)
    yield from (path for path in _files(data) if path.is_relative_to(data / "lists"))
    yield from (path for path in _files(data) if path.suffix == ".db")
    yield from _logs(data)
    yield from (path for path in _files(data) if path.name == MANIFEST)
    others = (path for path in _files(data) if path.suffix != ".db" and not path.is_relative_to(data / "log"))
    yield from (path for path in others if path.name not in {*_LAST, MANIFEST})
    yield from (data / name for name in _LAST if (data / name).exists())


def _logs(data: Path) -> Iterator[Path]:
    """Yield the log's files, segments last."""
    logs = (path for path in _files(data) if path.is_relative_to(data / "log"))
    yield from sorted(logs, key=lambda path: path.stem.isdecimal())


def ledger_end(out: Path) -> int:
    """Return the highest sequence number of a copy's ledger, or 0 if the ledger is in a shared store.

    Raises `StoreUnavailable`.
    """
    path = out / "store.db"
    return newest_entry(path) if path.exists() else 0


def _files(data: Path) -> list[Path]:
    files = (path for path in data.rglob("*") if path.is_file() and not path.name.endswith(_LEFT_OUT))
    return sorted(path for path in files if not path.is_relative_to(data / "shipped"))  # logs of other nodes


def _is_current(path: Path, copy: Path) -> bool:
    """Return whether the copy of a file is still valid.

    Databases are copied only once. Keys are always copied again.
    """
    return path.suffix == ".db" or (
        path.name not in (*_LAST, MANIFEST) and path.exists() and path.stat().st_size == copy.stat().st_size
    )


def _copy(path: Path, out: Path) -> int:
    out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.suffix == ".db":
        copy_database(path, out)
    else:
        with path.open("rb") as source, open_private(out) as target:
            shutil.copyfileobj(source, target, 1 << 20)
    sync_file(out)
    return out.stat().st_size


def _sync_folders(out: Path) -> None:
    for folder in (out.parent, out, *(path for path in out.rglob("*") if path.is_dir())):
        with suppress(PermissionError):  # the parent may belong to another user
            sync_folder(folder)
