"""The error format `{"error": {"code", "message", "field"}}`, and the conversion of exceptions.

A message says what is wrong and what to do. It never repeats the request's data, which may contain a called number.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.audit.lookups import TooManyLookups
from dialgate.config.validation_messages import MOST_CHOICES, choices, field_names, plain
from dialgate.core.faults import Unavailable
from dialgate.core.name_suggestions import did_you_mean
from dialgate.core.refusal import Refused
from dialgate.interfaces.http.repeated_names import find_repeated
from dialgate.ledger.activation import NotInForce

_T = TypeVar("_T")
_Body: TypeAlias = bytes | msgspec.Raw

JSON_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}
AGAIN: Final = {"Retry-After": "1"}

# The position of the fault in msgspec's message. The client chooses field names, which could contain a number. So a message
# repeats only names that look like names of the API.
_PLACE: Final = re.compile(r" - at `(?:key in )?\$((?:\.[A-Za-z_]+[0-9]{0,3}|\[[0-9]{1,5}\]|\[\.\.\.\])*)`$")
_FIELD: Final = re.compile(r"field `(.*?)`?$", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_-]{0,63}[0-9]{0,3}")


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
    body: _Body,
    find_repeated: Callable[[_Body], str | None] = find_repeated,
) -> _T:
    """Decode a body. Raises `Fault` for an invalid body, or if `find_repeated` finds a repeated field."""
    try:
        decoded = decoder.decode(body)
        name = find_repeated(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, decoder.type) from None
    except msgspec.DecodeError as error:
        raise Fault(400, "request.not_json", f"{error}. Send one JSON document in UTF-8.") from None
    except UnicodeDecodeError:
        raise Fault(
            400, "request.not_json", "A string is not valid UTF-8. Send one JSON document in UTF-8."
        ) from None
    except RecursionError:
        raise Fault(
            400, "request.not_json", "The document is nested too deeply. Send a flatter one."
        ) from None
    if name is not None:
        field = name if _NAME.fullmatch(name) else ""
        raise Fault(400, "request.invalid", "A field is repeated. Send each field once.", field=field)
    return decoded


def convert(fields: Mapping[str, Any], kind: type[_T]) -> _T:
    """Convert text parameters to the type `kind`. Raises `Fault`."""
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
                400,
                "request.invalid",
                "The request has a field that this endpoint does not accept. Leave it out.",
            )
        field = f"{field}.{named[1]}".removeprefix(".")
    advice = ""
    if named and "unknown" in wording:
        advice = did_you_mean(named[1], field_names(kind, place[1] if place else ""))
    if wording.startswith("Invalid") and place:
        names = choices(kind, place[1])
        advice = f"; send one of {', '.join(names)}" if 0 < len(names) <= MOST_CHOICES else ""
        advice = advice or ("; /openapi.json lists them" if "value" in wording else "")
    text = f"{plain(wording)}{advice}".removesuffix("?")
    end = "?" if advice.endswith("?") else "."
    return Fault(400, "request.invalid", f"{text[0].upper()}{text[1:]}{end}", field=field)
