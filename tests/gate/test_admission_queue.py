"""Tests of the queue: fair batches, and an answer for each call even if others fail."""

import asyncio
from itertools import groupby

import pytest

from dialgate.config.clients import Client
from dialgate.core.model import Call
from dialgate.core.responses import Answer
from dialgate.gate.admission_queue import AdmissionQueue, QueuedCall, reply

CALL = Call(to="+390612345678", from_="+390684400000", campaign="c")


class Line:
    """A client whose connection may be broken or closed."""

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self.answers: list[Answer] = []

    def done(self) -> bool:
        return self.kind == "gone"

    def set_result(self, answer: Answer) -> None:
        if self.kind == "broken":
            raise ConnectionError("the line is broken")
        self.answers.append(answer)


async def test_a_call_that_cannot_be_answered_does_not_affect_the_others() -> None:
    lines = [Line(kind) for kind in ("", "broken", "", "gone", "broken", "")]
    answers = [Answer(decision="deny", decision_id=f"log-{number}") for number in range(len(lines))]
    client = Client(name="dialer", key_sha256="", controllers=(), scopes=())
    asked = [QueuedCall(CALL, client, "http", 0.0, line) for line in lines]
    timed: list[str] = []
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: faults.append(str(said["exception"])))
    with pytest.raises(ConnectionError):
        reply(
            zip(asked, answers, strict=True),
            lambda _interface, _seconds, decision: timed.append(decision),
            1.0,
        )
    for _ in range(3):
        await asyncio.sleep(0)
    assert [line.answers for line in lines] == [[answers[0]], [], [answers[2]], [], [], [answers[5]]]
    assert timed == [answer.decision_id for answer in answers]
    assert faults == ["the line is broken"]


# ---- whose turn it is ------------------------------------------------------------------------------------------------

# Calls in order of arrival, by client; then the expected batches of at most eight calls.
ORDERS = {
    "one client: as they come": ("aaaaaaaaaa", ["aaaaaaaa", "aa"]),
    "a lone call is in the next batch, whatever waits before it": (
        "a" * 20 + "b",
        ["aaaab" + "aaa", "a" * 8, "a" * 5],
    ),
    "equal shares": ("aaaaaaaabbbbbbbb", ["aaaabbbb", "aaaabbbb"]),
    "what one does not need the others share": ("aaaaaaaaaabcc", ["aabccaaa", "aaaaa"]),
    "more clients than places: the rest come first": (
        "abcdefghijklabcdefghijkl",
        ["abcdefgh", "ijklabcd", "efghijkl"],
    ),
}


def queued(arriving: str) -> AdmissionQueue:
    queue = AdmissionQueue(8)
    for place, name in enumerate(arriving):
        client = Client(name=name, key_sha256="", controllers=(), scopes=())
        queue.add(QueuedCall(CALL, client, "http", float(place), Line()))
    return queue


@pytest.mark.parametrize("name", ORDERS)
def test_clients_take_turns(name: str) -> None:
    arriving, wanted = ORDERS[name]
    queue, batches = queued(arriving), []
    while queue.ready:
        batch = queue.take()
        queue.mark_answered(batch)
        batches.append(batch)
    assert ["".join(asked.client.name for asked in batch) for batch in batches] == wanted
    taken = sorted((asked for batch in batches for asked in batch), key=lambda asked: asked.client.name)
    for _, of_one in groupby(taken, key=lambda asked: asked.client.name):
        arrived = [asked.arrived for asked in of_one]
        assert arrived == sorted(arrived)


def test_cancelled_calls_are_left_out() -> None:
    queue = queued("ab")
    client = Client(name="a", key_sha256="", controllers=(), scopes=())
    queue.add(QueuedCall(CALL, client, "http", 9.0, Line("gone")))
    assert [asked.client.name for asked in queue.take()] == ["a", "b"]
    assert (queue.take(), queue.ready) == ([], False)
