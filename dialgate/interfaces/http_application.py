"""The HTTP application: all endpoints, with authentication and a common error format."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import cache, partial
from itertools import groupby
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.faults import Unavailable
from dialgate.interfaces.console import routes
from dialgate.interfaces.http import (
    body,
    certificates,
    check,
    openapi,
    operations,
    server,
)
from dialgate.interfaces.http.access import admit, admit_key, refuse_second_key
from dialgate.interfaces.http.bulk import BULK, CHECK_STREAMS, FOLLOWERS
from dialgate.interfaces.http.check_fast_path import Lane
from dialgate.interfaces.http.concurrency_limits import Caps, Turns
from dialgate.interfaces.http.connection import connection_of
from dialgate.interfaces.http.decisions import TURN
from dialgate.interfaces.http.endpoint import Endpoint
from dialgate.interfaces.http.endpoints import ENDPOINTS
from dialgate.interfaces.http.errors import FAILURES, Fault, cause_of, convert, fault_of, response, too_large
from dialgate.interfaces.http.incoming_webhooks import AT_ONCE, DELIVERIES
from dialgate.interfaces.http.operations import APP, DESCRIPTION, OPERATIONS, REGISTRY
from dialgate.interfaces.http.own_processes import HEAVY
from dialgate.interfaces.http.peers import PEERS
from dialgate.interfaces.http.uploads import UPLOADS, UploadSlots
from dialgate.people.client_keys import KeyIndex

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

EVERY: Final = (*ENDPOINTS, *OPERATIONS.endpoints, *PEERS)
_PATH_UNKNOWN: Final = Fault(404, "path.unknown", "No endpoint has this path. /docs lists all of them.")
_COMPRESSED: Final = Fault(
    415, "request.compressed", "The body is compressed. Send it without `Content-Encoding`."
)
_NOT_ALL: Final = Fault(
    403, "auth.scope", "This concerns the whole gate. Use a client with every controller."
)
_NOT_EXPECTED: Final = Fault(
    417, "request.expectation", "The value of the `Expect` header is not `100-continue`. Remove the header."
)


def build(app: App, registry: CollectorRegistry) -> web.Application:
    site = web.Application(
        client_max_size=app.config.settings.limits.body_bytes, middlewares=[refuse_second_key]
    )
    every = sorted(EVERY, key=lambda endpoint: endpoint.path)
    site[APP], site[REGISTRY] = app, registry
    site[DESCRIPTION] = _described()
    site[TURN], site[BULK], site[HEAVY] = Turns(), Turns(), Turns()
    site[DELIVERIES] = Turns(AT_ONCE)
    settings = app.config.settings
    site[UPLOADS] = UploadSlots(settings.uploads, app.config.data, settings.limits.read_seconds)
    site[CHECK_STREAMS], site[FOLLOWERS] = Caps(), Caps()
    for path, endpoints in groupby(every, key=lambda endpoint: endpoint.path):
        _add(app, site.router.add_resource(path), tuple(endpoints))
    site.on_shutdown.append(_end_streams)
    routes.add(site, app)
    site.router.add_route("*", "/{path:.*}", _refusing(_PATH_UNKNOWN), expect_handler=_expected)
    return site


async def _end_streams(site: web.Application) -> None:
    site[APP].registrar.notices.close()
    site[UPLOADS].close()


async def start(app: App, registry: CollectorRegistry) -> server.Runner:
    """Start the API server. Raises `ConfigError` if it cannot listen.

    `runner.addresses` holds the addresses on which the server listens.
    """
    site = build(app, registry)
    certificate = certificates.load(app.config)
    certificates.show(certificate, app.metrics)
    lane = partial(_lane, app)
    return await server.serve(site, app.config, lane, _count_closed(app), certificate, app.enter_stops)


async def start_operations(app: App, registry: CollectorRegistry) -> server.Runner:
    """Start the operations listener, which needs no key. See `start` for the arguments and errors.

    Other gates can ask here too: if several gates share the API port, only this port belongs to one of them.
    """
    site = operations.build(app, registry, _described())
    site[TURN] = Turns()
    for endpoint in PEERS:
        site.router.add_route(endpoint.method, endpoint.path, endpoint.serve)
    return await server.serve_operations(site, app.config, _count_closed(app))


def _count_closed(app: App) -> Callable[[str], None]:
    def count_closed(why: str) -> None:
        app.metrics.connections_closed.labels(why).inc()

    return count_closed


def _lane(
    app: App,
    transport: asyncio.Transport,
    hand_over: Callable[[bytes], None],
    watch: Callable[[bool], None],
) -> Lane:
    """Return the fast path for a connection. The last admitted key is cached until the keys or the configuration change."""
    admitted: tuple[bytes, KeyIndex, Client] | None = None

    def submit(key: bytes, body: bytes, lane: Lane) -> str:
        nonlocal admitted
        index = app.client_keys.index
        if admitted is None or admitted[0] != key or admitted[1] is not index:
            client = admit_key(key.decode("utf-8", "surrogateescape"), index, "check")
            admitted = (key, index, client)
        if len(body) > app.config.settings.limits.body_bytes:
            raise too_large()
        check.submit(body, app, admitted[2], lane)
        return admitted[2].name

    return Lane(transport, submit, check.encode_answer, hand_over, watch)


@cache
def _described() -> bytes:
    return msgspec.json.encode(openapi.document(EVERY))


def _add(app: App, resource: web.Resource, endpoints: tuple[Endpoint, ...]) -> None:
    allowed = []
    for endpoint in endpoints:
        serve = _guarded(app, endpoint) if endpoint.keyed else endpoint.serve
        for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
            resource.add_route(method, serve, expect_handler=_expected)
            allowed.append(method)
    names = ", ".join(allowed)
    fault = Fault(
        405,
        "method.not_allowed",
        f"This path does not support this method. Use {names}. See /docs.",
        headers={"Allow": names},
    )
    resource.add_route("*", _refusing(fault), expect_handler=_expected)


def _guarded(app: App, endpoint: Endpoint) -> _Answer:
    """Return the handler that authenticates the client, decodes the request and encodes the answer."""
    serve, refuse, ask, query = endpoint.serve, endpoint.refuse, endpoint.ask, endpoint.query
    needed = inspect.signature(serve).parameters

    async def respond(request: web.Request) -> web.StreamResponse:
        try:
            client = admit(request, app, *endpoint.scopes)
            connection_of(request).admit(client.name)
            if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                return refuse(_COMPRESSED)
            if endpoint.whole_gate and not app.config.has_every_controller(client):
                return refuse(_NOT_ALL)
            given = {}
            if query is not None and "query" in needed:
                given["query"] = convert(body.query_about_number(request), query)
            if "ask" in needed:
                given["ask"] = await body.read_json(request, app, ask)
            answer = await serve(request, app, client, **given)
        except FAILURES as error:
            if endpoint.whole_gate and isinstance(error, Unavailable):
                return refuse(cause_of(error))
            return refuse(fault_of(error))
        return answer if isinstance(answer, web.StreamResponse) else body.reply_json(answer, endpoint.status)

    return respond


def _refusing(fault: Fault) -> _Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return response(fault)

    return answer


async def _expected(request: web.Request) -> web.StreamResponse | None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        return response(_NOT_EXPECTED)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response has not begun
    return None
