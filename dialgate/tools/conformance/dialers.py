"""The dialers under test.

Emulated dialers run the shipped or the operator's configuration. For a real dialer, a command places each
call, and the kit observes the call at the trunk.
"""

import asyncio
import os
import re
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, cast

from msgspec import Struct

from dialgate.client import Dialgate
from dialgate.tools.conformance import dialplan, freeswitch, trunk_dials, vicidial
from dialgate.tools.conformance.asterisk import Channel
from dialgate.tools.conformance.gates import same_number
from dialgate.tools.conformance.opensips import IDENTITIES, Invite, OpenSips, user

TO, CALLER, CAMPAIGN = "+390612345678", "+390844123456", "acme-fibre"
ELSEWHERE: Final = "+390699999999"  # the number to which a trunk redirects
_WITH_PREFIX: Final = f"9{TO.removeprefix('+')}"  # the number as VICIdial dials it
_AGI, _HTTP = "127.0.0.1:4573", "127.0.0.1:8080"  # the gate's addresses in the shipped configurations
_MOST_SECONDS: Final = 4.0  # after this time a call by an emulated dialer counts as hanging
_AFTER_REDIRECT_SECONDS: Final = 1.0


class DialerFault(Exception):
    """Raised for a dialer's fault that fails the test case, such as a different caller ID.

    `through` says how the call got through, or is empty if it did not.
    """

    def __init__(self, problem: str, through: str = "") -> None:
        super().__init__(problem)
        self.through = through


class CallHanging(DialerFault):
    """Raised for a call that neither reached the trunk nor ended."""


class Dialer(Protocol):
    async def place(self, port: int) -> str:
        """Place one call and check it with the gate on `port`. Return how the call got through, or "" if it did not.

        Raises `DialerFault`.
        """


class Departure(Struct, frozen=True, kw_only=True):
    """The outcome of a call by an emulated dialer.

    - `how` is the dial string, or empty if the call did not leave the dialer.
    - `shown` is the caller ID that the trunk receives, or "anonymous". It has no meaning if `how` is empty.
    - `follows` is true if the dialer follows a redirect (302).
    - `problem` describes a fault that the other fields do not show, such as an unchecked header.
    """

    how: str = ""
    shown: str = CALLER
    follows: bool = False
    problem: str = ""


class Emulated(Struct, frozen=True):
    """A kind of emulated dialer. `extension` is the extension to call, for Asterisk only."""

    about: str
    file: str
    context: str
    run: Callable[[str, str], Awaitable[Departure]]
    extension: str = ""


async def _asterisk(text: str, context: str) -> Departure:
    channel = Channel(extension=TO, caller=CALLER, presentation="prohib", variables=_leftovers())
    return _departure(await dialplan.run(text, context, channel))


async def _vicidial(text: str, context: str) -> Departure:
    """Place a call as VICIdial does.

    The extension is VICIdial's dial prefix (9) followed by the number. The caller name is VICIdial's call code.
    """
    variables = {**_leftovers(), "CAMPCUST": CAMPAIGN.upper(), "CAMPDTO": "60"}
    channel = Channel(
        extension=_WITH_PREFIX,
        caller=CALLER,
        caller_name="V7152252280000844707",
        presentation="prohib",
        variables=variables,
    )
    departure = _departure(await dialplan.run(text, context, channel))
    result = channel.variables
    status = vicidial.lead_status(result.get("DIALSTATUS", ""), result.get("HANGUPCAUSE", ""))
    is_bound = result.get("DG_CLASS") == "number"
    if not departure.how and status and not (is_bound and status == vicidial.DO_NOT_CALL):
        return Departure(problem=f"the lead gets the status {status}")
    return departure


def _departure(run: dialplan.Run) -> Departure:
    return Departure(how=run.placed, shown=run.shown, follows=run.forwards)


async def _freeswitch(text: str, context: str) -> Departure:
    """Place a call through a dialer that has exported a wrong caller ID and a privacy setting.

    The leg's variables must override the caller ID and the privacy setting. The dialer follows a redirect (302)
    unless one of the leg's variables forbids redirects.
    """
    variables = {"destination_number": TO, "caller_id_number": CALLER, "uuid": "u-1"}
    variables |= {"curl_response_code": "200", "curl_response_data": "allow", "dg_decision": "allow"}
    how = await freeswitch.call(text, context, variables)
    leg = freeswitch.leg_variables(how)
    shown = leg.get("origination_caller_id_number", ELSEWHERE)
    return Departure(
        how=how,
        shown=shown if leg.get("origination_privacy") == "screen" else "anonymous",
        follows=leg.get("outbound_redirect_fatal") != "true",
    )


async def _opensips(text: str, context: str) -> Departure:
    """Send an INVITE with every header that could show a wrong caller ID or withhold the right one."""
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
        return Departure()
    how, shown = f"{invite.destination} {user(invite.uri)}", user(invite.from_uri)
    unchecked: list[str] = [name for name in IDENTITIES if name in invite.headers]
    unchecked += [name for name, wrong in (
        ("a display name", invite.from_name), ("To", user(invite.to_uri) != TO),
        ("request URI parameters", ";" in invite.uri),
    ) if wrong]  # fmt: skip
    await switch.redirect(invite)
    follows = 300 <= invite.status < 400  # noqa: PLR2004 - SIP's redirections
    problem = f"left unchecked: {', '.join(unchecked)}" if unchecked else ""
    return Departure(how=how, shown=shown, follows=follows, problem=problem)


def _leftovers() -> dict[str, str]:
    """Return the variables that an earlier check may have left on the same channel."""
    return {
        "DG_DECISION": "allow", "DG_DECISION_ID": "earlier", "DG_CLASS": "number", "DG_ANSWER": "allow",
        "AGISTATUS": "SUCCESS",
    }  # fmt: skip


EMULATED: Final = {
    "asterisk": Emulated("Asterisk, AGI()", "asterisk/dialgate-agi.conf", "dialgate-out", _asterisk, TO),
    "asterisk-curl": Emulated(
        "Asterisk, CURL()", "asterisk/dialgate-curl.conf", "dialgate-out", _asterisk, TO
    ),
    "vicidial": Emulated(
        "VICIdial and GoAutodial, carrier entry", "vicidial/carrier-entry.conf", "", _vicidial, _WITH_PREFIX
    ),
    "freeswitch": Emulated("FreeSWITCH, mod_curl", "freeswitch/dialgate.xml", "dialgate", _freeswitch),
    "freeswitch-httapi": Emulated(
        "FreeSWITCH, mod_httapi", "freeswitch/dialgate-httapi.xml", "dialgate", _freeswitch
    ),
    "opensips": Emulated("OpenSIPS, rest_client", "opensips/dialgate.cfg", "DIALGATE", _opensips),
}


class ConfiguredDialer(Struct, frozen=True):
    """An emulated dialer with one configuration file."""

    kind: Emulated
    text: str
    context: str

    def unchecked_dials(self) -> list[str]:
        """Return every step that dials the trunk, except the step that dials the test call. Raises `Unknown`."""
        return trunk_dials.others(self.text, self.context, self.kind.extension)

    async def place(self, port: int) -> str:
        departure = await self._run(port)
        if departure.problem:
            raise DialerFault(departure.problem, departure.how)
        if departure.how and TO.removeprefix("+") not in departure.how:
            raise DialerFault("a different number was dialled", departure.how)
        if departure.how and departure.shown != CALLER:
            raise DialerFault(f"the call showed a different caller ID: {departure.shown}", departure.how)
        return departure.how

    async def place_redirected(self, port: int) -> None:
        """Place one call and redirect it to `ELSEWHERE`. Raises `DialerFault` if the dialer calls that number."""
        if (await self._run(port)).follows:
            raise DialerFault("the dialer follows the trunk's 302 to a number that was not checked")

    async def _run(self, port: int) -> Departure:
        text = self.text
        for address in (_AGI, _HTTP):
            text = text.replace(address, f"127.0.0.1:{port}")
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                return await self.kind.run(text, self.context)
        except TimeoutError:
            raise CallHanging("the call is stuck: it was neither placed nor ended") from None


class PythonClient(Struct, frozen=True):
    async def place(self, port: int) -> str:
        async with Dialgate(f"http://127.0.0.1:{port}") as gate:
            verdict = await gate.check(to=TO, from_=CALLER, campaign=CAMPAIGN)
        return verdict.to if verdict.allow else ""


class _TrunkInvite(Struct, frozen=True):
    """An INVITE at a trunk: the called number, the caller IDs, and whether the caller ID is withheld."""

    to: str
    shown: tuple[str, ...]
    hidden: bool


class _Trunk(asyncio.DatagramProtocol):
    """A SIP trunk that declines every call and records the INVITEs."""

    redirects = False
    _refusal = b"SIP/2.0 603 Decline"

    def __init__(self) -> None:
        self.invites: list[_TrunkInvite] = []
        self.invited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed.set_result(None)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if not data.startswith(b"INVITE "):
            return
        copied = (b"via", b"v", b"from", b"f", b"to", b"t", b"call-id", b"i", b"cseq")
        lines = [line for line in data.split(b"\r\n") if line.partition(b":")[0].strip().lower() in copied]
        reply = b"\r\n".join([self._refusal, *self._extra(), *lines, b"Content-Length: 0", b"", b""])
        self.invites.append(_read_invite(data))
        self._transport.sendto(reply, addr)
        if not self.invited.done():
            self.invited.set_result(None)

    def _extra(self) -> list[bytes]:
        return []


class _RedirectingTrunk(_Trunk):
    """A trunk that redirects every call to another number at the same trunk."""

    redirects = True
    _refusal = b"SIP/2.0 302 Moved Temporarily"

    def _extra(self) -> list[bytes]:
        port = self._transport.get_extra_info("sockname")[1]
        return [f"Contact: <sip:{ELSEWHERE}@127.0.0.1:{port}>".encode()]


def _read_invite(data: bytes) -> _TrunkInvite:
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = [(name.strip().lower(), value) for name, _, value in (line.partition(":") for line in lines)]
    shown = [
        value for name, value in headers if name in {"from", "f", "p-asserted-identity", "remote-party-id"}
    ]
    numbers = tuple(number for value in shown for number in re.findall(r"sips?:([^@>;]*)@", value))
    private = any(name == "privacy" and value.strip() != "none" for name, value in headers)
    to = re.match(r"INVITE sips?:([^@; ]*)@", first)
    return _TrunkInvite(to[1] if to else "", numbers, private or "anonymous" in numbers)


class RealDialer(Struct, frozen=True):
    """A real dialer. Running `command` makes it place one call.

    The command receives the number in DIALGATE_TO and the gate's port in DIALGATE_PORT. With `trunk`, the
    call counts as placed if an INVITE arrives on that UDP port. Without `trunk`, it counts as placed if the
    command ends with exit code 0. `caller_id` is the caller ID that the dialer must show, or empty if any is
    allowed.
    """

    command: str
    patience: float
    trunk: int | None = None
    caller_id: str = ""

    async def place(self, port: int) -> str:
        if self.trunk is None:
            return "exit 0" if await self._run_command(port) == 0 else ""
        return self._check_invites(await self._watch_trunk(port, _Trunk))

    async def place_redirected(self, port: int) -> None:
        """Place one call and redirect it. Raises `DialerFault` if the dialer calls `ELSEWHERE`."""
        self._check_invites(await self._watch_trunk(port, _RedirectingTrunk))

    def _check_invites(self, invites: list[_TrunkInvite]) -> str:
        for invite in invites:
            if invite.to and not same_number(invite.to, TO):
                raise DialerFault(f"the trunk got a call to {invite.to}, which was not checked", "INVITE")
            if self.caller_id and not any(same_number(shown, self.caller_id) for shown in invite.shown):
                raise DialerFault("the trunk did not get the checked caller ID", "INVITE")
            if invite.hidden:
                raise DialerFault("the trunk got a call with a withheld caller ID", "INVITE")
        return "INVITE" if invites else ""

    async def _watch_trunk(self, port: int, trunk: type[_Trunk]) -> list[_TrunkInvite]:
        assert self.trunk is not None
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(trunk, local_addr=("127.0.0.1", self.trunk))
        try:
            running = asyncio.create_task(self._run_command(port))
            await asyncio.wait([protocol.invited], timeout=self.patience)
            if protocol.redirects and protocol.invited.done():
                # The command may end long before its call.
                await asyncio.sleep(_AFTER_REDIRECT_SECONDS)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            return protocol.invites
        finally:
            transport.close()
            await protocol.closed  # the next call needs the port

    async def _run_command(self, port: int) -> int | None:
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


def read_shipped(name: str, folder: Path) -> ConfiguredDialer:
    """Read a dialer's shipped configuration from `folder`. Raises `OSError`."""
    kind = EMULATED[name]
    return ConfiguredDialer(kind, (folder / kind.file).read_text("utf-8"), kind.context)
