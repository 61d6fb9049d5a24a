"""The live board: its page, and the server-sent events that update it."""

import asyncio
from typing import Final

from aiohttp import web

from dialgate.core.faults import Unavailable
from dialgate.interfaces.console.live import SECONDS, Live
from dialgate.interfaces.console.visit import BOARDS, LIVE, Visit, find_session
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.status import read_status

_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_SEND_SECONDS: Final = 30.0  # a browser must accept a message within this time
_MOST_BOARDS: Final = 100
_MOST_PER_VIEW: Final = 20  # of the same controllers, so that a company with many keys cannot take all


async def board(visit: Visit) -> web.StreamResponse:
    words = visit.words.by_prefix("live.", "code.", "kind.", "problem.", "state.")
    return visit.show("board", words=words, seconds=SECONDS)


async def caller_ids(visit: Visit) -> web.StreamResponse:
    status = await read_status(visit.app, visit.client.controllers)
    return visit.show("callers", caller_ids=status.caller_ids)


async def events(visit: Visit) -> web.StreamResponse:
    """Stream messages until the session ends, the connection closes or the gate stops. The browser then reconnects."""
    live = visit.request.app[LIVE]
    crowded = Fault(503, "console.crowded", "Too many live boards are open. Close one and try again.")
    if live.watchers >= _MOST_BOARDS:
        raise crowded
    with visit.request.app[BOARDS].one(" ".join(sorted(visit.client.controllers)), _MOST_PER_VIEW, crowded):
        return await _stream(visit, live)


async def _stream(visit: Visit, live: Live) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(visit.request)
    try:
        await _send_messages(visit, live, response)
    except (ConnectionError, TimeoutError):
        return response  # the browser has disconnected
    await response.write(b"event: ended\ndata: {}\n\n")
    await response.write_eof()
    return response


async def _send_messages(visit: Visit, live: Live, response: web.StreamResponse) -> None:
    async with live.watching(visit.client.controllers) as view:
        message = live.first(view, visit.client.scopes)
        while not live.closing and await _is_authorized(visit):
            async with asyncio.timeout(_SEND_SECONDS):
                await response.write(b"data: %b\n\n" % message)
            await live.next()
            message = live.message(view, visit.client.scopes)


async def _is_authorized(visit: Visit) -> bool:
    """Return whether the visitor can still watch the board.

    The session must be valid and the connection open. The client must have the scope `watch`, and the same
    controllers and scopes as when the stream began.
    """
    try:
        found = await find_session(visit.request, visit.name)
    except (
        Unavailable
    ):  # the board is needed most while the store is not there, and was permitted a second ago
        return visit.request.transport is not None
    if found is None or visit.request.transport is None:
        return False
    client, _ = found
    began = visit.client.controllers, visit.client.scopes
    return "watch" in client.scopes and (client.controllers, client.scopes) == began
