"""The interface of the ledger: revocations, consents, contracts and other entries about data subjects."""

from collections.abc import Sequence
from typing import Protocol

from dialgate.core.ledger_events import Draft, Entry
from dialgate.store.encoded_entries import AnyDraft, EncodedEntry
from dialgate.store.subject_states import SubjectStates


class Ledger(SubjectStates, Protocol):
    """The ledger entries of a store, readable by sequence number and by subject."""

    async def append(self, drafts: Sequence[AnyDraft]) -> list[int]:
        """Append all drafts durably, or none. Return the sequence numbers of the new entries, which always increase.

        Other writers wait during an append, so a bulk import should send a few thousand drafts at a time.

        If `drafts` is empty, only wait until every readable entry is durable. Do this before reporting an entry
        as already recorded, because an entry can be readable before it is durable.
        """

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        """Delete entries, overwrite their bytes and append `drafts`, atomically.

        Return the sequence numbers of the appended entries. Earlier reads of the affected subjects become stale.
        """

    async def history(self, subject: bytes) -> list[Entry]:
        """Return all entries of one subject, oldest first."""

    async def histories(self, subjects: Sequence[bytes]) -> dict[bytes, list[EncodedEntry]]:
        """Return all entries of each subject that has any, oldest first. For some thousand subjects at a time.

        A store need not read the controller, actor and sealed number of an entry.
        """

    async def since(self, seq: int, limit: int) -> list[Entry]:
        """Return at most `limit` entries after `seq`, oldest first."""

    async def ping(self) -> int:
        """Return the newest sequence that the ledger has ever assigned.

        Raises `StoreUnavailable` if reads or writes would fail, or if the ledger ends before the sequence
        passed to `require_seq`.
        """

    def require_seq(self, seq: int) -> None:
        """Refuse all reads and writes while the ledger ends before `seq`.

        Call this with a sequence that the ledger is known to have reached. Without the check, new entries
        would soon hide that the ledger was truncated.
        """
