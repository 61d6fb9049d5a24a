"""A load generator that sends INVITEs over UDP like a session border controller, in a separate process.

`python -m tests.bench.redirect_load PORT CONCURRENT` reads one called number per line from stdin and prints a `Load` as
JSON. The generator acknowledges each final response and sends the next INVITE. An INVITE without a response for two
seconds has failed.
"""

import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

from dialgate.tools.bench.load import HOST, Load
from dialgate.tools.bench.world import CALLER_ID

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


async def _asking(port: int, ahead: "list[str]", waits: list[float], allowed: list[bool]) -> None:
    loop = asyncio.get_running_loop()
    transport, sbc = await loop.create_datagram_endpoint(_Sbc, remote_addr=(HOST, port))
    while ahead:
        fields = {
            "to": ahead.pop(),
            "caller": CALLER_ID,
            "port": sbc.own,
            "at": f"{sbc.own}-{len(ahead)}-{time.time_ns()}",
        }
        begun = time.perf_counter()
        response = await sbc.response_to(
            (_REQUEST + _MORE).format(method="INVITE", tag="", **fields).encode()
        )
        if not response:
            continue
        waits.append(time.perf_counter() - begun)
        allowed.append(response.startswith(b"SIP/2.0 302"))
        transport.sendto(
            (_REQUEST + "Content-Length: 0\r\n\r\n").format(method="ACK", tag=";tag=x", **fields).encode()
        )
    transport.close()


async def drive(port: int, concurrent: int, numbers: list[str]) -> Load:
    waits: list[float] = []
    allowed: list[bool] = []
    sent, began = len(numbers), time.perf_counter()
    await asyncio.gather(*(_asking(port, numbers, waits, allowed) for _ in range(concurrent)))
    seconds = time.perf_counter() - began
    waits.sort()
    return Load(
        requests=len(waits),
        failed=sent - len(waits),
        allowed=sum(allowed),
        seconds=seconds,
        p50=waits[len(waits) // 2] * 1e6,
        p99=waits[len(waits) * 99 // 100] * 1e6,
        slowest=waits[-1] * 1e6,
    )


if __name__ == "__main__":
    numbers = sys.stdin.read().split()
    load = uvloop.run(drive(int(sys.argv[1]), int(sys.argv[2]), numbers))
    sys.stdout.buffer.write(msgspec.json.encode(load))
