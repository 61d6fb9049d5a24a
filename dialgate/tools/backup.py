"""A copy of everything that a gate keeps, made beside it while it runs.

The order of the copy loses the least of a person's stops and of the calls, and finds no key missing:

1. the log, most of the bytes, whose checkpoints come before what they sign;
2. the databases, so that the ledger is as new as the copy and not as old as its beginning;
3. what the log has gained meanwhile, so that no attempt in the copied store lacks its record;
4. the rest, which the databases name: call lists, snapshots;
5. the keys last.

A start on the copy recovers as after a crash: what the log holds beyond the store is counted again, and its stops are entered.
Stops that were taken after step 2 and are in no log are in no copy; `ledger_end` says where they begin.

A copy holds the keys, so it shows what the original shows, for as long as it lies there: a month that is retired, or a number
that is erased, must go from it too (GDPR art. 5(1)(e), 17).
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dialgate.runtime.atomic_write import open_private, sync_file, sync_folder
from dialgate.store.sqlite_backup import copy_database, newest_entry

_LAST = ("signing.json", "keys.json")
# Made by the programs that have the files open, or not finished.
_LEFT_OUT = ("-wal", "-shm", "-journal", ".new", ".lock", ".archiving", ".durable", ".sieve")
_TRIES = 5  # the log may be packed, or a list replaced, while it is listed

Progress = Callable[[int, int], None]


class BackupFailed(Exception):
    """The copy is incomplete and must not be used. The text says what to do."""


def back_up(data: Path, out: Path, progress: Progress) -> int:
    """Copy to the new folder `out` and return the number of files. `progress` receives the bytes copied and the bytes in all.
    Durable on return. Raises `BackupFailed`, `OSError`."""
    if not (data / "keys.json").is_file():
        raise BackupFailed(f"{data} holds no keys.json: has a gate ever run here?")
    try:
        out.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise BackupFailed(f"{out} exists already; name a new folder") from None
    whole, done, copied = sum(path.stat().st_size for path in _files(data)), 0, set[Path]()
    for _ in range(_TRIES):
        missed = False
        for path in _in_order(data):
            name = path.relative_to(data)
            if name in copied and _stands(path, out / name):
                continue
            try:
                done += _copy(path, out / name)
            except FileNotFoundError:  # packed, or replaced, since the folder was listed
                missed = True
                continue
            copied.add(name)
            progress(min(done, whole), whole)
        if not missed:
            _sync_folders(out)
            return len(copied)
    raise BackupFailed(f"{data} kept changing while it was copied; try again")


def _in_order(data: Path) -> Iterator[Path]:
    yield from _logs(data)
    yield from (path for path in _files(data) if path.suffix == ".db")
    yield from _logs(data)
    others = (path for path in _files(data) if path.suffix != ".db" and not path.is_relative_to(data / "log"))
    yield from (path for path in others if path.name not in _LAST)
    yield from (data / name for name in _LAST if (data / name).exists())


def _logs(data: Path) -> Iterator[Path]:
    """The files of the log as they are now, segments last."""
    logs = [path for path in _files(data) if path.is_relative_to(data / "log")]
    yield from (path for path in logs if not path.stem.isdecimal())
    yield from (path for path in logs if path.stem.isdecimal())


def ledger_end(out: Path) -> int:
    """The sequence of the newest ledger entry in a copy; 0 where the ledger is in a shared store. Raises `StoreUnavailable`."""
    path = out / "store.db"
    return newest_entry(path) if path.exists() else 0


def _files(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*") if path.is_file() and not path.name.endswith(_LEFT_OUT))


def _stands(path: Path, copy: Path) -> bool:
    """Need not be copied again. A segment may have grown, and the next one be there by now; keys must be the newest."""
    return path.suffix == ".db" or (
        path.name not in _LAST and path.exists() and path.stat().st_size == copy.stat().st_size
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
        with suppress(PermissionError):  # the parent may be another's
            sync_folder(folder)
