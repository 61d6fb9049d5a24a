"""The calls from all files as one table, with parsed numbers and marks on the rows to skip."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dialgate.audit.reconciliation.cdr import CallRecords, Longs
from dialgate.core import phone
from dialgate.core.model import MINUTE

_ONE_CALL: Final = 15 * MINUTE  # longest time in which a call may be tried on further trunks


class Departures:
    """The calls from all files, as columns of equal length.

    - `number` is an index into `numbers`, -1 if unreadable.
    - `caller` is an index into `callers`, which also contains the decisions' caller IDs.
    - `skipped` marks calls to one of the `own` numbers, and further legs of a call.
    """

    def __init__(
        self, files: list[CallRecords], home: str, own: frozenset[str], callers: dict[str, int]
    ) -> None:
        self._files = files
        self._starts = np.cumsum([0, *(len(file.at) for file in files)])
        places: dict[str, int] = {}
        self.number = _concatenate([_read_numbers(file, home, places)[file.called] for file in files])
        self.numbers = list(places)
        self.caller = _concatenate([_read_callers(file, home, callers)[file.caller] for file in files])
        self.at = _concatenate([file.at for file in files])
        self.originated = np.concatenate([np.zeros(0, np.bool_), *(file.originated for file in files)])
        called = np.array([number in own for number in self.numbers], np.bool_)
        is_own = (self.number >= 0) & called[self.number] if len(called) else np.zeros(len(self.at), np.bool_)
        is_leg = self._legs() & ~is_own
        self.own, self.legs = int(is_own.sum()), int(is_leg.sum())
        self.skipped = is_own | is_leg

    def file(self, row: int) -> tuple[CallRecords, int]:
        """Return the file that contains a row, and the index of the row in that file."""
        index = int(np.searchsorted(self._starts, row, "right")) - 1
        return self._files[index], row - int(self._starts[index])

    def call_id(self, row: int) -> str:
        file, at = self.file(row)
        return file.call_ids[file.call[at]] if file.call[at] >= 0 else ""

    def decision(self, row: int) -> str:
        file, at = self.file(row)
        return (file.decision[at] or "") if file.decision else ""

    def _legs(self) -> NDArray[np.bool_]:
        """Return a mask of the rows for retries of an unanswered call, for example after a trunk failed."""
        legs = np.zeros(len(self.at), np.bool_)
        for file, start in zip(self._files, self._starts.tolist(), strict=False):
            with_call = np.flatnonzero(file.call >= 0)
            number = self.number[start : start + len(file.at)]
            order = with_call[np.lexsort((file.at[with_call], number[with_call], file.call[with_call]))]
            first = -1
            for before, row in pairwise(_same_calls(order, file.call)):
                if before < 0 or row < 0 or number[before] != number[row]:
                    first = -1
                    continue
                first = before if first < 0 else first
                if file.answered[before] or file.at[row] - file.at[first] > _ONE_CALL:
                    first = -1
                else:
                    legs[start + row] = True
        return legs


def _same_calls(order: Longs, call: Longs) -> Iterator[int]:
    """Yield the rows in `order`, call by call, with -1 after each call. Skip calls that have only one row."""
    keys = call[order]
    ends = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)) if len(keys) else np.empty(0, np.int64)
    begin = 0
    for end in ends.tolist():
        if end > begin:
            yield from order[begin : end + 1].tolist()
            yield -1
        begin = end + 1


def _concatenate(parts: list[Longs]) -> Longs:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _read_numbers(file: CallRecords, home: str, places: dict[str, int]) -> Longs:
    indexes = [-1] * len(file.numbers)
    for at, number in enumerate(file.numbers):
        try:
            e164 = phone.parse(number, home).e164
        except phone.NotANumber:
            continue
        indexes[at] = places.setdefault(e164, len(places))
    return np.array(indexes, np.int64)


def _read_callers(file: CallRecords, home: str, callers: dict[str, int]) -> Longs:
    caller_ids = [phone.parse_caller_id(text, home).number for text in file.callers]
    # Decisions without a caller ID have -1. Calls get -2, because two missing caller IDs must not match.
    return np.array(
        [callers.setdefault(number, len(callers)) if number else -2 for number in caller_ids], np.int64
    )
