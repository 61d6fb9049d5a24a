"""A call list's file, got from another gate on the store where this one has not got it; and old versions of one, removed.

The store says which lists there are and what their files must hold (SHA-256); the files lie with the gates. Until a gate has a file,
nobody can be called from that list by it: `list.unknown`.
"""

import asyncio
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from dialgate import calllist
from dialgate.decision_log.segment import sync_folder
from dialgate.model import HOUR, SECOND, Instant
from dialgate.peers import ListPart, Peers
from dialgate.store import CallList

_AGAIN: Final = 10 * SECOND
_PART: Final = 4 << 20  # bytes
_log = structlog.get_logger(__name__)


async def part(data: Path, asked: ListPart) -> bytes:
    """Empty where there is no such file here."""
    return await asyncio.to_thread(_part, data / "lists", asked)


def _part(folder: Path, asked: ListPart) -> bytes:
    if asked.file != Path(asked.file).name or not asked.file.endswith(".numbers"):
        return b""
    with suppress(FileNotFoundError), (folder / asked.file).open("rb") as file:
        file.seek(asked.offset)
        return file.read(min(asked.most, _PART))
    return b""


class ListCopies:
    """Of one gate. Nobody waits for it. `part`: bytes that are asked for at once."""

    def __init__(self, data: Path, peers: Peers, changed: asyncio.Event) -> None:
        self._folder, self._peers, self._changed = data / "lists", peers, changed
        self._task: asyncio.Task[None] | None = None
        self._due: Instant = 0
        self._lacking: set[str] = set()
        self.part = _PART

    def look(self, lists: Iterable[CallList], now: Instant) -> None:
        """For a regular tick. Begins to get what is lacking, unless it is being got still; and removes, an hour after it was made,
        a file whose list has another by now: that of an erasure at another gate, for one."""
        if now < self._due or (self._task is not None and not self._task.done()):
            return
        self._due = now + _AGAIN
        lists = tuple(lists)
        self._task = asyncio.create_task(self._round(lists, now))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _round(self, lists: tuple[CallList, ...], now: Instant) -> None:
        try:
            for each in await asyncio.to_thread(self._lacks, lists):
                await self._get(each)
            await asyncio.to_thread(self._tidy, lists, now)
        except OSError as error:
            _log.error("call lists cannot be copied from another gate", problem=str(error))

    def _lacks(self, lists: tuple[CallList, ...]) -> list[CallList]:
        return [each for each in lists if not each.retired_at and not (self._folder / each.file).exists()]

    async def _get(self, wanted: CallList) -> None:
        """Whole and durable under its name, or not at all."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        temporary = self._folder / f"{secrets.token_hex(8)}.new"
        try:
            size = 0
            while got := await self._peers.first(ListPart(wanted.file, size, self.part), bytes, unlike=b""):
                await asyncio.to_thread(_append, temporary, got)
                size += len(got)
            if size and await asyncio.to_thread(calllist.sha256_of, temporary) == wanted.sha256:
                await asyncio.to_thread(_keep, temporary, self._folder / wanted.file)
                self._lacking.discard(wanted.file)
                self._changed.set()
                _log.info("call list copied from another gate", list=wanted.id, bytes=size)
            elif wanted.file not in self._lacking:
                self._lacking.add(wanted.file)
                _log.error("call list not here, and no other gate gives it", list=wanted.id, file=wanted.file)
        finally:
            temporary.unlink(missing_ok=True)

    def _tidy(self, lists: tuple[CallList, ...], now: Instant) -> None:
        files = {each.file for each in lists}
        known = {f"{each.controller}.{each.id}" for each in lists}
        for path in self._folder.glob("*.numbers"):
            list_, _, _ = path.name.removesuffix(".numbers").rpartition(".")
            if path.name not in files and list_ in known and path.stat().st_mtime * SECOND < now - HOUR:
                path.unlink(missing_ok=True)
                _log.info("a call list's old version was removed", file=path.name)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _keep(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
