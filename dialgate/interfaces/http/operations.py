"""Liveness, readiness, metrics and the API description.

On the operations listener (`build`), which is for the operators' network, none of these endpoints needs a key. On the API
listener, `/metrics` and the details of `/readyz` need a key with the scope `metrics`, because they name the campaigns of all
controllers. The API description needs a key with any scope.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final, TypeAlias

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from dialgate.app import App, Status
from dialgate.interfaces.http.access import admit, refuse_second_key
from dialgate.interfaces.http.body import reply_json
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.interfaces.http.errors import Fault, response
from dialgate.interfaces.http.web_pages import refuse_web_pages

APP: Final = web.AppKey("gate", App)
REGISTRY: Final = web.AppKey("registry", CollectorRegistry)
DESCRIPTION: Final = web.AppKey("description", bytes)

_METRICS: Final = choose_encoder("")[1]
_Serve: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_DOCS: Final = files(__package__).joinpath("docs.html").read_bytes()
_DOCS_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


OPERATIONS: Final = EndpointGroup(
    "Operations",
    "Liveness, readiness, metrics and this description. On the operations listener, they need no key.",
)


@OPERATIONS.endpoint("GET", "/healthz", media="text/plain; charset=utf-8")
async def check_liveness(_: web.Request) -> web.StreamResponse:
    """Report that the process is alive."""
    return web.Response(text="ok")


@OPERATIONS.endpoint("GET", "/readyz", answer=Status, other_statuses=((503, "Not ready.", Status),))
async def check_readiness(request: web.Request) -> web.StreamResponse:
    """Report whether the gate can decide; 503 if not.

    On the operations listener, or with a key that has the scope `metrics`, the response names the problems. Otherwise it has only
    `ready`.
    """
    app = request.app[APP]
    try:
        admit(request, app, "metrics")
    except Fault:  # no error, because a misconfigured probe must not stop traffic
        return _readiness(app, {"ready": app.status().ready})
    return _readiness(app, app.status())


async def _ready_without_key(request: web.Request) -> web.StreamResponse:
    app = request.app[APP]
    try:
        refuse_web_pages(request, app.config.settings.hosts)
    except Fault:
        return _readiness(app, {"ready": app.status().ready})
    return _readiness(app, app.status())


def _readiness(app: App, body: Status | dict[str, bool]) -> web.Response:
    status = 503 if app.gate.readiness() else 200
    return reply_json(body, status)


@OPERATIONS.endpoint("GET", "/metrics", scope="metrics", media=_METRICS)
async def get_metrics(request: web.Request, *_: object) -> web.StreamResponse:
    """Return metrics for Prometheus."""
    encode, media = choose_encoder(request.headers.get("Accept", ""))
    body = await asyncio.to_thread(encode, request.app[REGISTRY])  # with 50,000 campaigns it takes seconds
    return web.Response(body=body, headers={"Content-Type": media})


@OPERATIONS.endpoint("GET", "/openapi.json", any_key=True, answer=dict)
async def get_api_description(request: web.Request, *_: object) -> web.StreamResponse:
    """Return the API description (OpenAPI 3.1)."""
    return web.Response(body=request.app[DESCRIPTION], content_type="application/json")


@OPERATIONS.endpoint("GET", "/docs", any_key=True, media=_DOCS_HEADERS["Content-Type"])
async def get_api_page(*_: object) -> web.StreamResponse:
    """Return the API description as a page."""
    return web.Response(body=_DOCS, headers=_DOCS_HEADERS)


@OPERATIONS.endpoint("GET", "/", status=302, headers={"Location": "`/docs`."})
async def redirect_to_api_page(_: web.Request) -> web.StreamResponse:
    """Redirect to /docs."""
    return web.Response(status=302, headers={"Location": "/docs"})


def _guarded(serve: _Serve) -> _Serve:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            refuse_web_pages(request, request.app[APP].config.settings.hosts)
        except Fault as fault:
            return response(fault)
        return await serve(request)

    return answer


# On the operations listener, without a key.
_OPEN: Final = {
    "/healthz": check_liveness,
    "/readyz": _ready_without_key,
    "/metrics": _guarded(get_metrics),
    "/openapi.json": _guarded(get_api_description),
    "/docs": get_api_page,
    "/": redirect_to_api_page,
}


def build(app: App, registry: CollectorRegistry, description: bytes) -> web.Application:
    """Return the application for the operations listener."""
    site = web.Application(middlewares=[refuse_second_key])
    site[APP], site[REGISTRY], site[DESCRIPTION] = app, registry, description
    for path, serve in _OPEN.items():
        site.router.add_get(path, serve)
    return site
