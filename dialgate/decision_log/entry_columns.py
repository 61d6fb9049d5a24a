"""Log entries in columns, for figures and searches over many decisions.

A packed segment stores these columns. For an unpacked segment they are made from its entries, so readers of columns need not know
which segments are packed.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from dialgate.core.model import Decision, Facts, Instant

SEALED = "…"  # at the end of a caller ID whose other digits are sealed
_MAX_KEY = 1 << 62


class Column(Struct, frozen=True):
    """The values of one column. The value in a row is `values[codes[row]]`, so that each is converted or tested only once."""

    values: Sequence[Any]
    codes: NDArray[np.integer]

    @classmethod
    def of(cls, values: Iterable[Hashable]) -> Self:
        distinct: dict[Hashable, int] = {}
        codes = [distinct.setdefault(value, len(distinct)) for value in values]
        return cls(list(distinct), np.array(codes, np.int64))

    def __iter__(self) -> Iterator[Any]:
        return map(self.values.__getitem__, self.codes.tolist())

    def map(self, function: Callable[[Any], Hashable]) -> "Column":
        mapped = Column.of(map(function, self.values))
        return Column(mapped.values, mapped.codes[self.codes])

    def where(self, test: Callable[[Any], bool]) -> NDArray[np.bool_]:
        """Return for each row whether `test` holds."""
        return np.take(np.array([test(value) for value in self.values], np.bool_), self.codes)

    def places_in(self, order: Sequence[Any]) -> NDArray[np.intp]:
        """Return for each row the place of its value in `order`."""
        return np.take(np.array([order.index(value) for value in self.values], np.intp), self.codes)


class EntryColumns(Struct, frozen=True):
    """Decisions and outcomes of the log `log` in columns, in the order of the log.

    `is_decision` tells decisions from outcomes. `read` returns a column of the decisions in the given rows of the segment.
    """

    log: str
    seqs: NDArray[np.int64]
    times: NDArray[np.int64]
    is_decision: NDArray[np.bool_]
    rows: NDArray[np.int64]
    read: Callable[[str, NDArray[np.int64]], Column]

    def column(self, name: str) -> Column:
        return self.read(name, self.rows)

    def select(self, mask: NDArray[np.bool_] | slice) -> "EntryColumns":
        return structs.replace(
            self,
            seqs=self.seqs[mask],
            times=self.times[mask],
            is_decision=self.is_decision[mask],
            rows=self.rows[mask],
        )

    def unit(self, milliseconds: Instant) -> Column:
        """Return the begin of the unit of time that contains each entry. Units count from 1970."""
        begins, codes = np.unique(self.times // milliseconds * milliseconds, return_inverse=True)
        return Column(begins.tolist(), codes)


class ReportedResults(Struct, frozen=True):
    """Results of calls, in the order in which they were reported. `decisions` has the sequence number of each decision."""

    decisions: NDArray[np.int64]
    results: Column


def searchable(
    facts: Facts, decision: Decision, country: str, law: str, *, is_sealed: bool
) -> dict[str, str]:
    """Return the columns of a decision that come from its grounds.

    `reasons` holds all reason codes, and `lists` the call lists with the number, separated by spaces. `is_sealed` is true if the facts lack digits of the caller ID.
    """
    codes = [reason.code for reason in decision.reasons]
    return {
        "controller": facts.controller.id,
        "campaign": facts.campaign.id,
        "country": country,
        "law": law,
        "reason": codes[0] if codes else "",
        "reasons": " ".join(codes),
        "basis": decision.basis,
        "caller_id": facts.caller_id.number + (SEALED if is_sealed else ""),
        "lists": " ".join(dict.fromkeys(listing.list for listing in facts.listings)),
    }


def count_equal(columns: Sequence[Column]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yield the distinct rows of `columns` with their number, in the order of their first occurrence."""
    keys, size = np.zeros(len(columns[0].codes), np.int64), 1
    for column in columns:
        if size * len(column.values) > _MAX_KEY:
            distinct, keys = np.unique(keys, return_inverse=True)
            size = len(distinct)
        keys = keys * len(column.values) + column.codes
        size *= len(column.values)
    _, rows, counts = np.unique(keys, return_index=True, return_counts=True)
    for place in np.argsort(rows):
        row = rows[place]
        yield tuple(column.values[column.codes[row]] for column in columns), int(counts[place])
