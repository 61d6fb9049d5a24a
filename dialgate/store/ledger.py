"""The ledger: revocations, consents, contracts and every other entry about a data subject."""

from collections.abc import Sequence
from typing import Protocol

from dialgate.core.ledger_events import Draft, Entry
from dialgate.store.subject_states import SubjectStates


class Ledger(SubjectStates, Protocol):
    """The entries, by sequence and by subject."""

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Append entries durably, all or none. Return their sequences, which only grow.

        With no drafts, return once every entry that could be read before is durable. A caller that answers "already
        recorded" needs this: an entry may be readable before it is durable. Other writers wait during an append, so a
        bulk import sends some thousand drafts at a time."""

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        """Delete these entries for good, overwrite their bytes and append `drafts`, in one step. Earlier readings of their
        subjects become stale. Return the new sequences."""

    async def entered(self, subjects: Sequence[bytes]) -> set[bytes]:
        """Return the subjects that have a ledger entry. Most subjects of an imported file have none, and this costs less
        than to read them."""

    async def history(self, subject: bytes) -> list[Entry]:
        """Return every entry of one subject, oldest first."""

    async def since(self, seq: int, limit: int) -> list[Entry]:
        """Return at most `limit` entries after `seq`, oldest first."""

    async def ping(self) -> int:
        """Return the newest sequence that the ledger ever gave. Raise `StoreUnavailable` unless a read and a write would work
        now and the ledger reaches the sequence given to `hold_to`."""

    def hold_to(self, seq: int) -> None:
        """Refuse every read and write while the ledger ends before `seq`, which it is known to have reached. Without this,
        new entries would soon make a truncated ledger as long again."""
