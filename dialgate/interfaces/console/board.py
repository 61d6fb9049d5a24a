"""The live board: a page, and the stream of server-sent events that moves it."""

import asyncio
from typing import Final

from aiohttp import web

from dialgate.interfaces.console.live import SECONDS, Live
from dialgate.interfaces.console.page_request import BOARDS, LIVE, SESSIONS, Visit
from dialgate.interfaces.console.status import standing
from dialgate.interfaces.http.errors import Fault

_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_PATIENCE: Final = 30.0  # seconds in which a browser must take a message
_MOST: Final = 100
_OF_ONE: Final = 20  # of the same controllers: a tenant with many keys leaves boards to the others


async def board(visit: Visit) -> web.StreamResponse:
    words = visit.words.some("live.", "code.", "kind.", "state.")
    return visit.show("board", "board", words=words, seconds=SECONDS)


async def caller_ids(visit: Visit) -> web.StreamResponse:
    stands = await standing(visit.app, visit.client.controllers)
    return visit.show("callers", "callers", found=stands.caller_ids)


async def events(visit: Visit) -> web.StreamResponse:
    """Ends with the session, with the connection, or with the gate; a browser then asks again."""
    live = visit.request.app[LIVE]
    crowded = Fault(503, "console.crowded", "Too many boards are open; close some.")
    if live.watchers >= _MOST:
        raise crowded
    with visit.request.app[BOARDS].one(" ".join(sorted(visit.client.controllers)), _OF_ONE, crowded):
        return await _moved(visit, live)


async def _moved(visit: Visit, live: Live) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(visit.request)
    try:
        await _follow(visit, live, response)
    except (ConnectionError, TimeoutError):
        return response  # whoever watched has gone
    await response.write(b"event: ended\ndata: {}\n\n")
    await response.write_eof()
    return response


async def _follow(visit: Visit, live: Live, response: web.StreamResponse) -> None:
    async with live.watching(visit.client.controllers) as view:
        message = live.first(view)
        while not live.closing and _still(visit):
            async with asyncio.timeout(_PATIENCE):
                await response.write(b"data: %b\n\n" % message)
            await live.next()
            message = live.message(view)


def _still(visit: Visit) -> bool:
    """Asked at each message: a key that was withdrawn or lost a scope shows nothing more."""
    found = visit.request.app[SESSIONS].find(visit.name, visit.app.config)
    if found is None or visit.request.transport is None:
        return False
    return "watch" in found[1].scopes and found[1].controllers == visit.client.controllers
