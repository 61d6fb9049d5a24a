"""Conversion between internal ids and the ids that clients see.

The ids that clients see hide how many entries other controllers have.
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import structs

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.decision_ids import owner_of
from dialgate.core.entry_ids import EntryIds, is_plain
from dialgate.crypto.keys import Keys
from dialgate.ledger.change_events import ChangeEvent
from dialgate.ledger.suppression_feed import Notice, Notices
from dialgate.ledger.view_schemas import HistoryEntry

N = TypeVar("N", HistoryEntry, Notice, ChangeEvent)
R = TypeVar("R")
_NAME = re.compile("[0-9a-f]{8}-[0-9]{1,18}")


class ClientIds:
    """A converter between internal ids and the ids that clients see."""

    def __init__(self, keys: Keys, notices: Notices, config: Callable[[], Config]) -> None:
        self._keys, self._notices, self._config = keys, notices, config

    def outside(self, name: str, owner: str) -> str:
        """Return the id that clients see for the decision with the internal id `name`.

        `owner` is the owner of the decision, as returned by `decision_ids.owner_of`.
        """
        if not self._config().shared or not _NAME.fullmatch(name):
            return name
        return self._keys.ids.outside([(name, owner)])[0]

    def inside(self, client: Client, decision_id: str) -> str:
        """Return the internal id of a decision, or "" if the client must not see the decision."""
        return self._keys.ids.inside(decision_id, (*client.controllers, owner_of("", client.name)))

    def proves_owner(self, client: Client, decision_id: str) -> bool:
        """Return whether a decision that `inside` found must belong to the client.

        Only the ids that clients see contain the owner. No decision belongs to others if the client has all controllers.
        """
        return not _NAME.fullmatch(decision_id) or self._has_all_controllers(client)

    def _has_all_controllers(self, client: Client) -> bool:
        return set(client.controllers) >= self._config().controllers.keys()

    def with_decision_ids(self, entry: HistoryEntry) -> HistoryEntry:
        """Return a copy of the entry with the decision ids that clients see."""
        kind, _, name = entry.proof.partition(":")
        proof = f"{kind}:{self.outside(name, entry.controller)}" if kind == "decision" else entry.proof
        details = entry.details
        if details.get("decision"):
            details = details | {"decision": self.outside(details["decision"], entry.controller)}
        return structs.replace(entry, proof=proof, details=details)

    @property
    def _entry_ids(self) -> EntryIds | None:
        """The converter for entry ids, or None if clients see plain sequence numbers."""
        return self._keys.entries if self._config().shared else None

    def entry_id(self, seq: int) -> int:
        """Return the id under which clients see a ledger entry."""
        return self._entry_ids.outside(seq) if self._entry_ids else seq

    def entry_seq(self, entry_id: int) -> int:
        """Return the ledger sequence number for an entry id. A plain sequence number is returned unchanged."""
        return self._keys.entries.inside(entry_id)

    def with_entry_ids(self, entry: N) -> N:
        """Return a copy of a history entry or notice with the entry ids that clients see."""
        if self._entry_ids is None:
            return entry
        changes: dict[str, object] = {"seq": self.entry_id(entry.seq)}
        if isinstance(entry, Notice | ChangeEvent):
            changes["of"] = self.entry_id(entry.of) if entry.of else 0
        elif "of" in entry.details:
            changes["details"] = entry.details | {"of": self.entry_id(entry.details["of"])}
        return structs.replace(entry, **changes)

    def worded(self, reasons: Iterable[R]) -> list[R]:
        """Return the reasons with the entry ids that clients see.

        A reason is a struct with `code` and `text`.
        """
        return self._entry_ids.worded(reasons) if self._entry_ids else list(reasons)

    def cursor(self, seq: int) -> int:
        """Return the stream cursor that clients see for a ledger sequence number."""
        return self._entry_ids.cursor(seq) if self._entry_ids else seq

    async def position(self, client: Client, cursor: int) -> int:
        """Return the ledger sequence number after which a client's stream continues.

        `cursor` is the last `seq` that the client received. Return 0 (the beginning) for a cursor beyond the newest entry,
        which can come from before a restore, or for a plain sequence number that the client must not use. A repeated
        revocation does no harm, but a missed revocation does. Raises `StoreUnavailable`.
        """
        if not is_plain(cursor):
            seq = self._keys.entries.position(cursor)
        elif self._entry_ids is None or self._has_all_controllers(client):
            seq = cursor
        else:  # the entries after it would reveal how many entries for other controllers precede it
            seq = 0
        return seq if seq <= await self._notices.head() else 0
