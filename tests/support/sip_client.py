"""A gate with a SIP listener on a free port, and UDP clients that send it arbitrary messages."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

from msgspec import Struct
from sipmessage import Message, Response

from dialgate.core.model import DAY, OutcomeRecord
from dialgate.decision_log.records import Reader, Record
from dialgate.interfaces.sip.server import SipServer
from dialgate.interfaces.sip.transactions import Timers
from tests.support import world
from tests.support.world import CALLER, CLEAR, KEY, LIST, LISTED, NOW, SCOPES, World

SBC = {"name": "sbc", "controllers": ["acme"], "scopes": ["check"], "sources": ["127.0.0.1/32"]}
TRUNK = {
    "client": "sbc",
    "campaign": "acme-fibre",
    "contacts": ["sip:{number}@trunk.example:5080;transport=udp", "sip:{number}@[2001:db8::1]"],
}
MANY = [f"+3906123470{at:02}" for at in range(60)]  # clear like CLEAR; each may be called five times
_branches = count(1)


class Sbc(asyncio.DatagramProtocol):
    """A UDP client. `heard` holds the received datagrams in order."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        self.own = int(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - asyncio's signature
        self.heard.put_nowait(data)

    def say(self, data: bytes) -> None:
        self.transport.sendto(data, ("127.0.0.1", self.port))

    async def next(self) -> Response:
        data = await asyncio.wait_for(self.heard.get(), 5)
        response = Message.parse(data)  # parsed by a library that the product does not use
        assert isinstance(response, Response)
        return response

    async def final(self) -> Response:
        while (response := await self.next()).code < 200:
            continue
        return response

    def invite(self, **changes: str) -> bytes:
        return invite(f"127.0.0.1:{self.own}", **changes)

    async def send_request(self, **changes: str) -> Response:
        """Send a request, acknowledge the final response and return it."""
        sent = self.invite(**changes)
        self.say(sent)
        response = await self.final()
        if sent.startswith(b"INVITE"):
            self.say(ack(sent, response))
        return response


def invite(sent_by: str, **changes: str) -> bytes:
    """Build a request.

    `changes` may set `uri`, `method`, `body`, `more` header lines, and headers by name with `_` for `-`. An empty
    string removes a header.
    """
    at = next(_branches)
    uri = changes.pop("uri", f"sip:{CLEAR}@gate.example;user=phone")
    body = changes.pop("body", "")
    more = changes.pop("more", "")
    method = changes.pop("method", "INVITE")
    fields = {
        "via": f"SIP/2.0/UDP {sent_by};rport;branch=z9hG4bK-{at}",
        "max_forwards": "70",
        "from": f"<sip:{CALLER}@dialer.example>;tag=t{at}",
        "to": f"<sip:{CLEAR}@gate.example>",
        "call_id": f"call-{at}@dialer.example",
        "cseq": f"1 {method}",
        "contact": f"<sip:dialer@{sent_by}>",
        "content_length": str(len(body)),
    } | changes
    lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in fields.items() if value]
    lines = [f"{method} {uri} SIP/2.0", *lines, *([more] if more else [])]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


def follow_up(sent: bytes, method: str) -> bytes:
    """Build the ACK or CANCEL for an INVITE."""
    text = sent.decode("latin-1").partition("\r\n\r\n")[0]
    text = re.sub(r"^INVITE", method, text)
    text = re.sub(r"(?im)^(cseq: \d+) INVITE", rf"\1 {method}", text)
    return (re.sub(r"(?im)^content-length: \d+", "Content-Length: 0", text) + "\r\n\r\n").encode("latin-1")


def ack(sent: bytes, response: Response) -> bytes:
    text = follow_up(sent, "ACK").decode("latin-1")
    return re.sub(r"(?im)^to: [^\r]*", lambda _: f"To: {response.headers['To']}", text).encode("latin-1")


class SipGate(Struct, frozen=True):
    made: World
    door: SipServer
    port: int

    @asynccontextmanager
    async def sbc(self) -> AsyncIterator[Sbc]:
        loop = asyncio.get_running_loop()
        transport, made = await loop.create_datagram_endpoint(lambda: Sbc(self.port), ("127.0.0.1", 0))
        try:
            yield made
        finally:
            transport.close()

    def decisions(self) -> dict[str, Record]:
        reader = Reader(self.made.app.config.data / "log")
        return {record.id: record for _, record in reader.entries() if isinstance(record, Record)}

    def outcomes(self) -> list[OutcomeRecord]:
        return list(Reader(self.made.app.config.data / "log").outcomes())


@asynccontextmanager
async def run_gate(folder: Path, *, timers: Timers | None = None, **changes: Any) -> AsyncIterator[SipGate]:
    """Run a gate with one call list.

    `changes` apply to `sip`, to its `trunk`, to the client `sbc`, or to other settings by name.
    """
    trunk = TRUNK | changes.pop("trunk", {})
    written = {
        "clients": [world.client("tests", KEY, *SCOPES), SBC | changes.pop("sbc", {})],
        "sip": {"port": 0, "deadline_seconds": 10, "trunks": [trunk], **changes.pop("sip", {})},
        **changes,
    }
    async with world.running(folder, **written) as made:
        world.publish_answers(made.app.config.data, dict.fromkeys(MANY, False), NOW - DAY)
        await made.post("/v1/lists", LIST | {"numbers": [CLEAR, LISTED, *MANY]})
        await made.app.tick()
        door = SipServer(made.app, timers)
        try:
            yield SipGate(made, door, await door.start())
        finally:
            await door.close()
