"""The encoding of remembered answers in Redis."""

from dialgate.store import Remembered


def stored(answer: Remembered) -> bytes:
    return f"{answer.at} {answer.decision} ".encode() + answer.answer


def recalled(key: bytes, value: bytes) -> Remembered:
    at, decision, answer = value.split(b" ", 2)
    return Remembered(key, int(at), answer, decision.decode())


def decision_of(value: bytes) -> str:
    return value.split(b" ", 2)[1].decode()
