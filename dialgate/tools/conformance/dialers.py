"""Dialers to put to the test: those we play, by the configuration that is shipped or by the operator's own; and the
operator's real one, told to call by a command and watched at its trunk."""

import asyncio
import os
import re
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, cast, runtime_checkable

from msgspec import Struct

from dialgate.client import Dialgate
from dialgate.tools.conformance import dialplan, freeswitch, trunk_dials, vicidial
from dialgate.tools.conformance.asterisk import Channel
from dialgate.tools.conformance.gates import same_number
from dialgate.tools.conformance.opensips import IDENTITIES, Invite, OpenSips, user

TO, CALLER, CAMPAIGN = "+390612345678", "+390844123456", "acme-fibre"
ELSEWHERE: Final = "+390699999999"  # where a trunk redirects to
_WITH_PREFIX: Final = f"9{TO.removeprefix('+')}"  # as VICIdial dials
_AGI, _HTTP = "127.0.0.1:4573", "127.0.0.1:8080"  # where the shipped configurations look for the gate
_MOST_SECONDS: Final = 4.0  # until a call of a dialer that is played counts as held
_AFTER_REDIRECT_SECONDS: Final = 1.0


class Amiss(Exception):
    """A dialer did what no case allows: another number or caller ID left, or a lead got a wrong status. `through`: how
    the call got through, where it did."""

    def __init__(self, problem: str, through: str = "") -> None:
        super().__init__(problem)
        self.through = through


class Held(Amiss):
    """The call was neither placed nor ended."""


class Dialer(Protocol):
    async def place(self, port: int) -> str:
        """Place one call, asking the gate on `port`. How it got through, or nothing where it did not. Raises `Amiss`."""


@runtime_checkable
class Redirected(Protocol):
    """A dialer whose trunk can answer 302."""

    @property
    def has_trunk(self) -> bool: ...

    async def place_redirected(self, port: int) -> None:
        """Place one call, and redirect it to `ELSEWHERE`. Raises `Amiss` where the dialer calls there."""


@runtime_checkable
class Searched(Protocol):
    """A dialer whose configuration can be searched for other ways to the trunk."""

    @property
    def has_dialplan(self) -> bool: ...

    def other_ways(self) -> list[str]:
        """Return the steps that dial the trunk past the checked one. Raises `Unknown`."""


class Left(Struct, frozen=True, kw_only=True):
    """A call as a trunk got it, of a dialer that is played. `how`: the dial string; empty, it did not leave. `shown`: the
    caller ID, where the emulator knows it. `follows`: whether a 302 is followed. `problem`: what else must not be."""

    how: str = ""
    shown: str = CALLER
    follows: bool = False
    problem: str = ""


class Played(Struct, frozen=True):
    """A configuration, run by an emulator. `about` says what that is; `extension`: what Asterisk dials, empty for others."""

    about: str
    file: str
    context: str
    run: Callable[[str, str], Awaitable[Left]]
    extension: str = ""


async def _asterisk(text: str, context: str) -> Left:
    channel = Channel(extension=TO, caller=CALLER, presentation="prohib", variables=_left())
    return _departed(await dialplan.run(text, context, channel))


async def _vicidial(text: str, context: str) -> Left:
    """Dialled with the trunk's digit before it; the call code stands in the caller's name."""
    variables = {**_left(), "CAMPCUST": CAMPAIGN.upper(), "CAMPDTO": "60"}
    channel = Channel(
        extension=_WITH_PREFIX,
        caller=CALLER,
        caller_name="V7152252280000844707",
        presentation="prohib",
        variables=variables,
    )
    left = _departed(await dialplan.run(text, context, channel))
    set_ = channel.variables
    status = vicidial.lead_status(set_.get("DIALSTATUS", ""), set_.get("HANGUPCAUSE", ""))
    bound = set_.get("DG_CLASS") == "number"
    if not left.how and status and not (bound and status == vicidial.DO_NOT_CALL):
        return Left(problem=f"the lead becomes {status}")
    return left


def _departed(run: dialplan.Run) -> Left:
    return Left(how=run.placed, shown=run.shown, follows=run.forwards)


async def _freeswitch(text: str, context: str) -> Left:
    """By a dialer that exported another caller ID, and privacy. A 302 is followed unless the leg forbids it."""
    variables = {"destination_number": TO, "caller_id_number": CALLER, "uuid": "u-1"}
    variables |= {"curl_response_code": "200", "curl_response_data": "allow", "dg_decision": "allow"}
    how = await freeswitch.call(text, context, variables)
    leg = freeswitch.leg_variables(how)
    shown = leg.get("origination_caller_id_number", ELSEWHERE)
    return Left(
        how=how,
        shown=shown if leg.get("origination_privacy") == "screen" else "anonymous",
        follows=leg.get("outbound_redirect_fatal") != "true",
    )


async def _opensips(text: str, context: str) -> Left:
    """An INVITE with every header by which a dialer could show another number, or none."""
    other = f"sip:{ELSEWHERE}@pbx"
    invite = Invite(
        uri=f"sip:{TO}@pbx;user=phone",
        from_uri=f"sip:{CALLER}@pbx",
        from_name=ELSEWHERE,
        to_uri=other,
        headers={name: "id" if name == "Privacy" else f"<{other}>" for name in IDENTITIES},
    )
    switch = OpenSips(text)
    await switch.call(invite, context)
    if not invite.left:
        return Left()
    how, shown = f"{invite.destination} {user(invite.uri)}", user(invite.from_uri)
    unchecked: list[str] = [name for name in IDENTITIES if name in invite.headers]
    unchecked += [name for name, wrong in (
        ("a display name", invite.from_name), ("To", user(invite.to_uri) != TO),
        ("parameters of the request URI", ";" in invite.uri),
    ) if wrong]  # fmt: skip
    await switch.redirect(invite)
    follows = 300 <= invite.status < 400  # noqa: PLR2004 - SIP's redirections
    problem = f"left unchecked: {', '.join(unchecked)}" if unchecked else ""
    return Left(how=how, shown=shown, follows=follows, problem=problem)


def _left() -> dict[str, str]:
    """What an earlier question on the same channel may have left behind."""
    return {
        "DG_DECISION": "allow", "DG_DECISION_ID": "earlier", "DG_CLASS": "number", "DG_ANSWER": "allow",
        "AGISTATUS": "SUCCESS",
    }  # fmt: skip


PLAYED: Final = {
    "asterisk": Played("Asterisk, AGI()", "asterisk/dialgate-agi.conf", "dialgate-out", _asterisk, TO),
    "asterisk-curl": Played("Asterisk, CURL()", "asterisk/dialgate-curl.conf", "dialgate-out", _asterisk, TO),
    "vicidial": Played(
        "VICIdial and GoAutodial, carrier entry", "vicidial/carrier-entry.conf", "", _vicidial, _WITH_PREFIX
    ),
    "freeswitch": Played("FreeSWITCH, mod_curl", "freeswitch/dialgate.xml", "dialgate", _freeswitch),
    "freeswitch-httapi": Played(
        "FreeSWITCH, mod_httapi", "freeswitch/dialgate-httapi.xml", "dialgate", _freeswitch
    ),
    "opensips": Played("OpenSIPS, rest_client", "opensips/dialgate.cfg", "DIALGATE", _opensips),
}


class Configured(Struct, frozen=True):
    played: Played
    text: str
    context: str

    @property
    def has_trunk(self) -> bool:
        return True

    @property
    def has_dialplan(self) -> bool:
        return bool(self.played.extension)

    def other_ways(self) -> list[str]:
        return trunk_dials.others(self.text, self.context, self.played.extension)

    async def place(self, port: int) -> str:
        left = await self._run(port)
        if left.problem:
            raise Amiss(left.problem, left.how)
        if left.how and TO.removeprefix("+") not in left.how:
            raise Amiss("another number was dialled", left.how)
        if left.how and left.shown != CALLER:
            raise Amiss(f"another caller ID was shown: {left.shown}", left.how)
        return left.how

    async def place_redirected(self, port: int) -> None:
        if (await self._run(port)).follows:
            raise Amiss("the trunk's 302 is followed to a number that was not checked")

    async def _run(self, port: int) -> Left:
        text = self.text
        for there in (_AGI, _HTTP):
            text = text.replace(there, f"127.0.0.1:{port}")
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                return await self.played.run(text, self.context)
        except TimeoutError:
            raise Held("the call was held: neither placed nor ended") from None


class Python(Struct, frozen=True):
    """The client of this package."""

    async def place(self, port: int) -> str:
        async with Dialgate(f"http://127.0.0.1:{port}") as gate:
            verdict = await gate.check(to=TO, from_=CALLER, campaign=CAMPAIGN)
        return verdict.to if verdict.allow else ""


class _Invited(Struct, frozen=True):
    """An INVITE at a trunk: the number called, those shown, and whether the caller is to be hidden."""

    to: str
    shown: tuple[str, ...]
    hidden: bool


class _Trunk(asyncio.DatagramProtocol):
    """A SIP trunk that declines every call, and notes what came."""

    redirects = False
    _refusal = b"SIP/2.0 603 Decline"

    def __init__(self) -> None:
        self.invites: list[_Invited] = []
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
        reply = b"\r\n".join([self._refusal, *self._extra(), *lines, b"Content-Length: 0", b"", b""])
        self.invites.append(_read_invite(data))
        self._transport.sendto(reply, addr)
        if not self.invited.done():
            self.invited.set_result(None)

    def _extra(self) -> list[bytes]:
        return []


class _Moved(_Trunk):
    """A trunk that redirects every call to another number of its own."""

    redirects = True
    _refusal = b"SIP/2.0 302 Moved Temporarily"

    def _extra(self) -> list[bytes]:
        port = self._transport.get_extra_info("sockname")[1]
        return [f"Contact: <sip:{ELSEWHERE}@127.0.0.1:{port}>".encode()]


def _read_invite(data: bytes) -> _Invited:
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = [(name.strip().lower(), value) for name, _, value in (line.partition(":") for line in lines)]
    shown = [
        value for name, value in headers if name in {"from", "f", "p-asserted-identity", "remote-party-id"}
    ]
    numbers = tuple(number for value in shown for number in re.findall(r"sips?:([^@>;]*)@", value))
    private = any(name == "privacy" and value.strip() != "none" for name, value in headers)
    to = re.match(r"INVITE sips?:([^@; ]*)@", first)
    return _Invited(to[1] if to else "", numbers, private or "anonymous" in numbers)


class Commanded(Struct, frozen=True):
    """Any dialer. `command` makes it place a call and ends with 0 once it is placed; it finds the number in
    DIALGATE_TO and the gate's port in DIALGATE_PORT. With a trunk, what counts is an INVITE that comes out there.
    `caller_id`: what the dialer shows; empty, any number."""

    command: str
    patience: float
    trunk: int | None = None
    caller_id: str = ""

    @property
    def has_trunk(self) -> bool:
        return self.trunk is not None

    async def place(self, port: int) -> str:
        if self.trunk is None:
            return "exit 0" if await self._ran(port) == 0 else ""
        return self._judged(await self._called(port, _Trunk))

    async def place_redirected(self, port: int) -> None:
        self._judged(await self._called(port, _Moved))

    def _judged(self, invited: list[_Invited]) -> str:
        for invite in invited:
            if invite.to and not same_number(invite.to, TO):
                raise Amiss(f"the trunk was called for {invite.to}, which was not checked", "INVITE")
            if self.caller_id and not any(same_number(shown, self.caller_id) for shown in invite.shown):
                raise Amiss("the trunk got another caller ID than the call shows", "INVITE")
            if invite.hidden:
                raise Amiss("the trunk got a call whose caller ID is withheld", "INVITE")
        return "INVITE" if invited else ""

    async def _called(self, port: int, trunk: type[_Trunk]) -> list[_Invited]:
        assert self.trunk is not None
        loop = asyncio.get_running_loop()
        transport, seen = await loop.create_datagram_endpoint(trunk, local_addr=("127.0.0.1", self.trunk))
        try:
            ran = asyncio.create_task(self._ran(port))
            await asyncio.wait([seen.invited], timeout=self.patience)
            if seen.redirects and seen.invited.done():
                await asyncio.sleep(
                    _AFTER_REDIRECT_SECONDS
                )  # the command may have ended long before its call
            ran.cancel()
            with suppress(asyncio.CancelledError):
                await ran
            return seen.invites
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


def shipped(name: str, folder: Path) -> Configured:
    """Raises OSError where the configurations are not there."""
    played = PLAYED[name]
    return Configured(played, (folder / played.file).read_text("utf-8"), played.context)
