"""Sign-in of people, and of keys until the first person has signed in; invitations."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import segno
import structlog
from aiohttp import web
from markupsafe import Markup

from dialgate.core.refusal import Refused
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.sessions import LONGEST, Throttled
from dialgate.interfaces.console.visit import (
    CONSOLE_APP,
    COOKIE,
    SESSIONS,
    is_secure,
    page_response,
    posted_fields,
    redirect,
    set_cookie,
    shown,
)
from dialgate.interfaces.http.errors import FAILURES, Fault, fault_of
from dialgate.interfaces.source_access import behind_proxies
from dialgate.people import account_sessions, credentials
from dialgate.people.account_directory import SignedIn
from dialgate.people.account_sessions import BrowserInfo
from dialgate.people.sign_in_limits import TooManySignIns
from dialgate.runtime.extras import require

if TYPE_CHECKING:
    from dialgate.people.openid_sign_in import OpenIdSignIn

_OPENID: Final = f"{ROOT}/openid"
_FLOW: Final = "dialgate-openid"
_FLOW_SECONDS: Final = 600
_DEVICE: Final = "dialgate-device"
YEAR: Final = 365 * 86_400
_HOUR: Final = 3_600
_OUTSIDE: Final[Mapping[str, Any]] = {"places": {}, "visit": None}
_log = structlog.get_logger(__name__)


async def login_page(
    request: web.Request, *, status: int = 200, error: str = "", next_path: str = ""
) -> web.Response:
    try:
        by_key = not await request.app[CONSOLE_APP].people.has_person()
    except FAILURES as failure:
        by_key, error = False, error or fault_of(failure).problem.code
    openid = request.app[CONSOLE_APP].config.settings.accounts.openid
    context = {"next": next_path, "error": error, "by_key": by_key, "openid": openid, **_OUTSIDE}
    return page_response(request, "login", context, status)


async def log_in(request: web.Request, fields: Mapping[str, str], next_path: str) -> web.StreamResponse:
    """Begin a session for a person or, as long as no person has signed in, for a key."""
    try:
        if "key" in fields:
            name = await _begin_for_key(request, fields["key"])
            return _set_session(request, redirect(next_path), name, LONGEST // 1000)
        signed_in = await request.app[CONSOLE_APP].people.sign_in(
            fields.get("name", "").strip().lower(),
            fields.get("password", "").strip(),
            fields.get("code", ""),
            _browser(request),
        )
    except FAILURES as error:
        refused = await login_page(request, **shown(error), next_path=next_path)
        refused.headers.update({"Retry-After": str(error.after)} if isinstance(error, TooManySignIns) else {})
        return refused
    return _set_cookies(request, redirect(next_path), signed_in)


async def _begin_for_key(request: web.Request, key: str) -> str:
    """Begin a session for a key and return its name. Raises `Fault` and `StoreUnavailable`."""
    sessions, app = request.app[SESSIONS], request.app[CONSOLE_APP]
    if await app.people.has_person():
        raise Fault(403, "console.people_only", "Keys are for programs. Sign in with your account.")
    address = _address(request)
    try:
        name = await asyncio.to_thread(sessions.begin, key, app.client_keys.index.clients, address)
    except Throttled as throttled:
        raise TooManySignIns(throttled.seconds) from None
    except OSError as error:
        _log.error("console: cannot store the session; check the disk of the data folder", problem=str(error))
        raise Fault(503, "console.not_kept", "The session cannot be stored.") from None
    if name is None:
        _log.warning("console: the API key belongs to no client", address=address)
        raise Fault(401, "auth.unknown", "No client has this key.")
    return name


async def end_session(request: web.Request, name: str) -> None:
    if account_sessions.account_of(name):
        await request.app[CONSOLE_APP].people.sign_out(name)
    else:
        await asyncio.to_thread(request.app[SESSIONS].end, name)


def _address(request: web.Request) -> str:
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return behind_proxies(request.remote or "", forwarded, request.app[CONSOLE_APP].config)


def _browser(request: web.Request) -> BrowserInfo:
    return BrowserInfo(
        address=_address(request),
        agent=request.headers.get("User-Agent", ""),
        device=request.cookies.get(_DEVICE, ""),
    )


def _set_cookies(request: web.Request, answer: web.Response, signed_in: SignedIn) -> web.Response:
    set_cookie(request, answer, _DEVICE, signed_in.device, YEAR)
    hours = request.app[CONSOLE_APP].config.settings.accounts.session_hours
    return _set_session(request, answer, signed_in.session, hours * _HOUR)


def _set_session(request: web.Request, answer: web.Response, name: str, seconds: int) -> web.Response:
    set_cookie(request, answer, COOKIE, name, seconds)
    return answer


# ---- sign-in at an OpenID provider ---------------------------------------------------------------------------------


def _openid(request: web.Request) -> "OpenIdSignIn":
    """Return the sign-in at the configured provider. Raises `Fault` without one, and `MissingExtra`."""
    app = request.app[CONSOLE_APP]
    settings = app.config.settings.accounts
    if settings.openid is None or settings.url is None:
        raise Fault(404, "console.unknown", "No OpenID provider is configured.")
    require("oidc", "Sign-in at an OpenID provider")
    from dialgate.people.openid_sign_in import OpenIdSignIn  # noqa: PLC0415 - in an extra

    callback = f"{settings.url.rstrip('/')}{_OPENID}/callback"
    return OpenIdSignIn(settings.openid, app.config.folder, callback, app.registrar.access.keys, app.gate.now)


async def begin_openid(request: web.Request) -> web.StreamResponse:
    """Send the browser to the provider. It comes back from another site, so the cookie of the flow is Lax."""
    try:
        url, flow = await _openid(request).begin(request.query.get("next", ""))
    except FAILURES as error:
        return await login_page(request, **shown(error))
    answer = redirect(url)
    answer.set_cookie(
        _FLOW, flow, max_age=_FLOW_SECONDS, path=_OPENID, httponly=True, secure=is_secure(request), samesite="Lax"
    )  # fmt: skip
    return answer


async def end_openid(request: web.Request, local: Callable[[str], str]) -> web.StreamResponse:
    """Begin a session for the person with whom the browser comes back from the provider.

    The answer is a page that goes on by itself. After a redirection, the browser would hold the next request for one of the other
    site, and would not send the session's cookie, which is Strict. `local` returns the page of the console to show.
    """
    try:
        person, after = await _openid(request).end(request.query, request.cookies.get(_FLOW, ""))
        signed_in = await request.app[CONSOLE_APP].people.sign_in_elsewhere(person, _browser(request))
    except FAILURES as error:
        return await login_page(request, **shown(error))
    page = page_response(request, "welcome", {"name": person.name, "after": local(after), **_OUTSIDE})
    page.del_cookie(_FLOW, path=_OPENID)
    return _set_cookies(request, page, signed_in)


# ---- invitations -----------------------------------------------------------------------------------------------------


async def show_invitation(request: web.Request) -> web.Response:
    app, name = request.app[CONSOLE_APP], request.match_info["name"]
    try:
        if not await app.people.is_invited(name, request.match_info["code"]):
            return await login_page(request, status=410, error="console.not_invited")
    except FAILURES as error:
        return await login_page(request, **shown(error))
    return _invitation_page(request, credentials.make_totp_secret())


def _invitation_page(request: web.Request, secret: str, status: int = 200, error: str = "") -> web.Response:
    name = request.match_info["name"]
    uri = credentials.totp_uri(secret, name, request.app[CONSOLE_APP].config.settings.node)
    # Ours, because an SVG within the page needs no permission in the content security policy.
    picture = Markup(segno.make(uri, micro=False).svg_inline(scale=4, light="white"))  # noqa: S704
    context = {"name": name, "secret": secret, "picture": picture, "error": error, **_OUTSIDE}
    return page_response(request, "invitation", {**context, "shortest": credentials.SHORTEST}, status)


async def accept_invitation(request: web.Request) -> web.Response:
    """Set the password and the authenticator, sign the person in, and show the recovery codes once."""
    app, name = request.app[CONSOLE_APP], request.match_info["name"]
    secret = ""
    try:
        fields = await posted_fields(request, app.config.settings.limits)
        secret, password = fields.get("secret", ""), fields.get("password", "").strip()
        if password != fields.get("again", "").strip():
            raise Refused("console.passwords_differ", "The two passwords differ.", "again")
        signed_in = await app.people.accept(
            name, request.match_info["code"], password, (secret, fields.get("code", "")), _browser(request)
        )
    except FAILURES as error:
        if fault_of(error).problem.field:
            return _invitation_page(request, secret, **shown(error))
        return await login_page(request, **shown(error))
    page = page_response(request, "recovery", {"codes": signed_in.recovery, **_OUTSIDE})
    return _set_cookies(request, page, signed_in)
