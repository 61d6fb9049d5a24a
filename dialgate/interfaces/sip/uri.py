"""Of a SIP or tel URI, the telephone number in it, as it would be dialled or shown (RFC 3261 section 19.1, RFC 3966)."""

import re
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

_SIP: Final = re.compile(
    r"(?P<scheme>sips?):(?:(?P<user>(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-Fa-f]{2})*)"
    r"(?::(?:[A-Za-z0-9\-_.!~*'()&=+$,]|%[0-9A-Fa-f]{2})*)?@)?"
    r"(?P<host>[A-Za-z0-9.\-_]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?"
    r"(?P<parameters>(?:;[^;?\s<>\"]+)*)(?P<headers>\?[^\s<>\"]*)?",
    re.IGNORECASE,
)
_TEL: Final = re.compile(
    r"tel:(?P<user>[0-9A-Fa-f+*#\-.()]+)(?P<parameters>(?:;[^;?\s<>\"]+)*)", re.IGNORECASE
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_CONTEXT: Final = re.compile(r";phone-context=(\+[0-9\-.()]+)", re.IGNORECASE)


class BadUri(ValueError):
    """It cannot be read. The text never repeats it."""


class OtherScheme(BadUri):
    """It is neither sip, sips nor tel (RFC 3261 section 8.2.2.1: 416)."""


class Uri(Struct, frozen=True):
    """`user`: decoded once. `parameters`: as they stand, from the first `;` on."""

    scheme: str
    user: str
    host: str
    port: int | None
    parameters: str
    headers: bool


def parse(text: str) -> Uri:
    """Raises `BadUri`."""
    if found := _SIP.fullmatch(text):
        scheme, user, host, port, parameters, headers = found.groups()
        user = unquote(user, errors="replace") if user and "%" in user else user or ""
        return Uri(
            scheme.lower(), user, host.lower(), int(port) if port else None,
            parameters, headers is not None,
        )  # fmt: skip
    if found := _TEL.fullmatch(text):
        return Uri("tel", found["user"], "", None, found["parameters"], headers=False)
    if _SCHEME.match(text) and not text.lower().startswith(("sip:", "sips:", "tel:")):
        raise OtherScheme("it is no sip, sips or tel URI")
    raise BadUri("it is no URI")


def called(uri: Uri) -> str:
    """What would be dialled. What a parameter adds to it (an extension, a routing number, a context that is no country)
    stays in the text, so that it is refused as no number."""
    if uri.scheme != "tel":
        return uri.user
    if not uri.parameters:
        return uri.user
    context = _CONTEXT.fullmatch(uri.parameters)
    if context and not uri.user.startswith("+"):
        return context[1] + uri.user
    return uri.user + uri.parameters


def shown(uri: Uri) -> str:
    """What the called person will see. Parameters after the number (`verstat`, `cpc`) say nothing of it."""
    if uri.scheme == "tel" and not uri.user.startswith("+"):
        return called(uri)
    if uri.host.endswith("anonymous.invalid"):  # RFC 3323 section 4.1.1.3
        return "anonymous"
    return uri.user.partition(";")[0]
