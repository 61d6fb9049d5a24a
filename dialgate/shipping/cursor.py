"""The stored cursor of a target, which survives restarts.

It is a JSON object in a file with mode 0600, which is always replaced as a whole:

    {"format":1,"to":"<hash of the address>","logs":{"9f2c01ab":{"seq":1042,"hash":"<hash of entry 1042>","missed":0}}}

If the target's address changes, shipping starts from the beginning. The cursor is only a starting point: the target
reports which entries it has. If this file is lost, no entry is lost or delivered twice. Every change to the layout
increments `format`.
"""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import structlog
from msgspec import Meta, Struct

from dialgate.runtime.atomic_write import write_file

_log = structlog.get_logger(__name__)


class Cursor(Struct, frozen=True):
    """The position of one log at a target.

    `seq` is the last delivered entry, with its `hash` in hex if known. `missed` counts the entries that were
    deleted from the log before delivery. `stamped` is the size of the last checkpoint whose time stamp was
    delivered.
    """

    seq: Annotated[int, Meta(ge=0)] = 0
    hash: str = ""
    missed: Annotated[int, Meta(ge=0)] = 0
    stamped: Annotated[int, Meta(ge=0)] = 0


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    to: str
    logs: dict[str, Cursor]


class Cursors:
    def __init__(self, path: Path, to: str, *, restart: bool = False) -> None:
        """Read the cursors of all logs at the target with address `to`. Raises `OSError`.

        With `restart`, ignore the file.
        """
        self._path, self._to = path, sha256(to.encode()).hexdigest()[:16]
        self._logs = {} if restart else _read(path, self._to)

    def get(self, log: str) -> Cursor | None:
        return self._logs.get(log)

    def store(self, log: str, cursor: Cursor) -> None:
        """Store a cursor durably. Raises `OSError`."""
        if self._logs.get(log) != cursor:
            self._logs[log] = cursor
            write_file(self._path, msgspec.json.encode(_File(1, self._to, self._logs)))


def _read(path: Path, to: str) -> dict[str, Cursor]:
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("cursor file unreadable, shipping everything again", file=str(path), problem=str(error))
        return {}
    return dict(stored.logs) if stored.to == to else {}
