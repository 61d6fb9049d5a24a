"""Whether a batch may use what it read from the store while the batch before it was being committed.

What others wrote meanwhile is found by the commit itself, which compares the state of every allowed call. This is about the
gate's own writes: the reading may or may not hold them, so it is used only where they do not matter.
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
        self._recorded: Batch | None = None  # the same once its commit succeeded and it is in the log

    def mark(self, next_seq: int) -> Mark:
        """Take this before a read begins."""
        return Mark(self._committing, next_seq)

    def begin(self, batch: Batch) -> None:
        """Note that the commit of `batch` begins."""
        self._committing = batch

    def forget(self) -> None:
        """Note that a commit was refused: which of its writes a reading saw is unknown."""
        self._committing = self._recorded = None

    def complete(self, batch: Batch) -> None:
        """Note that `batch` is in the log."""
        if batch is self._committing:
            self._recorded = batch

    def may_use(self, mark: Mark, query: BatchQuery, next_seq: int) -> bool:
        """Return whether a reading for `query`, begun at `mark`, may be used now that the log's next sequence is `next_seq`:
        nothing was recorded since, or one batch only that concerns none of the query's numbers and questions."""
        before = mark.batch
        if before is not self._committing or before is not self._recorded:
            return False  # its commit failed, was repeated, or is not finished
        if before is None or next_seq == mark.next_seq:
            return next_seq == mark.next_seq
        return next_seq == before.position.seq + 1 and not before.concerns(query)
