"""The door for Asterisk: a FastAGI server. One connection is one call, one script, one answer.

| script | arguments | answers |
|---|---|---|
| `check` | to, from, campaign, call type (may be left out), call id (else the channel's) | `DG_DECISION` … |
| `vicidial` | to, from, call code, campaign | the same, and on a denial `DIALSTATUS` and `HANGUPCAUSE` |
| `recall` | language (else the channel's) | speaks to who calls back: see recall.py |

`DG_DECISION` is `allow` or `deny`; `DG_REASON` the first reason's code; `DG_DECISION_ID`; `DG_NOT_BEFORE` and
`DG_VALID_UNTIL` instants. Asterisk takes a server that says nothing for a success, and waits for one that hangs without
limit. So the first thing said is always `deny`, while the gate decides; `allow` is said last, after everything else was
taken; and at the deadline the connection is closed, whoever is late.
"""

import asyncio
import re
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Final

import structlog

from dialgate.answers import Answer
from dialgate.interfaces.agi import Command, Environment, Hangup, Listener, NotAgi, Reply, Said, set_variable
from dialgate.interfaces.http_check import CheckRequest
from dialgate.interfaces.http_errors import Fault, convert
from dialgate.interfaces.recall import Recall
from dialgate.interfaces.sources import client_at
from dialgate.model import Call
from dialgate.service import Gate
from dialgate.settings import Client, ConfigError, Scope

_log = structlog.get_logger(__name__)

_READ_BYTES: Final = 8192
_BACKLOG: Final = 4096
# Asterisk's names: a number that may not be called, as VICIdial's carrier log knows it, and one to be tried again.
_NEVER, _AGAIN = ("DNC", "34"), ("CONGESTION", "42")
# Auto-dial V…, manual M…, three-way DC…: a moment in digits, and the lead in the last ten.
_CALL_CODE: Final = re.compile(r"[A-Z]{1,2}\d{13,30}")
_NAMES: Final = {"check": ("to", "from", "campaign", "call_type", "call_id"),
                 "vicidial": ("to", "from", "call_id", "campaign")}  # fmt: skip


class Gone(Exception):
    """The call has ended, or Asterisk does not take what it is told. There is nobody to answer."""


class Line:
    """The connection of one call: what was said, one after the other, and commands with their replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._listener = Listener()
        self._heard: AsyncIterator[Said] = self._listen()
        self.hung_up = False

    async def _listen(self) -> AsyncIterator[Said]:
        while data := await self._reader.read(_READ_BYTES):
            for said in self._listener.feed(data):
                yield said

    async def environment(self) -> Environment:
        async for said in self._heard:
            if isinstance(said, Environment):
                return said
        raise Gone

    async def say(self, command: Command) -> Reply:
        """Raises `Gone` where no reply comes any more."""
        self._writer.write(command)
        async for said in self._heard:
            if isinstance(said, Reply):
                return said
            self.hung_up = self.hung_up or isinstance(said, Hangup)
        raise Gone

    async def set(self, name: str, value: str) -> None:
        """Raises `Gone` unless Asterisk says that it is set."""
        reply = await self.say(set_variable(name, value))
        if (reply.code, reply.result) != (200, "1"):
            raise Gone

    def parting(self, command: Command) -> None:
        """Say something and await nothing."""
        self._writer.write(command)


class FastAgi:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._calls: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """The port. Raises `ConfigError` if it cannot listen where the settings say."""
        listen = self._gate.config.settings.fastagi
        assert listen is not None
        _allow_files(listen.connections)
        try:
            self._server = await asyncio.start_server(
                self._connected, listen.host, listen.port, limit=_READ_BYTES, backlog=_BACKLOG
            )
        except OSError as error:
            raise ConfigError(
                [f"fastagi: {listen.host} port {listen.port}: {error.strerror or error}"]
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """After the calls that are being answered; those that are being spoken to are cut off."""
        if self._server is not None:
            self._server.close()
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=self._deadline())
            for call in late:
                call.cancel()
            if late:
                await asyncio.wait(late)

    def _deadline(self) -> float:
        listen = self._gate.config.settings.fastagi
        return listen.deadline_seconds if listen else 0

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listen = self._gate.config.settings.fastagi
        if listen is None or len(self._calls) >= listen.connections:
            writer.transport.abort()  # without a word, which the dialplan takes for a denial
            return
        call = asyncio.create_task(self._call(reader, writer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._served(Line(reader, writer), str(writer.get_extra_info("peername")[0]))
        except (Gone, ConnectionError, TimeoutError):
            pass  # what was said stands, and that was `deny`
        except NotAgi as error:
            _log.warning("not AGI", problem=str(error))
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _served(self, line: Line, remote: str) -> None:
        deadline = asyncio.get_running_loop().time() + self._deadline()
        async with asyncio.timeout_at(deadline):
            environment = await line.environment()
        script = environment.script.partition("?")[0]
        try:
            if script == "recall":
                caller = _admitted(remote, self._gate, "revoke", "ledger")
                await Recall(self._gate, caller, line.say).speak(environment)
                return
            client = _admitted(remote, self._gate, "check")
            asked = self._gate.check(_asked(environment, script, client), client)
        except Fault as fault:
            async with asyncio.timeout_at(deadline):
                await _refused(line, fault.problem.code)
            return
        await self._answered(line, asked, deadline, vicidial=script == "vicidial")

    async def _answered(
        self, line: Line, asked: asyncio.Future[Answer], deadline: float, *, vicidial: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(deadline):
            await line.set("DG_DECISION", "deny")
        await asyncio.wait([asked], timeout=max(0, deadline - loop.time()))
        if not asked.done():
            self._gate.metrics.faults.labels("fastagi").inc()
            line.parting(set_variable("DG_REASON", "gate.unavailable"))
            return
        async with asyncio.timeout_at(deadline):
            for name, value in _variables(asked.result(), vicidial=vicidial):
                await line.set(name, value)
            if asked.result().decision == "allow" and not line.hung_up:
                await line.set("DG_DECISION", "allow")


def _variables(answer: Answer, *, vicidial: bool) -> Iterator[tuple[str, str]]:
    """All but the decision, also those that are empty: an earlier call on the channel may have left its own."""
    yield "DG_REASON", answer.reasons[0].code if answer.reasons else ""
    yield "DG_DECISION_ID", answer.decision_id
    yield "DG_NOT_BEFORE", answer.not_before
    yield "DG_VALID_UNTIL", answer.valid_until
    if vicidial and answer.decision != "allow":
        status, cause = _NEVER if answer.decision_id else _AGAIN
        yield "DIALSTATUS", status
        yield "HANGUPCAUSE", cause


async def _refused(line: Line, code: str) -> None:
    await line.set("DG_DECISION", "deny")
    await line.set("DG_REASON", code)


def _admitted(remote: str, gate: Gate, *scopes: Scope) -> Client:
    client = client_at(remote, gate.config)
    if client is None:
        _log.warning("no client has this source address", address=remote)
        raise Fault(401, "auth.missing", "The source address is no client's.")
    if not set(scopes) <= set(client.scopes):
        raise Fault(403, "auth.scope", "The client lacks a scope.")
    return client


def _asked(environment: Environment, script: str, client: Client) -> Call:
    """Raises `Fault` where an argument is too long or of no sense. One that is missing is empty, and judged as such."""
    names = _NAMES.get(script)
    if names is None:
        raise Fault(404, "path.unknown", "No such script.")
    given = dict(zip(names, environment.arguments, strict=False))
    named = {name: value for name, value in given.items() if value}
    asked = convert({"to": "", "from": "", "campaign": ""} | named, CheckRequest)
    call_id = asked.call_id
    if script == "vicidial" and not _CALL_CODE.fullmatch(call_id):
        call_id = ""
    return Call(
        to=asked.to,
        from_=asked.from_,
        campaign=asked.campaign,
        call_id=call_id or environment.values.get("uniqueid", "")[:256],
        call_type=asked.call_type,
        client=client.name,
        interface="fastagi",
    )


def _allow_files(connections: int) -> None:
    """As many open files as calls and some, if the system lets us; Debian's soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 1024
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
