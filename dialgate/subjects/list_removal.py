"""A number is taken off the call lists whose files are here, while others may be doing the same with another number."""

import asyncio
from pathlib import Path

from dialgate.lists.number_set import DamagedFile
from dialgate.store import CallList, CallLists
from dialgate.subjects import erasure


async def off_lists(store: CallLists, folder: Path, controller: str, number: str) -> list[str]:
    """The names of the controller's lists it was on. `number` in E.164. Raises `StoreUnavailable`, `OSError`."""
    lists = [each for each in await store.lists() if each.controller == controller]
    return [each.id for each in lists if await _off(store, folder, each, number)]


async def _off(store: CallLists, folder: Path, record: CallList, number: str) -> bool:
    """Again, where somebody else was quicker. What was made in vain is left: it may be that one's file, if the same was done."""
    name = record.controller, record.id
    while True:
        try:
            fresh = await asyncio.to_thread(erasure.without, record, folder, number)
            if fresh is None:
                return False
            if await store.replace_list(fresh, record.sha256):
                await asyncio.to_thread(erasure.drop, folder / record.file)
                return True
        except (FileNotFoundError, DamagedFile):
            pass  # not here, or nobody can be called from it; unless somebody has just replaced it
        newest = next(each for each in await store.lists() if (each.controller, each.id) == name)
        if newest.sha256 == record.sha256:
            return False
        record = newest
