"""The store: the state that changes while gates run. There is one Protocol per kind of consumer.

`Store` combines the protocols. Every engine implements it and runs the same contract tests. A write is acknowledged only when it
is durable. A commit either reserves an attempt against exactly the state that was read, or reports that the state has changed.
If the store is unreachable, its methods raise `StoreUnavailable` without a long wait.

Annotate a consumer with the narrowest protocol that it needs. Use `Store` only if it needs three of them, closes the store, or
tests for `Shared`.
"""

from typing import Protocol

from dialgate.store.attempts import Attempts, Position, Reservation
from dialgate.store.call_lists import CallerIdProof, CallList, CallLists
from dialgate.store.campaign_counts import CampaignCounts, HourCount, PauseLift
from dialgate.store.deliveries import Deliveries, Delivery
from dialgate.store.faults import StoreUnavailable, ledger_too_short, refuse_if_short
from dialgate.store.ledger import Ledger
from dialgate.store.membership import Members, Presence, Shared
from dialgate.store.subject_states import Reading, Remembered, SubjectStates

__all__ = [
    "Attempts",
    "CallList",
    "CallLists",
    "CallerIdProof",
    "CampaignCounts",
    "Deliveries",
    "Delivery",
    "HourCount",
    "Ledger",
    "Members",
    "PauseLift",
    "Position",
    "Presence",
    "Reading",
    "Remembered",
    "Reservation",
    "Shared",
    "Store",
    "StoreUnavailable",
    "SubjectStates",
    "ledger_too_short",
    "refuse_if_short",
]


class Store(Attempts, Ledger, CallLists, Deliveries, CampaignCounts, Protocol):
    """The complete interface of a store, which every engine implements."""

    async def close(self) -> None: ...
