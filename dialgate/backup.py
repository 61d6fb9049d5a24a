"""A copy of everything that a gate keeps, made beside it while it runs.

Its order makes a gate that is started on it lose nothing that was there when the copy began, and find no key missing: first
the databases, then the log, whose checkpoints come before what they sign, then the rest, and the keys last of all. What the
log holds beyond the copied store is brought back by the start, as after a crash.

A copy holds the keys, so it shows what the original shows, for as long as it lies there: a month that is retired, or a number
that is erased, must go from it too (GDPR art. 5(1)(e), 17).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dialgate.store.sqlite_backup import copy_database

_LAST = ("signing.json", "keys.json")
# Made by whoever has the files open, or not finished.
_LEFT_OUT = ("-wal", "-shm", "-journal", ".new", ".lock", ".archiving", ".durable", ".sieve")
_TRIES = 5  # the log may be packed, or a list replaced, while it is listed

Progress = Callable[[int, int], None]


class BackupFailed(Exception):
    """Nothing of the copy may be relied on. The text says what to do."""


def back_up(data: Path, out: Path, progress: Progress) -> int:
    """The number of files. `out` is made, for its owner alone; `progress` is told of bytes, done and in all. Durable on
    return. Raises `BackupFailed`, `OSError`."""
    if not (data / "keys.json").is_file():
        raise BackupFailed(f"{data} holds no keys.json: has a gate ever run here?")
    try:
        out.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise BackupFailed(f"{out} is there already; name a folder that is not") from None
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
    files = sorted(_files(data))
    yield from (path for path in files if path.suffix == ".db")
    logs = [path for path in files if path.is_relative_to(data / "log")]
    yield from (path for path in logs if not path.stem.isdecimal())
    yield from (path for path in logs if path.stem.isdecimal())
    others = (path for path in files if path.suffix != ".db" and path not in logs)
    yield from (path for path in others if path.name not in _LAST)
    yield from (data / name for name in _LAST if (data / name).exists())


def _files(data: Path) -> list[Path]:
    return [path for path in data.rglob("*") if path.is_file() and not path.name.endswith(_LEFT_OUT)]


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
        with path.open("rb") as source, os.fdopen(_opened(out), "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    with out.open("rb") as written:
        os.fsync(written.fileno())
        return os.fstat(written.fileno()).st_size


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def _sync_folders(out: Path) -> None:
    for folder in (out.parent, out, *(path for path in out.rglob("*") if path.is_dir())):
        with suppress(PermissionError):  # the parent may be another's
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
