"""Pure functions that convert a client's request to a ledger event."""

from datetime import UTC, datetime, timedelta
from operator import attrgetter

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
from dialgate.core.model import Instant
from dialgate.ledger.schemas import (
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    LedgerRequest,
    WithdrawalRequest,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_CONSENT_FIELDS = attrgetter(*ConsentGiven.__struct_fields__)


class Misstated(ValueError):
    """Raised for an impossible value in `field`. The message contains no value from the request."""

    def __init__(self, text: str, field: str) -> None:
        super().__init__(text)
        self.field = field


def event_of(ask: LedgerRequest, now: Instant, sectors: tuple[str, ...]) -> Event:
    """Return the event for a request. Raises `Misstated`.

    `sectors` contains the sectors that a contract may name. If it is empty, a contract may name any sector.
    """
    if isinstance(ask, ConsentRequest | ContractRequest | CallRequestRequest):
        _check_place_and_rectify(ask)
    match ask:
        case ConsentRequest():
            fields = dict(zip(ConsentGiven.__struct_fields__, _CONSENT_FIELDS(ask), strict=True))
            fields["collected_at"] = past(ask.collected_at, now, "collected_at")
            fields["expires_at"] = instant(ask.expires_at, "expires_at") if ask.expires_at else 0
            fields["renewed_at"] = past(ask.renewed_at, now, "renewed_at") if ask.renewed_at else 0
            return ConsentGiven(**fields)
        case ConfirmationRequest():
            return ConsentConfirmed(id=ask.id, at=past(ask.at, now, "at"))
        case WithdrawalRequest():
            return ConsentWithdrawn(id=ask.id, at=past(ask.at, now, "at"))
        case ContractRequest():
            if ask.sector and sectors and ask.sector not in sectors:
                raise Misstated(f"Use one of these sectors: {', '.join(sectors)}.", "sector")
            return ContractMade(**{name: getattr(ask, name) for name in ContractMade.__struct_fields__})
        case ContractEndRequest():
            return ContractEnded(id=ask.id, ends=ask.ends)
        case CallRequestRequest():
            return CallRequested(
                id=ask.id,
                requested_at=past(ask.requested_at, now, "requested_at"),
                expires_at=instant(ask.expires_at, "expires_at"),
                goods=ask.goods,
                own_interface=ask.own_interface,
                begins=instant(ask.begins, "begins") if ask.begins else 0,
                appointment=ask.appointment,
                place=ask.place,
                rectify=ask.rectify,
            )


_NOT_RECTIFIED = frozenset({"id", "rectify"})
_EVENT_OF: dict[type[LedgerRequest], type[Event]] = {
    ConsentRequest: ConsentGiven,
    ContractRequest: ContractMade,
    CallRequestRequest: CallRequested,
}


def _check_place_and_rectify(ask: ConsentRequest | ContractRequest | CallRequestRequest) -> None:
    if ask.place and (problem := problem_of(ask.place)):
        raise Misstated(problem[0].upper() + problem[1:] + ".", "place")
    if not ask.rectify:
        return
    known = [name for name in _EVENT_OF[type(ask)].__struct_fields__ if name not in _NOT_RECTIFIED]
    if not set(ask.rectify).issubset(known):
        raise Misstated(f"Use names of these fields: {', '.join(known)}.", "rectify")


def past(at: datetime | None, now: Instant, field: str) -> Instant:
    """Return the time of an event, by default `now`. Raises `Misstated` if `at` is in the future."""
    event_at = now if at is None else instant(at, field)
    if event_at > now:
        raise Misstated("This time is in the future. Send the time of the event.", field)
    return event_at


def instant(at: datetime, field: str) -> Instant:
    milliseconds = (at - _EPOCH) // _MILLISECOND
    if milliseconds < 0:
        raise Misstated("This time is before 1970. Send the time of the event.", field)
    return milliseconds
