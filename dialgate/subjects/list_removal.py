"""Removal of a number from this node's call lists.

Several processes can remove numbers from the same list at the same time.
"""

import asyncio
from collections.abc import Collection
from pathlib import Path

import structlog

from dialgate.core.faults import Unavailable
from dialgate.lists import call_list
from dialgate.lists.number_set import DamagedFile
from dialgate.store import CallList, Documents
from dialgate.subjects import erasure

_log = structlog.get_logger(__name__)


class NotRemoved(Unavailable):
    """Raised if a number cannot be removed from call lists here. Otherwise an erasure would count as complete. The message says what to do."""

    component = "lists"


async def remove_from_lists(
    store: Documents,
    folder: Path,
    controller: str,
    number: str,
    *,
    only: Collection[str] = (),
    alone: bool = True,
) -> list[str]:
    """Remove a number (E.164) from the controller's lists and return the names of the lists that had it.

    `only` names the lists; empty means all. `alone` is true if no other gate can have a file that is missing here. Raises
    `NotRemoved`, after the number was removed from the other lists, `StoreUnavailable` and `OSError`.
    """
    names, faults = list[str](), list[str]()
    for record in await store.lists():
        if record.controller != controller or (only and record.id not in only):
            continue
        try:
            names += [record.id] if await _remove(store, folder, record, number) else []
        except DamagedFile as fault:
            faults.append(f"{record.id} ({fault})")
        except FileNotFoundError:
            if alone and not record.retired_at:
                faults.append(f"{record.id} ({record.file}: the file is missing)")
    if faults:
        raise NotRemoved(f"restore the files of these call lists, or retire the lists: {'; '.join(faults)}")
    return names


async def unreadable_lists(store: Documents, folder: Path, controller: str) -> list[str]:
    """Return the names of the controller's lists whose file is damaged or missing here, so that any number may be on them."""
    return [
        record.id
        for record in await store.lists()
        if record.controller == controller
        and not record.retired_at
        and not await asyncio.to_thread(_is_intact, folder / record.file, record.sha256)
    ]


def _is_intact(path: Path, digest: str) -> bool:
    try:
        return call_list.sha256_of(path) == digest
    except FileNotFoundError:
        return False


async def _remove(store: Documents, folder: Path, record: CallList, number: str) -> bool:
    """Remove the number from one list, and return whether it was removed. Raises `DamagedFile` and `FileNotFoundError`.

    If another process replaces the list's file in the meantime, try again with the new file. The copy from the failed
    try is not deleted. If the other process removed the same number, the list uses a file with the same contents and
    the same name. The damaged file of a retired list is deleted: it opens no call, and proves none.
    """
    key = record.controller, record.id
    while True:
        fault: DamagedFile | FileNotFoundError | None = None
        try:
            fresh = await asyncio.to_thread(erasure.copy_without, record, folder, number)
            if fresh is None:
                return False
            if await store.replace_list(fresh, record.sha256):
                await asyncio.to_thread((folder / record.file).unlink, missing_ok=True)
                return True
        except (FileNotFoundError, DamagedFile) as error:
            fault = error  # unless another process has just replaced the file
        newest = next(record for record in await store.lists() if (record.controller, record.id) == key)
        if newest.sha256 == record.sha256:
            if isinstance(fault, DamagedFile) and record.retired_at:
                await asyncio.to_thread((folder / record.file).unlink, missing_ok=True)
                _log.error("damaged file of a retired call list deleted", list=record.id, problem=str(fault))
                return False
            if fault is not None:
                raise fault
            return False
        record = newest
