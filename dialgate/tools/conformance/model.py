"""What all emulated dialers share: the test call, the request to the gate, and what leaves for the trunk.

A dialer fetches the gate's response, reads it, and decides whether to dial. Each configuration language has a reader
that supports what the shipped files use, and refuses everything else (`Unknown`): a file that is not fully understood
must not pass.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

TO, CALLER, CAMPAIGN = "+390612345678", "+390844123456", "acme-fibre"
ELSEWHERE: Final = "+390699999999"  # the number to which a trunk redirects
# Headers that name a caller, withhold one, or route the call. The gate checks none of them.
IDENTITIES: Final = (
    "P-Asserted-Identity", "P-Preferred-Identity", "P-Charge-Info", "Remote-Party-ID", "Privacy", "Diversion",
    "History-Info", "Referred-By", "b", "Identity", "y", "X-Caller", "Call-Info", "Route",
)  # fmt: skip
_STATUS: Final = re.compile(r"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n")
_LENGTH: Final = re.compile(r"(?im)^content-length: *(\d+) *\r$")
_MEDIA: Final = re.compile(r"(?im)^content-type: *([^\r\n]*)\r$")
_CHUNK_BYTES: Final = 1 << 16


class Unknown(Exception):
    """Raised for a part of a configuration that its reader does not support. The message names the part."""


class EmulatedCall(Struct, frozen=True, kw_only=True):
    """The outcome of a call by an emulated dialer. Only `how` has a meaning if the call did not leave.

    - `how` is the dial string, or empty if the call did not leave the dialer.
    - `shown` is the caller ID that the trunk receives, or "anonymous".
    - `follows` is true if the dialer follows a redirect (302).
    - `unchecked` names what else the trunk receives.
    - `problem` is a fault of a call that did not leave.
    """

    how: str = ""
    shown: str = CALLER
    follows: bool = False
    unchecked: tuple[str, ...] = ()
    problem: str = ""


class FetchedResponse(Struct, frozen=True):
    """A response. `head` ends with an empty line. `whole` is false if the body is shorter than announced."""

    status: int
    media: str
    head: str
    body: str
    whole: bool


async def fetch(url: str, seconds: float | None) -> FetchedResponse | None:
    """Send a GET request. Return None if no complete head arrives within `seconds`.

    Like libcurl, return what arrived of the body if the rest does not.
    """
    parts, received = urlsplit(url), bytearray()
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request.encode())
                while chunk := await reader.read(_CHUNK_BYTES):
                    received += chunk
            finally:
                writer.transport.abort()
    start, separator, body = bytes(received).partition(b"\r\n\r\n")
    head = (start + separator).decode("latin-1")
    status, length, media = _STATUS.match(head), _LENGTH.search(head), _MEDIA.search(head)
    if not separator or status is None:
        return None
    most = int(length[1]) if length else len(body)
    return FetchedResponse(
        status=int(status[1]),
        media=media[1] if media else "",
        head=head,
        body=body[:most].decode("utf-8", "replace"),
        whole=length is not None and len(body) >= most,
    )


async def expand(text: str, value: Callable[[str], Awaitable[str]]) -> str:
    """Replace each `${…}`, from the innermost outwards. Raises `Unknown` for an unclosed one."""
    done = ""
    while (begin := text.find("${")) >= 0:
        depth, end = 1, begin + 2
        while depth:
            if end >= len(text):
                raise Unknown(f"an unclosed bracket: {text}")
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        inner = await expand(text[begin + 2 : end - 1], value)
        done, text = done + text[:begin] + await value(inner), text[end:]
    return done + text
