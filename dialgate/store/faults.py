"""The errors that a store raises."""

from dialgate.core.faults import Unavailable


class StoreUnavailable(Unavailable):
    """The store cannot be read or written now. The text says why."""

    component = "store"


def cut_short(newest: int, known: int) -> StoreUnavailable:
    """Return the error for a ledger that ends before a sequence it is known to have reached: revocations are missing."""
    return StoreUnavailable(
        f"the ledger ends at {newest}, and is known to have come to {known}: the store was emptied, is an older copy, or is"
        " another than before. Bring back what it held, or copy it with `dialgate store copy`; only if all that is lost is meant"
        " to be, delete `ledger.durable` in the data folder, and start again"
    )


def refuse_if_short(newest: int, known: int) -> None:
    """Raise `StoreUnavailable` if the ledger ends before a sequence it is known to have reached."""
    if newest < known:
        raise cut_short(newest, known)
