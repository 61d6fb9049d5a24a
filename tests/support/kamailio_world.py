"""A real Kamailio with the shipped configuration, between a dialer and trunks that speak raw SIP over UDP.

The dialer is 127.0.0.2, the trunks are 127.0.0.3 and 127.0.0.4, an unknown sender is 127.0.0.5. A trunk keeps every request
that it receives, so that tests can check what passed the proxy.
"""

import asyncio
import os
import re
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from socket import SOCK_DGRAM
from typing import TypeVar

from msgspec import Struct

from dialgate.crypto.keys import Keys
from dialgate.decision_log.records import Reader, Record
from tests.support import kamailio
from tests.support.kamailio import Site
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.world import CALLER, CLEAR, KEY

SHIPPED, REDIRECT = ROOT / "deploy" / "kamailio", ROOT / "deploy" / "sip-redirect"
DIALER, TRUNK, SECOND, STRANGER, PROXY = (f"127.0.0.{last}" for last in (2, 3, 4, 5, 6))
DOMAIN = "gate.example"
_TRUNK_VALUES = {"OUR_DOMAIN": f'"{DOMAIN}"', "TRUNK_PATIENCE": "3500"}
_PATIENCE = 20  # seconds for a message on a busy machine; less than the 32 s after which SIP itself gives up
COMPACT = {"v": "Via", "f": "From", "t": "To", "i": "Call-ID", "m": "Contact", "l": "Content-Length"}
_names = count(1)
_Bound = TypeVar("_Bound", bound="Endpoint")


class Message(Struct):
    """A received message. `headers` are in order; compact names are expanded."""

    raw: bytes
    first: str
    headers: list[tuple[str, str]]
    body: str = ""

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def get(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def uri(self) -> str:
        return self.first.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1]) if self.first.startswith("SIP/2.0") else 0

    @property
    def is_new_call(self) -> bool:
        return self.method == "INVITE" and "tag=" not in self.get("To")


def read(raw: bytes) -> Message:
    head, _, body = raw.decode("utf-8", "replace").partition("\r\n\r\n")
    first, *lines = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")
    pairs = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Message(raw, first, [(COMPACT.get(name.lower(), name), value) for name, value in pairs], body)


def user_of(value: str) -> str:
    """Return the user part of the first URI in a header value."""
    match = re.search(r"(?:sips?|tel):([^@>;]*)", value)
    return match[1] if match else ""


class Endpoint(asyncio.DatagramProtocol):
    """A UDP endpoint that keeps every message it receives."""

    def __init__(self) -> None:
        self.kept: list[Message] = []
        self._news = asyncio.Condition()
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override] # of UDP
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not data.strip():
            return
        message = read(data)
        self.kept.append(message)
        self.arrived(message, addr)
        asyncio.get_running_loop().create_task(self._tell())

    def arrived(self, message: Message, addr: tuple[str, int]) -> None:
        """Handle a received message. The default does nothing."""

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.transport.get_extra_info("sockname")
        return host, port

    def reply(self, request: Message, status: str) -> bytes:
        host, port = self.address
        copied = "".join(
            f"{name}: {value}\r\n"
            for name, value in request.headers
            if name.lower() in {"via", "from", "call-id", "cseq", "record-route"}
        )
        to = request.get("To")
        tag = "" if "tag=" in to or status.startswith("100") else ";tag=trunk"
        more = f"Contact: <sip:line-7@{host}:{port}>\r\n"
        if status.startswith("3"):
            more = "Contact: <sip:+390699999999@127.0.0.3>\r\n"
        return f"SIP/2.0 {status}\r\n{copied}To: {to}{tag}\r\n{more}Content-Length: 0\r\n\r\n".encode()

    async def until(self, wanted: Callable[[Message], bool], seconds: float = _PATIENCE) -> Message:
        """Wait for a message for which `wanted` is true. Return the first one."""
        async with asyncio.timeout(seconds), self._news:
            while True:
                for message in self.kept:
                    if wanted(message):
                        return message
                await self._news.wait()


class Trunk(Endpoint):
    """A trunk that responds to an INVITE with the statuses in `says`, and to other requests with 200.

    It does not respond to an ACK, nor to an INVITE if `says` is empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self.says: list[str] = ["200 OK"]

    def arrived(self, message: Message, addr: tuple[str, int]) -> None:
        if message.status or message.method == "ACK":
            return
        loop = asyncio.get_running_loop()
        for at, status in enumerate(self.says if message.method == "INVITE" else ["200 OK"]):
            loop.call_later(0.1 * at, self.transport.sendto, self.reply(message, status), addr)
        if message.method == "CANCEL":
            for request in self.kept:
                if request.method == "INVITE" and request.get("Call-ID") == message.get("Call-ID"):
                    self.transport.sendto(self.reply(request, "487 Request Terminated"), addr)

    @property
    def invites(self) -> list[Message]:
        """The received INVITEs without retransmissions."""
        unique = {message.raw: message for message in self.kept if message.method == "INVITE"}
        return list(unique.values())


class Dialer(Endpoint):
    def __init__(self, proxy: tuple[str, int]) -> None:
        super().__init__()
        self.proxy = proxy

    def send(self, raw: bytes | str) -> None:
        self.transport.sendto(raw.encode() if isinstance(raw, str) else raw, self.proxy)

    def invite(self, uri: str = "", method: str = "INVITE", more: str = "", **changes: str) -> "Request":
        """Build a request. `uri` is a user part or a complete URI; `changes` replace headers."""
        name = next(_names)
        host, port = self.address
        target = uri if ":" in uri else f"sip:{uri or CLEAR}@{self.proxy[0]}"
        headers = {
            "Via": f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK-{name}-{os.getpid()}",
            "Max-Forwards": "70",
            "From": f'"Acme" <sip:{CALLER}@{host}>;tag=f{name}',
            "To": f"<{target}>",
            "Call-ID": f"c{name}@{host}",
            "CSeq": f"1 {method}",
            "Contact": f"<sip:agent@{host}:{port}>",
            **{key.replace("_", "-"): value for key, value in changes.items()},
        }
        return Request(self, method, target, headers, more)

    async def call(self, uri: str = "", **changes: str) -> Message:
        """Send an INVITE, acknowledge the final response and return it."""
        return await self.invite(uri, **changes).send_and_ack()


class Request(Struct):
    dialer: Dialer
    method: str
    uri: str
    headers: dict[str, str]
    more: str = ""
    body: str = ""

    def text(self) -> str:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"{self.method} {self.uri} SIP/2.0\r\n{lines}{self.more}Content-Length: {len(self.body)}\r\n\r\n{self.body}"

    def send(self) -> "Request":
        self.dialer.send(self.text())
        return self

    def is_answered_by(self, message: Message) -> bool:
        return (
            message.status > 0
            and message.get("Call-ID") == self.headers["Call-ID"]
            and message.get("CSeq") == self.headers["CSeq"]
        )

    async def final(self, seconds: float = _PATIENCE) -> Message:
        return await self.dialer.until(
            lambda message: self.is_answered_by(message) and message.status >= 200, seconds
        )

    async def send_until_final(self) -> Message:
        """Send the request until a final response arrives, as clients do over UDP (RFC 3261, 17.1.2.2): a burst can overflow a buffer."""
        for _ in range(4):
            with suppress(TimeoutError):
                return await self.send().final(2)
        return await self.send().final()

    async def send_and_ack(self) -> Message:
        self.send()
        answer = await self.final()
        self.dialer.send(self.within(answer, "ACK").text())
        return answer

    def within(self, answer: Message, method: str, *, cseq: int = 1, **changes: str) -> "Request":
        """Build a request that follows `answer`, a response to this request.

        The ACK for a refusal goes hop by hop. Other requests follow the dialog route.
        """
        accepted = 200 <= answer.status < 300
        headers = dict(self.headers) | {"To": answer.get("To"), "CSeq": f"{cseq} {method}"}
        uri = self.uri
        if accepted or method != "ACK":
            headers["Via"] += f"-{method}{cseq}"
            contact = re.search(r"<([^>]+)>", answer.get("Contact"))
            uri = contact[1] if contact else uri
            headers["Route"] = ", ".join(reversed(answer.all("Record-Route")))
        headers |= {key.replace("_", "-"): value for key, value in changes.items() if key != "uri"}
        return Request(self.dialer, method, changes.get("uri", uri), {k: v for k, v in headers.items() if v})


class Sip(Struct):
    """A running Kamailio with its dialers and trunks. `log` is the file with its output."""

    process: asyncio.subprocess.Process
    port: int
    operations: int
    dialer: Dialer
    stranger: Dialer
    inbound: Dialer
    trunks: list[Trunk]
    data: Path
    log: Path

    @property
    def trunk(self) -> Trunk:
        return self.trunks[0]

    @property
    def at_the_trunks(self) -> list[Message]:
        return [invite for trunk in self.trunks for invite in trunk.invites]

    def allowed(self) -> dict[str, tuple[str, str]]:
        """Return the number and caller ID of every permitted call in the log, by decision ID."""
        keys = Keys.open(self.data / "keys.json")
        return {
            entry.id: (
                keys.month(entry.at).unseal(entry.sealed).split(" ", 1)[0],
                entry.facts.caller_id.number,
            )
            for _, entry in Reader(self.data / "log").entries()
            if isinstance(entry, Record) and entry.decision.allow
        }

    def prove(self) -> None:
        """Assert that each call at a trunk matches a permitted call in the log, and has a decision ID of its own."""
        allowed = self.allowed()
        calls: dict[str, str] = {}
        for invite in self.at_the_trunks:
            if not invite.is_new_call:
                assert "tag=trunk" in invite.get("To"), invite.raw
                assert user_of(invite.uri) == "line-7", invite.raw
                continue
            decision = invite.get("X-Dialgate-Decision")
            to, shown = allowed[decision]
            assert user_of(invite.uri) == to, invite.raw
            assert user_of(invite.get("To")) == to, invite.raw
            assert [user_of(value) for value in invite.all("From")] == [shown], invite.raw
            assert [user_of(value) for value in invite.all("P-Asserted-Identity")] == [shown], invite.raw
            assert b"699999999" not in invite.raw, invite.raw  # the number that tests try to smuggle in
            assert [user_of(value) for value in invite.all("Contact")] in ([], [shown]), invite.raw
            assert calls.setdefault(decision, invite.get("Call-ID")) == invite.get("Call-ID")


async def bound(stack: AsyncExitStack, made: _Bound, host: str) -> _Bound:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, (host, 0))
    stack.callback(transport.close)
    return made


async def start(config: Path, log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as out:
        return await asyncio.create_subprocess_exec(
            *kamailio.words(config), stdin=DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def standing(
    folder: Path,
    gate: str,
    data: Path,
    shipped: Path = SHIPPED,
    dialers: str = "dialers.cfg",
    carrier: str = "",
    /,
    **more: str,
) -> AsyncIterator[Sip]:
    """Run Kamailio in front of `gate` (http://host:port) and wait until it is ready.

    `more` is passed on as `Site.values`. With WITH_ANNOUNCEMENT the second trunk is the announcement server. `shipped` is the
    folder of the configuration, `dialers` its file with the dialers; a redirect server calls no trunk. `carrier` (host:port) is the
    only trunk, if given.
    """
    relays = shipped == SHIPPED
    port, operations = free_port(PROXY, SOCK_DGRAM), free_port()
    proxy, log = (PROXY, port), folder / "sip" / "kamailio.log"
    async with AsyncExitStack() as stack:
        trunks = [await bound(stack, Trunk(), host) for host in (TRUNK, SECOND)]
        dialer, stranger, inbound = [
            await bound(stack, Dialer(proxy), host) for host in (DIALER, STRANGER, TRUNK)
        ]
        addresses = (
            [carrier] if carrier else [f"{host}:{at}" for host, at in (trunk.address for trunk in trunks)]
        )
        announcing = "WITH_ANNOUNCEMENT" in more
        site = Site(
            sip=f"{PROXY}:{port}",
            operations=operations,
            gate=gate,
            dialer=DIALER,
            key=KEY,
            dialers=dialers,
            trunks=tuple(addresses[:1] if announcing else addresses) if relays else (),
            announcements=addresses[1] if announcing else "",
            values=(_TRUNK_VALUES if relays else {}) | {"GATE_PATIENCE": "3000"} | more,
        )
        config = kamailio.configure(shipped, folder / "sip", site)
        made = Sip(await start(config, log), port, operations, dialer, stranger, inbound, trunks, data, log)
        try:
            await ready(made, inbound if relays else dialer)
            yield made
        finally:
            await end(made.process)


async def ready(made: Sip, asking: Dialer) -> None:
    """Poll with OPTIONS until Kamailio responds. `asking` is a source that needs no password."""
    async with asyncio.timeout(60):
        while True:
            assert made.process.returncode is None, made.log.read_text()[-2000:]
            probe = asking.invite(method="OPTIONS").send()
            try:
                await probe.final(0.1)
            except TimeoutError:
                continue
            return
