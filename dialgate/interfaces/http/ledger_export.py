"""The handler that streams a store's content as NDJSON."""

from contextlib import aclosing
from typing import Annotated, Final

from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.faults import Unavailable
from dialgate.interfaces.http.bulk import FOLLOWERS, too_many_streams
from dialgate.interfaces.http.errors import encoded, fault_of
from dialgate.ledger.schemas import described

_HEADERS: Final = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}


class _ExportQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    numbers: Annotated[bool, described("Whether ledger entries have the number in clear.")] = False


async def export_ledger(
    request: web.Request, app: App, client: Client, *, query: _ExportQuery
) -> web.StreamResponse:
    """Export the ledger with call lists, caller-ID proofs and counted attempts, as NDJSON.

    The first line says to which entry the ledger reaches. The last has the kind `end` and the number of rows; if it is
    missing, the export is incomplete. Called numbers are keyed hashes and ciphertexts, which `dialgate ledger import` reads
    with the same `keys.json`. With `numbers=true`, each ledger entry also has the number in clear, and the ledger records
    the export. Only for clients with every controller.
    """
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
