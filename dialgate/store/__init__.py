"""The state that changes while gates run, behind one Protocol for each kind of consumer.

`Store` combines them. Every engine implements it, and one contract suite runs on each engine. A write is acknowledged only
when it is durable. A commit either reserves an attempt against the very state that was read, or reports that it has changed.
A store that cannot be reached raises `StoreUnavailable`, soon. Annotate a consumer with the narrowest protocol that it needs,
and with `Store` only if it needs three of them, closes the store, or looks for `Shared`."""

from typing import Protocol

from dialgate.store.attempts import Attempts, Position, Reservation
from dialgate.store.call_lists import CallerIdProof, CallList, CallLists
from dialgate.store.deliveries import Deliveries, Delivery
from dialgate.store.faults import StoreUnavailable, cut_short, refuse_if_short
from dialgate.store.ledger import Ledger
from dialgate.store.membership import Muster, Presence, Shared
from dialgate.store.subject_states import Reading, Remembered, SubjectStates

__all__ = [
    "Attempts",
    "CallList",
    "CallLists",
    "CallerIdProof",
    "Deliveries",
    "Delivery",
    "Ledger",
    "Muster",
    "Position",
    "Presence",
    "Reading",
    "Remembered",
    "Reservation",
    "Shared",
    "Store",
    "StoreUnavailable",
    "SubjectStates",
    "cut_short",
    "refuse_if_short",
]


class Store(Attempts, Ledger, CallLists, Deliveries, Protocol):
    """The state behind all of these protocols, as every engine implements it."""

    async def close(self) -> None: ...
