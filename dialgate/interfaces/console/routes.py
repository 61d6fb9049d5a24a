"""The console: pages for people, under `/console`. Served beside the API, described in docs/reference/console.md and not in /openapi.json."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlencode

import structlog
from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Scope
from dialgate.core.decision_ids import PATTERN
from dialgate.interfaces.console import board, calls, lists, numbers, page, reports, requests
from dialgate.interfaces.console.live import Live
from dialgate.interfaces.console.page_request import (
    BOARDS,
    CONSOLE_APP,
    COOKIE,
    LANGUAGE,
    LIVE,
    PREVIEWING,
    ROOT,
    SESSIONS,
    THEME,
    THEMES,
    Serve,
    Visit,
    first_page,
    is_foreign,
    is_secure,
    shown,
    to,
)
from dialgate.interfaces.console.sessions import LONGEST, Sessions, Throttled
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http import server
from dialgate.interfaces.http.concurrency_limits import Caps, Turns
from dialgate.interfaces.http.errors import FAILURES, Fault, fault_of, response
from dialgate.interfaces.http.operations import SIBLINGS
from dialgate.interfaces.source_access import behind_proxies
from dialgate.texts import LANGUAGES

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
_YEAR: Final = 365 * 86_400
_DECISION: Final = re.compile(rf"{ROOT}/decisions/(?:{PATTERN})")
_log = structlog.get_logger(__name__)


class _Route(NamedTuple):
    """One of the scopes `needs` opens it."""

    method: str
    path: str
    needs: tuple[Scope, ...]
    serve: Serve


_ROUTES: Final = (
    _Route("GET", f"{ROOT}/board", ("watch",), board.board),
    _Route("GET", f"{ROOT}/events", ("watch",), board.events),
    _Route("GET", f"{ROOT}/caller-ids", ("watch",), board.caller_ids),
    _Route("GET", f"{ROOT}/reports", ("watch",), reports.ask),
    _Route("POST", f"{ROOT}/reports", ("watch",), reports.made),
    _Route("GET", f"{ROOT}/try", ("simulate",), calls.ask),
    _Route("POST", f"{ROOT}/try", ("simulate",), calls.tried),
    _Route("GET", f"{ROOT}/revoke", ("revoke",), calls.ask_revocation),
    _Route("POST", f"{ROOT}/revoke", ("revoke",), calls.revoked),
    _Route("GET", f"{ROOT}/lists", ("lists",), lists.lists),
    _Route("POST", f"{ROOT}/lists", ("lists",), lists.load),
    _Route("POST", f"{ROOT}/lists/{{id}}/preview", ("lists",), lists.preview),
    _Route("GET", f"{ROOT}/lookup", ("read",), numbers.ask),
    _Route("POST", f"{ROOT}/lookup", ("read",), numbers.looked_up),
    _Route("GET", f"{ROOT}/decisions/{{id}}", ("watch", "read"), numbers.decision),
    _Route("POST", f"{ROOT}/decisions/{{id}}/evidence", ("subjects",), numbers.evidence_of),
    _Route("GET", f"{ROOT}/requests", ("subjects",), requests.requests),
    _Route("POST", f"{ROOT}/requests", ("subjects",), requests.noted),
    _Route("POST", f"{ROOT}/requests/{{id}}", ("subjects",), requests.move),
)


def add(site: web.Application, app: App) -> None:
    site[CONSOLE_APP], site[SESSIONS], site[LIVE] = app, Sessions(app.config.data, app.gate.now), Live(app)
    site[PREVIEWING], site[BOARDS] = Turns(), Caps()
    site.cleanup_ctx.append(_running)
    site.on_shutdown.append(_let_go)
    router = site.router
    router.add_get(ROOT, _door)
    router.add_get(f"{ROOT}/", _slash)
    router.add_get(f"{ROOT}/login", _login)
    router.add_post(f"{ROOT}/login", _same_site(_log_in))
    router.add_post(f"{ROOT}/logout", _same_site(_guarded((), _log_out)))
    router.add_post(f"{ROOT}/preferences", _same_site(_preferences))
    router.add_get(f"{ROOT}/assets/{{name}}", _asset)
    for route in _ROUTES:
        serve = _guarded(route.needs, route.serve)
        router.add_route(route.method, route.path, _same_site(serve) if route.method == "POST" else serve)
    router.add_get(f"{ROOT}/{{rest:.*}}", _guarded((), _nothing))  # after all others


async def _running(site: web.Application) -> AsyncIterator[None]:
    if siblings := site.get(SIBLINGS):
        siblings.tells["board"] = site[LIVE].share
        site[LIVE].others = siblings
    sampling = asyncio.create_task(site[LIVE].run())
    sampling.add_done_callback(partial(_ended, site[LIVE]))
    yield
    sampling.cancel()
    await asyncio.wait([sampling])


def _ended(live: Live, sampling: asyncio.Task[None]) -> None:
    """A board that no longer moves must not look as if it did."""
    live.close()
    if not sampling.cancelled() and (error := sampling.exception()):
        _log.error("console: the board has stopped; restart the gate", exc_info=error)


async def _let_go(site: web.Application) -> None:
    site[LIVE].close()


# ---- who may come in -------------------------------------------------------------------------------------------------


def visitor(request: web.Request) -> Visit | None:
    name, app = request.cookies.get(COOKIE, ""), request.app[CONSOLE_APP]
    found = request.app[SESSIONS].find(name, app.config) if name else None
    if found is None:
        return None
    server.note_admitted(request)
    return Visit(request, app, *found, name)


def _guarded(needs: tuple[Scope, ...], serve: Serve) -> _Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        visit = visitor(request)
        if visit is None:
            return _to_login(request)
        if not visit.may(*needs):
            return visit.fault(403, "auth.scope")
        try:
            return await serve(visit)
        except FAILURES as error:
            fault = fault_of(error)
            return visit.fault(fault.status, fault.problem.code)

    return answer


def _same_site(serve: _Answer) -> _Answer:
    """A page from elsewhere can make a browser send a form, and shall not."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return _bare(request, 403, "console.forged") if is_foreign(request) else await serve(request)

    return answer


def _bare(request: web.Request, status: int, code: str, onward: str = "") -> web.Response:
    return shown(request, "login", {"next": onward, "error": code, "places": [], "visit": None}, status)


def _to_login(request: web.Request) -> web.Response:
    here = request.path if request.method == "GET" and request.path != f"{ROOT}/events" else ""
    return to(f"{ROOT}/login?{urlencode({'next': here})}" if here else f"{ROOT}/login")


def _local(path: str) -> str:
    """Only a page of ours: what else a link may have brought along is dropped."""
    known = {route.path for route in _ROUTES if route.method == "GET"}
    return path if path in known or _DECISION.fullmatch(path) else ROOT


# ---- in and out ------------------------------------------------------------------------------------------------------


async def _slash(_: web.Request) -> web.StreamResponse:
    return to(ROOT)


async def _door(request: web.Request) -> web.StreamResponse:
    """The first page that the key opens."""
    visit = visitor(request)
    if visit is None:
        return to(f"{ROOT}/login")
    place = first_page(visit.client)
    if place is None:
        return visit.fault(403, "auth.scope")
    return await board.board(visit) if place.path == ROOT else to(place.path)


async def _login(request: web.Request) -> web.StreamResponse:
    if visitor(request) is not None:
        return to(ROOT)
    return _bare(request, 200, "", request.query.get("next", ""))


async def _log_in(request: web.Request) -> web.StreamResponse:
    sessions, app = request.app[SESSIONS], request.app[CONSOLE_APP]
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    address = behind_proxies(request.remote or "", forwarded, app.config)
    try:
        body = await http_body.whole(request, app.config.settings.limits)
        fields = dict(http_body.parameters(body.decode("utf-8", "replace")))
    except Fault as fault:
        return _bare(request, fault.status, fault.problem.code)
    try:
        name = await asyncio.to_thread(sessions.begin, fields.get("key", ""), app.config, address)
    except Throttled as throttled:
        refused = _bare(request, 429, "console.throttled")
        refused.headers["Retry-After"] = str(throttled.seconds)
        return refused
    except OSError as error:
        _log.error("console: a session cannot be kept", problem=str(error))
        return _bare(request, 503, "console.not_kept")
    if name is None:
        _log.warning("console: no client has the key that was given", address=address)
        return _bare(request, 401, "auth.unknown")
    answer = to(_local(fields.get("next", "")))
    _set_cookie(request, answer, COOKIE, name, LONGEST // 1000)
    return answer


async def _log_out(visit: Visit) -> web.StreamResponse:
    await visit.form()
    await asyncio.to_thread(visit.request.app[SESSIONS].end, visit.name)
    answer = to(f"{ROOT}/login")
    answer.headers["Clear-Site-Data"] = '"cache"'
    answer.del_cookie(COOKIE, path=ROOT)
    return answer


async def _preferences(request: web.Request) -> web.StreamResponse:
    """Language and theme, which are nobody's secret: without a token, so that they can be set before the login."""
    limits = request.app[CONSOLE_APP].config.settings.limits
    try:
        fields = dict(
            http_body.parameters((await http_body.whole(request, limits)).decode("ascii", "replace"))
        )
    except Fault as fault:
        return _bare(request, fault.status, fault.problem.code)
    answer = to(f"{ROOT}/login" if visitor(request) is None else _local(fields.get("next", "")))
    for name, field, allowed in ((LANGUAGE, "language", LANGUAGES), (THEME, "theme", THEMES)):
        if fields.get(field) in allowed:
            _set_cookie(request, answer, name, fields[field], _YEAR)
    return answer


def _set_cookie(request: web.Request, answer: web.Response, name: str, value: str, seconds: int) -> None:
    secure = is_secure(request)
    answer.set_cookie(
        name, value, max_age=seconds, path=ROOT, httponly=True, secure=secure, samesite="Strict"
    )


async def _nothing(visit: Visit) -> web.StreamResponse:
    return visit.fault(404, "console.unknown")


async def _asset(request: web.Request) -> web.StreamResponse:
    asset = page.assets().get(request.match_info["name"])
    if asset is None:
        return response(Fault(404, "path.unknown", "No such file of the console."))
    headers = {"Cache-Control": "no-cache", "ETag": asset.tag, "X-Content-Type-Options": "nosniff"}
    if request.headers.get("If-None-Match") == asset.tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.body, headers={**headers, "Content-Type": f"{asset.media}; charset=utf-8"})
