"""What an INVITE asks of the gate: which number would be dialled, and which one the called person would see.

The number is the request URI's, for that is what is dialled; what To says is not looked at. The caller ID is what From and
every header of identity say (RFC 3325, and what trunks take besides), which must all say the same: which of them the
called person is shown, the trunk decides.
"""

from functools import lru_cache
from typing import Final

from dialgate.interfaces.sip import uri
from dialgate.interfaces.sip.message import BadRequest, Head, addresses

CAMPAIGN: Final = "x-dialgate-campaign"
CALL_TYPE: Final = "x-dialgate-call-type"
_IDENTITIES: Final = ("p-asserted-identity", "p-preferred-identity", "remote-party-id")
_WITHHELD: Final = "anonymous"
_PUNCTUATION: Final = str.maketrans("", "", "+-. ()")


def asked(head: Head) -> dict[str, str]:
    """The fields of a question, as they stand. Raises `BadRequest`."""
    try:
        to = uri.called(uri.parse(head.uri))
    except uri.OtherScheme:
        raise BadRequest(head, "Unsupported URI Scheme", 416) from None
    except uri.BadUri:
        raise BadRequest(head, "Bad request URI") from None
    if "?" in head.uri:  # section 19.1.1: no headers in a request URI
        raise BadRequest(head, "Bad request URI")
    return {
        "to": to,
        "from": _caller(head),
        "campaign": head.one(CAMPAIGN),
        "call_type": head.one(CALL_TYPE),
        "call_id": head.headers["call-id"][0],
    }


def _caller(head: Head) -> str:
    headers = head.headers
    if any(each not in {"", "none"} for value in headers.get("privacy", ()) for each in _private(value)):
        return _WITHHELD  # RFC 3323: it will not be shown
    numbers = _shown(head, "from")
    for name in _IDENTITIES:
        if name in headers:
            numbers += _shown(head, name)
    if any(_WITHHELD in each.lower() for each in numbers):
        return _WITHHELD
    if len(set(numbers)) > 1 and len({_digits(each) for each in numbers}) > 1:
        return " or ".join(dict.fromkeys(numbers))  # which is no number, and refused as such
    return next((each for each in numbers if each.startswith("+")), numbers[0])


def _private(value: str) -> list[str]:
    return [each.strip().lower() for each in value.split(";")]


def _shown(head: Head, name: str) -> list[str]:
    found: list[str] = []
    for value in head.headers[name]:
        each = [head.sender] if name == "from" and head.sender else addresses(value)
        if not each:
            raise BadRequest(head, f"Bad {name}")
        for address in each:
            if (address.parameters.get("privacy") or "off").strip('"').lower() not in {"off", "none", "no"}:
                return [_WITHHELD]  # Remote-Party-ID's own word for it
            try:
                found.append(_number(address.uri))
            except uri.BadUri:
                raise BadRequest(head, f"Bad {name}") from None
    return found


@lru_cache(1024)  # the caller's own numbers, of which there are few
def _number(text: str) -> str:
    return uri.shown(uri.parse(text))


def _digits(number: str) -> str:
    digits = number.translate(_PUNCTUATION)
    return digits.removeprefix("00")


def unsupported(head: Head) -> str:
    """What the caller requires: of all extensions none is offered (section 8.2.2.3)."""
    return ", ".join(each for value in head.headers.get("require", ()) if (each := value.strip()))
