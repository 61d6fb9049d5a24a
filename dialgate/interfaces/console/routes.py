"""The routes of the console under `/console`. See docs/reference/console.md; `/openapi.json` does not include them."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import chain
from typing import Final, NamedTuple
from urllib.parse import urlencode

import structlog
from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Scope
from dialgate.interfaces.console import (
    accounts,
    board,
    breaches,
    calls,
    campaigns,
    cases,
    changes,
    decisions,
    evidence,
    history,
    holds,
    keys,
    law,
    lists,
    lookups,
    numbers,
    processing,
    registries,
    rendering,
    reports,
    requests,
    retention,
    shadow,
    sign_in,
)
from dialgate.interfaces.console.list_counts import LIST_COUNTS, ListCounts, run_counts
from dialgate.interfaces.console.live import Live
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.sessions import Sessions
from dialgate.interfaces.console.visit import (
    BOARDS,
    CONSOLE_APP,
    COOKIE,
    LANGUAGE,
    LIVE,
    SESSIONS,
    THEME,
    THEMES,
    Serve,
    Visit,
    find_session,
    posted_fields,
    redirect,
    set_cookie,
    shown,
)
from dialgate.interfaces.http.concurrency_limits import Caps
from dialgate.interfaces.http.connection import connection_of
from dialgate.interfaces.http.errors import FAILURES, Fault, response
from dialgate.interfaces.http.web_pages import is_foreign
from dialgate.texts import LANGUAGES

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOG_OUT: Final = f"{ROOT}/logout"
_QUERY: Final = re.compile(r"[!-~]{0,2048}")  # of a page's address: nothing that could end a header
_log = structlog.get_logger(__name__)


class _Route(NamedTuple):
    """A route. A client needs at least one of the scopes in `needs`. If it `reads`, `audit` can be enough.

    With `whole_gate`, it concerns all controllers, and the client needs every one.
    """

    method: str
    path: str
    needs: tuple[Scope, ...]
    serve: Serve
    is_form_read: bool = False
    whole_gate: bool = False

    @property
    def reads(self) -> bool:
        return self.method == "GET" or self.is_form_read


_ROUTES: Final = (
    _Route("GET", f"{ROOT}/board", ("watch",), board.board),
    _Route("GET", f"{ROOT}/events", ("watch",), board.events),
    _Route("GET", f"{ROOT}/history", ("watch",), history.show_history),
    _Route("GET", f"{ROOT}/decisions", ("watch", "read"), decisions.show_decisions),
    _Route("GET", f"{ROOT}/campaigns", ("watch",), campaigns.show_campaigns),
    _Route("GET", f"{ROOT}/campaigns/{{id}}", ("watch",), campaigns.show_campaign),
    _Route("POST", f"{ROOT}/campaigns/{{id}}/pause", ("lists",), campaigns.pause),
    _Route("POST", f"{ROOT}/campaigns/{{id}}/resume", ("lists",), campaigns.resume),
    _Route("POST", f"{ROOT}/campaigns/{{id}}/lift", ("subjects",), campaigns.lift),
    _Route("GET", f"{ROOT}/caller-ids", ("watch",), board.caller_ids),
    _Route("GET", f"{ROOT}/registries", ("watch",), registries.show_registries),
    _Route("POST", f"{ROOT}/registries/{{id}}/release", ("admin", "officer"), registries.release),
    _Route("GET", f"{ROOT}/law", ("watch",), law.show),
    _Route("POST", f"{ROOT}/law", ("subjects",), law.acknowledge),
    _Route("GET", f"{ROOT}/changes", ("admin",), changes.show_form),
    _Route("POST", f"{ROOT}/changes", ("admin",), changes.compare, is_form_read=True),
    _Route("GET", f"{ROOT}/reports", ("watch",), reports.show_form),
    _Route("GET", f"{ROOT}/reports/view", ("watch",), reports.show_report),
    _Route("GET", f"{ROOT}/shadow", ("watch",), shadow.show_form),
    _Route("POST", f"{ROOT}/shadow", ("watch",), shadow.show_report),
    _Route("GET", f"{ROOT}/try", ("simulate",), calls.show_simulation_form),
    _Route("POST", f"{ROOT}/try", ("simulate",), calls.simulate),
    _Route("GET", f"{ROOT}/revoke", ("revoke",), calls.show_opt_out_form),
    _Route("POST", f"{ROOT}/revoke", ("revoke",), calls.record_opt_out),
    _Route("GET", f"{ROOT}/lists", ("lists",), lists.show_lists),
    _Route("POST", f"{ROOT}/lists", ("lists",), lists.load),
    _Route("GET", f"{ROOT}/lists/{{id}}/preview", ("lists",), lists.show_preview),
    _Route("POST", f"{ROOT}/lists/{{id}}/preview", ("lists",), lists.preview),
    _Route("POST", f"{ROOT}/lists/{{id}}/retire", ("lists",), lists.retire),
    _Route("GET", f"{ROOT}/lookup", ("read",), numbers.show_form),
    _Route("POST", f"{ROOT}/lookup", ("read",), numbers.look_up),
    _Route("POST", f"{ROOT}/lookup/proof", ("subjects",), numbers.download_proof, is_form_read=True),
    _Route("GET", f"{ROOT}/decisions/{{id}}", ("watch", "read"), numbers.show_decision),
    _Route("POST", f"{ROOT}/decisions/{{id}}/evidence", ("officer",), numbers.download_evidence),
    _Route("GET", f"{ROOT}/requests", ("subjects",), requests.show_requests),
    _Route("POST", f"{ROOT}/requests", ("subjects",), requests.record),
    _Route("GET", f"{ROOT}/requests.csv", ("subjects",), cases.export_register),
    _Route("GET", f"{ROOT}/requests/{{id}}", ("subjects",), cases.show_case),
    _Route("POST", f"{ROOT}/requests/{{id}}", ("subjects",), cases.record_step),
    _Route("POST", f"{ROOT}/requests/{{id}}/look-up", ("subjects",), cases.look_up),
    _Route("POST", f"{ROOT}/requests/{{id}}/execution", ("subjects",), cases.execute),
    _Route("POST", f"{ROOT}/requests/{{id}}/letter", ("subjects",), cases.write_letter),
    _Route("POST", f"{ROOT}/requests/{{id}}/portability", ("subjects",), cases.export_portable),
    _Route("POST", f"{ROOT}/requests/{{id}}/attachments", ("subjects",), cases.attach),
    _Route("GET", f"{ROOT}/requests/{{id}}/attachments/{{sha256}}", ("subjects",), cases.download_attachment),
    _Route("GET", f"{ROOT}/look-ups", ("subjects",), lookups.show_lookups),
    _Route("GET", f"{ROOT}/evidence", ("officer",), evidence.show_evidence, whole_gate=True),
    _Route("POST", f"{ROOT}/evidence", ("officer",), evidence.download, whole_gate=True),
    _Route("POST", f"{ROOT}/evidence/verification", ("officer",), evidence.verify, whole_gate=True),
    _Route("GET", f"{ROOT}/holds", ("officer",), holds.show_holds, whole_gate=True),
    _Route("POST", f"{ROOT}/holds", ("officer",), holds.place, whole_gate=True),
    _Route("POST", f"{ROOT}/holds/{{id}}/lift", ("officer",), holds.lift, whole_gate=True),
    _Route("GET", f"{ROOT}/retention", ("officer",), retention.show_retention, whole_gate=True),
    _Route("POST", f"{ROOT}/retention/months", ("officer",), retention.destroy_keys, whole_gate=True),
    _Route("GET", f"{ROOT}/records-of-processing", ("subjects", "admin"), processing.show_records),
    _Route("GET", f"{ROOT}/records-of-processing/{{id}}", ("subjects", "admin"), processing.print_record),
    _Route("GET", f"{ROOT}/breaches", ("subjects",), breaches.show_breaches),
    _Route("POST", f"{ROOT}/breaches", ("subjects",), breaches.open_breach),
    _Route("GET", f"{ROOT}/breaches.csv", ("subjects",), breaches.export_register),
    _Route("GET", f"{ROOT}/breaches/{{id}}", ("subjects",), breaches.show_breach),
    _Route("POST", f"{ROOT}/breaches/{{id}}", ("subjects",), breaches.record_step),
    _Route("POST", f"{ROOT}/breaches/{{id}}/exposure", ("subjects",), breaches.compute),
    _Route("GET", f"{ROOT}/breaches/{{id}}/notification", ("subjects",), breaches.show_notification),
    _Route("GET", f"{ROOT}/accounts", ("admin",), accounts.show_accounts),
    _Route("POST", f"{ROOT}/accounts", ("admin",), accounts.add),
    _Route("POST", f"{ROOT}/accounts/{{id}}", ("admin",), accounts.change),
    _Route("GET", f"{ROOT}/keys", ("admin",), keys.show_keys),
    _Route("POST", f"{ROOT}/keys", ("admin",), keys.change),
    _Route("GET", f"{ROOT}/account", (), accounts.show_own),
    _Route("POST", f"{ROOT}/account", (), accounts.change_own),
)

_PAGES: Final = re.compile(
    "|".join(
        re.sub(r"\{\w+\}", "[A-Za-z0-9._%-]{1,128}", route.path) for route in _ROUTES if route.method == "GET"
    )
)


def add(site: web.Application, app: App) -> None:
    site[CONSOLE_APP], site[SESSIONS], site[LIVE] = app, Sessions(app.config.data, app.gate.now), Live(app)
    site[BOARDS], site[LIST_COUNTS] = Caps(), ListCounts(app.gate.now)
    site.cleanup_ctx.extend((_run_sampling, run_counts))
    site.on_shutdown.append(_close_boards)
    router = site.router
    router.add_get(ROOT, _start)
    router.add_get(f"{ROOT}/", _slash)
    router.add_get(f"{ROOT}/login", _login)
    router.add_post(f"{ROOT}/login", _same_site(_log_in))
    router.add_post(_LOG_OUT, _same_site(_guarded((), _log_out)))
    router.add_post(f"{ROOT}/preferences", _same_site(_preferences))
    router.add_get(f"{ROOT}/openid", sign_in.begin_openid)
    router.add_get(f"{ROOT}/openid/callback", partial(sign_in.end_openid, local=_local))
    router.add_get(f"{ROOT}/invitation/{{name}}/{{code}}", sign_in.show_invitation)
    router.add_post(f"{ROOT}/invitation/{{name}}/{{code}}", _same_site(sign_in.accept_invitation))
    router.add_get(f"{ROOT}/assets/{{name}}", _asset)
    for route in _ROUTES:
        serve = _guarded(route.needs, route.serve, reads=route.reads, whole_gate=route.whole_gate)
        router.add_route(route.method, route.path, _same_site(serve) if route.method == "POST" else serve)
    router.add_get(f"{ROOT}/{{rest:.*}}", _guarded((), _not_found))  # last: it matches everything


async def _run_sampling(site: web.Application) -> AsyncIterator[None]:
    sampling = asyncio.create_task(site[LIVE].run())
    sampling.add_done_callback(partial(_close_after, site[LIVE]))
    yield
    sampling.cancel()
    await asyncio.wait([sampling])


def _close_after(live: Live, sampling: asyncio.Task[None]) -> None:
    """Close all boards when the sampling task ends, so that no board shows old data as current."""
    live.close()
    if not sampling.cancelled() and (error := sampling.exception()):
        _log.error("console: the live board has stopped; restart the gate", exc_info=error)


async def _close_boards(site: web.Application) -> None:
    site[LIVE].close()


# ---- access ----------------------------------------------------------------------------------------------------------


async def find_visit(request: web.Request) -> Visit | None:
    """Return the request with its session and client, or None if it has no valid session. Raises `StoreUnavailable`."""
    name = request.cookies.get(COOKIE, "")
    found = await find_session(request, name) if name else None
    if found is None:
        return None
    client, token = found
    connection_of(request).admit(client.name)
    return Visit(request, request.app[CONSOLE_APP], client, name, token)


def _guarded(
    needs: tuple[Scope, ...], serve: Serve, *, reads: bool = False, whole_gate: bool = False
) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            visit = await find_visit(request)
        except FAILURES as error:
            return await sign_in.login_page(request, **shown(error))
        if visit is None:
            return await _sign_in_first(request)
        may = visit.may_read(*needs) if reads else visit.may(*needs)
        # A person's controllers may all have left the configuration.
        if needs and not visit.client.controllers:
            may = False
        if not may or (whole_gate and not visit.has_every_controller):
            return visit.fault(403, "auth.scope")
        try:
            return await serve(visit)
        except FAILURES as error:
            return visit.fault(**shown(error))

    return handle


def _same_site(serve: _Handler) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if is_foreign(request):
            return await sign_in.login_page(request, status=403, error="console.forged")
        return await serve(request)

    return handle


async def _sign_in_first(request: web.Request) -> web.Response:
    """Return the way to the sign-in. If a form was sent, such as a stop, say that nothing was recorded."""
    if request.method == "POST" and request.path != _LOG_OUT:
        return await sign_in.login_page(request, status=403, error="console.ended", next_path=request.path)
    here = request.path_qs if request.method == "GET" and request.path != f"{ROOT}/events" else ""
    return redirect(f"{ROOT}/login?{urlencode({'next': here})}" if here else f"{ROOT}/login")


def _local(address: str) -> str:
    """Return `address`, a path with or without a query, if it is a console page, otherwise the start page."""
    path, _, query = address.partition("?")
    return address if _PAGES.fullmatch(path) and _QUERY.fullmatch(query) else ROOT


# ---- sign-in and sign-out --------------------------------------------------------------------------------------------


async def _slash(_: web.Request) -> web.StreamResponse:
    return redirect(ROOT)


async def _start(request: web.Request) -> web.StreamResponse:
    visit = await find_visit(request)
    if visit is None:
        return redirect(f"{ROOT}/login")
    first = next(chain.from_iterable(visit.pages().values()), None)
    if first is None:
        return visit.fault(403, "auth.scope")
    return await board.board(visit) if first.path == ROOT else redirect(first.path)


async def _login(request: web.Request) -> web.StreamResponse:
    if await find_visit(request) is not None:
        return redirect(ROOT)
    return await sign_in.login_page(request, next_path=request.query.get("next", ""))


async def _log_in(request: web.Request) -> web.StreamResponse:
    try:
        fields = await posted_fields(request, request.app[CONSOLE_APP].config.settings.limits)
    except Fault as fault:
        return await sign_in.login_page(request, **shown(fault))
    return await sign_in.log_in(request, fields, _local(fields.get("next", "")))


async def _log_out(visit: Visit) -> web.StreamResponse:
    await visit.form()
    await sign_in.end_session(visit.request, visit.name)
    redirection = redirect(f"{ROOT}/login")
    redirection.headers["Clear-Site-Data"] = '"cache"'
    redirection.del_cookie(COOKIE, path=ROOT)
    return redirection


async def _preferences(request: web.Request) -> web.StreamResponse:
    """Set the language and the theme. No token is needed, so this also works before signing in."""
    try:
        fields = await posted_fields(request, request.app[CONSOLE_APP].config.settings.limits)
    except Fault as fault:
        return await sign_in.login_page(request, **shown(fault))
    here = fields.get("next", "")
    path, _, query = here.partition("?")
    is_sign_in = path == f"{ROOT}/login" and _QUERY.fullmatch(query)
    redirection = redirect(here if is_sign_in else _local(here))
    for name, field, allowed in ((LANGUAGE, "language", LANGUAGES), (THEME, "theme", THEMES)):
        if fields.get(field) in allowed:
            set_cookie(request, redirection, name, fields[field], sign_in.YEAR)
    return redirection


async def _not_found(visit: Visit) -> web.StreamResponse:
    return visit.fault(404, "console.unknown")


async def _asset(request: web.Request) -> web.StreamResponse:
    asset = rendering.assets().get(request.match_info["name"])
    if asset is None:
        return response(Fault(404, "path.unknown", "The console has no file with this name."))
    headers = {"Cache-Control": "no-cache", "ETag": asset.tag, "X-Content-Type-Options": "nosniff"}
    if request.headers.get("If-None-Match") == asset.tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.body, headers={**headers, "Content-Type": f"{asset.media}; charset=utf-8"})
