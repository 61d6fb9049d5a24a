"""A SIP user agent over UDP that calls a number through a trunk, to test whether it is answered."""

import asyncio
import hashlib
import secrets
from typing import Final, Literal, TypeAlias, cast

from msgspec import Struct

from dialgate.interfaces.sip.digest import Credentials
from dialgate.interfaces.sip.outgoing_call import CallAddress, OutgoingCall, Patience, render_trace
from dialgate.interfaces.sip.transactions import Timers

Outcome: TypeAlias = Literal["answered", "not_answered", "not_probed"]

# The called line is unreachable or did not answer. Other statuses concern the trunk, and prove nothing about the line.
_NOT_ANSWERED: Final = frozenset({404, 410, 480, 484, 486, 487, 600, 603, 604})


class Probe(Struct, frozen=True, kw_only=True):
    """The result of a probe call.

    Times are in ms since the start of the call, or -1 if the event did not occur. `packets` is the number of audio packets
    received after the answer.
    """

    outcome: Outcome
    status: int
    phrase: str
    call_id: str
    rang: int
    answered: int
    packets: int
    trace: bytes

    @property
    def evidence(self) -> str:
        digest = hashlib.sha256(self.trace).hexdigest()
        return (
            f"sip:{self.call_id} status={self.status} rang_ms={self.rang} answered_ms={self.answered}"
            f" packets={self.packets} trace=sha256:{digest}"
        )


class Trunk(Struct, frozen=True, kw_only=True):
    """The trunk to call through. `caller` is the caller ID to show."""

    host: str
    port: int
    caller: str
    credentials: Credentials | None = None


class Agent(asyncio.DatagramProtocol):
    """The UDP socket of the user agent. It forwards datagrams to the calls."""

    def __init__(self) -> None:
        self._calls: dict[bytes, OutgoingCall] = {}
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - the socket is connected
        for name, call in self._calls.items():
            if name in data:
                for message in call.receive(data, _now()):
                    self._transport.sendto(message)
        self._changed.set()

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002 - the timers end the call
        self._changed.set()

    async def place(
        self, number: str, trunk: Trunk, patience: Patience, timers: Timers, sound: "Sound"
    ) -> Probe:
        host, port = self._transport.get_extra_info("sockname")[:2]
        trunk_host = f"[{trunk.host}]" if ":" in trunk.host else trunk.host
        address = CallAddress(
            uri=f"sip:{number}@{trunk_host};user=phone", caller=f"sip:{trunk.caller}@{trunk_host}", host=host, port=port,
            name=secrets.token_hex(12), media_port=sound.port,
        )  # fmt: skip
        call = OutgoingCall(address, timers, patience, trunk.credentials, _now())
        self._calls[call.call_id.encode()] = call
        before = sound.packets
        for message in call.begin(_now()):
            self._transport.sendto(message)
        await self._wait_for_end(call)
        return _result(call, sound.packets - before)

    async def _wait_for_end(self, call: OutgoingCall) -> None:
        while call.state != "done":
            self._changed.clear()
            try:
                async with asyncio.timeout(max(call.wake - _now(), 0) / 1000):
                    await self._changed.wait()
            except TimeoutError:
                for message in call.due(_now()):
                    self._transport.sendto(message)


class Sound(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.packets = self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.port = int(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - asyncio's signature
        self.packets += 1


async def probe(
    number: str, trunk: Trunk, patience: Patience, timers: Timers, *, local: tuple[str, int] | None
) -> Probe:
    """Call a number. Raises `OSError` if the trunk is unreachable."""
    loop = asyncio.get_running_loop()
    remote = (trunk.host, trunk.port)
    transport, agent = await loop.create_datagram_endpoint(Agent, local_addr=local, remote_addr=remote)
    host = transport.get_extra_info("sockname")[0]
    media, sound = await loop.create_datagram_endpoint(Sound, local_addr=(host, 0))
    try:
        return await agent.place(number, trunk, patience, timers, sound)
    finally:
        transport.close()
        media.close()


def _result(call: OutgoingCall, packets: int) -> Probe:
    outcome: Outcome = "not_probed"
    if call.answered_at >= 0:
        outcome = "answered"
    elif call.status in _NOT_ANSWERED:
        outcome = "not_answered"
    return Probe(
        outcome=outcome, status=call.status, phrase=call.phrase, call_id=call.call_id, rang=call.rang_at,
        answered=call.answered_at, packets=packets, trace=render_trace(call.trace),
    )  # fmt: skip


def _now() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
