"""Pure functions that convert a client's request to a ledger event."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final, NoReturn

from dialgate.core.ledger_events import (
    CallRequested,
    ConsentConfirmed,
    ConsentGiven,
    ConsentWithdrawn,
    ContractEnded,
    ContractMade,
    Event,
)
from dialgate.core.location import problem_of
from dialgate.core.model import DAY, Instant
from dialgate.core.refusal import Refused
from dialgate.ledger.schemas import (
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    LedgerRequest,
    WithdrawalRequest,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
# Programs write an empty time as 1970-01-01, and a cell of Excel with its days as a number is read as seconds since then.
_EARLIEST: Final[Instant] = 365 * DAY
EVENT_OF: Final[dict[type[LedgerRequest], type[Event]]] = {
    ConsentRequest: ConsentGiven,
    ConfirmationRequest: ConsentConfirmed,
    WithdrawalRequest: ConsentWithdrawn,
    ContractRequest: ContractMade,
    ContractEndRequest: ContractEnded,
    CallRequestRequest: CallRequested,
}
_CHECKED_FIRST: Final = ("place", "rectify")
_NOT_RECTIFIED: Final = frozenset({"id", "rectify"})


class Misstated(Refused):
    """Raised for an impossible value in `field`. The message contains no value from the request."""

    def __init__(self, text: str, field: str) -> None:
        super().__init__("request.invalid", text, field)


def event_of(ask: LedgerRequest, now: Instant, sectors: tuple[str, ...]) -> Event:
    """Return the event for a request. Raises `Misstated`. For `sectors`, see `statement`."""
    fields = {name: getattr(ask, name) for name in stated_fields(type(ask))}
    for name, state in _statements(type(ask), now, sectors):
        fields[name] = state(fields[name])
    return EVENT_OF[type(ask)](**fields)


@lru_cache(maxsize=8)  # the requests in a body have the same time
def _statements(
    request: type[LedgerRequest], now: Instant, sectors: tuple[str, ...]
) -> list[tuple[str, Callable[[Any], Any]]]:
    found = ((name, statement(EVENT_OF[request], name, now, sectors)) for name in stated_fields(request))
    return [(name, state) for name, state in found if state is not None]


@cache
def stated_fields(request: type[LedgerRequest]) -> tuple[str, ...]:
    """Return the names of the event's fields that a request states, in the order in which they are checked."""
    names = [name for name in EVENT_OF[request].__struct_fields__ if name in request.__struct_fields__]
    return tuple(sorted(names, key=lambda name: name not in _CHECKED_FIRST))


def statement(
    event: type[Event], name: str, now: Instant, sectors: tuple[str, ...]
) -> Callable[[Any], Any] | None:
    """Return the function from a field of the request to that of the event, or None if they are the same. It raises `Misstated`.

    `sectors` contains the sectors that a contract may name. If it is empty, a contract may name any sector.
    """
    match name:
        case "place":
            return _place
        case "rectify":
            known = [field for field in event.__struct_fields__ if field not in _NOT_RECTIFIED]
            return lambda names: (
                names if set(names).issubset(known) else _refuse(name, "names of these fields", known)
            )
        case "sector" if sectors:
            return lambda sector: (
                sector if sector in {"", *sectors} else _refuse(name, "one of these sectors", sectors)
            )
        case "collected_at" | "requested_at" | "at":
            return lambda at: past(at, now, name)
        case "renewed_at" | "attested_at":
            return lambda at: past(at, now, name) if at else 0
        case "expires_at" | "begins":
            return lambda at: instant(at, name) if at else 0
    return None


def _place(place: str) -> str:
    if place and (problem := problem_of(place)):
        raise Misstated(problem[0].upper() + problem[1:] + ".", "place")
    return place


def _refuse(name: str, permitted: str, values: Iterable[str]) -> NoReturn:
    raise Misstated(f"Use {permitted}: {', '.join(values)}.", name)


def past(at: datetime | None, now: Instant, field: str) -> Instant:
    """Return the time of an event, by default `now`. Raises `Misstated` if `at` is in the future."""
    event_at = now if at is None else instant(at, field)
    if event_at > now:
        raise Misstated("This time is in the future. Send the time of the event.", field)
    return event_at


def instant(at: datetime, field: str) -> Instant:
    milliseconds = (at - _EPOCH) // _MILLISECOND
    if milliseconds < _EARLIEST:
        raise Misstated("This time is before 1971. Send the time of the event.", field)
    return milliseconds
