"""Ledger entries for consents that an enrolment voids (L. 5/2018 art. 1 c. 5; DPR 26/2022 art. 7 c. 6 and 7).

While the snapshot contains the enrolment, gates treat the consent as void without the ledger entry. The entry keeps
the consent void after the snapshot is gone. It also records the voiding in the data subject's history. Writing is
idempotent: no number gets the same entry twice.
"""

from typing import Final

import numpy as np

from dialgate.core.ledger_events import ConsentGiven, ConsentsVoided
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.ledger.consent_voiding import Enrolled, void_consents
from dialgate.store import Ledger
from registry_sync.formats.text import Numbers

BATCH: Final = 10_000  # entries


async def find_consent_holders(store: Ledger, keys: Keys, controller: str, listed: Numbers) -> Numbers:
    """Return the numbers in `listed` that have a consent for this controller in the ledger.

    `listed` and the result are sorted. This function reads the whole ledger. Looking up each number would be slower,
    because a registry lists millions of numbers and few have a consent. Raises StoreUnavailable and KeysUnusable.
    """
    holders: set[int] = set()
    seq = 0
    while entries := await store.since(seq, BATCH):
        seq = entries[-1].seq
        numbers = [
            int(keys.ledger.unseal(entry.sealed)[1:])
            for entry in entries
            if entry.controller == controller and isinstance(entry.event, ConsentGiven) and entry.sealed
        ]
        holders.update(number for number in numbers if _contains(listed, number))
    return np.array(sorted(holders), np.uint64)


def _contains(sorted_numbers: Numbers, number: int) -> bool:
    at = int(np.searchsorted(sorted_numbers, np.uint64(number)))
    return at < len(sorted_numbers) and int(sorted_numbers[at]) == number


async def void_consents_of(
    store: Ledger, keys: Keys, controller: str, listed: Numbers, event: ConsentsVoided, now: Instant
) -> int:
    """Write a voiding entry for each number in `listed` and return the count of new entries.

    Raises StoreUnavailable.
    """
    enrolled = Enrolled(
        controller=controller,
        registry=event.registry,
        consulted_at=event.before,
        receipt=event.receipt,
        actor="registry-sync",
        numbers=listed.tolist(),
    )
    return await void_consents(store, keys, enrolled, now)
