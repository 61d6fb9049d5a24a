"""What is decided and in the decision log, but not yet in the database.

One attempt and one remembered answer a call, on random keys, would cost the database several pages a call. They are
gathered here and written together, aside. Nothing hangs on it: the log has them all, and `settle` brings them back.
"""

from collections.abc import Iterable, Sequence

from dialgate.model import Attempt
from dialgate.store import Position, Remembered, Reservation


class Recent:
    def __init__(self) -> None:
        self.attempts: dict[bytes, list[Attempt]] = {}
        self.answers: dict[bytes, Remembered] = {}
        self.position: Position | None = None
        self.rows = 0

    def add(
        self, reservations: Sequence[Reservation], remembered: Sequence[Remembered], position: Position
    ) -> None:
        for each in reservations:
            self.attempts.setdefault(each.subject, []).append(each.attempt)
        for answer in remembered:
            held = self.answers.get(answer.key)
            if held is None or held.at <= answer.at:
                self.answers[answer.key] = answer
        self.position = position
        self.rows += len(reservations) + len(remembered)

    def drop(self, decisions: Iterable[str]) -> set[str]:
        """Which of them were here."""
        dropped = set(decisions)
        found = set()
        for subject, held in list(self.attempts.items()):
            gone = {attempt.decision for attempt in held} & dropped
            if gone:
                self.attempts[subject] = [attempt for attempt in held if attempt.decision not in gone]
                found |= gone
        for key, answer in list(self.answers.items()):
            if answer.decision in dropped:
                del self.answers[key]
                found.add(answer.decision)
        return found

    def counted(self) -> Iterable[tuple[bytes, Attempt]]:
        """Sorted, so that neighbours in the database are written one after the other."""
        return ((subject, attempt) for subject in sorted(self.attempts) for attempt in self.attempts[subject])

    def remembered(self) -> Iterable[Remembered]:
        return (self.answers[key] for key in sorted(self.answers))
