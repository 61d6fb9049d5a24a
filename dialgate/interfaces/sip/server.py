"""The SIP redirect server for session border controllers. Each INVITE is a check; media never pass through the gate.

    | decision | response |
    |---|---|
    | allow | 302 with the trunk's contacts in order, each with the checked number |
    | deny | the trunk's `refusal` (608, 603 or 403) with `Reason` (Q.850;cause=21), and `Call-Info` if configured |
    | none | 500 with `Retry-After`; not 503, after which a client tries another server (RFC 3261 section 21.5.4) |

The headers `X-Dialgate-Decision`, `X-Dialgate-Reason`, `X-Dialgate-Class`, `X-Dialgate-Not-Before` and
`X-Dialgate-Valid-Until` contain details. The campaign is taken from the INVITE's header `X-Dialgate-Campaign`,
or from the trunk settings. Clients are identified by their source address; unknown clients get no response.
The response to OPTIONS is 200 if the gate is ready, otherwise 500.
"""

import asyncio
import os
import socket
from functools import partial
from typing import Final, cast

import structlog
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.configuration import Config, ConfigError
from dialgate.config.listeners import Sip, SipTrunk
from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.core.responses import Answer
from dialgate.interfaces.connections import is_scarce, most
from dialgate.interfaces.http.check import CheckRequest, call
from dialgate.interfaces.http.errors import Fault, convert
from dialgate.interfaces.refusal_log import RefusalLog
from dialgate.interfaces.sip.message import BadRequest, Fields, Head, NotSip, Reply, Stream, read_request
from dialgate.interfaces.sip.question import read_question, required_extensions
from dialgate.interfaces.sip.responses import FAULT, response_for
from dialgate.interfaces.sip.transactions import Timers, Transaction, Transactions, key_of
from dialgate.interfaces.source_access import client_at

_log = structlog.get_logger(__name__)

_ALLOW: Final = ("Allow", "INVITE, ACK, CANCEL, OPTIONS")
_SIP_PORT: Final = 5060
_MOST_REMEMBERED: Final = 1024  # addresses
_RECEIVE_BUFFER: Final = 4 << 20  # bytes, if the system allows it: a burst of 2,000 INVITEs
_MOST_PORTS: Final = 65_535
_READ_SECONDS: Final = 10.0  # within which a request must be complete
_PONG: Final = b"\r\n"


class Origin(Struct, frozen=True):
    """The source of a request, and the transport for its responses."""

    host: str
    port: int
    datagrams: asyncio.DatagramTransport | None = None
    stream: asyncio.Transport | None = None

    @property
    def reliable(self) -> bool:
        return self.stream is not None

    def send(self, data: bytes, head: Head) -> None:
        """Send a response to the source address of the request, because the host in its Via may be a third party."""
        if self.stream is not None and data and not self.stream.is_closing():
            self.stream.write(data)
        elif self.datagrams is not None and data and not self.datagrams.is_closing():
            # RFC 3581 section 4, or RFC 3261 section 18.2.2 without `rport`.
            port = self.port if "rport" in head.via.parameters else head.via.port or _SIP_PORT
            if 0 < port <= _MOST_PORTS:
                self.datagrams.sendto(data, (self.host, port))


class _Request(Struct, frozen=True):
    origin: Origin
    head: Head
    client: Client
    trunk: SipTrunk
    arrived: Instant


class SipServer:
    """The SIP server. `start` opens the sockets. `close` waits for checks in progress, then closes the sockets."""

    def __init__(self, app: App, timers: Timers | None = None) -> None:
        listen = app.config.settings.sip
        assert listen is not None
        self._app, self._listen = app, listen
        self._most = most(app.config.settings, "sip") if listen.tcp else 0
        timers = timers or Timers(deadline=int(listen.deadline_seconds * 1000))
        self._transactions = Transactions(timers, listen.transactions)
        self._secret = os.urandom(16)
        self._loop = asyncio.get_running_loop()
        self._clients: tuple[Config | None, dict[str, Client | None]] = (None, {})
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._refusals = RefusalLog("sip")
        self._checks: set[asyncio.Future[Answer]] = set()
        self._reports: set[asyncio.Task[None]] = set()
        self._datagrams: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self.connections: set[Connection] = set()

    # ---- open and close ----------------------------------------------------------------------------------------------

    async def start(self, *, shared: bool = False) -> int:
        """Listen and return the port, which is the same for UDP and TCP. Raises `ConfigError`.

        With `shared`, several workers use the port. The kernel sends all datagrams from an address to the same worker, so
        a retransmission reaches the worker that has the transaction.
        """
        listen = self._listen
        try:
            port = listen.port
            if listen.tcp:
                make = partial(Connection, self)
                self._server = await self._loop.create_server(make, listen.host, port, reuse_port=shared)
                port = int(self._server.sockets[0].getsockname()[1])
            if listen.udp:
                at = (listen.host, port)
                udp, _ = await self._loop.create_datagram_endpoint(
                    lambda: Datagrams(self), local_addr=at, reuse_port=shared
                )
                self._datagrams = udp
                _widen(self._datagrams)
                port = int(udp.get_extra_info("sockname")[1])
        except OSError as error:
            await self.close()
            problem = f"sip: {listen.host} port {listen.port}: {error.strerror or error}. Choose another `host` or `port`"
            raise ConfigError([problem]) from error
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._checks:
            await asyncio.wait(self._checks, timeout=self._listen.deadline_seconds)
        if self._reports:
            await asyncio.wait(self._reports)
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.drop()
        if self._datagrams is not None:
            self._datagrams.close()

    @property
    def full(self) -> bool:
        return len(self.connections) >= self._most or is_scarce()

    # ---- requests ------------------------------------------------------------------------------------------------------

    def client(self, host: str) -> Client | None:
        """Return the client with this address. The result is cached until the configuration changes."""
        if self._clients[0] is not self._app.config or len(self._clients[1]) > _MOST_REMEMBERED:
            self._clients = (self._app.config, {})
        clients = self._clients[1]
        if host not in clients:
            clients[host] = client_at(host, self._app.config)
            if clients[host] is None:
                _log.warning("no client has this source address", address=host)
        return clients[host]

    def handle(self, head: Head, origin: Origin, client: Client) -> None:
        transaction = self._transactions.find(head, origin.host)
        match head.method:
            case "ACK":
                if transaction is not None:
                    self._transactions.acknowledge(transaction, self._now())
            case "CANCEL":
                self._cancel(head, origin, transaction)
            case "INVITE":
                self._invite(head, origin, client, transaction)
            case "OPTIONS":
                status = (
                    FAULT
                    if self._app.gate.readiness()
                    else (200, "OK", (_ALLOW, ("Accept", "application/sdp")))
                )
                self.reply(head, origin, *status)
            case _:
                self.reply(head, origin, 405, "Method Not Allowed", (_ALLOW,))

    def reply(self, head: Head, origin: Origin, status: int, phrase: str, fields: Fields = ()) -> None:
        """Send a stateless response (RFC 3261 section 8.2.7). An ACK gets none.

        No transaction is needed, because a retransmitted request gets the same response.
        """
        if head.method != "ACK":
            origin.send(self._make_reply(head, origin).encode(status, phrase, fields), head)

    def _make_reply(self, head: Head, origin: Origin) -> Reply:
        return Reply(head, origin.host, origin.port, self._secret)

    def refuse(self, error: BadRequest, origin: Origin) -> None:
        self.reply(error.head, origin, error.status, error.phrase)

    def _cancel(self, head: Head, origin: Origin, transaction: Transaction | None) -> None:
        """Cancel an INVITE (RFC 3261 section 9.2). The check continues, because it must be recorded."""
        if transaction is None:
            self.reply(head, origin, 481, "Call/Transaction Does Not Exist")
            return
        self.reply(head, origin, 200, "OK")
        if transaction.state == "proceeding":
            transaction.cancelled = True
            self._conclude(transaction, 487, "Request Terminated", ())

    def _invite(self, head: Head, origin: Origin, client: Client, earlier: Transaction | None) -> None:
        question = read_question(head)
        if earlier is not None:
            if earlier.question != question:  # the branch was used twice
                raise BadRequest(head, "Branch was used for another request")
            origin.send(self._transactions.repeat(earlier), head)
            return
        trunk = self._trunk(client)
        if head.in_dialog:
            self.reply(head, origin, 481, "Call/Transaction Does Not Exist")
        elif self._transactions.is_merged(head, origin.host):
            self.reply(head, origin, 482, "Loop Detected")
        elif required := required_extensions(head):
            self.reply(head, origin, 420, "Bad Extension", (("Unsupported", required),))
        elif trunk is None or "check" not in client.scopes:
            self.reply(head, origin, 403, "Forbidden")
        elif self._transactions.full:
            self.reply(head, origin, *FAULT)
        else:
            self._check(question, _Request(origin, head, client, trunk, self._app.gate.now()))

    def _trunk(self, client: Client) -> SipTrunk | None:
        sip: Sip | None = self._app.config.settings.sip
        return next((trunk for trunk in sip.trunks if trunk.client == client.name), None) if sip else None

    # ---- the answer --------------------------------------------------------------------------------------------------

    def _check(self, question: dict[str, str], request: _Request) -> None:
        fields = {name: value for name, value in question.items() if value or name in {"to", "from"}}
        try:
            check = convert({"campaign": request.trunk.campaign} | fields, CheckRequest)
        except Fault:
            raise BadRequest(request.head, "Bad Request") from None
        head, origin = request.head, request.origin
        key = key_of(head, origin.host)
        transaction = Transaction(
            key, self._make_reply(head, origin), request, question, reliable=origin.reliable
        )
        self._transactions.open(head, origin.host, transaction, self._now())
        self._arm()
        future = self._app.gate.check(call(check, request.client, "sip"), request.client)
        self._checks.add(future)
        future.add_done_callback(partial(self._on_answer, transaction))

    def _on_answer(self, transaction: Transaction, future: asyncio.Future[Answer]) -> None:
        self._checks.discard(future)
        answer, request = future.result(), transaction.peer
        if transaction.state == "proceeding":
            self._conclude(transaction, *response_for(answer, request.trunk))
        elif transaction.cancelled and answer.decision == "allow":
            task = self._loop.create_task(self._return_attempt(answer.decision_id, request))
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    async def _return_attempt(self, decision: str, request: _Request) -> None:
        """Report a cancelled call as not dialled, so that it is not counted as an attempt."""
        try:
            await self._app.registrar.outcomes.not_dialled(request.client, decision, request.arrived)
        except (Refused, Unavailable) as error:
            _log.warning(
                "cannot report a cancelled call as not dialled; the call still counts as an attempt",
                decision=decision,
                problem=str(error),
            )

    def _conclude(self, transaction: Transaction, status: int, phrase: str, fields: Fields) -> None:
        message = self._transactions.answer(transaction, status, phrase, fields, self._now())
        transaction.peer.origin.send(message, transaction.peer.head)
        self._arm()

    # ---- time --------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self._loop.time() * 1000)

    def _arm(self) -> None:
        due = self._transactions.next_due
        if due is None:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(due - self._now(), 0) / 1000 + 0.001, self._ring)

    def _ring(self) -> None:
        self._timer = None
        for transaction, message in self._transactions.due(self._now()):
            if message:
                transaction.peer.origin.send(message, transaction.peer.head)
            else:
                self._conclude(transaction, *FAULT)
                self._app.metrics.faults.labels("sip").inc()
                self._refusals.add("no decision by the deadline")
        self._arm()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: SipServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        client = self._server.client(addr[0])
        if client is None or not data.strip(b"\r\n\0"):  # a NAT keepalive
            return
        origin = Origin(addr[0], addr[1], datagrams=self._transport)
        try:
            head, _ = read_request(data)
            self._server.handle(head, origin, client)
        except BadRequest as error:
            self._server.refuse(error, origin)
        except NotSip:
            return


class Connection(asyncio.Protocol):
    """A TCP connection. It is closed if its bytes are not SIP requests, or if a request stays incomplete."""

    def __init__(self, server: SipServer) -> None:
        self._server = server
        self._stream = Stream()
        self._timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        host, port = transport.get_extra_info("peername")[:2]
        self._origin = Origin(host, port, stream=self._transport)
        if self._server.full or self._server.client(host) is None:
            self._transport.abort()
            return
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the cause does not matter
        self._server.connections.discard(self)
        self._stop_timeout()

    def drop(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            for request in self._stream.feed(data):
                self._stop_timeout()
                self._handle(request)
        except BadRequest as error:
            self._server.refuse(error, self._origin)
            self.drop()
        except NotSip:
            self.drop()
        if not self._stream.is_incomplete:
            self._stop_timeout()
        elif self._timeout is None:
            self._timeout = asyncio.get_running_loop().call_later(_READ_SECONDS, self.drop)

    def _handle(self, request: tuple[Head, bytes] | None) -> None:
        client = self._server.client(self._origin.host)
        if client is None or self._transport.is_closing():
            return
        if request is None:
            self._transport.write(_PONG)
            return
        try:
            self._server.handle(request[0], self._origin, client)
        except BadRequest as error:  # the request was complete, so the next one can be read
            self._server.refuse(error, self._origin)

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


def _widen(transport: asyncio.DatagramTransport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
