"""Authentication of clients by bearer key, local socket or source address, and authorisation by scope.

Source addresses are for clients that cannot send a header.
"""

import hashlib
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Handler

from dialgate.app import App
from dialgate.config.clients import Client, Scope
from dialgate.core.responses import when
from dialgate.interfaces.http.errors import Fault, response
from dialgate.interfaces.http.local_socket import local_client
from dialgate.interfaces.http.web_pages import refuse_web_pages
from dialgate.interfaces.source_access import client_at
from dialgate.people.client_keys import KeyIndex

_IN_URL: Final = frozenset({"key", "token", "api_key", "apikey", "access_token"})
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="dialgate"'}
_IN_A_BROWSER: Final = (
    " In a browser, open /docs on the operations listener, which needs no key. The console is at /console."
)
_SECOND_KEY: Final = Fault(
    400,
    "request.invalid",
    "The request has several `Authorization` headers. Send one.",
    field="Authorization",
)
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


def admit(request: web.Request, app: App, *scopes: Scope) -> Client:
    """Authenticate the sender of a request and return the client. One of the scopes is enough; without any, each client is.

    Raises `Fault`: 400 for a key in the URL, 401 for an unknown client, 403 for a client without a scope, or without a key
    if a web page may have sent the request.
    """
    if "?" in request.raw_path:
        _refuse_key_in_url(request)
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        client = _by_key(authorization, app.client_keys.index)
    else:
        client = local_client(request.transport, app.config) or _by_address(request, app)
    return _require_scope(client, *scopes)


@web.middleware
async def refuse_second_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request with several `Authorization` headers, on every path. A proxy might have checked another one."""
    if len(request.headers.getall("Authorization", ())) > 1:
        return response(_SECOND_KEY)
    return await handler(request)


def admit_key(authorization: str, index: KeyIndex, scope: Scope) -> Client:
    """Return the client with the key in an Authorization header. Raises `Fault` like `admit`."""
    return _require_scope(_by_key(authorization, index), scope)


def _require_scope(client: Client, *scopes: Scope) -> Client:
    if scopes and not any(scope in client.scopes for scope in scopes):
        needed = " or ".join(f"`{scope}`" for scope in scopes if scope != "audit")
        raise Fault(
            403,
            "auth.scope",
            f"The client {client.name} lacks the scope {needed}. Add it to its `scopes` in dialgate.yaml.",
        )
    return client


def _by_key(authorization: str, index: KeyIndex) -> Client:
    scheme, _, key = authorization.partition(" ")
    digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
    client = index.clients.get(digest) if scheme.lower() == "bearer" else None
    if client is None:
        raise _refused(index, digest)
    index.used.add(digest)
    return client


def _refused(index: KeyIndex, digest: str) -> Fault:
    code = "auth.unknown"
    text = "No client has this key. Send `Authorization: Bearer KEY`; `dialgate key` creates a new key."
    if refused := index.refused.get(digest):
        name, key = refused
        code, ended = "auth.key_expired", f"expired at {when(key.expires_at)}"
        if key.disabled_at:
            code, ended = "auth.key_disabled", f"was disabled at {when(key.disabled_at)}"
        text = f"This key of the client {name} {ended}. Make another: `dialgate key make {name}`."
    return Fault(401, code, text, headers=_CHALLENGE)


def _by_address(request: web.Request, app: App) -> Client:
    client = None
    # Behind a proxy all requests have the proxy's address, so it identifies no client.
    if request.remote and not any(name in request.headers for name in _FORWARDED):
        client = client_at(request.remote, app.config)
    if client is None:
        advice = _IN_A_BROWSER if request.path == "/docs" else ""
        raise Fault(
            401,
            "auth.missing",
            f"The request has no key. Send `Authorization: Bearer KEY`.{advice}",
            headers=_CHALLENGE,
        )
    refuse_web_pages(request, app.config.settings.hosts)
    return client


def _refuse_key_in_url(request: web.Request) -> None:
    query = request.raw_path.partition("?")[2]
    if any(name.lower() in _IN_URL for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise Fault(
            400,
            "auth.in_url",
            "The URL contains a key, and URLs are logged. Replace the key, and send `Authorization: Bearer KEY`.",
        )
