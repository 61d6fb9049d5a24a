"""The operations that the events of a webhook's message mean, and their execution.

The operations are those of the endpoints, for a client that may write for the webhook's controller only. They are safe to
repeat, and in any order: entries are ordered by the time of their event, a stop by its id. The records of a
nightly pull become messages first.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.config.incoming_webhooks import ENDS, EventReading, IncomingWebhook, write_of
from dialgate.config.validation_messages import plain
from dialgate.core import local_time
from dialgate.core.model import SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.repetitions import PROOF
from dialgate.interfaces.webhooks.message import WebhookMessage, dig, unreadable
from dialgate.ledger import schemas, stop_requests
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.request_fields import Field, fields_of

REQUESTS: Final[Mapping[str, type[Struct]]] = {
    "stop": schemas.RevocationRequest,
    "withdrawal": schemas.WithdrawalRequest,
    "consent": schemas.ConsentRequest,
    "confirmation": schemas.ConfirmationRequest,
    "request": schemas.CallRequestRequest,
    "contract": schemas.ContractRequest,
    "contract_end": schemas.ContractEndRequest,
    "outcome": schemas.OutcomeRequest,
}
PERMITTING: Final = frozenset({"consent", "confirmation", "request", "contract"})
_FIELDS: Final = {name: {field.name: field for field in fields_of(kind)} for name, kind in REQUESTS.items()}
_SEPARATOR: Final = re.compile(r"[;|,]")
# Seconds or milliseconds since 1970. Fewer digits are a date, such as 20261124.
_SINCE_1970: Final = re.compile(r"[0-9]{10}(?P<thousandths>[0-9]{3})?(\.[0-9]+)?", re.ASCII)
_DAY_LENGTH: Final = len("2026-11-24")


class Operation(Struct, frozen=True):
    """A request that an event means."""

    write: str
    fields: dict[str, Any]


class Translation:
    """The events of one message, and what they mean."""

    def __init__(self, webhook: IncomingWebhook, message: WebhookMessage) -> None:
        self._webhook, self._message = webhook, message

    def operations(self) -> Iterator[Operation | Refused]:
        """Yield the operations in the order of the events, and an error for each event that is not understood."""
        try:
            content = self._message.content()
            for event in self._events(content):
                yield from self._read(content, event)
        except Refused as error:
            yield error

    def is_of_one(self) -> bool:
        """Return whether the message has at most one event, so that it is about one person."""
        try:
            return len(self._events(self._message.content())) <= 1
        except Refused:
            return not self._webhook.events

    def _events(self, content: Any) -> list[Any]:
        if not self._webhook.events:
            return [None]
        found = dig(content, self._webhook.events.partition(".")[2])
        if found is None:
            raise unreadable("The message has no events.", self._webhook.events)
        return found if isinstance(found, list) else [found]  # XML does not show that one element is a list

    def _read(self, content: Any, event: Any) -> Iterator[Operation | Refused]:
        is_read = False
        for reading in self._webhook.read:
            value = self._message.value(reading.value, content, event)
            conditions = (
                (self._message.value([at], content, event), text) for at, text in reading.when.items()
            )
            if value is None or not all(
                found is not None and text in {"*", _text(found)} for found, text in conditions
            ):
                continue
            is_read = True
            meaning = _meaning(reading, value)
            if meaning is None:
                text = "The value has no meaning in config/webhooks. Give it one, and replay the message."
                yield unreadable(text, reading.value[0])
            elif meaning != "nothing":
                yield self._operation(meaning, content, event)
        if not is_read:
            places = ", ".join(place for reading in self._webhook.read for place in reading.value)
            yield unreadable("The message has none of the values that say what happened.", places)

    def _operation(self, meaning: str, content: Any, event: Any) -> Operation:
        write = write_of(meaning)
        is_end = write in ENDS
        values = {
            name: _field(_FIELDS[write][name], value, self._webhook.zone, latest=is_end)
            for name, places in self._webhook.write[write].items()  # type: ignore[index]
            if (value := self._message.value(places, content, event)) is not None
            and not (value is False and name in PROOF)  # Odoo's empty field, which is no proof
        }
        if write == "outcome":
            return Operation(write, values | {"outcome": meaning})
        values |= {"controller": self._webhook.controller, "channel": "webhook"}
        if write == "withdrawal":
            values["dated"] = "at" in values
        received = self._message.received_at
        if is_end:
            event_id = self._message.value(self._webhook.event_id, content, event)
            # The time names an event only once it is past: until then, another event can have the same, such as a day.
            at = values.get("at", "")
            is_past = 0 < stop_requests.latest_instant(at, received) < received
            values["proof"] = f"webhook:{self._webhook.id}:{event_id or (at if is_past else received)}"[:1024]
        if is_end or write == "confirmation":
            # What the platform does not date happened when it arrived, also if it is replayed later.
            values.setdefault("at", local_time.rfc3339(received))
        return Operation(write, values)


def _meaning(reading: EventReading, value: Any) -> str | None:
    text = _text(value).strip().casefold()
    means = {name.casefold(): meaning for name, meaning in reading.means.items()}
    return means.get(text, means.get("*"))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _field(field: Field, value: Any, zone: str, *, latest: bool) -> Any:
    """Return a value in the form of the request's field. What cannot be read stays as it is, for the request's checks."""
    match field.shape:
        case "telephone":
            return value  # a number in JSON may have lost a zero, which the checks know
        case "instant":
            return _instant(value, zone, latest=latest)
        case "day":
            return _instant(value, "UTC")[:10]
        case "choices" | "texts":
            words = value if isinstance(value, list) else _SEPARATOR.split(_text(value))
            return [word for item in words if (word := str(item).strip())]
    return _text(value)


def _instant(value: Any, zone: str, *, latest: bool = False) -> str:
    """Return a time in RFC 3339: from seconds or milliseconds since 1970, or ISO 8601.

    With `latest`, a day means its end: what ends on a day ends what began on it. So a local time that occurs twice, when the
    clocks go back, means the second for an end, and the first otherwise.
    """
    text = _text(value)
    if number := _SINCE_1970.fullmatch(text):
        at = datetime.fromtimestamp(float(text) / (SECOND if number["thousandths"] else 1), UTC)
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return text
        if latest and len(text) <= _DAY_LENGTH:
            at += timedelta(days=1)
    if at.tzinfo is None and zone:
        instants = [local_time.instant_in(zone, at.replace(fold=fold)) for fold in (0, 1)]
        return local_time.rfc3339(max(instants) if latest else min(instants))
    return at.isoformat()


async def execute(registrar: Registrar, client: Client, operation: Operation) -> None:
    """Execute an operation as its endpoint does. Raises `Refused` and `Unavailable`."""
    fields = operation.fields
    match operation.write:
        case "stop":
            await registrar.revocations.stop(client, fields, once=True)
        case "withdrawal":
            await registrar.consents.withdraw(client, fields, early=True)
        case "outcome" if fields["outcome"] == "opt_out":
            await registrar.outcomes.opt_out(client, fields, once=True)
        case "outcome":
            await registrar.outcomes.result(client, request_of(operation))
        case _:
            await registrar.consents.record(client, request_of(operation), early=True)


def request_of(operation: Operation) -> Any:
    """Return the request of an operation. Raises `Refused`."""
    try:
        return msgspec.convert(operation.fields, REQUESTS[operation.write], strict=False)
    except msgspec.ValidationError as error:
        wording, _, place = str(error).partition(" - at `$.")
        text = plain(wording)
        raise Refused("request.invalid", f"{text[0].upper()}{text[1:]}.", place.rstrip("`")) from None


def problem_of(item: Operation | Refused) -> Refused | None:
    """Return why an operation cannot be applied, as far as the message alone shows it."""
    if isinstance(item, Refused):
        return item
    try:
        if item.write not in ENDS:  # those are in force whatever else is wrong
            request_of(item)
    except Refused as problem:
        return problem
    return None


def given_at(request: Any, received_at: Instant) -> Instant:
    """Return when a person gave a consent or requested a call, or else when the message about it arrived."""
    at = getattr(request, "collected_at", None) or getattr(request, "requested_at", None)
    return min(received_at, round(at.timestamp() * SECOND)) if at else received_at
