"""The encoding of remembered answers in Redis, and of decision ids (LOG-SEQ)."""

from collections.abc import Iterable

from dialgate.core.decision_ids import log_of, seq_of
from dialgate.store import Remembered


def by_log(decisions: Iterable[str]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = {}
    for decision in decisions:
        grouped.setdefault(log_of(decision), []).append(seq_of(decision))
    return grouped


def stored(answer: Remembered) -> bytes:
    return f"{answer.at} {answer.decision} ".encode() + answer.answer


def recalled(key: bytes, value: bytes) -> Remembered:
    at, decision, answer = value.split(b" ", 2)
    return Remembered(key, int(at), answer, decision.decode())


def decision_of(value: bytes) -> str:
    return value.split(b" ", 2)[1].decode()
