"""A buffer of attempts and answers that are in the decision log but not yet in the database.

Each call adds one attempt and one answer under random keys, so separate writes would cost several page writes
per call. The buffer therefore collects these rows, and they are written together in the background. After a
crash, `settle` restores the unwritten rows from the log.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dialgate.core.model import Attempt
from dialgate.store import Position, Remembered, Reservation

_PARTS = 4


class BufferPart(NamedTuple):
    """A part of the buffer that is written in one transaction: attempts with their subjects, and answers.

    `last` is true for the last part of a buffer.
    """

    attempts: Iterable[tuple[bytes, Attempt]]
    answers: Iterable[Remembered]
    last: bool


class WriteBuffer:
    def __init__(self) -> None:
        self.attempts: dict[bytes, list[Attempt]] = {}
        self.subjects: dict[str, bytes] = {}  # by decision, for the attempts
        self.answers: dict[bytes, Remembered] = {}
        self.position: Position | None = None
        self.rows = 0

    def add(
        self, reservations: Sequence[Reservation], remembered: Sequence[Remembered], position: Position
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

    def drop(self, decisions: Iterable[str]) -> set[str]:
        """Remove the attempts and answers for these decisions.

        Return the decisions for which an attempt or an answer was removed.
        """
        dropped = set(decisions)
        removed = dropped & self.subjects.keys()
        for decision in removed:
            subject = self.subjects.pop(decision)
            self.attempts[subject] = [
                attempt for attempt in self.attempts[subject] if attempt.decision != decision
            ]
        for key, answer in list(self.answers.items()):
            if answer.decision in dropped:
                del self.answers[key]
                removed.add(answer.decision)
        return removed

    def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        subject = self.subjects.get(decision)
        if subject is None:
            return None
        return subject, next(attempt for attempt in self.attempts[subject] if attempt.decision == decision)

    def parts(self) -> Iterator[BufferPart]:
        """Yield the buffer in four parts, in key order, so that each database page is written only once."""
        subjects: list[list[bytes]] = [[] for _ in range(_PARTS)]
        keys: list[list[bytes]] = [[] for _ in range(_PARTS)]
        for subject in self.attempts:
            subjects[subject[0] * _PARTS >> 8].append(subject)
        for key in self.answers:
            keys[key[0] * _PARTS >> 8].append(key)
        for place in range(_PARTS):
            attempts = (
                (subject, attempt)
                for subject in sorted(subjects[place])
                for attempt in self.attempts[subject]
            )
            answers = map(self.answers.__getitem__, sorted(keys[place]))
            yield BufferPart(attempts, answers, last=place == _PARTS - 1)
