"""Files of revocations, for example from another system or a register.

Every row that contains a number is in force, whatever else is wrong with it (`stop_requests`). Rows without a number are
skipped and reported.
"""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import Final, Literal

from msgspec import Struct, structs

from dialgate.core.ledger_events import Draft, Entry, Revoked
from dialgate.core.ledger_state import fold, in_force, revocations
from dialgate.core.model import Instant, Revocation
from dialgate.crypto.masking import Masker
from dialgate.ledger import stop_requests
from dialgate.ledger.file_import import Columns, FileOrder, NumberEvent
from dialgate.lists.call_list import number_of
from dialgate.lists.tabular import Table, cell
from dialgate.store import Ledger

_AT_NAMES: Final = frozenset({"at", "revoked_at"})


class RevocationFile(Struct, frozen=True):
    """The kind of a file of revocations. Implements `FileKind`."""

    scope: Literal["campaign", "controller", "everyone"]
    campaign: str
    channel: str

    @property
    def is_lenient(self) -> bool:
        return True

    @staticmethod
    def columns(table: Table) -> Columns:
        return (table.layout.number - 1, "number"), (table.column(_AT_NAMES), "at")

    def read(
        self, cells: list[str], columns: Columns, order: FileOrder, _: Masker
    ) -> tuple[list[NumberEvent], tuple[str, ...]]:
        """Return a revocation of each number that the row can mean, with the time 0 if it is in force from now."""
        number, at = columns[0][0], columns[1][0]
        numbers = _numbers(cells, number, order.home)
        instant, is_certain = _instant(cell(cells, at).strip(), order.now)
        event = Revoked(at=instant, scope=self.scope, campaign=self.campaign)
        words = ("doubtful",) * (len(numbers) > 1) + ("undated",) * (not is_certain)
        return [NumberEvent(e164, event) for e164 in numbers], words

    @staticmethod
    def problem(error: ValueError) -> str:
        return str(error)

    async def new(self, store: Ledger, part: list[Draft], counts: Counter[str]) -> list[Draft]:
        """Return the latest revocation of each number, if the ledger has none that is as late.

        A later one is recorded too. Otherwise a consent that was given before it could lift the earlier ones.
        """
        latest: dict[bytes, Draft] = {}
        for draft in part:
            latest[draft.subject] = max(latest.get(draft.subject, draft), draft, key=_binds_from)
        counts["duplicates"] += len(part) - len(latest)
        for subject, history in (await store.histories(list(latest))).items():
            if self._is_known(history, latest[subject]):
                del latest[subject]
        return [
            structs.replace(draft, event=structs.replace(draft.event, at=_binds_from(draft)))
            for draft in latest.values()
        ]

    def _is_known(self, history: list[Entry], draft: Draft) -> bool:
        """Return whether a revocation in force has the channel and scope of the import, and is as strong as `draft`.

        A revocation with a wider scope counts too. Revocations from other channels do not count: if one of those
        revocations proves to be an error and is lifted, the imported revocation must remain.

        A draft without a time is in force from now, so one that a file stated earlier does not count. One that was in force
        from its own import does, because the same list may be sent every night, unless a later consent could lift it.
        """
        stops = [stop for stop in revocations(history) if self._covers(stop)]
        if at := _stated_at(draft):
            return any(stop.at >= at for stop in stops)
        newest = max((consent.collected_at for consent in fold(history).consents), default=0)
        seqs = {stop.seq for stop in stops if stop.at >= newest}
        return any(entry.seq in seqs and _stated_at(entry) == entry.at for entry in history)

    def _covers(self, revocation: Revocation) -> bool:
        return revocation.channel == self.channel and in_force(revocation, self.scope, self.campaign)


def _stated_at(draft: Draft) -> Instant:
    """Return the time of a revocation, or 0 if the file has none."""
    return draft.event.at if isinstance(draft.event, Revoked) else 0


def _binds_from(draft: Draft) -> Instant:
    return _stated_at(draft) or draft.at


def _numbers(cells: list[str], at: int, home: str) -> Collection[str]:
    """Return all numbers that a row can mean. Raises `ValueError` if there is none.

    If the number column has none, for example in a row that is too short, other cells count.
    """
    try:
        return stop_requests.numbers(cell(cells, at), home)
    except ValueError:
        if found := {number for text in cells if (number := _certain(text, home))}:
            return found
        raise


def _certain(text: str, home: str) -> str:
    """Return the number in a cell if it has the usual form and one reading, or ""."""
    with suppress(ValueError):
        number = number_of(text, home)
        return number if number.startswith("+") else ""
    return ""


def _instant(text: str, now: Instant) -> tuple[Instant, bool]:
    """Return the time of a revocation, or 0 if it is in force from now, and whether the cell is in order."""
    if not text:
        return 0, True
    instant = stop_requests.latest_instant(text, now)
    return (instant, True) if 0 < instant < now else (0, False)
