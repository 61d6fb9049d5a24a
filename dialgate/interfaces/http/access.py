"""Authentication of clients by bearer key, local socket or source address, and authorisation by scope.

Source addresses are for clients that cannot send a header.
"""

import hashlib
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Handler

from dialgate.config.clients import Client, Scope
from dialgate.config.configuration import Config
from dialgate.interfaces.http.errors import Fault, response
from dialgate.interfaces.http.local_socket import local_client
from dialgate.interfaces.http.web_pages import refuse_web_pages
from dialgate.interfaces.source_access import client_at

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


def admit(request: web.Request, config: Config, *scopes: Scope) -> Client:
    """Authenticate the sender of a request and return the client. One of the scopes is enough; without any, each client is.

    Raises `Fault`: 400 for a key in the URL, 401 for an unknown client, 403 for a client without a scope, or without a key
    if a web page may have sent the request.
    """
    if "?" in request.raw_path:
        _refuse_key_in_url(request)
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        client = _by_key(authorization, config)
    else:
        client = local_client(request.transport, config) or _by_address(request, config)
    return _require_scope(client, *scopes)


@web.middleware
async def refuse_second_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request with several `Authorization` headers, on every path. A proxy might have checked another one."""
    if len(request.headers.getall("Authorization", ())) > 1:
        return response(_SECOND_KEY)
    return await handler(request)


def admit_key(authorization: str, config: Config, scope: Scope) -> Client:
    """Return the client with the key in an Authorization header. Raises `Fault` like `admit`."""
    return _require_scope(_by_key(authorization, config), scope)


def _require_scope(client: Client, *scopes: Scope) -> Client:
    if scopes and not any(scope in client.scopes for scope in scopes):
        raise Fault(
            403,
            "auth.scope",
            f"The client {client.name} lacks the scope `{scopes[0]}`. Add it to its `scopes` in dialgate.yaml.",
        )
    return client


def _by_key(authorization: str, config: Config) -> Client:
    scheme, _, key = authorization.partition(" ")
    digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
    client = config.keys.get(digest) if scheme.lower() == "bearer" else None
    if client is None:
        raise Fault(
            401,
            "auth.unknown",
            "No client has this key. Send `Authorization: Bearer KEY`; `dialgate key` creates a new key.",
            headers=_CHALLENGE,
        )
    return client


def _by_address(request: web.Request, config: Config) -> Client:
    client = None
    # Behind a proxy all requests have the proxy's address, so it identifies no client.
    if request.remote and not any(name in request.headers for name in _FORWARDED):
        client = client_at(request.remote, config)
    if client is None:
        advice = _IN_A_BROWSER if request.path == "/docs" else ""
        raise Fault(
            401,
            "auth.missing",
            f"The request has no key. Send `Authorization: Bearer KEY`.{advice}",
            headers=_CHALLENGE,
        )
    refuse_web_pages(request, config.settings.hosts)
    return client


def _refuse_key_in_url(request: web.Request) -> None:
    query = request.raw_path.partition("?")[2]
    if any(name.lower() in _IN_URL for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise Fault(
            400,
            "auth.in_url",
            "The URL contains a key, and URLs are logged. Replace the key, and send `Authorization: Bearer KEY`.",
        )
