"""The store: the state that changes while gates run.

There is one protocol for each kind of consumer, and `Store` combines them. Every engine implements `Store`
and passes the same contract tests:

- A write is acknowledged only when it is durable.
- A commit counts an attempt only if the state that was read is unchanged. Otherwise it reports a stale read.
- If a store is unreachable, its methods raise `StoreUnavailable` quickly.

Annotate a consumer with the narrowest protocol that it needs. Use `Store` only if the consumer needs three
protocols, closes the store, or tests for `Shared`.
"""

from typing import Protocol

from dialgate.store.attempts import AttemptPosition, Attempts, CountedAttempt, Reservation
from dialgate.store.call_lists import CallerIdProof, CallList
from dialgate.store.campaign_counts import CampaignCounts, HourCount, PauseLift
from dialgate.store.campaign_pauses import CampaignPause
from dialgate.store.client_keys import ClientKey, ClientKeys
from dialgate.store.deliveries import Delivery, Rejection
from dialgate.store.documents import (
    CampaignPauses,
    Documents,
    KeysOfClients,
    OfficerDocuments,
    PersonAccounts,
)
from dialgate.store.faults import StoreUnavailable, ledger_too_short, refuse_if_short
from dialgate.store.ledger import Ledger
from dialgate.store.membership import Generation, Members, Presence, Shared
from dialgate.store.subject_states import KnownSubjects, Reading, Remembered, SubjectStates

__all__ = [
    "AttemptPosition",
    "Attempts",
    "CallList",
    "CallerIdProof",
    "CampaignCounts",
    "CampaignPause",
    "CampaignPauses",
    "ClientKey",
    "ClientKeys",
    "CountedAttempt",
    "Delivery",
    "Documents",
    "Generation",
    "HourCount",
    "KeysOfClients",
    "KnownSubjects",
    "Ledger",
    "LedgerAndDocuments",
    "Members",
    "OfficerDocuments",
    "PauseLift",
    "PersonAccounts",
    "Presence",
    "Reading",
    "Rejection",
    "Remembered",
    "Reservation",
    "Shared",
    "Store",
    "StoreUnavailable",
    "SubjectStates",
    "ledger_too_short",
    "refuse_if_short",
]


class LedgerAndDocuments(Ledger, Documents, Protocol):
    """The parts of the store that feeds and erasures use."""


class Store(
    Attempts,
    Ledger,
    CampaignPauses,
    PersonAccounts,
    KeysOfClients,
    OfficerDocuments,
    CampaignCounts,
    KnownSubjects,
    Protocol,
):
    """The complete interface of a storage engine."""

    async def close(self) -> None: ...
