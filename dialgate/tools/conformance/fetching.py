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


class Response(Struct, frozen=True):
    status: int
    media: str
    body: str


async def fetch(url: str, seconds: float) -> Response | None:
    """Send a GET request. Return None if no complete response arrives in time."""
    with suppress(TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
        async with asyncio.timeout(None if seconds == math.inf else seconds):
            return await _get(url)
    return None


async def _get(url: str) -> Response | None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_MOST_BYTES)
    try:
        request = (
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        )
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status, length, media = _HEAD.match(head), _LENGTH.search(head), _MEDIA.search(head)
        if status is None or length is None:
            return None
        body = await reader.readexactly(int(length[1]))
        return Response(int(status[1]), media[1].decode() if media else "", body.decode("utf-8", "replace"))
    finally:
        writer.transport.abort()
