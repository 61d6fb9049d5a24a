"""The HTTP interface, put together: the endpoints with their keys, and one shape for everything that fails."""

from collections.abc import Awaitable, Callable
from functools import cache
from itertools import groupby
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from dialgate.interfaces import http_server, openapi
from dialgate.interfaces.http_access import admit
from dialgate.interfaces.http_endpoints import ENDPOINTS
from dialgate.interfaces.http_errors import FAILURES, Fault, fault_of, response
from dialgate.interfaces.http_operations import DESCRIPTION, GATE, OPERATIONS, REGISTRY
from dialgate.interfaces.openapi import Endpoint
from dialgate.service import Gate
from dialgate.settings import Scope

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PATH_UNKNOWN: Final = Fault(404, "path.unknown", "No such path; /docs shows those there are.")
_NOT_EXPECTED: Final = Fault(
    417, "request.expectation", "Only `Expect: 100-continue` is understood; leave it out."
)


def build(gate: Gate, registry: CollectorRegistry) -> web.Application:
    app = web.Application(client_max_size=gate.config.settings.limits.body_bytes)
    every = sorted((*ENDPOINTS, *OPERATIONS), key=lambda endpoint: endpoint.path)
    app[GATE], app[REGISTRY] = gate, registry
    app[DESCRIPTION] = _described()
    for path, endpoints in groupby(every, key=lambda endpoint: endpoint.path):
        _add(gate, app.router.add_resource(path), tuple(endpoints))
    app.router.add_route("*", "/{path:.*}", _refusing(_PATH_UNKNOWN), expect_handler=_expected)
    return app


async def start(gate: Gate, registry: CollectorRegistry) -> web.AppRunner:
    """Raises `ConfigError` if it cannot listen where the settings say; `runner.addresses` says where it does."""
    return await http_server.serve(build(gate, registry), gate.config)


@cache
def _described() -> bytes:
    return msgspec.json.encode(openapi.document((*ENDPOINTS, *OPERATIONS)))


def _add(gate: Gate, resource: web.Resource, endpoints: tuple[Endpoint, ...]) -> None:
    allowed = []
    for endpoint in endpoints:
        serve = _guarded(gate, endpoint, endpoint.scope) if endpoint.scope is not None else endpoint.serve
        for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
            resource.add_route(method, serve, expect_handler=_expected)
            allowed.append(method)
    names = ", ".join(allowed)
    fault = Fault(
        405, "method.not_allowed", f"This path takes {names}; /docs shows how.", headers={"Allow": names}
    )
    resource.add_route("*", _refusing(fault), expect_handler=_expected)


def _guarded(gate: Gate, endpoint: Endpoint, scope: Scope) -> _Answer:
    serve, refuse = endpoint.serve, endpoint.refuse

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await serve(request, gate, admit(request, gate.config, scope))
        except FAILURES as error:
            return refuse(fault_of(error))

    return answer


def _refusing(fault: Fault) -> _Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return response(fault)

    return answer


async def _expected(request: web.Request) -> web.StreamResponse | None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        return response(_NOT_EXPECTED)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer has not begun
    return None
