"""Revocations as they come, one a line: a dialer that follows can empty its queue before it asks again."""

import asyncio
from math import inf
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.faults import Unavailable
from dialgate.interfaces.http import body
from dialgate.interfaces.http.access import admit
from dialgate.interfaces.http.bulk import FOLLOWERS, too_many_streams
from dialgate.interfaces.http.errors import Fault, convert, encoded, fault_of
from dialgate.ledger.suppression_feed import Notices

_HEADERS: Final = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
_LOOK_SECONDS: Final = 1.0
_KEPT_ALIVE: Final = 3  # times while an idle connection is kept
_encode: Final = msgspec.json.Encoder().encode


class _Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0)] | None = None


async def stream(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Ends with the gate, with the key, or with the connection."""
    most = app.config.settings.limits.streams
    with request.app[FOLLOWERS].one(client.name, most, too_many_streams(most)):
        return await _streamed(request, app, client)


async def _streamed(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked = convert(dict(body.query(request)), _Query)
    notices = app.registrar.notices
    seq = (
        await notices.head() if asked.after is None else await app.registrar.ids.position(client, asked.after)
    )
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    if request.method == "HEAD":  # aiohttp would send what is written to a stream
        return response
    try:
        await _follow(request, response, app, notices, seq)
    except (Unavailable, Fault) as error:  # the answer has begun: a line says why it ends
        await response.write(encoded(fault_of(error).problem) + b"\n")
    except ConnectionError:
        return response  # whoever listened has gone
    await response.write_eof()
    return response


async def _follow(
    request: web.Request, response: web.StreamResponse, app: App, notices: Notices, seq: int
) -> None:
    """A line that holds nothing but `seq` says how far this has got, and that it lives."""
    clock = asyncio.get_running_loop().time
    spoken = -inf  # at once, so that it is known where this begins
    while not notices.closing and request.transport is not None:
        client = admit(request, app.config, "stream")
        written = notices.written
        told, reached = await notices.after(seq, client.controllers)
        if told:
            shown = map(app.registrar.ids.with_entry_ids, told)
            await response.write(b"".join(_encode(notice) + b"\n" for notice in shown))
            spoken = clock()
        if reached == seq:
            if clock() - spoken >= app.config.settings.limits.idle_seconds / _KEPT_ALIVE:
                await response.write(b'{"seq":%d}\n' % app.registrar.ids.cursor(seq))
                spoken = clock()
            await notices.wait(_LOOK_SECONDS, written)
        seq = reached
