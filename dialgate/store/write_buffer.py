"""What is decided and in the decision log, but not yet in the database.

One attempt and one remembered answer a call, on random keys, would cost the database several pages a call. They are
gathered here and written together, aside. Nothing hangs on it: the log has them all, and `settle` brings them back.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dialgate.core.model import Attempt
from dialgate.store import Position, Remembered, Reservation

_PARTS = 4


class Part(NamedTuple):
    """Attempts by subject, and answers, to be written in one transaction."""

    attempts: Iterable[tuple[bytes, Attempt]]
    answers: Iterable[Remembered]
    last: bool


class Recent:
    def __init__(self) -> None:
        self.attempts: dict[bytes, list[Attempt]] = {}
        self.subjects: dict[str, bytes] = {}  # of the attempts, by decision
        self.answers: dict[bytes, Remembered] = {}
        self.position: Position | None = None
        self.rows = 0

    def add(
        self, reservations: Sequence[Reservation], remembered: Sequence[Remembered], position: Position
    ) -> None:
        for each in reservations:
            self.attempts.setdefault(each.subject, []).append(each.attempt)
            self.subjects[each.attempt.decision] = each.subject
        for answer in remembered:
            held = self.answers.get(answer.key)
            if held is None or held.at <= answer.at:
                self.answers[answer.key] = answer
        self.position = position
        self.rows += len(reservations) + len(remembered)

    def drop(self, decisions: Iterable[str]) -> set[str]:
        """Which of them were here."""
        dropped = set(decisions)
        found = dropped & self.subjects.keys()
        for decision in found:
            subject = self.subjects.pop(decision)
            self.attempts[subject] = [each for each in self.attempts[subject] if each.decision != decision]
        for key, answer in list(self.answers.items()):
            if answer.decision in dropped:
                del self.answers[key]
                found.add(answer.decision)
        return found

    def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        subject = self.subjects.get(decision)
        if subject is None:
            return None
        return subject, next(each for each in self.attempts[subject] if each.decision == decision)

    def parts(self) -> Iterator[Part]:
        """A quarter each, sorted: in a large database each of its pages is then written once."""
        subjects: list[list[bytes]] = [[] for _ in range(_PARTS)]
        keys: list[list[bytes]] = [[] for _ in range(_PARTS)]
        for subject in self.attempts:
            subjects[subject[0] * _PARTS >> 8].append(subject)
        for key in self.answers:
            keys[key[0] * _PARTS >> 8].append(key)
        for place in range(_PARTS):
            attempts = (
                (each, attempt) for each in sorted(subjects[place]) for attempt in self.attempts[each]
            )
            answers = map(self.answers.__getitem__, sorted(keys[place]))
            yield Part(attempts, answers, last=place == _PARTS - 1)
