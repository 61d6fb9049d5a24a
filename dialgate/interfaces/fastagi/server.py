"""The FastAGI server for Asterisk. Each connection is one call with one script.

    | script | arguments | sets |
    |---|---|---|
    | `check` | to, from, campaign, optional call type, optional call id (default: the channel's) | `DG_DECISION` … |
    | `vicidial` | to, from, call code, campaign | the same, and for a denial `DIALSTATUS` and `HANGUPCAUSE` |
    | `recall` | optional language (default: the channel's) | nothing; it talks to the caller, see recall.py |

`DG_DECISION`: `allow` or `deny`. `DG_REASON`: the first reason code. `DG_CLASS`: the reason's class (`number`, `call`,
`gate`). `DG_DECISION_ID`: the decision ID. `DG_NOT_BEFORE`: the time at which the denial ends, or empty if that time
is unknown. `DG_FROM`: the caller ID that the gate chose, only if `from` is `auto`.

If a server closes the connection without a command, Asterisk reports success. If a server hangs, Asterisk waits
indefinitely. This server therefore sends `deny` before the gate decides. It then sends the answer in one command, with
the decision last. Asterisk executes the command completely or not at all. A check without an answer is denied shortly
before its deadline.
"""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Final, cast

import structlog
from msgspec import structs

from dialgate.app import App
from dialgate.config.clients import Client, Scope
from dialgate.core.model import Call
from dialgate.core.responses import Answer, refusal
from dialgate.interfaces.connections import is_scarce, most, raise_limit
from dialgate.interfaces.deadline_timer import DeadlineTimer
from dialgate.interfaces.fastagi.protocol import (
    AgiReply,
    Command,
    Environment,
    Hangup,
    Listener,
    NotAgi,
    set_variable,
    set_variables,
)
from dialgate.interfaces.fastagi.recall import Recall
from dialgate.interfaces.http.errors import Fault, convert
from dialgate.interfaces.listening import listen
from dialgate.interfaces.refusal_log import RefusalLog
from dialgate.interfaces.source_access import client_at

_log = structlog.get_logger(__name__)

_BACKLOG: Final = 4096
_LONGEST_PROMPT: Final = 120.0  # seconds
_SET: Final = AgiReply(200, "1")
_IS_SET: Final = b"200 result=1\n"
_DENY: Final = set_variable("DG_DECISION", "deny")
# DIALSTATUS and HANGUPCAUSE. VICIdial sets the lead to DNC after the first pair, and calls it again after the second.
_NEVER, _AGAIN = ("DNC", "34"), ("CONGESTION", "42")
# V… for automatic calls, M… for manual, DC… for three-way: a time in digits, then the lead in the last ten digits.
_CALL_CODE: Final = re.compile(r"[A-Z]{1,2}\d{13,30}")
_NAMES: Final = {"check": ("to", "from", "campaign", "call_type", "call_id", "agent"),
                 "vicidial": ("to", "from", "call_id", "campaign")}  # fmt: skip


class CallEnded(Exception):
    """Raised if the call has ended, or if Asterisk accepts no more commands."""


class FastAgiServer:
    """The FastAGI server."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.calls: set[CallConnection] = set()
        self.due = DeadlineTimer(self.deadline())
        self.refusals = RefusalLog("fastagi")
        self._servers: list[asyncio.Server] = []
        self._emptied: asyncio.Future[None] | None = None
        self._most = 0

    async def start(self) -> int:
        """Listen on the configured address, and return the port. Raises `ConfigError`."""
        where = self.app.config.settings.fastagi
        assert where is not None
        raise_limit()
        self._most = most(self.app.config.settings, "fastagi")
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(lambda: CallConnection(self), sock=sock, backlog=_BACKLOG)
            for sock in listen("fastagi", where)
        ]
        return int(self._servers[0].sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and wait for checks in progress. Calls on the recall line are cut off."""
        for server in self._servers:
            server.close()
        if self.calls:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=self.deadline())
        for call in list(self.calls):
            call.drop()

    def remove(self, call: "CallConnection") -> None:
        self.calls.discard(call)
        if self._emptied is not None and not self.calls and not self._emptied.done():
            self._emptied.set_result(None)

    def deadline(self) -> float:
        listen = self.app.config.settings.fastagi
        return listen.deadline_seconds if listen else 0.0

    def full(self) -> bool:
        return len(self.calls) >= self._most or is_scarce()


class CallConnection(asyncio.Protocol):
    """The connection for one call.

    For a check, `deny` is sent first. The answer is sent once the gate has decided and Asterisk has replied to `deny`.
    After Asterisk's next reply, the connection is closed.
    """

    def __init__(self, server: FastAgiServer) -> None:
        self._server = server
        self._listener = Listener()
        self._answer: asyncio.Future[Answer] | None = None
        self._vicidial = self._awaits_reply = self._hung_up = False
        self._began = 0.0  # by the monotonic clock, of the check
        self._recall: asyncio.Task[None] | None = None
        self._reply: asyncio.Future[AgiReply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._due = 0
        if self._server.full():
            self._transport.abort()  # nothing was sent, which the dialplan treats as a denial
            self._server.refusals.add("too many connections, or too few file descriptors")
            return
        self._server.calls.add(self)
        self._due = self._server.due.add(self, self._server.deadline())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the cause does not matter
        self._server.remove(self)
        self._server.due.drop(self, self._due)
        self._forget()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(CallEnded())

    def drop(self) -> None:
        if self._recall is not None:
            self._recall.cancel()
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if data == _IS_SET and self._listener.expects_reply:  # nearly all data
            self._on_reply(_SET)
            return
        try:
            for message in self._listener.feed(data):
                if self._transport.is_closing():
                    return  # a failure closed the connection, so the rest is ignored
                match message:
                    case AgiReply():
                        self._on_reply(message)
                    case Environment():
                        self._begin(message)
                    case Hangup():
                        self._hung_up = True
        except NotAgi as error:
            _log.warning("not AGI", problem=str(error))
            self.drop()

    # ---- the answer --------------------------------------------------------------------------------------------------

    def _begin(self, environment: Environment) -> None:
        server, remote = self._server, str(self._transport.get_extra_info("peername")[0])
        script = environment.script.partition("?")[0]
        self._vicidial = script == "vicidial"
        try:
            if script == "recall":
                caller = _authorize(client_at(remote, server.app.config), remote, "revoke", "ledger")
                recall = Recall(server.app, caller, self._request_reply)
                self._recall = asyncio.create_task(self._run_recall(recall, environment))
                return
            client = _authorize(client_at(remote, server.app.config), remote, "check")
            call = _read_call(environment, script)
        except Fault as fault:
            self._say(self._final_command(refusal(fault.problem.code)))
        else:
            self._say(_DENY)
            self._answer = server.app.gate.check(call, client, "fastagi")
            self._began = time.monotonic()
            self._answer.add_done_callback(self._on_answer)

    def _say(self, command: Command) -> None:
        self._awaits_reply = True
        self._transport.write(command)

    def _on_reply(self, reply: AgiReply) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)
        elif not self._awaits_reply or reply != _SET:
            self._transport.close()  # the last command applies, which was `deny`
        elif self._answer is None:
            self._transport.close()  # everything was sent
        else:
            self._awaits_reply = False
            self._send_answer()

    def _on_answer(self, future: asyncio.Future[Answer]) -> None:
        if not future.cancelled() and not self._awaits_reply and not self._transport.is_closing():
            self._send_answer()

    def _send_answer(self) -> None:
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer.result(), None
            self._say(self._final_command(answer))

    def _final_command(self, answer: Answer) -> Command:
        decision = "deny" if self._hung_up else answer.decision
        return set_variables([*_variables(answer, vicidial=self._vicidial), ("DG_DECISION", decision)])

    def late(self) -> None:
        """Close the connection at the call's deadline.

        If the gate has not decided yet, set the reason `gate.unavailable` first. Before Asterisk has replied to `deny`,
        no reason can be set.
        """
        if self._answer is not None and not self._answer.done():
            if not self._awaits_reply:
                self._say(self._final_command(refusal("gate.unavailable")))
            self._server.app.metrics.faults.labels("fastagi").inc()
            waited = time.monotonic() - self._began
            self._server.refusals.add(
                "no decision by the deadline", waited=waited, loop_behind=self._server.due.behind
            )
        elif self._answer is not None:
            # The gate decided in time, so no fault is counted. The call ends with the `deny` sent first, without a reason.
            self._server.refusals.add("Asterisk did not reply to the command before the decision")
        self._transport.close()

    def _forget(self) -> None:
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None

    # ---- the recall line ---------------------------------------------------------------------------------------------

    async def _run_recall(self, recall: Recall, environment: Environment) -> None:
        self._server.due.drop(self, self._due)
        try:
            await recall.speak(environment)
        except (CallEnded, TimeoutError):
            self._transport.close()
        except Fault as fault:
            self._due = self._server.due.add(self, self._server.deadline())
            self._say(self._final_command(refusal(fault.problem.code)))
        else:
            self._transport.close()

    async def _request_reply(self, command: Command) -> AgiReply:
        """Send a command and return the reply. Raises `CallEnded`, and `TimeoutError` if the reply is late."""
        if self._transport.is_closing():
            raise CallEnded
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(command)
        try:
            async with asyncio.timeout(_LONGEST_PROMPT):
                return await self._reply
        finally:
            self._reply = None


def _variables(answer: Answer, *, vicidial: bool) -> Iterator[tuple[str, str]]:
    """Yield all variables except the decision. Empty ones overwrite the values from an earlier check."""
    yield "DG_REASON", answer.reasons[0].code if answer.reasons else ""
    yield "DG_DECISION_ID", answer.decision_id
    yield "DG_NOT_BEFORE", answer.not_before
    yield "DG_CLASS", answer.reason_class
    yield "DG_WOULD", answer.would
    if answer.caller_id_chosen:
        yield "DG_FROM", answer.from_
    if vicidial and answer.decision != "allow":
        status, cause = _NEVER if answer.reason_class == "number" else _AGAIN
        yield "DIALSTATUS", status
        yield "HANGUPCAUSE", cause


def _authorize(client: Client | None, remote: str, *scopes: Scope) -> Client:
    if client is None:
        _log.warning("no client has this source address", address=remote)
        raise Fault(
            401, "auth.missing", "No client has this source address. Add it to `sources` in dialgate.yaml."
        )
    if not set(scopes) <= set(client.scopes):
        raise Fault(
            403,
            "auth.scope",
            f"The client {client.name} lacks a scope. Add `{'` and `'.join(scopes)}` to its `scopes` in dialgate.yaml.",
        )
    return client


def _read_call(environment: Environment, script: str) -> Call:
    """Return the call that an environment describes. Missing arguments are empty. Raises `Fault` for invalid ones."""
    names = _NAMES.get(script)
    if names is None:
        raise Fault(404, "path.unknown", f"No such script. Use one of {', '.join([*_NAMES, 'recall'])}.")
    arguments = dict(zip(names, environment.arguments, strict=False))
    fields = {name: value for name, value in arguments.items() if value}
    call = convert({"to": "", "from": "", "campaign": ""} | fields, Call)
    call_id = call.call_id
    if script == "vicidial" and not _CALL_CODE.fullmatch(call_id):
        call_id = ""
    call_id = call_id or environment.values.get("uniqueid", "")[:256]
    return structs.replace(call, call_id=call_id)
