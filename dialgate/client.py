"""Ask a gate from Python, before each call:

    async with Dialgate("http://127.0.0.1:8080", key) as gate:
        verdict = await gate.check(to="+390612345678", from_="+390844123456", campaign="acme-fibre")
        if verdict.allow:
            dial(verdict.to, shown=verdict.from_)

`check` never raises for what goes wrong with the gate or on the way: whatever it is, the verdict is a denial.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, ServerDisconnectedError, TCPConnector
from msgspec import Struct

from dialgate.core.model import CallType, Result
from dialgate.core.responses import Answer, Reason

_MOST_BYTES: Final = 64 << 10
_KEPT_SECONDS: Final = 60  # less than the gate keeps an idle connection, so that it is not found closed
_OK, _UNDECIDED = 200, 503
_answer: Final = msgspec.json.Decoder(Answer)


class NotRecorded(Exception):
    """The gate did not take what it was told: an outcome, a stop. Tell it again until it does."""


class Verdict(Struct, frozen=True, kw_only=True):
    """Dial `to` and show `from_`, exactly so, and only if `allow`. `again`: nothing was decided; ask again shortly.
    `reason` is a reason's code, or `client.` and what went wrong on the way. Instants are RFC 3339. `reason_class` of a
    denial is `number`, `call` or `gate`.
    """

    allow: bool
    again: bool = False
    reason: str = ""
    reasons: tuple[Reason, ...] = ()
    decision_id: str = ""
    to: str = ""
    from_: str = ""
    valid_until: str = ""
    not_before: str = ""
    reason_class: str = ""

    def __bool__(self) -> bool:
        return self.allow


def _failed(reason: str) -> Verdict:
    return Verdict(allow=False, again=True, reason=reason, reason_class="gate")


class Dialgate:
    """`timeout`: seconds for one question, in all; `clock`: seconds since 1970, by which an allow is still valid."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        timeout: float = 0.5,
        connections: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url, self._timeout, self._connections, self._clock = (
            url.rstrip("/"),
            timeout,
            connections,
            clock,
        )
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = TCPConnector(limit=self._connections, keepalive_timeout=_KEPT_SECONDS)
        self._session = ClientSession(
            connector=connector, headers=self._headers, timeout=ClientTimeout(total=self._timeout)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def check(
        self, *, to: str, from_: str, campaign: str, call_id: str = "", call_type: CallType | None = None
    ) -> Verdict:
        """`call_id` names the call: asked again with the same, it counts once."""
        asked = {"to": to, "from": from_, "campaign": campaign, "call_id": call_id or uuid4().hex}
        try:
            async with asyncio.timeout(self._timeout):
                status, body = await self._posted(
                    "/v1/check", asked | ({"call_type": call_type} if call_type else {})
                )
        except (ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            slow = isinstance(error, TimeoutError)
            return _failed("client.timeout" if slow else "client.unreachable")
        return self._verdict(status, body, to)

    async def outcome(self, decision_id: str, outcome: Result) -> None:
        """What became of an allowed call; `opt_out` stops all further ones. Raises `NotRecorded`."""
        await self._written("/v1/outcomes", {"decision_id": decision_id, "outcome": outcome})

    async def revoke(self, number: str, *, channel: str, actor: str = "", proof: str = "") -> None:
        """The person said stop. Raises `NotRecorded`."""
        body = {"number": number, "channel": channel, "actor": actor, "proof": proof}
        await self._written("/v1/revocations", {name: value for name, value in body.items() if value})

    async def _posted(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        """Asked once more where a kept connection turned out to be closed: the call id makes it one question."""
        try:
            return await self._sent(path, body)
        except (ServerDisconnectedError, ConnectionResetError):
            return await self._sent(path, body)

    async def _sent(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            raise ClientError("the client is closed; use it in `async with`")
        async with self._session.post(self._url + path, json=body, allow_redirects=False) as answer:
            if answer.content_length is None or answer.content_length > _MOST_BYTES:
                return 0, b""  # whoever answers, it is no gate
            return answer.status, await answer.read()

    async def _written(self, path: str, body: dict[str, Any]) -> None:
        try:
            status, told = await self._posted(path, body)
        except (ClientError, OSError, ValueError) as error:
            raise NotRecorded(f"the gate could not be told: {type(error).__name__}") from error
        if status not in {_OK, 201}:
            raise NotRecorded(f"the gate answered {status}: {told.decode('utf-8', 'replace')[:500]}")

    def _verdict(self, status: int, body: bytes, to: str) -> Verdict:
        try:
            answer = _answer.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _failed("client.not_understood")
        first = answer.reasons[0].code if answer.reasons else ""
        verdict = Verdict(
            allow=False,
            again=status == _UNDECIDED,
            reason=first,
            reasons=tuple(answer.reasons),
            decision_id=answer.decision_id,
            to=answer.to,
            from_=answer.from_,
            valid_until=answer.valid_until,
            not_before=answer.not_before,
            reason_class=answer.reason_class,
        )
        if answer.decision != "allow":
            return verdict
        problem = self._doubt(status, answer, to)
        changes = {"reason": problem, "reason_class": "gate"} if problem else {}
        return msgspec.structs.replace(verdict, allow=not problem, again=bool(problem), **changes)

    def _doubt(self, status: int, answer: Answer, to: str) -> str:
        """Why an allow is not to be believed: it must be a decision, on this number, and hold still."""
        if status != _OK or not answer.decision_id:
            return "client.not_understood"
        if not _same(answer.to, to):
            return "client.other_number"
        try:
            until = datetime.fromisoformat(answer.valid_until).timestamp()
        except ValueError:
            return "client.not_understood"
        return "" if self._clock() < until else "client.stale"


def _same(checked: str, asked: str) -> bool:
    """`asked` may lack the country code, or have 00 or a trunk's 0 before it; what was checked ends as it ends."""
    digits = "".join(letter for letter in asked if letter.isdigit()).lstrip("0")
    return bool(digits) and checked.startswith("+") and checked.endswith(digits)
