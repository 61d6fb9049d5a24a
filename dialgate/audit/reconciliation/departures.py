"""The calls from all files, with parsed numbers, and without those that need no decision of their own."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Final

from msgspec import Struct

from dialgate.audit.reconciliation.cdr import CallRecords, PlacedCall
from dialgate.core import phone
from dialgate.core.model import MINUTE

_ONE_CALL: Final = 15 * MINUTE  # longest time in which a call may be tried on further trunks


class Departure(Struct, frozen=True, gc=False):
    """A call with its number and caller ID in E.164, or empty if unreadable or missing."""

    call: PlacedCall
    number: str
    caller: str


class Departures(Struct, frozen=True):
    """The calls that need a decision, in the order of the files.

    `own` counts the left out calls to the controllers' own numbers, `legs` the left out further legs of a call.
    """

    calls: list[Departure]
    own: int
    legs: int


def find_departures(files: Iterable[CallRecords], home: str, own: frozenset[str]) -> Departures:
    @cache
    def number_of(text: str) -> str:
        try:
            return phone.parse(text, home).e164
        except phone.NotANumber:
            return ""

    @cache
    def caller_of(text: str) -> str:
        return phone.parse_caller_id(text, home).number

    departures: list[Departure] = []
    own_calls = legs = 0
    for file in files:
        every = [Departure(call, number_of(call.called), caller_of(call.caller)) for call in file.calls]
        others = [departure for departure in every if departure.number not in own]
        further = _further_legs(others)
        departures += (one for one in others if one.call.is_originated or one.call.line not in further)
        own_calls, legs = own_calls + len(every) - len(others), legs + len(further)
    return Departures(departures, own_calls, legs)


def _further_legs(departures: Sequence[Departure]) -> set[int]:
    """Return the lines of retries of an unanswered call, for example after a trunk failed."""
    calls: dict[tuple[str, str], list[PlacedCall]] = defaultdict(list)
    for departure in departures:
        if departure.call.call_id and not departure.call.is_originated:
            calls[departure.call.call_id, departure.number].append(departure.call)
    legs: set[int] = set()
    for attempts in calls.values():
        attempts.sort(key=lambda call: call.at)
        first = attempts[0]
        for before, call in pairwise(attempts):
            if before.is_answered or call.at - first.at > _ONE_CALL:
                first = call
            else:
                legs.add(call.line)
    return legs
