"""Removal of a number from this node's call lists.

Several processes can remove numbers from the same list at the same time.
"""

import asyncio
from collections.abc import Collection
from pathlib import Path

from dialgate.core.faults import Unavailable
from dialgate.lists.number_set import DamagedFile
from dialgate.store import CallList, Documents
from dialgate.subjects import erasure


class ListDamaged(Unavailable):
    """Raised for a list from which a number cannot be removed. Otherwise an erasure would count as complete."""

    component = "lists"


async def remove_from_lists(
    store: Documents, folder: Path, controller: str, number: str, only: Collection[str] = ()
) -> list[str]:
    """Remove a number (E.164) from the controller's lists and return the names of the lists that had it.

    `only` names the lists; empty means all. Raises `ListDamaged`, `StoreUnavailable` and `OSError`.
    """
    lists = [
        record
        for record in await store.lists()
        if record.controller == controller and (not only or record.id in only)
    ]
    return [record.id for record in lists if await _remove(store, folder, record, number)]


async def _remove(store: Documents, folder: Path, record: CallList, number: str) -> bool:
    """Remove the number from one list, and return whether it was removed. A file that is not here has nothing to remove.

    If another process replaces the list's file in the meantime, try again with the new file. The copy from the failed
    try is not deleted. If the other process removed the same number, the list uses a file with the same contents and
    the same name.
    """
    key = record.controller, record.id
    while True:
        fault: Exception | None = None
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
            if isinstance(fault, DamagedFile):
                raise ListDamaged(f"the call list {record.id} is damaged here: load or retire it ({fault})")
            return False
        record = newest
