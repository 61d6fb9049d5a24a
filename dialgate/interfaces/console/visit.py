"""A request to the console: its session, its client and the client's permissions, and the page to return."""

import hmac
from collections.abc import Awaitable, Callable, Container, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from aiohttp import web
from msgspec import Struct

from dialgate import __version__, texts
from dialgate.app import App
from dialgate.config.clients import Client, Scope
from dialgate.config.listeners import Limits
from dialgate.interfaces.console import rendering, words
from dialgate.interfaces.console.live import Live
from dialgate.interfaces.console.navigation import NAVIGATION, ROOT, NavigationPage
from dialgate.interfaces.console.sessions import Sessions
from dialgate.interfaces.console.words import Words
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.concurrency_limits import Caps
from dialgate.interfaces.http.errors import FAILURES, Fault, fault_of
from dialgate.people import account_sessions
from dialgate.people.roles import ROLES
from dialgate.texts import LANGUAGES

COOKIE: Final = "dialgate-console"
LANGUAGE: Final = "dialgate-language"
THEME: Final = "dialgate-theme"
THEMES: Final = ("auto", "light", "dark")
TOKEN: Final = "token"  # noqa: S105 - the name of the field
SESSIONS: Final = web.AppKey("sessions", Sessions)
LIVE: Final = web.AppKey("live", Live)
BOARDS: Final = web.AppKey("boards", Caps)  # counted by the controllers shown
CONSOLE_APP: Final = web.AppKey("console_gate", App)
_AUDITED: Final[frozenset[Scope]] = frozenset({"lists", "read", "subjects", "officer", "watch", "admin"})
HEADERS: Final = {
    "Content-Security-Policy": rendering.POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # without any, the Origin of a form would be null
    "X-Content-Type-Options": "nosniff",
}


class Visit(Struct, frozen=True):
    """A request with a valid session. `name` is the session name. Every form must send `token`."""

    request: web.Request
    app: App
    client: Client
    name: str
    token: str

    @property
    def words(self) -> Words:
        return words_for(self.request)

    def may(self, *needs: Scope) -> bool:
        """Return whether the client has one of these scopes. `admin` concerns the whole gate: it needs every controller, too."""
        return not needs or any(scope in self._scopes for scope in needs)

    def may_read(self, *needs: Scope) -> bool:
        """Return whether the client may see a page that needs one of these scopes, without changing anything."""
        return self.may(*needs) or (self.may("audit") and bool(_AUDITED.intersection(needs) - self._lacking))

    @property
    def has_every_controller(self) -> bool:
        return self.app.config.has_every_controller(self.client)

    @property
    def _lacking(self) -> frozenset[Scope]:
        return frozenset() if self.has_every_controller else frozenset({"admin"})

    @property
    def _scopes(self) -> frozenset[Scope]:
        return frozenset(self.client.scopes) - self._lacking

    @property
    def role(self) -> str:
        """Return the role whose scopes the client has, or the nearest one."""
        roles = {frozenset(scopes): role for role, scopes in ROLES.items()}
        if role := roles.get(frozenset(self.client.scopes)):
            return role
        if self.may("subjects"):
            return "officer"
        return "supervisor" if self.may("watch") else "agent"

    @property
    def person(self) -> str:
        """Return the name of the account that signed in, or "" for a key."""
        return account_sessions.account_of(self.name)

    @property
    def records_agents(self) -> bool:
        """Whether decisions of any of the client's controllers record who talked."""
        owners = self.app.config.controllers
        return any(owners[name].record_agents for name in self.client.controllers if name in owners)

    def pages(self) -> dict[str, list[NavigationPage]]:
        """Return the pages of the menu that the visitor may read, by group."""
        every = self.has_every_controller
        groups = {
            group: [
                page
                for page in pages
                if self.may_read(page.need, *page.also) and (every or not page.whole_gate)
            ]
            for group, pages in NAVIGATION.items()
        }
        return {group: pages for group, pages in groups.items() if pages}

    def campaigns(self) -> list[str]:
        lines = self.app.config.lines
        return sorted(name for name, line in lines.items() if line.controller.id in self.client.controllers)

    def zone(self) -> str:
        """Return the time zone for the pages, from the country of the client's first controller. The default is UTC."""
        config = self.app.config
        for name in self.client.controllers:
            if owner := config.controllers.get(name):
                return config.laws[owner.country].zone
        return "UTC"

    async def form(self) -> dict[str, str]:
        """Check the token and return the posted fields, without surrounding whitespace. Raises `Fault`."""
        fields = await posted_fields(self.request, self.app.config.settings.limits)
        self.check(fields.pop(TOKEN, ""))
        return {name: value.strip() for name, value in fields.items()}

    def check(self, token: str) -> None:
        """Raise `Fault` if the token does not belong to the session."""
        if not hmac.compare_digest(self.token.encode(), token.encode("utf-8", "surrogateescape")):
            raise Fault(403, "console.forged", "The form belongs to another session. Open the page again.")

    @property
    def item(self) -> str:
        """The id in the path, of what the page is about."""
        return self.request.match_info["id"]

    def done(self, steps: Container[str]) -> str:
        """Return which of the steps was just done, as the address says, or ""."""
        step = self.request.query.get("done", "")
        return step if step in steps else ""

    def show(
        self, name: str, /, *, here: str | None = None, status: int = 200, **context: Any
    ) -> web.Response:
        """Return the page `name`. `here` is the page's entry in the navigation, if it has another name."""
        return page_response(
            self.request,
            name,
            {
                "visit": self,
                "here": name if here is None else here,
                "places": self.pages(),
                "token": self.token,
                "zone": self.zone(),
                "node": self.app.config.settings.node,
                "version": __version__,
                "error": "",
                **context,
            },
            status,
        )

    def fault(self, status: int, error: str) -> web.Response:
        return self.show("fault", here="", status=status, code=error, number=status)


async def find_session(request: web.Request, name: str) -> tuple[Client, str] | None:
    """Return the client of a session and the token of its forms, or None if it has ended. Raises `StoreUnavailable`.

    Keys open no session once a person has signed in.
    """
    app = request.app[CONSOLE_APP]
    if account_sessions.account_of(name):
        client = await app.people.find(name)
        return (client, account_sessions.form_token(name)) if client else None
    session_and_client = request.app[SESSIONS].find(name, app.client_keys.index.clients)
    if session_and_client is None or await app.people.has_person():
        return None
    session, client = session_and_client
    return client, session.token


async def posted_fields(request: web.Request, limits: Limits) -> dict[str, str]:
    """Return the fields of a form. If a field is repeated, the last one wins. Raises `Fault`."""
    body = await http_body.small(request, limits)
    return dict(http_body.parameters(body.decode("utf-8", "replace")))


Serve: TypeAlias = Callable[[Visit], Awaitable[web.StreamResponse]]
Fields: TypeAlias = Mapping[str, str]
EMPTY: Final[Fields] = MappingProxyType({})


def serves_form(
    page: Callable[..., Awaitable[web.Response]],
) -> Callable[[Callable[[Visit, Fields], Awaitable[web.StreamResponse]]], Serve]:
    """Return a decorator for the handler of a form, which receives the form's fields.

    If the handler raises one of `FAILURES`, `page` shows its code and marks the field: it takes the visit, the fields, `status`,
    `error` and `field`.
    """

    def decorate(act: Callable[[Visit, Fields], Awaitable[web.StreamResponse]]) -> Serve:
        async def serve(visit: Visit) -> web.StreamResponse:
            fields = await visit.form()
            try:
                return await act(visit, fields)
            except FAILURES as error:
                return await page(visit, fields, **shown(error), field=fault_of(error).problem.field)

        return serve

    return decorate


def shown(error: Exception) -> dict[str, Any]:
    """Return the status and the code of one of `FAILURES`, as pages take them."""
    fault = fault_of(error)
    return {"status": fault.status, "error": fault.problem.code}


def page_response(
    request: web.Request, name: str, context: dict[str, Any], status: int = 200
) -> web.Response:
    context = {
        "theme": theme(request),
        "languages": LANGUAGES,
        "themes": THEMES,
        "field": "",
        "path": request.path_qs if request.method == "GET" else request.path,
        **context,
    }
    body = rendering.render(name, words_for(request), context)
    return web.Response(text=body, status=status, content_type="text/html", headers=HEADERS)


def set_cookie(request: web.Request, answer: web.Response, name: str, value: str, seconds: int) -> None:
    secure = is_secure(request)
    answer.set_cookie(
        name, value, max_age=seconds, path=ROOT, httponly=True, secure=secure, samesite="Strict"
    )


def redirect(path: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, "Location": path})


def words_for(request: web.Request) -> Words:
    chosen = next((language for language in LANGUAGES if language == request.cookies.get(LANGUAGE)), None)
    return words.words_in(chosen or texts.preferred(request.headers.get("Accept-Language", "")))


def theme(request: web.Request) -> str:
    chosen = request.cookies.get(THEME, "")
    return chosen if chosen in THEMES else "auto"


def is_secure(request: web.Request) -> bool:
    """Return whether the browser uses TLS to the gate or to a proxy.

    X-Forwarded-Proto is accepted from any client, because a client that forges it harms only itself.
    """
    return request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"
