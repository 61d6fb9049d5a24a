"""The work for a number with many ledger entries grows with their count, not with its square.

A client can record thousands of entries about one number. Each check of the number folds them on the event loop.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from msgspec.structs import replace

from dialgate.core.decision import decide
from dialgate.core.ledger_events import (
    ConsentGiven,
    ConsentsVoided,
    ConsentWithdrawn,
    Entry,
    Event,
    Revoked,
)
from dialgate.core.ledger_state import fold
from dialgate.tools.policy.case_file import PolicyCase, Wanted
from tests.support.casebook import facts_of, law_of

MANY = 60
Shape = Callable[[int], list[Event]]


def consent(key: int, at: int) -> ConsentGiven:
    return ConsentGiven(
        id=f"c{key}",
        collected_at=at,
        purposes=("sale",),
        call_types=("agent",),
        goods=(f"g{at}",),
        artefact="form.pdf",
        artefact_sha256="00",
    )


def each_withdrawn(count: int) -> list[Event]:
    return [
        *(consent(key, key) for key in range(count)),
        *(ConsentWithdrawn(id=f"c{key}", at=count + key) for key in range(count)),
    ]


def one_given_and_withdrawn_again(count: int) -> list[Event]:
    events: list[Event] = []
    for at in range(count):
        events += [consent(1, 2 * at), ConsentWithdrawn(id="c1", at=2 * at + 1)]
    return events


def voided(count: int) -> list[Event]:
    events: list[Event] = []
    for at in range(count):
        events += [consent(at, 2 * at), ConsentsVoided(before=2 * at + 1, registry="rpo")]
    return events


def given_and_stopped_for_a_campaign(count: int) -> list[Event]:
    events: list[Event] = []
    for at in range(count):
        events += [consent(at, 2 * at), Revoked(at=2 * at + 1, scope="campaign", campaign="other")]
    return events


SHAPES: list[Shape] = [
    each_withdrawn,
    one_given_and_withdrawn_again,
    voided,
    given_and_stopped_for_a_campaign,
]


def entries(events: list[Event]) -> list[Entry]:
    return [
        Entry(seq=seq, at=0, controller="acme", subject=b"", event=event, actor="anna", channel="web")
        for seq, event in enumerate(events, 1)
    ]


def work(run: Callable[[], object]) -> int:
    """Return how many bytecode instructions `run` executes, which does not depend on the machine's load."""
    executed = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal executed
        frame.f_trace_opcodes = True
        executed += event == "opcode"
        return trace

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(earlier)
    return executed


def growth(run: Callable[[int], Callable[[], object]]) -> float:
    return work(run(2 * MANY)) / work(run(MANY))


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_entries_are_folded_with_about_twice_the_work(shape: Shape) -> None:
    def folding(count: int) -> Callable[[], object]:
        history = entries(shape(count))
        return lambda: fold(history)

    assert growth(folding) < 2.5


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_entries_are_judged_with_about_twice_the_work(shape: Shape) -> None:
    law, base = (
        law_of("IT"),
        PolicyCase(about="", at="2026-11-24T10:00:00+01:00", want=Wanted(decision="deny")),
    )

    def judging(count: int) -> Callable[[], object]:
        facts = replace(facts_of(base), known=fold(entries(shape(count))))
        return lambda: decide(facts, law)

    assert growth(judging) < 2.5
