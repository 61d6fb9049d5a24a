"""Digest authentication of a challenged request (RFC 3261 section 22, RFC 7616, RFC 8760)."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

_SCHEME: Final = re.compile(r"\s*Digest\s+", re.IGNORECASE)
_PARAMETER: Final = re.compile(r'\s*([A-Za-z0-9\-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
# Strongest first (RFC 8760 section 2.4).
_HASHES: Final[dict[str, Callable[[bytes], "hashlib._Hash"]]] = {
    "SHA-256": hashlib.sha256,
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
}


class NoDigest(Exception):
    """The error for a response in which no challenge is a supported Digest challenge."""


class Credentials(Struct, frozen=True):
    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def authorization(
    challenges: Sequence[str], credentials: Credentials, method: str, uri: str, cnonce: str
) -> str:
    """Return the value of Authorization, or Proxy-Authorization, for the strongest challenge. Raises `NoDigest`."""
    supported = [parameters for text in challenges if _is_supported(parameters := parse_challenge(text))]
    if not supported:
        raise NoDigest("no Digest challenge uses SHA-256 or MD5, and either `qop=auth` or no `qop`")
    strongest = min(supported, key=lambda parameters: list(_HASHES).index(_hash_name(parameters)))
    return _credentials_header(strongest, credentials, method, uri, cnonce)


def parse_challenge(text: str) -> dict[str, str]:
    """Return the parameters of a Digest challenge, or an empty dict if `text` is malformed or uses another scheme."""
    scheme = _SCHEME.match(text)
    at = scheme.end() if scheme else len(text)
    parameters: dict[str, str] = {}
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter is None:
            return {}
        name, quoted, token = parameter.groups()
        parameters[name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        at = parameter.end()
    return parameters


def _algorithm(parameters: dict[str, str]) -> str:
    return parameters.get("algorithm", "MD5").upper()


def _hash_name(parameters: dict[str, str]) -> str:
    return _algorithm(parameters).removesuffix("-SESS")


def _is_supported(parameters: dict[str, str]) -> bool:
    protections = [name.strip().lower() for name in parameters.get("qop", "auth").split(",")]
    return (
        {"realm", "nonce"} <= parameters.keys()
        and _hash_name(parameters) in _HASHES
        and "auth" in protections
    )


def _credentials_header(
    challenge: dict[str, str], credentials: Credentials, method: str, uri: str, cnonce: str
) -> str:
    def digest(*parts: str) -> str:
        return _HASHES[_hash_name(challenge)](":".join(parts).encode()).hexdigest()

    realm, nonce = challenge["realm"], challenge["nonce"]
    is_session = _algorithm(challenge).endswith("-SESS")
    secret = digest(credentials.user, realm, credentials.password)
    if is_session:
        secret = digest(secret, nonce, cnonce)
    fields = {"username": credentials.user, "realm": realm, "nonce": nonce, "uri": uri}
    if "qop" in challenge:
        fields["response"] = digest(secret, nonce, "00000001", cnonce, "auth", digest(method, uri))
        more = f', qop=auth, nc=00000001, cnonce="{cnonce}"'
    else:  # RFC 2069
        fields["response"] = digest(secret, nonce, digest(method, uri))
        more = f', cnonce="{cnonce}"' if is_session else ""
    if "opaque" in challenge:
        fields["opaque"] = challenge["opaque"]
    quoted = ", ".join(f'{name}="{_escape(value)}"' for name, value in fields.items())
    algorithm = f", algorithm={challenge['algorithm']}" if "algorithm" in challenge else ""
    return f"Digest {quoted}{algorithm}{more}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
