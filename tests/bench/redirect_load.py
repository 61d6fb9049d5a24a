"""A load generator that sends INVITEs over UDP like a session border controller, in a separate process.

It acknowledges each final response and sends the next INVITE. An INVITE without a response for two seconds has failed.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import cast

from tests.bench import load_generator
from tests.bench.http_load import HOST
from tests.bench.load_generator import Responses
from tests.bench.world import CALLER_ID

_T1, _TRIES = 0.5, 4
_REQUEST = (
    "{method} sip:{to}@gate.example;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:{port};rport;branch=z9hG4bK-{at}\r\nMax-Forwards: 70\r\n"
    "From: <sip:{caller}@dialer.example>;tag={at}\r\nTo: <sip:{to}@gate.example>{tag}\r\nCall-ID: {at}@127.0.0.1\r\n"
    "CSeq: 1 {method}\r\n"
)
_BODY = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 8 101\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)
_MORE = (
    "Contact: <sip:dialer@127.0.0.1:{port}>\r\nP-Asserted-Identity: <sip:{caller}@dialer.example>\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nSupported: timer\r\nUser-Agent: SBC\r\nContent-Type: application/sdp\r\n"
    f"Content-Length: {len(_BODY)}\r\n\r\n{_BODY}"
)


class _Sbc(asyncio.DatagramProtocol):
    """A UDP client that sends one INVITE at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        self.own = int(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - asyncio's signature
        if not data.startswith(b"SIP/2.0 1") and not self.answer.done():
            self.answer.set_result(data)

    async def response_to(self, request: bytes) -> bytes:
        """Send a request and return its final response, or empty bytes. Retransmits as UDP requires (timer A)."""
        for _ in range(_TRIES):
            self.transport.sendto(request)
            try:
                return await asyncio.wait_for(asyncio.shield(self.answer), _T1)
            except TimeoutError:
                continue
            finally:
                if self.answer.done():
                    self.answer = asyncio.get_running_loop().create_future()
        return b""


async def send(port: int, numbers: Iterator[str], responses: Responses) -> None:
    loop = asyncio.get_running_loop()
    transport, sbc = await loop.create_datagram_endpoint(_Sbc, remote_addr=(HOST, port))
    for to in numbers:
        fields = {"to": to, "caller": CALLER_ID, "port": sbc.own, "at": f"{sbc.own}-{time.time_ns()}"}
        begun = time.perf_counter()
        response = await sbc.response_to(
            (_REQUEST + _MORE).format(method="INVITE", tag="", **fields).encode()
        )
        if not response:
            continue
        responses.append((time.perf_counter() - begun, response.startswith(b"SIP/2.0 302")))
        transport.sendto(
            (_REQUEST + "Content-Length: 0\r\n\r\n").format(method="ACK", tag=";tag=x", **fields).encode()
        )
    transport.close()


if __name__ == "__main__":
    load_generator.main(send, str)
