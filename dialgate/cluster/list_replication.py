"""A call list's file, got from another gate on the store where this one has not got it; and old versions of one, removed.

The store says which lists there are and what their files must hold (SHA-256); the files lie with the gates. Until a gate has a file,
nobody can be called from that list by it: `list.unknown`.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from dialgate.cluster.peers import ListPart, Peers
from dialgate.core.model import MINUTE, SECOND, Instant
from dialgate.lists import call_list
from dialgate.runtime.atomic_write import publish_file
from dialgate.store import CallList, CallLists, StoreUnavailable

_AGAIN: Final = 10 * SECOND
_SELDOM: Final = 10 * MINUTE
_REST: Final = 3600.0
_PART: Final = 4 << 20  # bytes
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.numbers")
_log = structlog.get_logger(__name__)


async def part(data: Path, asked: ListPart) -> bytes:
    """Empty where there is no such file here."""
    return await asyncio.to_thread(_part, data / "lists", asked)


def _part(folder: Path, asked: ListPart) -> bytes:
    if not _NAME.fullmatch(asked.file):
        return b""
    with suppress(FileNotFoundError), (folder / asked.file).open("rb") as file:
        file.seek(asked.offset)
        return file.read(min(asked.most, _PART))
    return b""


class ListCopies:
    """Of one gate. Nobody waits for it. `part`: bytes that are asked for at once. `rest`: seconds for which what seems to be left
    of a list is let alone, for it may be about to be recorded, or finished."""

    def __init__(self, data: Path, store: CallLists, peers: Peers, changed: asyncio.Event) -> None:
        self._folder, self._store, self._peers, self._changed = data / "lists", store, peers, changed
        self._task: asyncio.Task[None] | None = None
        self._due: Instant = 0
        self._seen: Collection[str] = ()
        self._tries = 0
        self._left: dict[str, float] = {}
        self.part, self.rest = _PART, _REST

    def look(self, lacking: Collection[str], now: Instant) -> None:
        """For a regular tick. `lacking`: files that are recorded, and missing or damaged here. Begins to get them, unless they are
        being got still, less and less often as long as nobody has them; and removes what is left of lists whose file is another by
        now, as after an erasure at another gate, and what was not finished."""
        if (now < self._due and lacking == self._seen) or (self._task is not None and not self._task.done()):
            return
        self._tries = self._tries + 1 if lacking and lacking == self._seen else 0
        self._due = now + min(_AGAIN << min(self._tries, 10), _SELDOM)
        self._seen = lacking
        self._task = asyncio.create_task(self._round(lacking))

    async def close(self) -> None:
        """After `Peers.close`, which ends what is being got. Not cancelled: the store's connections outlive no half of a command."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _round(self, lacking: Collection[str]) -> None:
        try:
            for each in await self._store.lists():
                if each.file in lacking and not await self._got(each) and self._tries == 0:
                    _log.error("call list not here, and no other gate gives it", list=each.id, file=each.file)
            lists = await self._store.lists()  # as they are now: what is removed must not be the newest
            await asyncio.to_thread(self._tidy, lists)
        except (StoreUnavailable, OSError) as error:
            _log.error("call lists cannot be copied from another gate", problem=str(error))

    async def _got(self, wanted: CallList) -> bool:
        """Whole and durable under its name, or not at all: of the first gate that has it whole."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for node, url in (await self._peers.nodes()).items():
            temporary = self._folder / f"{secrets.token_hex(8)}.new"
            try:
                size = 0
                while got := await self._peers.one(node, url, ListPart(wanted.file, size, self.part), bytes):
                    await asyncio.to_thread(_append, temporary, got)
                    size += len(got)
                if size and await asyncio.to_thread(call_list.sha256_of, temporary) == wanted.sha256:
                    await asyncio.to_thread(publish_file, temporary, self._folder / wanted.file)
                    self._changed.set()
                    _log.info("call list copied from another gate", list=wanted.id, node=node, bytes=size)
                    return True
            except OSError as error:
                _log.error("call list not copied", list=wanted.id, node=node, problem=str(error))
            finally:
                temporary.unlink(missing_ok=True)
        return False

    def _tidy(self, lists: Iterable[CallList]) -> None:
        """By this machine's own clock, which no setting of the time moves: what is being made must not be taken for old."""
        newest = {f"{each.controller}.{each.id}": each.file for each in lists}
        present = {path.name: path for path in self._folder.iterdir()} if self._folder.is_dir() else {}
        now = time.monotonic()
        left = {}
        for name in present:
            file = newest.get(name.removesuffix(".numbers").rpartition(".")[0], "")
            if name.endswith(".new") or (file in present and file != name and name.endswith(".numbers")):
                left[name] = self._left.get(name, now)
        for name, since in left.items():
            if now - since >= self.rest:
                present[name].unlink(missing_ok=True)
                _log.info("what was left of a call list was removed", file=name)
        self._left = left


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
