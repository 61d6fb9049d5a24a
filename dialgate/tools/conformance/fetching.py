"""An HTTP client for emulated dialers, with a limit on the total time."""

import asyncio
import math
import re
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

_HEAD: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n")
_LENGTH: Final = re.compile(rb"(?im)^content-length: *(\d+) *\r$")
_MEDIA: Final = re.compile(rb"(?im)^content-type: *([^\r\n]*)\r$")
_MOST_BYTES: Final = 1 << 20


class FetchedResponse(Struct, frozen=True):
    """A response. `whole` is false if the connection or the time ended before the announced length.

    `lines` are the status line and the headers, each with its line break.
    """

    status: int
    media: str
    body: str
    whole: bool = True
    lines: tuple[str, ...] = ()


async def fetch(url: str, seconds: float) -> FetchedResponse | None:
    """Send a GET request. Return None if no complete head arrives in time.

    Like libcurl, return what arrived of the body if the rest does not.
    """
    body = bytearray()
    head: list[bytes] = []
    with suppress(TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
        async with asyncio.timeout(None if seconds == math.inf else seconds):
            await _get(url, head, body)
    if not head or (status := _HEAD.match(head[0])) is None:
        return None
    length, media = _LENGTH.search(head[0]), _MEDIA.search(head[0])
    return FetchedResponse(
        status=int(status[1]),
        media=media[1].decode() if media else "",
        body=body.decode("utf-8", "replace"),
        whole=length is not None and len(body) == int(length[1]),
        lines=tuple(head[0].decode("latin-1").splitlines(keepends=True)[:-1]),
    )


async def _get(url: str, head: list[bytes], body: bytearray) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_MOST_BYTES)
    try:
        request = (
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        )
        writer.write(request.encode())
        head.append(await reader.readuntil(b"\r\n\r\n"))
        length = _LENGTH.search(head[0])
        most = int(length[1]) if length else _MOST_BYTES
        while len(body) < most and (chunk := await reader.read(most - len(body))):
            body += chunk
    finally:
        writer.transport.abort()
