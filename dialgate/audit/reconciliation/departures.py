"""The calls of all files as one: which number each went to, which caller ID it showed, which rows are no calls of their own."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dialgate.audit.reconciliation.cdr import Calls, Longs
from dialgate.core import phone
from dialgate.core.model import MINUTE

_ONE_CALL: Final = 15 * MINUTE  # in which a call may go from trunk to trunk


class Departures:
    """All files as one. `number`: the place of its number in `numbers`, -1 where it cannot be read; `caller`: of its caller
    ID among those that decisions know too; `skipped`: not calls of their own."""

    def __init__(self, files: list[Calls], home: str, own: frozenset[str], callers: dict[str, int]) -> None:
        self._files = files
        self._starts = np.cumsum([0, *(len(each.at) for each in files)])
        places: dict[str, int] = {}
        self.number = _joined([_read_numbers(each, home, places)[each.called] for each in files])
        self.numbers = list(places)
        self.caller = _joined([_read_callers(each, home, callers)[each.caller] for each in files])
        self.at = _joined([each.at for each in files])
        self.originated = np.concatenate([np.zeros(0, np.bool_), *(each.originated for each in files)])
        called = np.array([number in own for number in self.numbers], np.bool_)
        is_own = (self.number >= 0) & called[self.number] if len(called) else np.zeros(len(self.at), np.bool_)
        is_leg = self._legs() & ~is_own
        self.own, self.legs = int(is_own.sum()), int(is_leg.sum())
        self.skipped = is_own | is_leg

    def file(self, row: int) -> tuple[Calls, int]:
        place = int(np.searchsorted(self._starts, row, "right")) - 1
        return self._files[place], row - int(self._starts[place])

    def call_id(self, row: int) -> str:
        file, at = self.file(row)
        return file.call_ids[file.call[at]] if file.call[at] >= 0 else ""

    def decision(self, row: int) -> str:
        file, at = self.file(row)
        return (file.decision[at] or "") if file.decision else ""

    def _legs(self) -> NDArray[np.bool_]:
        """Rows of a call that nobody had answered before it went on, as when a trunk was down."""
        legs = np.zeros(len(self.at), np.bool_)
        for each, start in zip(self._files, self._starts.tolist(), strict=False):
            known = np.flatnonzero(each.call >= 0)
            number = self.number[start : start + len(each.at)]
            order = known[np.lexsort((each.at[known], number[known], each.call[known]))]
            first = -1
            for before, row in pairwise(_same_calls(order, each.call)):
                if before < 0 or row < 0 or number[before] != number[row]:
                    first = -1
                    continue
                first = before if first < 0 else first
                if each.answered[before] or each.at[row] - each.at[first] > _ONE_CALL:
                    first = -1
                else:
                    legs[start + row] = True
        return legs


def _same_calls(order: Longs, call: Longs) -> Iterator[int]:
    """The rows of calls that have more than one, with a -1 after each."""
    keys = call[order]
    ends = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)) if len(keys) else np.empty(0, np.int64)
    begin = 0
    for end in ends.tolist():
        if end > begin:
            yield from order[begin : end + 1].tolist()
            yield -1
        begin = end + 1


def _joined(parts: list[Longs]) -> Longs:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _read_numbers(file: Calls, home: str, places: dict[str, int]) -> Longs:
    found = [-1] * len(file.numbers)
    for at, number in enumerate(file.numbers):
        try:
            e164 = phone.parse(number, home).e164
        except phone.NotANumber:
            continue
        found[at] = places.setdefault(e164, len(places))
    return np.array(found, np.int64)


def _read_callers(file: Calls, home: str, callers: dict[str, int]) -> Longs:
    shown = [phone.parse_caller_id(each, home).number for each in file.callers]
    # -2: no caller ID is not that of a decision without one.
    return np.array([callers.setdefault(each, len(callers)) if each else -2 for each in shown], np.int64)
