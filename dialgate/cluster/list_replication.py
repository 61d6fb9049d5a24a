"""Replication of call-list files between gates on one store, and removal of old versions.

The store records the lists and the SHA-256 of their files, and each gate has its own copy of the files. Until a gate
has a list's file, it denies calls from that list (`list.unknown`).
"""

import asyncio
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from dialgate.cluster.peer_questions import ReadListFile
from dialgate.cluster.peers import Peers
from dialgate.core.model import SECOND, Instant
from dialgate.lists import call_list
from dialgate.runtime.atomic_write import publish_file
from dialgate.runtime.clock import wall_clock
from dialgate.store import CallList, Documents, StoreUnavailable

_RETRY: Final = 10 * SECOND
_GRACE: Final = 3600.0  # seconds
_PART: Final = 1 << 20  # bytes; decrypted on the event loop, in about 1 ms
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

    `part` is the number of bytes per request. A leftover file is kept until it is `grace` seconds old, because it may
    belong to a list version that is not recorded yet.
    """

    def __init__(self, data: Path, store: Documents, peers: Peers, changed: asyncio.Event) -> None:
        self._folder, self._store, self._peers, self._changed = data / "lists", store, peers, changed
        self._task: asyncio.Task[None] | None = None
        self._due: Instant = 0
        self._lacking: Collection[str] = ()
        self.part, self.grace = _PART, _GRACE

    def tick(self, lacking: Collection[str], now: Instant) -> None:
        """Start a replication round if one is due and none is running.

        `lacking` contains the names of recorded files that are missing or damaged here. A round copies these files.
        It also deletes unfinished copies, and old list files, such as a file from before an erasure.
        """
        if (now < self._due and lacking == self._lacking) or (
            self._task is not None and not self._task.done()
        ):
            return
        self._task = asyncio.create_task(self._run(lacking, is_new=lacking != self._lacking))
        self._due, self._lacking = now + _RETRY, lacking

    async def close(self) -> None:
        """Wait for the current round to finish. Call this after `Peers.close`, which cancels the round's requests.

        The round is not cancelled, because a store command must not be interrupted.
        """
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, lacking: Collection[str], *, is_new: bool) -> None:
        try:
            for record in await self._store.lists():
                if record.file in lacking and not await self._copy(record) and is_new:
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
        """Delete leftover files that are older than the grace period, by the clock that dates files.

        A list file is a leftover if its list has a newer file here, or is retired and has another one: a retired list is not
        copied. So is the file of a list that is not recorded, because the store failed during the load. If the store has no lists
        at all, it may be the wrong store, so unrecorded files are kept.
        """
        newest: dict[str, set[str]] = {}  # two lists loaded by an earlier version may share a stem
        in_use: set[str] = set()
        for record in lists:
            newest.setdefault(call_list.stem_of(record.file), set()).add(record.file)
            in_use |= set() if record.retired_at else {record.file}
        present = {path.name: path for path in self._folder.glob("*")}
        for name, path in present.items():
            files = newest.get(call_list.stem_of(name), set())
            is_unused = files & in_use <= present.keys() if files else bool(newest)
            is_leftover = name.endswith(".new") or (
                name.endswith(".numbers") and name not in files and is_unused
            )
            if is_leftover and wall_clock() / SECOND - path.stat().st_ctime >= self.grace:
                path.unlink(missing_ok=True)
                _log.info("leftover call list file deleted", file=name)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
