"""The fields of a check, read from an INVITE: number to dial, caller ID to show, campaign, call type and call ID.

The number is taken from the request URI, because trunks dial that number; To is ignored. The caller IDs in From and in all
identity headers (RFC 3325, and others that trunks accept) must be equal, because the trunk chooses which one to show.
"""

from functools import lru_cache
from typing import Final

from dialgate.interfaces.sip import uri
from dialgate.interfaces.sip.message import BadRequest, Head, parse_addresses

CAMPAIGN: Final = "x-dialgate-campaign"
CALL_TYPE: Final = "x-dialgate-call-type"
_IDENTITIES: Final = ("p-asserted-identity", "p-preferred-identity", "remote-party-id")
_WITHHELD: Final = "anonymous"
_PUNCTUATION: Final = str.maketrans("", "", "+-. ()")


def read_question(head: Head) -> dict[str, str]:
    """Return the fields of the check as text. Raises `BadRequest`."""
    try:
        number = uri.dialled_number(uri.parse(head.uri))
    except uri.OtherScheme:
        raise BadRequest(head, "Unsupported URI Scheme", 416) from None
    except uri.BadUri:
        raise BadRequest(head, "Bad request URI") from None
    if "?" in head.uri:  # section 19.1.1: no headers in a request URI
        raise BadRequest(head, "Bad request URI")
    return {
        "to": number,
        "from": _caller(head),
        "campaign": head.single(CAMPAIGN),
        "call_type": head.single(CALL_TYPE),
        "call_id": head.headers["call-id"][0],
    }


def _caller(head: Head) -> str:
    headers = head.headers
    if any(word not in {"", "none"} for value in headers.get("privacy", ()) for word in _split_words(value)):
        return _WITHHELD  # RFC 3323: the caller ID is not shown
    numbers = _shown_numbers(head, "from")
    for name in _IDENTITIES:
        if name in headers:
            numbers += _shown_numbers(head, name)
    if any(_WITHHELD in number.lower() for number in numbers):
        return _WITHHELD
    if len(set(numbers)) > 1 and len({_digits(number) for number in numbers}) > 1:
        return " or ".join(dict.fromkeys(numbers))  # not a number, so the gate denies it
    return next((number for number in numbers if number.startswith("+")), numbers[0])


def _split_words(value: str) -> list[str]:
    return [word.strip().lower() for word in value.split(";")]


def _shown_numbers(head: Head, name: str) -> list[str]:
    numbers: list[str] = []
    for value in head.headers[name]:
        addresses = [head.sender] if name == "from" and head.sender else parse_addresses(value)
        if not addresses:
            raise BadRequest(head, f"Bad {name}")
        for address in addresses:
            if (address.parameters.get("privacy") or "off").strip('"').lower() not in {"off", "none", "no"}:
                return [_WITHHELD]  # the privacy parameter of Remote-Party-ID
            try:
                numbers.append(_number(address.uri))
            except uri.BadUri:
                raise BadRequest(head, f"Bad {name}") from None
    return numbers


@lru_cache(1024)  # dialers use few caller IDs
def _number(text: str) -> str:
    return uri.shown_number(uri.parse(text))


def _digits(number: str) -> str:
    digits = number.translate(_PUNCTUATION)
    return digits.removeprefix("00")


def required_extensions(head: Head) -> str:
    """Return the extensions that the client requires. The server supports none of them (section 8.2.2.3)."""
    return ", ".join(extension for value in head.headers.get("require", ()) if (extension := value.strip()))
