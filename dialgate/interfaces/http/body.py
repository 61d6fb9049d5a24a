"""Bodies in and out: read within the limits, written with as little ado as HTTP allows."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from dialgate.config.listeners import Limits
from dialgate.interfaces.http.errors import JSON_HEADERS, Fault, too_large

_MOST_PARAMETERS: Final = 32
READ_BYTES: Final = 64 << 10


def late() -> Fault:
    return Fault(408, "request.timeout", "The body did not arrive in time; send it again without pausing.")


async def whole(request: web.Request, limits: Limits) -> bytes:
    content = request.content
    if content.is_eof():  # it came with its head, as small ones do
        body = content.read_nowait()
        if len(body) > limits.body_bytes:
            raise too_large()
        return body
    try:
        async with asyncio.timeout(limits.read_seconds):
            return await request.read()
    except TimeoutError:
        raise late() from None


async def lines(request: web.Request, limits: Limits) -> AsyncIterator[list[bytes]]:
    """The lines that have come so far, without their ends, again and again until the body ends."""
    rest = b""
    async for chunk in chunks(request, limits.idle_seconds):
        *complete, rest = (rest + chunk).split(b"\n")
        if complete:
            yield complete
        if len(rest) > limits.body_bytes:
            raise Fault(
                413, "request.too_large", "A line is longer than a body may be; send one call a line."
            )
    if rest:
        yield [rest]


async def chunks(request: web.Request, patience: float) -> AsyncIterator[bytes]:
    """The body as it comes; `patience`: seconds of silence that end it."""
    while True:
        try:
            async with asyncio.timeout(patience):
                chunk = await request.content.read(READ_BYTES)
        except TimeoutError:
            raise late() from None
        if not chunk:
            return
        yield chunk


def parameters(encoded: str, most: int = _MOST_PARAMETERS) -> list[tuple[str, str]]:
    """Of a query or a form."""
    try:
        return parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=most)
    except ValueError:
        raise Fault(
            400, "request.invalid", f"Send at most {most} parameters, percent-encoded in UTF-8."
        ) from None


def query(request: web.Request) -> list[tuple[str, str]]:
    return parameters(request.raw_path.partition("?")[2])


def reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers={**JSON_HEADERS, **(headers or {})})
