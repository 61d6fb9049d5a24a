"""Who asks, and whether they may: a bearer key, or for those who cannot send a header, their source address."""

import hashlib
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from dialgate.config.clients import Client, Scope
from dialgate.config.configuration import Config
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.source_access import client_at

_IN_URL: Final = frozenset({"key", "token", "api_key", "apikey", "access_token"})
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="dialgate"'}
_IN_A_BROWSER: Final = (
    " A browser reads /docs without a key on the operations listener; the console is at /console."
)
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


def admit(request: web.Request, config: Config, scope: Scope | None) -> Client:
    """`scope`: None for any. Raises `Fault`: 401 for a stranger, 403 for a known client without the scope, 400 for a key in the URL."""
    if "?" in request.raw_path:
        _refuse_key_in_url(request)
    given = request.headers.get("Authorization")
    return _may(_by_address(request, config) if given is None else _by_key(given, config), scope)


def admit_key(given: str, config: Config, scope: Scope) -> Client:
    """`given`: the value of the Authorization header. Raises `Fault` as `admit` does."""
    return _may(_by_key(given, config), scope)


def _may(client: Client, scope: Scope | None) -> Client:
    if scope is not None and scope not in client.scopes:
        raise Fault(
            403, "auth.scope", f"The client {client.name} lacks the scope `{scope}`; add it in dialgate.yaml."
        )
    return client


def _by_key(given: str, config: Config) -> Client:
    scheme, _, key = given.partition(" ")
    digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
    client = config.keys.get(digest) if scheme.lower() == "bearer" else None
    if client is None:
        raise Fault(
            401,
            "auth.unknown",
            "No client has this key. Send `Authorization: Bearer KEY`; `dialgate key` makes one.",
            headers=_CHALLENGE,
        )
    return client


def _by_address(request: web.Request, config: Config) -> Client:
    client = None
    # Behind a proxy every stranger has the proxy's address, so none is known by it.
    if request.remote and not any(name in request.headers for name in _FORWARDED):
        client = client_at(request.remote, config)
    if client is None:
        advice = _IN_A_BROWSER if request.path == "/docs" else ""
        raise Fault(401, "auth.missing", f"Send `Authorization: Bearer KEY`.{advice}", headers=_CHALLENGE)
    return client


def _refuse_key_in_url(request: web.Request) -> None:
    query = request.raw_path.partition("?")[2]
    if any(name.lower() in _IN_URL for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise Fault(
            400,
            "auth.in_url",
            "Send the key as `Authorization: Bearer KEY`. URLs are logged on the way: replace this key.",
        )
