"""The ledger: revocations, consents, contracts and all other entries about data subjects."""

from collections.abc import Sequence
from typing import Protocol

from dialgate.core.ledger_events import Draft, Entry
from dialgate.store.subject_states import SubjectStates


class Ledger(SubjectStates, Protocol):
    """Ledger entries, by sequence and by subject."""

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Append entries durably, all or none. Return their sequences, which always increase.

        With no drafts, return when every readable entry is durable. A caller that answers "already recorded" needs this,
        because an entry may be readable before it is durable. Other writers wait during an append, so a bulk import sends a
        few thousand drafts at a time.
        """

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        """Delete entries, overwrite their bytes and append `drafts`, atomically. Return the new sequences.

        Earlier reads of the affected subjects become stale.
        """

    async def subjects_with_entries(self, subjects: Sequence[bytes]) -> set[bytes]:
        """Return the subjects that have a ledger entry. This is cheaper than `read`."""

    async def history(self, subject: bytes) -> list[Entry]:
        """Return all entries of one subject, oldest first."""

    async def since(self, seq: int, limit: int) -> list[Entry]:
        """Return at most `limit` entries after `seq`, oldest first."""

    async def ping(self) -> int:
        """Return the newest sequence that the ledger has ever assigned.

        Raises `StoreUnavailable` if reads or writes would fail, or if the ledger ends before the sequence
        given to `require_seq`.
        """

    def require_seq(self, seq: int) -> None:
        """Refuse all reads and writes while the ledger ends before `seq`, which it is known to have reached.

        Otherwise new entries would soon hide that the ledger was truncated.
        """
