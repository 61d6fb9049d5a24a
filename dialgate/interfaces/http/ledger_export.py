"""The handler that streams a store's content as NDJSON."""

from contextlib import aclosing
from typing import Final

from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.faults import Unavailable
from dialgate.interfaces.http import body
from dialgate.interfaces.http.bulk import FOLLOWERS, too_many_streams
from dialgate.interfaces.http.errors import convert, encoded, fault_of

_HEADERS: Final = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}


class Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    numbers: bool = False


async def export(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    query = convert(dict(body.query(request)), Query)
    most = app.config.settings.limits.streams
    with request.app[FOLLOWERS].one(client.name, most, too_many_streams(most)):
        lines = await app.registrar.export(client, numbers=query.numbers)
        response = web.StreamResponse(headers=_HEADERS)
        async with aclosing(lines):
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            try:
                async for some in lines:
                    await response.write(some)
            except Unavailable as error:  # the status was sent already, so the last line holds the error
                await response.write(encoded(fault_of(error).problem) + b"\n")
            except ConnectionError:
                return response  # the client has disconnected
        await response.write_eof()
    return response
