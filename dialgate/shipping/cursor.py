"""How far a target has been told, kept over a restart: one JSON object, mode 0600, always replaced whole.

    {"format":1,"to":"<hash of the address>","logs":{"9f2c01ab":{"seq":1042,"hash":"<that entry's>","missed":0}}}

At another address everything is begun anew. It is no more than a place to begin at: a target says itself what it has, so
without this file nothing is lost, and nothing is there twice. The format changes by a new `format` only.
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
    """`seq`: the last entry that was delivered, `hash` its hash in hex, where that is known. `missed`: entries, in all, that
    were no longer in the log when their turn came. `stamped`: the size of the last checkpoint whose time stamp was
    delivered."""

    seq: Annotated[int, Meta(ge=0)] = 0
    hash: str = ""
    missed: Annotated[int, Meta(ge=0)] = 0
    stamped: Annotated[int, Meta(ge=0)] = 0


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    to: str
    logs: dict[str, Cursor]


class Cursors:
    def __init__(self, path: Path, to: str, *, anew: bool = False) -> None:
        """`to`: the address. Raises `OSError`."""
        self._path, self._to = path, sha256(to.encode()).hexdigest()[:16]
        self._logs = {} if anew else _read(path, self._to)

    def of(self, log: str) -> Cursor | None:
        return self._logs.get(log)

    def keep(self, log: str, cursor: Cursor) -> None:
        """Durable on return. Raises `OSError`."""
        if self._logs.get(log) != cursor:
            self._logs[log] = cursor
            write_file(self._path, msgspec.json.encode(_File(1, self._to, self._logs)))


def _read(path: Path, to: str) -> dict[str, Cursor]:
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("begun anew: how far was told cannot be read", file=str(path), problem=str(error))
        return {}
    return dict(stored.logs) if stored.to == to else {}
