"""An OpenID provider that signs everybody in at once, with claims that a test sets."""

import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from msgspec import Struct

from tests.support.ports import free_port

CLIENT = "dialgate"


class Provider(Struct):
    """What the provider answers. `claims` replace those of the ID token; `answer` those of the redirection."""

    issuer: str
    keys: KeySet
    signing: RSAKey
    now: Any = time.time
    claims: dict[str, Any] = {}
    answer: dict[str, str] = {}
    flows: dict[str, dict[str, str]] = {}
    exchanged: int = 0

    async def discover(self, _: web.Request) -> web.Response:
        endpoints = {
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
        }
        supported = {"authorization_response_iss_parameter_supported": True}
        return web.json_response({"issuer": self.issuer, **endpoints, **supported})

    async def authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.flows)}"
        self.flows[code] = query
        answer = {"code": code, "state": query["state"], "iss": self.issuer, **self.answer}
        return web.Response(status=303, headers={"Location": f"{query['redirect_uri']}?{urlencode(answer)}"})

    async def give_token(self, request: web.Request) -> web.Response:
        form = await request.post()
        flow = self.flows.pop(str(form["code"]), None)
        if flow is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        digest = urlsafe_b64encode(sha256(str(form["code_verifier"]).encode()).digest()).decode().rstrip("=")
        assert digest == flow["code_challenge"]
        self.exchanged += 1
        now = int(self.now())
        own = {"iss": self.issuer, "aud": CLIENT, "sub": "248289761001", "iat": now, "exp": now + 300}
        claims = {**own, "nonce": flow["nonce"], **self.claims}
        kept = {name: value for name, value in claims.items() if value is not None}
        id_token = jwt.encode({"alg": "RS256", "kid": "one"}, kept, self.signing)
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": id_token})

    async def show_keys(self, _: web.Request) -> web.Response:
        return web.json_response(self.keys.as_dict(private=False))


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    port = free_port()
    key = RSAKey.generate_key(2048, {"kid": "one"})
    provider = Provider(f"http://127.0.0.1:{port}", KeySet([key]), key)
    site = web.Application()
    site.router.add_get("/.well-known/openid-configuration", provider.discover)
    site.router.add_get("/authorize", provider.authorize)
    site.router.add_post("/token", provider.give_token)
    site.router.add_get("/jwks", provider.show_keys)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield provider
    finally:
        await runner.cleanup()
