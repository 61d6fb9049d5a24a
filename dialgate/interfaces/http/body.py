"""Helpers that read request bodies and parameters within limits, and send short responses."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote

import msgspec
from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.listeners import Limits
from dialgate.interfaces.http.bulk import BULK
from dialgate.interfaces.http.errors import JSON_HEADERS, Fault, decode, too_large

_T = TypeVar("_T")
_MOST_PARAMETERS: Final = 32
READ_BYTES: Final = 64 << 10
_SMALL_BYTES: Final = 64 << 10
MESSAGE_BYTES: Final = 256 << 10  # of a platform: Salesforce sends 100 records at once


def late() -> Fault:
    return Fault(408, "request.timeout", "The body did not arrive in time. Send it again, all at once.")


async def whole(request: web.Request, limits: Limits) -> bytes:
    content = request.content
    if content.is_eof():  # because a small body arrives together with the head
        body = content.read_nowait()
        if len(body) > limits.body_bytes:
            raise too_large()
        return body
    try:
        async with asyncio.timeout(limits.read_seconds):
            return await request.read()
    except TimeoutError:
        raise late() from None


async def small(request: web.Request, limits: Limits, most: int = _SMALL_BYTES) -> bytes:
    """Return the body of a request that anyone can send, so it must be small. Raises `Fault`."""
    length = request.content_length
    if not request.content.is_eof() and (length is None or length > most):
        raise Fault(
            413,
            "request.too_large",
            f"Without a key, a body has at most {most:,} bytes, and a `Content-Length`.",
        )
    return await whole(request, limits)


async def read_open(request: web.Request, app: App, client: Client, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Read and decode a JSON body that may hold any fields. Raises `Fault`."""
    return await decode_open(request, client, decoder, await whole(request, app.config.settings.limits))


async def decode_open(
    request: web.Request, client: Client, decoder: msgspec.json.Decoder[_T], body: bytes
) -> _T:
    """Decode a JSON body that may hold any fields. Raises `Fault`.

    Python compares the names of all its objects. So the body must be small, and clients take turns.
    """
    if len(body) > _SMALL_BYTES:
        raise Fault(
            413,
            "request.too_large",
            f"The body has more than {_SMALL_BYTES:,} bytes, the maximum for this endpoint. Send less, or in parts.",
        )
    async with request.app[BULK].hold(client.name):
        decoded = decode(decoder, body)
        await asyncio.sleep(0)
    return decoded


async def read_json(request: web.Request, app: App, kind: type[_T]) -> _T:
    """Read a JSON body and decode it as `kind`. Raises `Fault`."""
    return decode(msgspec.json.Decoder(kind), await whole(request, app.config.settings.limits))


async def lines(request: web.Request, limits: Limits) -> AsyncIterator[list[bytes]]:
    """Yield complete lines without their line breaks, as they arrive. Raises `Fault`."""
    rest, most = b"", limits.body_bytes
    async for chunk in chunks(request, limits.idle_seconds):
        *complete, rest = (rest + chunk).split(b"\n")
        permitted = list(takewhile(lambda line: len(line) <= most, complete))
        if permitted:
            yield permitted
        if len(permitted) < len(complete) or len(rest) > most:
            raise Fault(
                413,
                "request.too_large",
                "A line exceeds the setting `limits.body_bytes`. Send one call per line.",
            )
    if rest:
        yield [rest]


async def chunks(request: web.Request, seconds: float) -> AsyncIterator[bytes]:
    """Yield the chunks of the body as they arrive. Raises `Fault` if no chunk arrives for `seconds`."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await request.content.read(READ_BYTES)
        except TimeoutError:
            raise late() from None
        if not chunk:
            return
        yield chunk


def parameters(encoded: str, most: int = _MOST_PARAMETERS) -> list[tuple[str, str]]:
    """Parse the parameters of a query or a form. Raises `Fault`."""
    try:
        return parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=most)
    except ValueError:
        raise Fault(
            400,
            "request.invalid",
            f"There are too many parameters, or they are not UTF-8. Send at most {most}, percent-encoded, with + as %2B.",
        ) from None


def query(request: web.Request) -> list[tuple[str, str]]:
    return parameters(request.raw_path.partition("?")[2])


def query_about_number(request: web.Request) -> dict[str, str]:
    return {name: restore_plus(text) if name == "number" else text for name, text in query(request)}


def restore_plus(number: str) -> str:
    """Restore the plus at the beginning of a number. If it was not percent-encoded, it arrived as a space."""
    return f"+{number[1:]}" if number.startswith(" ") else number


def require_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise Fault(400, "request.invalid", "A parameter is repeated. Send each parameter only once.")


def reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers={**JSON_HEADERS, **(headers or {})})


def reply_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return reply(msgspec.json.encode(value), status, headers)


def as_file(body: bytes, name: str, media: str) -> web.Response:
    """Return a response that a browser saves as a file, does not show and does not keep. `name` can contain any characters."""
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Type": media,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=body, headers=headers)
