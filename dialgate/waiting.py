"""Those who wait for an answer."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct

from dialgate.answers import Answer
from dialgate.model import Call
from dialgate.settings import Client


class Awaited(Protocol):
    """Who waits for an answer, in the thread of the event loop; a future is one. Told once, unless it is `done` before."""

    def done(self) -> bool: ...

    def set_result(self, answer: Answer, /) -> None: ...


class Asked(Struct, gc=False):
    """A call that waits for its answer. `arrived` is on the monotonic clock, in seconds."""

    call: Call
    client: Client
    arrived: float
    answer: Awaited


def reply(told: Iterator[tuple[Asked, Answer]], took: Callable[[str, float, str], None]) -> None:
    """`took` is told the interface, the seconds from arrival to answer, and the decision's id."""
    ended, whole = time.monotonic(), False
    try:
        for asked, answer in told:
            took(asked.call.interface, ended - asked.arrived, answer.decision_id)
            if not asked.answer.done():  # the client may have gone
                asked.answer.set_result(answer)
        whole = True
    finally:
        if not whole:  # who could not be told is no loss of the others
            asyncio.get_running_loop().call_soon(reply, told, took)
