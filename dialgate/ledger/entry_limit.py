"""The limit on what can permit calls to one number: its consents, contracts and call requests.

Each entry takes about 0.05 ms at every check of the number, in which no other client is served. Stops, withdrawals and
ends are never limited, and neither is a rectification.
"""

from collections.abc import Iterable
from typing import Final

from dialgate.core.ledger_events import CallRequested, ConsentGiven, ContractMade, Entry
from dialgate.core.refusal import Refused

# A switchboard that 250 people gave, or twenty years of a new entry each month. A repetition adds no entry.
MOST: Final = 250


def is_full(history: Iterable[Entry]) -> bool:
    """Return whether the ledger takes no further consent, contract or call request for the number."""
    permitting = sum(
        isinstance(entry.event, ConsentGiven | ContractMade | CallRequested) for entry in history
    )
    return permitting >= MOST


def refuse_if_full(history: Iterable[Entry]) -> None:
    """Raise `Refused` if `is_full`."""
    if is_full(history):
        raise refusal()


def refusal() -> Refused:
    text = (
        f"The ledger has {MOST} consents, contracts and call requests for this number, which is the maximum."
        " Nothing was recorded. Withdrawals, ends and revocations are still recorded."
    )
    return Refused("ledger.full", text, "number", 409)
