"""Enrolment voids every consent collected before (L. 5/2018 art. 1 c. 5; DPR 26/2022 art. 7 c. 6 and 7).

The gate knows this of each number from the snapshot. The ledger gets an entry besides for each number that holds such a
consent, so that the person's own record tells it and it outlives the snapshot. Where there is one no more is written,
which makes doing it again harmless.
"""

from typing import Final

import numpy as np

from dialgate.core.ledger_events import ConsentGiven, ConsentsVoided
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.ledger.consent_voiding import Enrolled, void_consents
from dialgate.store import Ledger
from registry_sync.formats.text import Numbers

READ: Final = 10_000  # entries


async def holders(store: Ledger, keys: Keys, controller: str, listed: Numbers) -> Numbers:
    """Of `listed`, which rise, those for which the ledger has a consent to this controller, rising.

    The ledger is read through rather than asked about each number: a registry lists millions, and a ledger holds the
    consents of few of them. Raises StoreUnavailable, KeysUnusable."""
    found: set[int] = set()
    seq = 0
    while entries := await store.since(seq, READ):
        seq = entries[-1].seq
        numbers = [
            int(keys.ledger.unseal(entry.sealed)[1:])
            for entry in entries
            if entry.controller == controller and isinstance(entry.event, ConsentGiven) and entry.sealed
        ]
        found.update(each for each in numbers if _is_in(each, listed))
    return np.array(sorted(found), np.uint64)


def _is_in(number: int, rising: Numbers) -> bool:
    at = int(np.searchsorted(rising, np.uint64(number)))
    return at < len(rising) and int(rising[at]) == number


async def void(
    store: Ledger, keys: Keys, controller: str, listed: Numbers, event: ConsentsVoided, now: Instant
) -> int:
    """How many numbers got an entry. Raises StoreUnavailable."""
    enrolled = Enrolled(
        controller=controller,
        registry=event.registry,
        consulted_at=event.before,
        receipt=event.receipt,
        actor="registry-sync",
        numbers=listed.tolist(),
    )
    return await void_consents(store, keys, enrolled, now)
