"""Checks whether a batch may use a reading that was made during the commit of the previous batch.

The commit itself detects writes of other gates: it compares the state of every allowed call. This check is about the gate's own
writes. The reading may or may not include them, so it is used only if they are irrelevant to the batch.
"""

from typing import NamedTuple

from dialgate.gate.batch import Batch, BatchQuery


class Mark(NamedTuple):
    """The state at the beginning of a read: the batch whose commit began last, and the log's next sequence."""

    batch: Batch | None
    next_seq: int


class Overlap:
    def __init__(self) -> None:
        self._committing: Batch | None = None  # the batch whose commit began last
        self._recorded: Batch | None = None  # the batch that was committed and logged last

    def mark(self, next_seq: int) -> Mark:
        """Return the current state as a `Mark`, for `may_use`. Must be called before a read starts."""
        return Mark(self._committing, next_seq)

    def begin(self, batch: Batch) -> None:
        """Record that the commit of `batch` is starting."""
        self._committing = batch

    def forget(self) -> None:
        """Record that a commit was rejected. After that, it is unknown which writes of the batch a reading includes."""
        self._committing = self._recorded = None

    def complete(self, batch: Batch) -> None:
        """Record that `batch` is in the log."""
        if batch is self._committing:
            self._recorded = batch

    def may_use(self, mark: Mark, query: BatchQuery, next_seq: int) -> bool:
        """Return whether a reading for `query`, started at `mark`, may be used at log sequence `next_seq`.

        It may be used if nothing has been recorded since `mark`, or if only one batch has, and that batch shares no number or
        question with `query`.
        """
        before = mark.batch
        if before is not self._committing or before is not self._recorded:
            return False  # its commit failed, was repeated, or is not finished
        if before is None or next_seq == mark.next_seq:
            return next_seq == mark.next_seq
        return next_seq == before.position.seq + 1 and not before.concerns(query)
