"""Dialers to put to the test: those we play, by the configuration that is shipped or by the operator's own; and the
operator's real one, told to call by a command and watched at its trunk."""

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, cast

from msgspec import Struct

from dialgate.client import Dialgate
from dialgate.conformance import dialplan, freeswitch
from dialgate.conformance.asterisk import Channel, Temper

TO, CALLER, CAMPAIGN = "+390612345678", "+390844123456", "acme-fibre"
_AGI, _HTTP = "127.0.0.1:4573", "127.0.0.1:8080"  # where the shipped configurations look for the gate


class Dialer(Protocol):
    async def place(self, port: int) -> str:
        """Place one call, asking the gate on `port`. How it got through, or nothing where it did not."""


class Played(Struct, frozen=True):
    """A configuration, run by an emulator. `about` says what that is."""

    about: str
    file: str
    context: str
    run: Callable[[str, str], Awaitable[str]]


async def _asterisk(text: str, context: str) -> str:
    channel = Channel(extension=TO, caller=CALLER, temper=Temper(patience=1.0), variables=_left())
    return await dialplan.call(text, context, channel)


async def _vicidial(text: str, context: str) -> str:
    """Dialled with the trunk's digit before it; the call code stands in the caller's name."""
    variables = {**_left(), "CAMPCUST": CAMPAIGN.upper(), "CAMPDTO": "60"}
    channel = Channel(
        extension=f"9{TO.removeprefix('+')}",
        caller=CALLER,
        caller_name="V7152252280000844707",
        temper=Temper(patience=1.0),
        variables=variables,
    )
    return await dialplan.call(text, context, channel)


async def _freeswitch(text: str, context: str) -> str:
    """Where FreeSWITCH would wait without a limit of its own, the caller hangs up."""
    variables = {"destination_number": TO, "caller_id_number": CALLER, "uuid": "u-1"}
    variables |= {"curl_response_code": "200", "curl_response_data": "allow", "dg_decision": "allow"}
    with suppress(TimeoutError):
        async with asyncio.timeout(2.5):
            return await freeswitch.call(text, context, variables)
    return ""


def _left() -> dict[str, str]:
    """What an earlier question on the same channel may have left behind."""
    return {"DG_DECISION": "allow", "DG_DECISION_ID": "earlier", "DG_ANSWER": "allow", "AGISTATUS": "SUCCESS"}


PLAYED: Final = {
    "asterisk": Played("Asterisk, AGI()", "asterisk/dialgate-agi.conf", "dialgate-out", _asterisk),
    "asterisk-curl": Played("Asterisk, CURL()", "asterisk/dialgate-curl.conf", "dialgate-out", _asterisk),
    "vicidial": Played(
        "VICIdial and GoAutodial, carrier entry", "vicidial/carrier-entry.conf", "", _vicidial
    ),
    "freeswitch": Played("FreeSWITCH, mod_curl", "freeswitch/dialgate.xml", "dialgate", _freeswitch),
    "freeswitch-httapi": Played(
        "FreeSWITCH, mod_httapi", "freeswitch/dialgate-httapi.xml", "dialgate", _freeswitch
    ),
}


class Configured(Struct, frozen=True):
    played: Played
    text: str
    context: str

    async def place(self, port: int) -> str:
        text = self.text
        for there in (_AGI, _HTTP):
            text = text.replace(there, f"127.0.0.1:{port}")
        return await self.played.run(text, self.context)


class Python(Struct, frozen=True):
    """The client of this package."""

    async def place(self, port: int) -> str:
        async with Dialgate(f"http://127.0.0.1:{port}") as gate:
            verdict = await gate.check(to=TO, from_=CALLER, campaign=CAMPAIGN)
        return verdict.to if verdict.allow else ""


class Commanded(Struct, frozen=True):
    """Any dialer. `command` makes it place a call and ends with 0 once it is placed; it finds the number in
    DIALGATE_TO and the gate's port in DIALGATE_PORT. With a trunk, what counts is an INVITE that comes out there."""

    command: str
    patience: float
    trunk: int | None = None

    async def place(self, port: int) -> str:
        if self.trunk is None:
            return "exit 0" if await self._ran(port) == 0 else ""
        loop = asyncio.get_running_loop()
        transport, seen = await loop.create_datagram_endpoint(_Trunk, local_addr=("127.0.0.1", self.trunk))
        try:
            ran = asyncio.create_task(self._ran(port))
            await asyncio.wait([seen.invited], timeout=self.patience)
            ran.cancel()
            with suppress(asyncio.CancelledError):
                await ran
            return "INVITE" if seen.invited.done() else ""
        finally:
            transport.close()
            await seen.closed  # the next call needs the port

    async def _ran(self, port: int) -> int | None:
        environment = {**os.environ, "DIALGATE_PORT": str(port), "DIALGATE_TO": TO}
        process = await asyncio.create_subprocess_exec(
            *shlex.split(self.command), stdin=asyncio.subprocess.DEVNULL, env=environment
        )
        try:
            async with asyncio.timeout(self.patience):
                return await process.wait()
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


class _Trunk(asyncio.DatagramProtocol):
    """A SIP trunk that declines every call, and notes that one came."""

    def __init__(self) -> None:
        self.invited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed.set_result(None)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if not data.startswith(b"INVITE "):
            return
        kept = (b"via", b"v", b"from", b"f", b"to", b"t", b"call-id", b"i", b"cseq")
        lines = [line for line in data.split(b"\r\n") if line.partition(b":")[0].strip().lower() in kept]
        reply = b"\r\n".join([b"SIP/2.0 603 Decline", *lines, b"Content-Length: 0", b"", b""])
        self._transport.sendto(reply, addr)
        if not self.invited.done():
            self.invited.set_result(None)


def shipped(name: str, folder: Path) -> Configured:
    """Raises OSError where the configurations are not there."""
    played = PLAYED[name]
    return Configured(played, (folder / played.file).read_text("utf-8"), played.context)
