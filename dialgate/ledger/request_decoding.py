"""The decoding of a request in JSON, with plain errors. An error never repeats the request's data, which may contain a called number."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from dialgate.config.validation_messages import MOST_CHOICES, choices, field_names, plain
from dialgate.core.name_suggestions import did_you_mean
from dialgate.core.refusal import Refused
from dialgate.ledger.repeated_names import find_repeated

_T = TypeVar("_T")
Encoded: TypeAlias = bytes | msgspec.Raw

# The position of the fault in msgspec's message. The client chooses field names, which could contain a number. So a message
# repeats only names that look like names of the API.
_PLACE: Final = re.compile(r" - at `(?:key in )?\$((?:\.[A-Za-z_]+[0-9]{0,3}|\[[0-9]{1,5}\]|\[\.\.\.\])*)`$")
_FIELD: Final = re.compile(r"field `(.*?)`?$", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_-]{0,63}[0-9]{0,3}")


def decode(
    decoder: msgspec.json.Decoder[_T],
    body: Encoded,
    find_repeated: Callable[[Encoded], str | None] = find_repeated,
) -> _T:
    """Decode a body. Raises `Refused` for an invalid body, or if `find_repeated` finds a repeated field."""
    try:
        decoded = decoder.decode(body)
        name = find_repeated(body)
    except msgspec.ValidationError as error:
        raise invalid(error, decoder.type) from None
    except msgspec.DecodeError as error:
        raise Refused("request.not_json", f"{error}. Send one JSON document in UTF-8.") from None
    except UnicodeDecodeError:
        raise Refused(
            "request.not_json", "A string is not valid UTF-8. Send one JSON document in UTF-8."
        ) from None
    except RecursionError:
        raise Refused("request.not_json", "The document is nested too deeply. Send a flatter one.") from None
    if name is not None:
        field = name if _NAME.fullmatch(name) else ""
        raise Refused("request.invalid", "A field is repeated. Send each field once.", field)
    return decoded


def invalid(error: msgspec.ValidationError, kind: Any) -> Refused:
    """Return the error for a value that does not fit the type `kind`."""
    text = str(error)
    place = _PLACE.search(text)
    wording, field = (text[: place.start()], place[1].removeprefix(".")) if place else (text, "")
    if named := _FIELD.search(wording):
        if not _NAME.fullmatch(named[1]):
            return Refused(
                "request.invalid", "The request has a field that this endpoint does not accept. Leave it out."
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
    return Refused("request.invalid", f"{text[0].upper()}{text[1:]}{end}", field)
