"""The error format `{"error": {"code", "message", "field"}}`, and the conversion of exceptions.

A message says what is wrong and what to do. It never repeats the request's data, which may contain a called number.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.audit.lookups import TooManyLookups
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.ledger import request_decoding
from dialgate.ledger.activation import NotInForce
from dialgate.ledger.repeated_names import find_repeated
from dialgate.ledger.request_decoding import Encoded

_T = TypeVar("_T")

JSON_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}
AGAIN: Final = {"Retry-After": "1"}


class Problem(Struct, frozen=True):
    """An error as the client receives it. `field` is the path of the invalid field or parameter, or empty."""

    code: Annotated[str, Meta(extra_json_schema={"$ref": "#/components/schemas/ErrorCode"})]
    message: str
    field: str = ""


class Failed(Struct, frozen=True):
    error: Problem


class Fault(Exception):
    """A failed request, with the status, body and headers of the response."""

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


FAILURES: Final = (
    Fault, Refused, Unavailable, web.HTTPRequestEntityTooLarge, web.RequestPayloadError,
    ConnectionResetError,  # the client disconnected before its body was complete
)  # fmt: skip


def fault_of(error: Exception) -> Fault:
    """Return the `Fault` for an exception of a type in `FAILURES`."""
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
                "The store cannot be reached, and nothing was written. Repeat the request in a second.",
                headers=AGAIN,
            )
        case NotInForce():
            return Fault(503, "gate.unavailable", str(error), headers=AGAIN)
        case Unavailable():
            return Fault(
                503,
                "gate.unavailable",
                "The gate is not ready. Repeat the request in a second; `GET /readyz` names the cause.",
                headers=AGAIN,
            )
        case web.HTTPRequestEntityTooLarge():
            return too_large()
        case _:
            return Fault(
                400, "request.broken", "The body is incomplete, or its encoding is invalid. Send it again."
            )


def cause_of(error: Unavailable) -> Fault:
    """Return the `Fault` that names what is unavailable, for the gate's administrator."""
    code = "store.unavailable" if error.component == "store" else "gate.unavailable"
    return Fault(503, code, str(error), headers=AGAIN)


def too_large() -> Fault:
    return Fault(
        413,
        "request.too_large",
        "The body exceeds the setting `limits.body_bytes`. Split it, or raise the setting.",
    )


def response(fault: Fault) -> web.Response:
    return web.Response(
        body=encoded(fault.problem), status=fault.status, headers={**JSON_HEADERS, **fault.headers}
    )


def encoded(problem: Problem) -> bytes:
    return msgspec.json.encode(Failed(problem))


def decode(
    decoder: msgspec.json.Decoder[_T],
    body: Encoded,
    find_repeated: Callable[[Encoded], str | None] = find_repeated,
) -> _T:
    """Decode a body, as `request_decoding.decode` does. Raises `Fault`."""
    try:
        return request_decoding.decode(decoder, body, find_repeated)
    except Refused as refused:
        raise fault_of(refused) from None


def convert(fields: Mapping[str, Any], kind: type[_T]) -> _T:
    """Convert text parameters to the type `kind`. Raises `Fault`."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise fault_of(request_decoding.invalid(error, kind)) from None
