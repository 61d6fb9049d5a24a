"""Detection of reads that may have missed the writes of the previous batch.

A batch may read the store while the previous batch commits, so the read may or may not include those writes. The result
of the read is usable only if the two batches have no called number and no request in common. The commit itself detects
writes by other gates.
"""

from typing import NamedTuple

from dialgate.gate.batch import Batch
from dialgate.gate.question import BatchQuery


class Mark(NamedTuple):
    """The gate's state when a read begins: the batch whose commit began last, and the next sequence number."""

    batch: Batch | None
    next_seq: int


class Overlap:
    def __init__(self) -> None:
        self._committing: Batch | None = None  # the batch whose commit began last
        self._recorded: Batch | None = None  # the batch that was committed and logged last

    def mark(self, next_seq: int) -> Mark:
        """Return the current state. Call this before a read starts, and pass the result to `may_use`."""
        return Mark(self._committing, next_seq)

    def begin(self, batch: Batch) -> None:
        """Record that the commit of `batch` is starting."""
        self._committing = batch

    def forget(self) -> None:
        """Record that a commit was rejected. Data that were read before the rejection must not be used."""
        self._committing = self._recorded = None

    def complete(self, batch: Batch) -> None:
        """Record that `batch` is in the log."""
        if batch is self._committing:
            self._recorded = batch

    def may_use(self, mark: Mark, query: BatchQuery, next_seq: int) -> bool:
        """Return whether the data read for `query` after `mark` are still valid.

        `next_seq` is the sequence number of the next log entry. Since `mark`, the log must have gained at most one
        batch. That batch must have no called number and no request in common with `query`.
        """
        before = mark.batch
        if before is not self._committing or before is not self._recorded:
            return False  # its commit failed, was repeated, or is not finished
        if before is None or next_seq == mark.next_seq:
            return next_seq == mark.next_seq
        return next_seq == before.position.seq + 1 and not before.concerns(query)
