"""Sign-in at an OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9207).

What belongs to one sign-in (state, nonce, code verifier) is in an encrypted cookie of the browser, so any gate on the store can end what another began.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx
import msgspec
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from dialgate.config.accounts import OpenIdProvider
from dialgate.core.model import MINUTE, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.crypto.nonces import nonces
from dialgate.people.openid_claims import OpenIdPerson, read_person

FLOW: Final = 10 * MINUTE
_ABOUT: Final = b"sign-in at an OpenID provider"
_TIMEOUT: Final = 10.0
_LEEWAY: Final = 60  # seconds by which the clocks may differ
# Of public keys only: with `none` or HMAC, whoever knows the client's secret or nothing at all could sign.
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
_log = structlog.get_logger(__name__)


class _Metadata(Struct, frozen=True):
    """The endpoints of a provider (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    authorization_response_iss_parameter_supported: bool = False


class _Flow(Struct, frozen=True):
    """A sign-in that has begun. `after` is the page to show at its end."""

    state: str
    nonce: str
    verifier: str
    until: Instant
    after: str


class OpenIdSignIn:
    """Sends browsers to a provider, and verifies with what they come back."""

    def __init__(
        self,
        provider: OpenIdProvider,
        folder: Path,
        redirect_uri: str,
        keys: Keys,
        clock: Callable[[], Instant],
    ) -> None:
        self.provider, self._folder, self._redirect_uri = provider, folder, redirect_uri
        self._keys, self._clock, self._nonces = keys, clock, nonces()

    def _client(self) -> AsyncOAuth2Client:
        file = self.provider.client_secret_file
        secret = (self._folder / file).read_text("utf-8").strip() if file else None
        return AsyncOAuth2Client(
            self.provider.client_id,
            secret,
            scope=" ".join(self.provider.scopes),
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            timeout=_TIMEOUT,
        )

    async def begin(self, after: str) -> tuple[str, str]:
        """Return the URL at the provider, and the value of the cookie with which the browser must come back."""
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        flow = _Flow(state, nonce, verifier, self._clock() + FLOW, after)
        try:
            async with self._client() as client:
                metadata = await self._metadata(client)
                url, _ = client.create_authorization_url(
                    metadata.authorization_endpoint,
                    state=flow.state,
                    nonce=flow.nonce,
                    code_verifier=flow.verifier,
                )
        except (OSError, httpx.HTTPError, msgspec.DecodeError) as error:
            _unavailable(error)
        sealed = self._keys.accounts.close(msgspec.json.encode(flow), next(self._nonces), _ABOUT)
        return url, sealed.hex()

    async def end(self, query: Mapping[str, str], cookie: str) -> tuple[OpenIdPerson, str]:
        """Return the person who signed in, and the page to show. `query` is that of the callback. Raises `Refused`."""
        flow = self._flow(cookie)
        if flow is None or not hmac.compare_digest(flow.state.encode(), query.get("state", "").encode()):
            _refuse("the callback belongs to no sign-in of this browser, or it took more than ten minutes")
        try:
            async with self._client() as client:
                metadata = await self._metadata(client)
                _check_issuer(metadata, query)
                token = await client.fetch_token(
                    metadata.token_endpoint, code=query["code"], code_verifier=flow.verifier, grant_type="authorization_code"
                )  # fmt: skip
                keys = KeySet.import_key_set(
                    (await client.request("GET", metadata.jwks_uri, withhold_token=True)).json()
                )
            claims = self._verified(token.get("id_token", ""), keys, flow.nonce)
        except (AuthlibBaseError, JoseError, ValueError, msgspec.DecodeError) as error:
            _refuse(str(error))
        except (OSError, httpx.HTTPError) as error:
            _unavailable(error)
        return read_person(claims, self.provider), flow.after

    def _flow(self, cookie: str) -> _Flow | None:
        try:
            flow = msgspec.json.decode(self._keys.accounts.open(bytes.fromhex(cookie), _ABOUT), type=_Flow)
        except (ValueError, KeysUnusable):
            return None
        return flow if self._clock() < flow.until else None

    async def _metadata(self, client: AsyncOAuth2Client) -> _Metadata:
        url = f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration"
        answer = await client.request("GET", url, withhold_token=True)
        answer.raise_for_status()
        metadata = msgspec.json.decode(answer.content, type=_Metadata)
        if metadata.issuer != self.provider.issuer:
            _refuse(f"the provider names itself {metadata.issuer}; set `accounts.openid.issuer` to that")
        return metadata

    def _verified(self, id_token: str, keys: KeySet, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token (Core 1.0, 3.1.3.7). Raises `JoseError`."""
        claims: dict[str, Any] = jwt.decode(id_token, keys, algorithms=_ALGORITHMS).claims
        own = self.provider.client_id
        jwt.JWTClaimsRegistry(
            now=self._clock() // SECOND,
            leeway=_LEEWAY,
            iss={"essential": True, "value": self.provider.issuer},
            aud={"essential": True, "value": own},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
            azp={"essential": isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1, "value": own},
        ).validate(claims)
        return claims


def _check_issuer(metadata: _Metadata, query: Mapping[str, str]) -> None:
    """Refuse an answer of another provider (RFC 9207), an error, and an answer without a code."""
    must_name = metadata.authorization_response_iss_parameter_supported
    if query.get("iss", "" if must_name else metadata.issuer) != metadata.issuer:
        _refuse("the answer comes from another issuer")
    if "code" not in query:
        _refuse(f"the provider refused: {query.get('error', 'it sent no code')}")


def _refuse(why: str) -> NoReturn:
    _log.warning("sign-in at the OpenID provider refused", why=why[:200])
    raise Refused("console.openid", "The sign-in at the provider failed.", status=403)


def _unavailable(error: Exception) -> NoReturn:
    _log.error("the OpenID provider cannot be used", problem=str(error)[:200])
    raise Refused("console.openid_unavailable", "The provider cannot be reached.", status=503)
