"""One request to the console: who asks, what they may see, and how a page goes back to them."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias, get_args
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import Struct

from dialgate import __version__, texts
from dialgate.app import App
from dialgate.config.clients import Client, Scope
from dialgate.interfaces.console import page, words
from dialgate.interfaces.console.live import Live
from dialgate.interfaces.console.sessions import Session, Sessions
from dialgate.interfaces.console.words import LANGUAGES, Language, Words
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.concurrency_limits import Caps, Turns
from dialgate.interfaces.http.errors import Fault

ROOT: Final = "/console"
COOKIE: Final = "dialgate-console"
LANGUAGE: Final = "dialgate-language"
THEME: Final = "dialgate-theme"
THEMES: Final = ("auto", "light", "dark")
TOKEN: Final = "token"  # noqa: S105 - the name of the field
SESSIONS: Final = web.AppKey("sessions", Sessions)
LIVE: Final = web.AppKey("live", Live)
PREVIEWING: Final = web.AppKey("previewing", Turns)
BOARDS: Final = web.AppKey("boards", Caps)  # by the controllers that they show
CONSOLE_APP: Final = web.AppKey("console_gate", App)
_HEADERS: Final = {
    "Content-Security-Policy": page.POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with none at all a form's Origin would be null
    "X-Content-Type-Options": "nosniff",
}


class NavigationPage(NamedTuple):
    """A page in the navigation, and the scopes of which one opens it."""

    name: str
    path: str
    needs: tuple[Scope, ...]


NAVIGATION: Final = (
    NavigationPage("board", ROOT, ("watch",)),
    NavigationPage("try", f"{ROOT}/try", ("simulate",)),
    NavigationPage("revoke", f"{ROOT}/revoke", ("revoke",)),
    NavigationPage("lists", f"{ROOT}/lists", ("lists",)),
    NavigationPage("callers", f"{ROOT}/caller-ids", ("watch",)),
    NavigationPage("reports", f"{ROOT}/reports", ("watch",)),
    NavigationPage("lookup", f"{ROOT}/lookup", ("read",)),
    NavigationPage("requests", f"{ROOT}/requests", ("subjects",)),
)


class Visit(Struct, frozen=True):
    """By somebody who is logged in. `name` is the session's."""

    request: web.Request
    app: App
    session: Session
    client: Client
    name: str

    @property
    def words(self) -> Words:
        return speaks(self.request)

    def may(self, *needs: Scope) -> bool:
        return not needs or any(scope in self.client.scopes for scope in needs)

    @property
    def role(self) -> str:
        if self.may("subjects"):
            return "officer"
        return "supervisor" if self.may("watch") else "agent"

    def campaigns(self) -> list[str]:
        lines = self.app.config.lines
        return sorted(name for name, line in lines.items() if line.controller.id in self.client.controllers)

    def zone(self) -> str:
        """In which times are shown: where the law of the client's first controller is made."""
        config = self.app.config
        for name in self.client.controllers:
            if owner := config.controllers.get(name):
                return config.laws[owner.country].zone
        return "UTC"

    async def form(self) -> dict[str, str]:
        """What was posted, its token checked. Of a field that came twice the last."""
        body = await http_body.whole(self.request, self.app.config.settings.limits)
        fields = dict(http_body.parameters(body.decode("utf-8", "replace")))
        self.check(fields.pop(TOKEN, ""))
        return {name: value.strip() for name, value in fields.items()}

    def check(self, token: str) -> None:
        """Raises `Fault`."""
        if not self.session.is_good(token):
            raise Fault(403, "console.forged", "This form is of another session; open the page again.")

    def show(self, name: str, here: str, /, status: int = 200, **context: Any) -> web.Response:
        """`here`: the place in the navigation."""
        return shown(
            self.request,
            name,
            {
                "visit": self,
                "here": here,
                "places": [entry for entry in NAVIGATION if self.may(*entry.needs)],
                "token": self.session.token,
                "zone": self.zone(),
                "node": self.app.config.settings.node,
                "version": __version__,
                "error": "",
                **context,
            },
            status,
        )

    def fault(self, status: int, code: str) -> web.Response:
        return self.show("fault", "", status, code=code, number=status)


Serve: TypeAlias = Callable[[Visit], Awaitable[web.StreamResponse]]


def shown(request: web.Request, name: str, context: dict[str, Any], status: int = 200) -> web.Response:
    context = {
        "theme": theme(request),
        "languages": LANGUAGES,
        "themes": THEMES,
        "path": request.path,
        **context,
    }
    body = page.render(name, speaks(request), context)
    return web.Response(text=body, status=status, content_type="text/html", headers=_HEADERS)


def to(path: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**_HEADERS, "Location": path})


def speaks(request: web.Request) -> Words:
    asked = request.cookies.get(LANGUAGE, "")
    if asked in get_args(Language):
        return words.of("it" if asked == "it" else "en")
    return words.of(texts.preferred(request.headers.get("Accept-Language", "")))


def theme(request: web.Request) -> str:
    asked = request.cookies.get(THEME, "")
    return asked if asked in THEMES else "auto"


def is_secure(request: web.Request) -> bool:
    """Also where a proxy in front speaks TLS: who lies about that harms themselves alone."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"


def is_foreign(request: web.Request) -> bool:
    """Whether a page from elsewhere sends this: by Fetch Metadata, or by `Origin` of a browser that lacks it."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return site not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    with suppress(ValueError):
        return origin is not None and urlsplit(origin).netloc != request.headers.get("Host", "")
    return True


def first_page(client: Client) -> NavigationPage | None:
    return next((entry for entry in NAVIGATION if set(entry.needs) & set(client.scopes)), None)
