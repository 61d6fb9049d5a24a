"""Replication of call-list files between gates on one store, and removal of old versions.

The store records the lists and the SHA-256 of their files, and each gate has its own copy of the files. Until a gate
has a list's file, it denies calls from that list (`list.unknown`).
"""

import asyncio
import os
import re
import secrets
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from dialgate.cluster.peer_questions import ReadListFile
from dialgate.cluster.peers import Peers
from dialgate.core.model import MINUTE, SECOND, Instant
from dialgate.lists import call_list
from dialgate.runtime.atomic_write import publish_file
from dialgate.store import CallList, CallLists, StoreUnavailable

_FIRST_RETRY: Final = 10 * SECOND
_LAST_RETRY: Final = 10 * MINUTE
_GRACE: Final = 3600.0  # seconds
_PART: Final = 4 << 20  # bytes
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.numbers")
_log = structlog.get_logger(__name__)


async def read_part(data: Path, question: ReadListFile) -> bytes:
    """Return a part of a list file, or b"" if this gate does not have the file."""
    return await asyncio.to_thread(_read_part, data / "lists", question)


def _read_part(folder: Path, question: ReadListFile) -> bytes:
    if not _NAME.fullmatch(question.file):
        return b""
    with suppress(FileNotFoundError), (folder / question.file).open("rb") as file:
        file.seek(question.offset)
        return file.read(min(question.most, _PART))
    return b""


class ListReplication:
    """A background task that copies missing list files from other gates.

    `part` is the number of bytes per request. A leftover file is kept for `grace` seconds, because it may
    belong to a list version that is not recorded yet.
    """

    def __init__(self, data: Path, store: CallLists, peers: Peers, changed: asyncio.Event) -> None:
        self._folder, self._store, self._peers, self._changed = data / "lists", store, peers, changed
        self._task: asyncio.Task[None] | None = None
        self._due: Instant = 0
        self._lacking: Collection[str] = ()
        self._tries = 0
        # File name and inode to the time at which the file became a leftover. A repeated load of the same numbers
        # creates a file with the same name.
        self._leftovers: dict[tuple[str, int], float] = {}
        self.part, self.grace = _PART, _GRACE

    def tick(self, lacking: Collection[str], now: Instant) -> None:
        """Start a replication round if one is due and none is running.

        `lacking` contains the names of recorded files that are missing or damaged here. A round copies these files.
        It also deletes unfinished copies, and old list files, such as a file from before an erasure. The time between
        rounds grows while no gate has the missing files.
        """
        if (now < self._due and lacking == self._lacking) or (
            self._task is not None and not self._task.done()
        ):
            return
        self._tries = self._tries + 1 if lacking and lacking == self._lacking else 0
        self._due = now + min(_FIRST_RETRY << min(self._tries, 10), _LAST_RETRY)
        self._lacking = lacking
        self._task = asyncio.create_task(self._run(lacking))

    async def close(self) -> None:
        """Wait for the current round to finish. Call this after `Peers.close`, which cancels the round's requests.

        The round is not cancelled, because a store command must not be interrupted.
        """
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, lacking: Collection[str]) -> None:
        try:
            for record in await self._store.lists():
                if record.file in lacking and not await self._copy(record) and self._tries == 0:
                    _log.error(
                        "call list missing here and on all other gates", list=record.id, file=record.file
                    )
            lists = await self._store.lists()  # read again: a version recorded meanwhile must not be deleted
            await asyncio.to_thread(self._delete_leftovers, lists)
        except (StoreUnavailable, OSError) as error:
            _log.error("call lists cannot be copied from another gate", problem=str(error))

    async def _copy(self, wanted: CallList) -> bool:
        """Copy a list's file from the first gate whose copy has the recorded SHA-256.

        Return False if no gate has such a copy.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for node, url in self._peers.urls.items():
            temporary = self._folder / f"{secrets.token_hex(8)}.new"
            try:
                size = 0
                while part := await self._peers.ask_one(
                    node, url, ReadListFile(wanted.file, size, self.part)
                ):
                    await asyncio.to_thread(_append, temporary, part)
                    size += len(part)
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

    def _delete_leftovers(self, lists: Iterable[CallList]) -> None:
        """Delete leftover files after the grace period.

        A list file is a leftover if its list has a newer file here, or if its list is not recorded because the store
        failed during the load. If the store has no lists at all, it may be the wrong store, so unrecorded files are kept.
        The period is measured with a monotonic clock, so that a time correction cannot make a new file look old.
        """
        newest: dict[str, set[str]] = {}  # two lists loaded by an earlier version may share a stem
        for record in lists:
            newest.setdefault(call_list.stem_of(record.file), set()).add(record.file)
        present = (
            {entry.name: entry.inode() for entry in os.scandir(self._folder)} if self._folder.is_dir() else {}
        )
        now = time.monotonic()
        leftovers = {}
        for name, inode in present.items():
            files = newest.get(call_list.stem_of(name), set())
            is_unused = files <= present.keys() if files else bool(newest)
            if name.endswith(".new") or (name.endswith(".numbers") and name not in files and is_unused):
                leftovers[name, inode] = self._leftovers.get((name, inode), now)
        for (name, _), since in leftovers.items():
            if now - since >= self.grace:
                (self._folder / name).unlink(missing_ok=True)
                _log.info("leftover call list file deleted", file=name)
        self._leftovers = leftovers


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
