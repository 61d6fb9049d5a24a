"""The consents in the ledger.

Each function reads the whole ledger. Looking up each number of a registry would be slower, because a registry lists
millions of numbers and few have a consent. The functions raise StoreUnavailable and KeysUnusable.
"""

from collections.abc import AsyncIterator
from typing import Final

import numpy as np

from dialgate.core.ledger_events import ConsentGiven
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.store import Ledger
from registry_sync.formats.text import Numbers

BATCH: Final = 10_000  # entries


async def read_consents(store: Ledger, keys: Keys, controller: str) -> AsyncIterator[tuple[int, Instant]]:
    """Yield the number and the time of each consent for this controller."""
    seq = 0
    while entries := await store.since(seq, BATCH):
        seq = entries[-1].seq
        for entry in entries:
            if entry.controller == controller and isinstance(entry.event, ConsentGiven) and entry.sealed:
                yield int(keys.ledger.unseal(entry.sealed)[1:]), entry.event.collected_at


async def find_consent_holders(store: Ledger, keys: Keys, controller: str, listed: Numbers) -> Numbers:
    """Return the numbers in `listed` that have a consent for this controller. `listed` and the result are sorted."""
    consents = read_consents(store, keys, controller)
    holders = {number async for number, _ in consents if _contains(listed, number)}
    return np.array(sorted(holders), np.uint64)


def _contains(sorted_numbers: Numbers, number: int) -> bool:
    at = int(np.searchsorted(sorted_numbers, np.uint64(number)))
    return at < len(sorted_numbers) and int(sorted_numbers[at]) == number
