"""Telephone numbers in SIP and tel URIs (RFC 3261 section 19.1, RFC 3966)."""

import re
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

_PARAMETERS: Final = r"(?P<parameters>(?:;[^;?\s<>\"]+)*)"
_SIP: Final = re.compile(
    r"(?P<scheme>sips?):(?:(?P<user>(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-Fa-f]{2})*)"
    r"(?::(?:[A-Za-z0-9\-_.!~*'()&=+$,]|%[0-9A-Fa-f]{2})*)?@)?"
    r"(?P<host>[A-Za-z0-9.\-_]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    rf"{_PARAMETERS}(?:\?[^\s<>\"]*)?",
    re.IGNORECASE,
)
_TEL: Final = re.compile(rf"tel:(?P<user>[0-9A-Fa-f+*#\-.()]+){_PARAMETERS}", re.IGNORECASE)
_SCHEME: Final = re.compile(r"(?!(?:sips?|tel):)[A-Za-z][A-Za-z0-9+.\-]*:", re.IGNORECASE)
_CONTEXT: Final = re.compile(r";phone-context=(\+[0-9\-.()]+)", re.IGNORECASE)


class BadUri(ValueError):
    """The error for a malformed URI. `str()` never quotes the URI."""


class OtherScheme(BadUri):
    """The error for a URI with an unsupported scheme. The response is 416 (RFC 3261 section 8.2.2.1)."""


class Uri(Struct, frozen=True):
    """A parsed URI. `user` is decoded once. `parameters` is the unchanged text from the first `;` onwards."""

    scheme: str
    user: str
    host: str
    parameters: str


def parse(text: str) -> Uri:
    """Parse a SIP, SIPS or tel URI. Raises `BadUri`."""
    if sip := _SIP.fullmatch(text):
        scheme, user, host, parameters = sip.groups()
        return Uri(scheme.lower(), unquote(user or "", errors="replace"), host.lower(), parameters)
    if tel := _TEL.fullmatch(text):
        return Uri("tel", tel["user"], "", tel["parameters"])
    if _SCHEME.match(text):
        raise OtherScheme("not a sip, sips or tel URI")
    raise BadUri("not a URI")


def dialled_number(uri: Uri) -> str:
    """Return the number that a trunk would dial.

    Parameters that change the dialled number (an extension, a routing number, a local context) stay in the returned text.
    The gate then denies the call, because the number is invalid.
    """
    if uri.scheme != "tel" or not uri.parameters:
        return uri.user
    context = _CONTEXT.fullmatch(uri.parameters)
    if context and not uri.user.startswith("+"):
        return context[1] + uri.user
    return uri.user + uri.parameters


def shown_number(uri: Uri) -> str:
    """Return the number that is shown, without parameters such as `verstat` and `cpc`."""
    if uri.scheme == "tel" and not uri.user.startswith("+"):
        return dialled_number(uri)
    if uri.host.endswith("anonymous.invalid"):  # RFC 3323 section 4.1.1.3
        return "anonymous"
    return uri.user.partition(";")[0]
