"""A call list's file, got from another gate on the store where this one has not got it; and old versions of one, removed.

The store says which lists there are and what their files must hold (SHA-256); the files lie with the gates. Until a gate has a file,
nobody can be called from that list by it: `list.unknown`.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from dialgate import calllist
from dialgate.decision_log.segment import sync_folder
from dialgate.model import HOUR, SECOND, Instant
from dialgate.peers import ListPart, Peers
from dialgate.store import CallList, Store, StoreUnavailable

_AGAIN: Final = 10 * SECOND
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
    """Of one gate. Nobody waits for it. `part`: bytes that are asked for at once."""

    def __init__(self, data: Path, store: Store, peers: Peers, changed: asyncio.Event) -> None:
        self._folder, self._store, self._peers, self._changed = data / "lists", store, peers, changed
        self._task: asyncio.Task[None] | None = None
        self._due: Instant = 0
        self._seen: Collection[str] = ()
        self._lacking: Collection[str] = ()
        self.part = _PART

    def look(self, lacking: Collection[str], now: Instant) -> None:
        """For a regular tick. `lacking`: files that are recorded, and missing or damaged here. Begins to get them, unless they are
        being got still; and removes, an hour after it was made, a file whose list has another by now, as after an erasure at
        another gate, and one that was not finished."""
        if (now < self._due and lacking == self._seen) or (self._task is not None and not self._task.done()):
            return
        self._due, self._seen = now + _AGAIN, lacking
        self._task = asyncio.create_task(self._round(lacking, now))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _round(self, lacking: Collection[str], now: Instant) -> None:
        try:
            lists = await self._store.lists()  # as they are now: what is removed must not be the newest
            missing = [each for each in lists if each.file in lacking and not await self._got(each)]
            for each in missing if {each.file for each in missing} != set(self._lacking) else ():
                _log.error("call list not here, and no other gate gives it", list=each.id, file=each.file)
            self._lacking = {each.file for each in missing}
            await asyncio.to_thread(self._tidy, lists, now)
        except (StoreUnavailable, OSError) as error:
            _log.error("call lists cannot be copied from another gate", problem=str(error))

    async def _got(self, wanted: CallList) -> bool:
        """Whole and durable under its name, or not at all: of the first gate that has it whole."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for node in await self._peers.nodes():
            temporary = self._folder / f"{secrets.token_hex(8)}.new"
            try:
                size = 0
                while got := await self._peers.one(node, ListPart(wanted.file, size, self.part), bytes):
                    await asyncio.to_thread(_append, temporary, got)
                    size += len(got)
                if size and await asyncio.to_thread(calllist.sha256_of, temporary) == wanted.sha256:
                    await asyncio.to_thread(_keep, temporary, self._folder / wanted.file)
                    self._changed.set()
                    _log.info("call list copied from another gate", list=wanted.id, node=node, bytes=size)
                    return True
            finally:
                temporary.unlink(missing_ok=True)
        return False

    def _tidy(self, lists: Iterable[CallList], now: Instant) -> None:
        lists = tuple(lists)
        files = {each.file for each in lists}
        known = {f"{each.controller}.{each.id}" for each in lists}
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            name = path.name.removesuffix(".numbers").rpartition(".")[0]
            replaced = path.suffix == ".numbers" and path.name not in files and name in known
            if (replaced or path.suffix == ".new") and path.stat().st_mtime * SECOND < now - HOUR:
                path.unlink(missing_ok=True)
                _log.info("what was left of a call list was removed", file=path.name)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _keep(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
