"""Whoever waits is told, whatever becomes of the others."""

import asyncio

import pytest

from dialgate.admission_queue import Asked, reply
from dialgate.answers import Answer
from dialgate.model import Call
from dialgate.settings import Client

CALL = Call(to="+390612345678", from_="+390684400000", campaign="c", client="dialer", interface="http")


class Line:
    """A client at the end of a line that may be broken, or that may have gone."""

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self.told: list[Answer] = []

    def done(self) -> bool:
        return self.kind == "gone"

    def set_result(self, answer: Answer) -> None:
        if self.kind == "broken":
            raise ConnectionError("the line is broken")
        self.told.append(answer)


async def test_one_that_cannot_be_told_is_no_loss_of_the_others() -> None:
    lines = [Line(kind) for kind in ("", "broken", "", "gone", "broken", "")]
    answers = [Answer(decision="deny", decision_id=f"log-{number}") for number in range(len(lines))]
    client = Client(name="dialer", key_sha256="", controllers=(), scopes=())
    asked = [Asked(CALL, client, 0.0, line) for line in lines]
    timed: list[str] = []
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: faults.append(str(said["exception"])))
    with pytest.raises(ConnectionError):
        reply(zip(asked, answers, strict=True), lambda _interface, _seconds, decision: timed.append(decision))
    for _ in range(3):
        await asyncio.sleep(0)
    assert [line.told for line in lines] == [[answers[0]], [], [answers[2]], [], [], [answers[5]]]
    assert timed == [answer.decision_id for answer in answers]
    assert faults == ["the line is broken"]
