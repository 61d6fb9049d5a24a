"""A Python client for checks before each call.

    async with Dialgate("http://127.0.0.1:8080", key) as gate:
        verdict = await gate.check(to="+390612345678", from_="+390844123456", campaign="acme-fibre")
        if verdict.allow:
            dial(verdict.to, shown=verdict.from_)

If the gate or the network fails, `check` returns a denial; it never raises for such errors.
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
_KEPT_SECONDS: Final = (
    60  # shorter than the gate's `idle_seconds`, so that the client closes idle connections first
)
_OK, _UNDECIDED = 200, 503
_answer: Final = msgspec.json.Decoder(Answer)


class NotRecorded(Exception):
    """The gate did not record an outcome or a revocation. Repeat the request until it succeeds."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The result of a check. If `allow` is true, dial exactly `to` and present exactly `from_`.

    If `again` is true, there is no usable decision: retry in a few seconds. `reason` is a reason code, or `client.…`
    if the client got no usable response. `valid_until` and `not_before` are in RFC 3339 format. For a denial,
    `reason_class` is `number`, `call` or `gate`. In shadow mode `would` is the gate's decision, and `allow` is true also if that is `deny`.
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
    would: str = ""

    def __bool__(self) -> bool:
        return self.allow


def _failed(reason: str) -> Verdict:
    return Verdict(allow=False, again=True, reason=reason, reason_class="gate")


class Dialgate:
    """A client for one gate. Use it in `async with`.

    `timeout` is the total time of one request, in seconds. `clock` returns the Unix time in seconds. The client uses
    this time to reject a response after its `valid_until`.
    """

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
        self,
        *,
        to: str,
        from_: str,
        campaign: str,
        call_id: str = "",
        call_type: CallType | None = None,
        agent: str = "",
    ) -> Verdict:
        """Check a call. Repeated requests with the same `call_id` count as one attempt. `agent` is an ID, never a name."""
        request = {"to": to, "from": from_, "campaign": campaign, "call_id": call_id or uuid4().hex}
        optional = {"call_type": call_type, "agent": agent}
        try:
            async with asyncio.timeout(self._timeout):
                given = {name: value for name, value in optional.items() if value}
                status, body = await self._post("/v1/check", request | given)
        except (ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            is_timeout = isinstance(error, TimeoutError)
            return _failed("client.timeout" if is_timeout else "client.unreachable")
        return self._verdict(status, body, to)

    async def outcome(self, decision_id: str, outcome: Result) -> None:
        """Report the outcome of an allowed call.

        The outcome `opt_out` also records a revocation. Raises `NotRecorded`.
        """
        await self._write("/v1/outcomes", {"decision_id": decision_id, "outcome": outcome})

    async def revoke(self, number: str, *, channel: str, actor: str = "", proof: str = "") -> None:
        """Record that the person asked not to be called. Raises `NotRecorded`."""
        body = {"number": number, "channel": channel, "actor": actor, "proof": proof}
        await self._write("/v1/revocations", {name: value for name, value in body.items() if value})

    async def _post(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        """Send a POST request, and retry it once if the connection was closed.

        A check that is sent twice counts as one attempt, because both requests have the same call id.
        """
        try:
            return await self._send(path, body)
        except (ServerDisconnectedError, ConnectionResetError):
            return await self._send(path, body)

    async def _send(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            raise ClientError("the client is closed; use it in `async with`")
        async with self._session.post(self._url + path, json=body, allow_redirects=False) as answer:
            if answer.content_length is None or answer.content_length > _MOST_BYTES:
                return 0, b""  # not a response from a gate
            return answer.status, await answer.read()

    async def _write(self, path: str, body: dict[str, Any]) -> None:
        try:
            status, response = await self._post(path, body)
        except (ClientError, OSError, ValueError) as error:
            raise NotRecorded(
                f"cannot reach the gate: {type(error).__name__}; send the request again"
            ) from error
        if status not in {_OK, 201}:
            raise NotRecorded(f"the gate answered {status}: {response.decode('utf-8', 'replace')[:500]}")

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
            would=answer.would,
        )
        if answer.decision != "allow":
            return verdict
        problem = self._check_allow(status, answer, to)
        changes = {"reason": problem, "reason_class": "gate"} if problem else {}
        return msgspec.structs.replace(verdict, allow=not problem, again=bool(problem), **changes)

    def _check_allow(self, status: int, answer: Answer, to: str) -> str:
        """Return "" if the client can rely on `answer` to call the number `to`, otherwise a reason code."""
        if status != _OK or not answer.decision_id:
            return "client.not_understood"
        # In shadow mode, the gate repeats a number that it cannot read.
        is_unread = answer.would == "deny" and answer.to == to
        if not is_unread and not _same(answer.to, to):
            return "client.other_number"
        try:
            until = datetime.fromisoformat(answer.valid_until).timestamp()
        except ValueError:
            return "client.not_understood"
        return "" if self._clock() < until else "client.stale"


def _same(checked: str, requested: str) -> bool:
    """Return whether both numbers are the same. `requested` may lack its country code or have leading zeros."""
    digits = "".join(letter for letter in requested if letter.isdigit()).lstrip("0")
    return bool(digits) and checked.startswith("+") and checked.endswith(digits)
