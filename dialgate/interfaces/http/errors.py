"""The one error shape, `{"error": {"code", "message", "field"}}`, and how every failing path comes to it.

A message says what is wrong and what to do. It never repeats what was sent, since that may be a called number.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate.audit.lookups import TooManyLookups
from dialgate.config.validation_messages import MOST_CHOICES, choices, plain
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.ledger.activation import NotInForce
from dialgate.native import repeated

_T = TypeVar("_T")

JSON_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}

_DEEP: Final = 64

# Where msgspec says the fault is. Names that a client made up stand there too, and could hold a number: only what looks
# like one of our own is repeated.
_PLACE: Final = re.compile(r" - at `(?:key in )?\$((?:\.[A-Za-z_]+|\[[0-9]{1,5}\]|\[\.\.\.\])*)`$")
_FIELD: Final = re.compile(r"field `(.*?)`?$", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_-]{0,63}[0-9]{0,3}")


class Problem(Struct, frozen=True):
    """`field` is the path of the field at fault in what was sent, or empty."""

    code: str
    message: str
    field: str = ""


class Failed(Struct, frozen=True):
    error: Problem


class Fault(Exception):
    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code, message, field)
        self.headers = headers or {}


CODES: Final[dict[str, tuple[int, str]]] = {
    "request.not_json": (400, "The body is not one JSON document in UTF-8."),
    "request.invalid": (
        400,
        "A field is missing, unknown, there twice, of the wrong type or out of its limits; `field` names it.",
    ),
    "request.broken": (400, "The body broke off, or its encoding is damaged."),
    "request.not_http": (400, "What arrived is not well-formed HTTP."),
    "number.invalid": (
        400,
        "The ledger cannot keep this: it is no telephone number. (A check of it is a deny.)",
    ),
    "caller_id.invalid": (400, "A caller ID that is not a number cannot be proved."),
    "list.unreadable": (400, "The list is damaged, or no row of it holds a telephone number."),
    "auth.in_url": (400, "A key stands in the URL, where every log on the way keeps it."),
    "auth.missing": (401, "No key was sent, and the source address is no client's."),
    "auth.unknown": (401, "No client has this key."),
    "auth.scope": (403, "The client may not do this."),
    "peer.refused": (403, "It is no question of a gate that shares this one's keys, name and time."),
    "path.unknown": (404, "No such path."),
    "controller.unknown": (404, "No such controller, or none of this client's."),
    "campaign.unknown": (404, "No such campaign of this controller."),
    "decision.unknown": (404, "No decision of the client's has this id, or it allowed no call."),
    "ledger.unknown": (404, "Nothing of this id is recorded for this number."),
    "list.unknown": (404, "No such list."),
    "revocation.unknown": (404, "No such revocation."),
    "subject.unknown": (404, "No such open request, of this kind, for this number."),
    "webhook.unknown": (404, "No such webhook profile."),
    "method.not_allowed": (405, "The path is right, the method is not; `Allow` names those that are."),
    "request.timeout": (408, "The request did not arrive in time."),
    "revocation.lifted": (409, "The revocation was lifted on another ground already; that stands."),
    "list.exists": (409, "A list of this id was loaded before; a retired one stays on record."),
    "outcome.known": (409, "The call has an outcome already that is as strict or stricter; it stands."),
    "subject.closed": (409, "The request is closed, or cannot be extended any more."),
    "request.too_large": (413, "The body, or a line of it, is larger than this gate takes."),
    "batch.too_large": (413, "More calls at once than this gate takes."),
    "request.expectation": (417, "Only `Expect: 100-continue` is understood."),
    "request.headers_too_large": (431, "The request line or a header is longer than this gate takes."),
    "lookup.throttled": (
        429,
        "The client has looked up too many numbers; `Retry-After` says when it may go on.",
    ),
    "streams.too_many": (429, "The client has as many streams open as it may; close one."),
    "upload.busy": (429, "The client has too many uploads under way, or too much in them."),
    "gate.error": (500, "An error in the gate; its log has the details. No call was allowed."),
    "upload.full": (503, "The gate takes no more uploads now."),
    "upload.failed": (503, "The process that read the file ended unexpectedly; nothing was loaded."),
    "store.unavailable": (503, "The store cannot be reached; nothing was written."),
    "peer.unheard": (503, "It is not here, and another gate that may have it could not be asked."),
    "gate.unavailable": (503, "The gate cannot do this now: its log, its keys or its clock is out of order."),
    "upload.no_space": (507, "The disk for uploads is nearly full; nothing was loaded."),
}
FAILURES: Final = (
    Fault, Refused, Unavailable, web.HTTPRequestEntityTooLarge, web.RequestPayloadError,
)  # fmt: skip
_AGAIN: Final = {"Retry-After": "1"}


def fault_of(error: Exception) -> Fault:
    """What one of `FAILURES` tells the client."""
    match error:
        case Fault():
            return error
        case TooManyLookups():
            return Fault(error.status, error.code, error.message, headers={"Retry-After": str(error.after)})
        case Refused():
            return Fault(error.status, error.code, error.message, field=error.field)
        case Unavailable(component="store"):
            return Fault(
                503,
                "store.unavailable",
                "The store cannot be reached; nothing was written. Ask again shortly.",
                headers=_AGAIN,
            )
        case NotInForce():
            return Fault(503, "gate.unavailable", str(error), headers=_AGAIN)
        case Unavailable():
            return Fault(
                503, "gate.unavailable", "The gate cannot do this now; /readyz says why.", headers=_AGAIN
            )
        case web.HTTPRequestEntityTooLarge():
            return Fault(
                413, "request.too_large", "The body is larger than this gate takes; send it in parts."
            )
        case _:
            return Fault(
                400, "request.broken", "The body broke off or its encoding is damaged; send it again."
            )


def too_large() -> Fault:
    return Fault(
        413, "request.too_large", "The body, or a line of it, is larger than is taken; send it in parts."
    )


def response(fault: Fault) -> web.Response:
    return web.Response(
        body=encoded(fault.problem), status=fault.status, headers={**JSON_HEADERS, **fault.headers}
    )


def encoded(problem: Problem) -> bytes:
    return msgspec.json.encode(Failed(problem))


def decode(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw, *, depth: int = _DEEP) -> _T:
    """A field that stands twice is refused, in what lies within up to `depth` objects: another reader may take the other of
    the two, and what is checked must be what is dialled."""
    try:
        decoded = decoder.decode(body)
        name = repeated(body, depth)
    except msgspec.ValidationError as error:
        raise _invalid(error, decoder.type) from None
    except msgspec.DecodeError as error:
        raise Fault(400, "request.not_json", f"Send one JSON document in UTF-8: {error}.") from None
    except UnicodeDecodeError:
        raise Fault(400, "request.not_json", "Send one JSON document in UTF-8: a string is not.") from None
    except RecursionError:
        raise Fault(
            400, "request.not_json", "Send a flatter document: this one is nested too deeply."
        ) from None
    if name is not None:
        field = name if _NAME.fullmatch(name) else ""
        raise Fault(400, "request.invalid", "Send each field once.", field=field)
    return decoded


def convert(fields: Mapping[str, Any], kind: type[_T]) -> _T:
    """Parameters, which are text, as the type wants them."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, kind) from None


def _invalid(error: msgspec.ValidationError, kind: Any) -> Fault:
    text = str(error)
    place = _PLACE.search(text)
    wording, field = (text[: place.start()], place[1].removeprefix(".")) if place else (text, "")
    if named := _FIELD.search(wording):
        if not _NAME.fullmatch(named[1]):
            return Fault(
                400, "request.invalid", "A field has a name that this call does not know; leave it out."
            )
        field = f"{field}.{named[1]}".removeprefix(".")
    advice = ""
    if wording.startswith("Invalid") and place:
        names = choices(kind, place[1])
        advice = f"; send one of {', '.join(names)}" if 0 < len(names) <= MOST_CHOICES else ""
        advice = advice or ("; /openapi.json lists them" if "value" in wording else "")
    wording = plain(wording)
    return Fault(400, "request.invalid", f"{wording[0].upper()}{wording[1:]}{advice}.", field=field)
