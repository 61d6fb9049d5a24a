"""Removal of a number from this node's call lists.

Other processes may remove other numbers at the same time.
"""

import asyncio
from pathlib import Path

from dialgate.lists.number_set import DamagedFile
from dialgate.store import CallList, CallLists
from dialgate.subjects import erasure


async def remove_from_lists(store: CallLists, folder: Path, controller: str, number: str) -> list[str]:
    """Remove a number (E.164) from the controller's lists and return the names of the lists that had it.

    Raises `StoreUnavailable` and `OSError`.
    """
    lists = [record for record in await store.lists() if record.controller == controller]
    return [record.id for record in lists if await _remove(store, folder, record, number)]


async def _remove(store: CallLists, folder: Path, record: CallList, number: str) -> bool:
    """Remove the number from one list. Retry if another process has replaced the list in the meantime.

    The copy written before a retry is not deleted, because the call list may use it. If the other process removed the
    same number, its copy has the same contents and file name.
    """
    key = record.controller, record.id
    while True:
        try:
            fresh = await asyncio.to_thread(erasure.copy_without, record, folder, number)
            if fresh is None:
                return False
            if await store.replace_list(fresh, record.sha256):
                await asyncio.to_thread(erasure.delete_file, folder / record.file)
                return True
        except (FileNotFoundError, DamagedFile):
            pass  # the file is missing or damaged, or another process has just replaced it
        newest = next(record for record in await store.lists() if (record.controller, record.id) == key)
        if newest.sha256 == record.sha256:
            return False
        record = newest
