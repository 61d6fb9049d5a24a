"""Files of revocations, for example from another system or a register.

Every row that contains a number is in force, whatever else is wrong with it (`stop_requests`). Rows without a number are
skipped and reported.
"""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import ClassVar, Final, Literal

import msgspec
from msgspec import Struct, structs

from dialgate.core.ledger_events import Entry, Revoked
from dialgate.core.ledger_state import fold, in_force, revocations
from dialgate.core.model import Instant, Revocation
from dialgate.crypto.masking import Masker
from dialgate.ledger import stop_requests
from dialgate.ledger.file_import import Cells, Columns, FileOrder, RowEvents
from dialgate.lists.call_list import number_of
from dialgate.lists.tabular import Table, cell
from dialgate.store import Ledger
from dialgate.store.encoded_entries import EncodedEntry

_AT_NAMES: Final = frozenset({"at", "revoked_at"})
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Revoked).decode


class RevocationFile(Struct, frozen=True):
    """The kind of a file of revocations. Implements `FileKind`."""

    scope: Literal["campaign", "controller", "everyone"]
    campaign: str
    channel: str

    is_lenient: ClassVar[bool] = True

    @staticmethod
    def columns(table: Table) -> Columns:
        return (table.layout.number - 1, "number"), (table.column(_AT_NAMES), "at")

    def read(self, cells: Cells, columns: Columns, order: FileOrder, _: Masker) -> RowEvents:
        """Return a revocation of each number that a row can mean, with the time 0 if it is in force from now."""
        number, at = columns[0][0], columns[1][0]
        texts, times = cells.column(number), [text.strip() for text in cells.column(at)]
        instants = {text: _instant(text, order.now) for text in set(times)}
        event_at = {text: self._event(instant) for text, (instant, _) in instants.items()}
        numbers, events, words = list[str](), list[str](), Counter[str]()
        for row, is_valid in enumerate(cells.is_valid):
            found = (texts[row],) if is_valid else _numbers(cells.row(row), number, order.home)
            numbers += found
            events += [event_at[times[row]]] * len(found)
            words["doubtful"] += len(found) > 1
        words["undated"] = sum(not instants[text][1] for text in times)
        return RowEvents(numbers, events, [""] * len(numbers), words)

    async def new(self, store: Ledger, part: list[EncodedEntry], counts: Counter[str]) -> list[EncodedEntry]:
        """Return the latest revocation of each number, if the ledger has none that is as late.

        A later one is recorded too. Otherwise a consent that was given before it could lift the earlier ones.
        """
        latest: dict[bytes, tuple[Instant, EncodedEntry]] = {}
        for draft in part:
            at = _decode(draft.event).at
            known = latest.get(draft.subject)
            if known is None or (at or draft.at) > (known[0] or draft.at):
                latest[draft.subject] = at, draft
        counts["duplicates"] += len(part) - len(latest)
        for subject, entries in (await store.histories(list(latest))).items():
            at = latest[subject][0]
            if self._repeats(entries, at) or self._is_known([entry.decoded() for entry in entries], at):
                del latest[subject]
        return [
            draft if at else structs.replace(draft, event=self._event(draft.at))
            for at, draft in latest.values()
        ]

    def _event(self, at: Instant) -> str:
        return _encode(Revoked(at=at, scope=self.scope, campaign=self.campaign)).decode()

    def _repeats(self, entries: list[EncodedEntry], at: Instant) -> bool:
        """Return whether the only entry of a number is one that an equal import wrote. Cheaper than `_is_known`."""
        (first, *later) = entries
        return not later and first.channel == self.channel and first.event == self._event(at or first.at)

    def _is_known(self, history: list[Entry], at: Instant) -> bool:
        """Return whether a revocation in force has the channel and scope of the import, and is as strong as one at `at`.

        A revocation with a wider scope counts too. Revocations from other channels do not count: if one of those
        revocations proves to be an error and is lifted, the imported revocation must remain.

        A draft without a time (0) is in force from now, so one that a file stated earlier does not count. One that was in force
        from its own import does, because the same list may be sent every night, unless a later consent could lift it.
        """
        stops = [stop for stop in revocations(history) if self.covers(stop)]
        if at:
            return any(stop.at >= at for stop in stops)
        newest = max((consent.collected_at for consent in fold(history).consents), default=0)
        seqs = {stop.seq for stop in stops if stop.at >= newest}
        return any(
            entry.seq in seqs and isinstance(entry.event, Revoked) and entry.event.at == entry.at
            for entry in history
        )

    def covers(self, revocation: Revocation) -> bool:
        """Return whether a revocation in force has the channel of the import, and its scope or a wider one."""
        return revocation.channel == self.channel and in_force(revocation, self.scope, self.campaign)


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
