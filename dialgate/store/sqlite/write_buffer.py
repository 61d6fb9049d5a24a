"""A buffer of attempts and answers that are in the decision log but not yet in the database.

A transaction for each batch would cost a check 30 % more processor time (ADR 0009). After a crash, `settle`
restores the lost rows from the log.
"""

from collections.abc import Sequence

from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.model import Attempt
from dialgate.store import AttemptPosition, Remembered, Reservation


class WriteBuffer:
    def __init__(self) -> None:
        self.attempts: dict[bytes, list[Attempt]] = {}
        self.subjects: dict[str, bytes] = {}  # by decision, for the attempts
        self.answers: dict[bytes, Remembered] = {}
        self.position: AttemptPosition | None = None
        self.rows = 0

    def add(
        self, reservations: Sequence[Reservation], remembered: Sequence[Remembered], position: AttemptPosition
    ) -> None:
        for reservation in reservations:
            self.attempts.setdefault(reservation.subject, []).append(reservation.attempt)
            self.subjects[reservation.attempt.decision] = reservation.subject
        for answer in remembered:
            earlier = self.answers.get(answer.key)
            if earlier is None or earlier.at <= answer.at:
                self.answers[answer.key] = answer
        self.position = position
        self.rows += len(reservations) + len(remembered)

    def drop(self, position: AttemptPosition) -> None:
        """Remove the attempts and answers of the log's entries after `position`, and set the buffer's position to it."""

        def stays(decision: str) -> bool:
            return log_of(decision) != position.log or seq_of(decision) <= position.seq

        for decision in [decision for decision in self.subjects if not stays(decision)]:
            subject = self.subjects.pop(decision)
            self.attempts[subject] = [
                attempt for attempt in self.attempts[subject] if stays(attempt.decision)
            ]
        self.answers = {key: answer for key, answer in self.answers.items() if stays(answer.decision)}
        self.position = position

    def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        subject = self.subjects.get(decision)
        if subject is None:
            return None
        return subject, next(attempt for attempt in self.attempts[subject] if attempt.decision == decision)
