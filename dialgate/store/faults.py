from dialgate.core.faults import Unavailable


class StoreUnavailable(Unavailable):
    """The store cannot be read or written at the moment. The message says why."""

    component = "store"


def ledger_too_short(newest: int, known: int) -> StoreUnavailable:
    """Return the error for a ledger that ends before sequence `known`.

    The missing entries may be revocations.
    """
    return StoreUnavailable(
        f"the ledger ends at {newest}, but had reached {known}: the store was emptied, restored from an older copy or replaced."
        " Restore its newest data, or import an export with `dialgate ledger import`. If you accept the loss of the missing entries, delete"
        " `ledger.durable` in the data folder and start again"
    )


def refuse_if_short(newest: int, known: int) -> None:
    if newest < known:
        raise ledger_too_short(newest, known)
