"""The cost of a decision in a SIP redirect server: a real `dialgate serve` against a stub that redirects every call.

The gate runs with all features on and a synced log. Both servers get the same INVITEs, one server after the other.
"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from msgspec import Struct

from tests.bench import COUNTRIES, BenchError, Figure, compare, load_generator, servers, world
from tests.bench.http_load import Load
from tests.bench.servers import Server

_CONCURRENT = 64
_ALLOWED_AT_LEAST = 0.8

# Parses only what a valid response needs: it returns Via, From, To, Call-ID and CSeq of the INVITE unchanged.
_STUB = """
import asyncio, uvloop
class Stub(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        if data.startswith(b"INVITE"):
            echo = [line for line in data.split(b"\\r\\n") if line[:4] in (b"Via:", b"From", b"Call", b"CSeq")]
            echo += [line + b";tag=x" for line in data.split(b"\\r\\n") if line[:3] == b"To:"]
            response = [b"SIP/2.0 302 Moved Temporarily", *echo, b"Contact: <sip:x@trunk>", b"Content-Length: 0", b"", b""]
            self.transport.sendto(b"\\r\\n".join(response), addr)
async def main():
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(Stub, ("127.0.0.1", 0))
    udp.get_extra_info("socket").setsockopt(1, 8, 4 << 20)  # SO_RCVBUF, as the gate has it
    print(udp.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""


class _Turn(Struct, frozen=True):
    """The load of one turn. `cpu` is the processor time of the server in seconds."""

    load: Load
    cpu: float

    @property
    def rate(self) -> float:
        return self.load.requests / self.load.seconds


def run(calls: int = 10_000, rounds: int = 5, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Measure `calls` per server and round, after one uncounted round. Linux only."""
    with tempfile.TemporaryDirectory() as folder:
        made = world.build(Path(folder), countries, calls * (rounds + 1))
        numbers = iter(made.numbers)
        with servers.bare(_STUB) as theirs, servers.gate(made.config, "sip") as ours:
            done = [_round(ours, theirs, numbers, calls) for _ in range(rounds + 1)][1:]
    yield from _figures(done)


def _round(ours: Server, theirs: Server, numbers: Iterator[int], calls: int) -> tuple[_Turn, _Turn]:
    chosen = list(islice(numbers, calls))
    return _turn(ours, chosen), _turn(theirs, chosen)


def _turn(server: Server, numbers: list[int]) -> _Turn:
    before = server.cpu()
    load = load_generator.run("redirect_load", server, _CONCURRENT, numbers)
    return _Turn(load, server.cpu() - before)


def _figures(done: list[tuple[_Turn, _Turn]]) -> Iterator[Figure]:
    failed = sum(turn.load.failed for pair in done for turn in pair)
    requests = sum(ours.load.requests for ours, _ in done)
    allowed = sum(ours.load.allowed for ours, _ in done) / requests
    if failed or allowed < _ALLOWED_AT_LEAST:
        raise BenchError(
            f"{failed} INVITEs got no response and {allowed:.0%} were allowed, so the figures would not be representative"
        )
    yield compare("redirect.invites", "1/s", [(ours.rate, theirs.rate) for ours, theirs in done])
    cpu = [
        (ours.load.requests / ours.cpu, theirs.load.requests / max(theirs.cpu, 0.01)) for ours, theirs in done
    ]
    yield compare("redirect.invites_a_core", "1/cpu s", cpu)
    yield compare("redirect.p50", "us", [(ours.load.p50, theirs.load.p50) for ours, theirs in done])
    yield compare("redirect.p99", "us", [(ours.load.p99, theirs.load.p99) for ours, theirs in done])
    yield Figure("redirect.allowed", round(allowed, 3), "share")
