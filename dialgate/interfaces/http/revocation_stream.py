"""The stream of revocations, one per line. A dialer reads the stream to remove numbers from its queue immediately."""

import asyncio
from math import inf
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.faults import Unavailable
from dialgate.interfaces.http.access import admit
from dialgate.interfaces.http.bulk import FOLLOWERS, too_many_streams
from dialgate.interfaces.http.errors import Fault, encoded, fault_of
from dialgate.ledger.schemas import described
from dialgate.ledger.suppression_feed import Notices

_HEADERS: Final = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
_LOOK_SECONDS: Final = 1.0
_KEPT_ALIVE: Final = 3  # lines sent per `idle_seconds` to keep a silent connection open
_encode: Final = msgspec.json.Encoder().encode


class _StreamQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        described(
            "`seq` of the last line received, or 0 for the beginning. Default: the stream begins with the next entry."
        ),
    ] = None


class Position(Struct, frozen=True):
    """A keep-alive line, sent while there are no revocations.

    `seq` is the position in the stream. A client that reconnects sends it as `after`.
    """

    seq: int


async def stream_revocations(
    request: web.Request, app: App, client: Client, *, query: _StreamQuery
) -> web.StreamResponse:
    """Stream revocations with their numbers.

    The response is NDJSON with one revocation per line, and does not end. A line with `seq` alone keeps the connection open.
    `after` resumes after the last line received. `seq` is opaque: store the last one, and do not compare values.
    """
    most = app.config.settings.limits.streams
    with request.app[FOLLOWERS].one(client.name, most, too_many_streams(most)):
        return await _streamed(request, app, client, query)


async def _streamed(
    request: web.Request, app: App, client: Client, query: _StreamQuery
) -> web.StreamResponse:
    """Send revocations until the gate stops, the client's key is removed or disabled, or the client disconnects."""
    notices = app.registrar.notices
    seq = (
        await notices.head() if query.after is None else await app.registrar.ids.position(client, query.after)
    )
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    if request.method == "HEAD":  # aiohttp would send the body of a stream
        return response
    try:
        await _follow(request, response, app, notices, seq)
    except (Unavailable, Fault) as error:  # the status was sent already, so the last line holds the error
        await response.write(encoded(fault_of(error).problem) + b"\n")
    except ConnectionError:
        return response  # the client has disconnected
    await response.write_eof()
    return response


async def _follow(
    request: web.Request, response: web.StreamResponse, app: App, notices: Notices, seq: int
) -> None:
    """Send revocations and, while there are none, `Position` lines."""
    clock = asyncio.get_running_loop().time
    sent_at = -inf  # so that the first line, which reports where the stream begins, is sent at once
    while not notices.closing and request.transport is not None:
        client = admit(request, app, "stream")
        written = notices.written
        batch, reached = await notices.after(seq, client.controllers)
        if batch:
            outgoing = map(app.registrar.ids.with_entry_ids, batch)
            await response.write(b"".join(_encode(notice) + b"\n" for notice in outgoing))
            sent_at = clock()
        if reached == seq:
            if clock() - sent_at >= app.config.settings.limits.idle_seconds / _KEPT_ALIVE:
                await response.write(_encode(Position(app.registrar.ids.cursor(seq))) + b"\n")
                sent_at = clock()
            await notices.wait(_LOOK_SECONDS, written)
        seq = reached
