"""Digest authentication of a request that was challenged (RFC 3261 section 22, RFC 7616, RFC 8760)."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

_SCHEME: Final = re.compile(r"\s*Digest\s+", re.IGNORECASE)
_PARAMETER: Final = re.compile(r'\s*([A-Za-z0-9\-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
# Strongest first (RFC 8760 section 2.4).
_ALGORITHMS: Final[dict[str, Callable[[bytes], "hashlib._Hash"]]] = {
    "SHA-256": hashlib.sha256,
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
}


class NoDigest(Exception):
    """The challenge cannot be met: it wants an algorithm or a protection that is not known here."""


class Credentials(Struct, frozen=True):
    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def authorization(
    challenges: Sequence[str], credentials: Credentials, method: str, uri: str, cnonce: str
) -> str:
    """The value of Authorization, or Proxy-Authorization, for the strongest of these challenges. Raises `NoDigest`."""
    met = [
        (name, given) for each in challenges if (given := parameters(each)) and (name := _algorithm(given))
    ]
    if not met:
        raise NoDigest("no challenge by Digest with SHA-256 or MD5 and `auth`")
    name, given = min(met, key=lambda pair: list(_ALGORITHMS).index(pair[0].removesuffix("-SESS")))
    return _answered(name, given, credentials, method, uri, cnonce)


def parameters(challenge: str) -> dict[str, str]:
    """Nothing where it is none, or damaged."""
    found = _SCHEME.match(challenge)
    at = found.end() if found else len(challenge)
    given: dict[str, str] = {}
    while at < len(challenge):
        each = _PARAMETER.match(challenge, at)
        if each is None:
            return {}
        given[each[1].lower()] = re.sub(r"\\(.)", r"\1", each[2]) if each[2] is not None else each[3]
        at = each.end()
    return given


def _algorithm(given: dict[str, str]) -> str:
    name = given.get("algorithm", "MD5").upper()
    known = name.removesuffix("-SESS") in _ALGORITHMS and {"realm", "nonce"} <= given.keys()
    return name if known and "auth" in _offered(given) else ""


def _offered(given: dict[str, str]) -> list[str]:
    return [each.strip().lower() for each in given["qop"].split(",")] if "qop" in given else ["auth"]


def _answered(
    name: str, given: dict[str, str], credentials: Credentials, method: str, uri: str, cnonce: str
) -> str:
    def digest(*parts: str) -> str:
        return _ALGORITHMS[name.removesuffix("-SESS")](":".join(parts).encode()).hexdigest()

    realm, nonce = given["realm"], given["nonce"]
    secret = digest(credentials.user, realm, credentials.password)
    if name.endswith("-SESS"):
        secret = digest(secret, nonce, cnonce)
    told = {"username": credentials.user, "realm": realm, "nonce": nonce, "uri": uri}
    if "qop" in given:
        told["response"] = digest(secret, nonce, "00000001", cnonce, "auth", digest(method, uri))
        more = f', qop=auth, nc=00000001, cnonce="{cnonce}"'
    else:  # RFC 2069
        told["response"] = digest(secret, nonce, digest(method, uri))
        more = f', cnonce="{cnonce}"' if name.endswith("-SESS") else ""
    if "opaque" in given:
        told["opaque"] = given["opaque"]
    quoted = ", ".join(f'{key}="{_escaped(value)}"' for key, value in told.items())
    algorithm = f", algorithm={given['algorithm']}" if "algorithm" in given else ""
    return f"Digest {quoted}{algorithm}{more}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
