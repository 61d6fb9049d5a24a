"""Permits: signed proofs that the gate permitted a call, valid only for the few seconds in which the call is placed.

A permit is a JSON Web Token (RFC 7519), signed with ES256 (RFC 7518), which Kamailio's modules can verify:

    {"alg":"ES256"} . {"jti":"1f0c9a3e-1","to":"+390612345678","from":"+390844123456","iat":1795510800,"exp":1795510810}

`jti` is the decision id. A verifier must accept only one permit per decision, and only once. It must also check that
the call uses exactly the numbers `to` and `from`. `iat` and `exp` are Unix seconds. New versions can add claims,
because readers ignore unknown claims. The meaning of a claim never changes.
"""

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.core.model import SECOND, Instant
from dialgate.core.responses import Answer

Sign: TypeAlias = Callable[[bytes], bytes]  # returns 64 bytes: r and s

_HEADER: Final = b'{"alg":"ES256"}'


class Permit(
    Struct,
    frozen=True,
    kw_only=True,
    rename={"decision": "jti", "from_": "from", "issued": "iat", "expires": "exp"},
):
    """The content of a permit. `issued` and `expires` are in Unix seconds."""

    decision: str
    to: str
    from_: str
    issued: int
    expires: int


def add_permit(answer: Answer, sign: Sign, seconds: int, now: Instant) -> Answer:
    """Add a permit to an answer that permits a call.

    The permit is valid for `seconds`, but not longer than the answer. A denial is returned unchanged.
    """
    if answer.decision != "allow" or not answer.decision_id:
        return answer
    issued = now // SECOND
    expires = min(issued + seconds, int(datetime.fromisoformat(answer.valid_until).timestamp()))
    if expires <= issued:
        return answer
    permit = Permit(
        decision=answer.decision_id, to=answer.to, from_=answer.from_, issued=issued, expires=expires
    )
    return structs.replace(answer, permit=token(permit, sign))


def token(permit: Permit, sign: Sign) -> str:
    content = b".".join(_encoded(part) for part in (_HEADER, msgspec.json.encode(permit)))
    return b".".join((content, _encoded(sign(content)))).decode()


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
