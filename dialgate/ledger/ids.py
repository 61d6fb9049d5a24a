"""Decisions and ledger entries under the ids that clients see, which reveal no counts of other controllers."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import structs

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.decision_ids import owner_of
from dialgate.core.entry_ids import EntryIds, is_plain
from dialgate.crypto.keys import Keys
from dialgate.ledger.schemas import HistoryEntry
from dialgate.ledger.suppression_feed import Notice, Notices

N = TypeVar("N", HistoryEntry, Notice)
R = TypeVar("R")
_NAME = re.compile("[0-9a-f]{8}-[0-9]{1,18}")


class ClientIds:
    """Translation of internal ids. Commands show sequences (`shows_sequences`): they are the operator's own."""

    def __init__(
        self, keys: Keys, notices: Notices, config: Callable[[], Config], *, shows_sequences: bool
    ) -> None:
        self._keys, self._notices, self._config = keys, notices, config
        self._shows_sequences = shows_sequences

    def outside(self, name: str, owner: str) -> str:
        """Return the id of a decision as clients see it. `owner`: see `decision_ids.owner_of`."""
        if not self._config().shared or not _NAME.fullmatch(name):
            return name
        return self._keys.ids.outside([(name, owner)])[0]

    def inside(self, client: Client, given: str) -> str:
        """Return the internal id of a decision, or "" if the decision is not visible to the client."""
        return self._keys.ids.inside(given, (*client.controllers, owner_of("", client.name)))

    def with_decision_ids(self, entry: HistoryEntry) -> HistoryEntry:
        """Return an entry in which the decisions that it names have the ids that clients see."""
        kind, _, name = entry.proof.partition(":")
        proof = f"{kind}:{self.outside(name, entry.controller)}" if kind == "decision" else entry.proof
        details = entry.details
        if details.get("decision"):
            details = details | {"decision": self.outside(details["decision"], entry.controller)}
        return structs.replace(entry, proof=proof, details=details)

    @property
    def _entry_ids(self) -> EntryIds | None:
        """The ids of entries, or None where sequences are shown."""
        return self._keys.entries if self._config().shared and not self._shows_sequences else None

    def entry_id(self, seq: int) -> int:
        """Return a ledger sequence as clients see it."""
        return self._entry_ids.outside(seq) if self._entry_ids else seq

    def entry_seq(self, given: int) -> int:
        """Return the sequence of an entry, given by its id or its sequence."""
        return self._keys.entries.inside(given)

    def with_entry_ids(self, entry: N) -> N:
        """Return a history entry or a notice as clients see it."""
        if self._entry_ids is None:
            return entry
        changes: dict[str, object] = {"seq": self.entry_id(entry.seq)}
        if isinstance(entry, Notice):
            changes["of"] = self.entry_id(entry.of) if entry.of else 0
        elif "of" in entry.details:
            changes["details"] = entry.details | {"of": self.entry_id(entry.details["of"])}
        return structs.replace(entry, **changes)

    def worded(self, reasons: Iterable[R]) -> list[R]:
        """Return reasons as clients see them, each a struct with a `code` and a `text`."""
        return self._entry_ids.worded(reasons) if self._entry_ids else list(reasons)

    def cursor(self, seq: int) -> int:
        """Return a position in the ledger as the clients of a stream see it."""
        return self._entry_ids.cursor(seq) if self._entry_ids else seq

    async def position(self, client: Client, given: int) -> int:
        """Return the sequence after which a client resumes that received `given` last. Raises `StoreUnavailable`.

        An unknown position gives 0, the beginning: a repeated revocation does no harm, a missing one does.
        """
        if is_plain(given):
            # What follows a plain sequence would show a client how many entries of others lie before it.
            everything = set(client.controllers) >= self._config().controllers.keys()
            return given if self._entry_ids is None or everything else 0
        seq = self._keys.entries.position(given)
        return seq if seq <= await self._notices.head() else 0
