"""Real dialers under test: a command places each call, and the kit observes the call at the trunk."""

import asyncio
import os
import re
import shlex
from contextlib import suppress
from typing import Final, cast

from msgspec import Struct

from dialgate.tools.conformance.dialers import DialerFault
from dialgate.tools.conformance.gates import same_number
from dialgate.tools.conformance.model import ELSEWHERE, TO

_AFTER_REDIRECT_SECONDS: Final = 1.0
# Headers that show the caller ID, and further headers that name a person.
_SHOWN: Final = ("from", "f", "p-asserted-identity", "remote-party-id")
_OTHERS: Final = ("p-preferred-identity", "p-charge-info", "diversion", "history-info", "referred-by", "b")
_NUMBER: Final = re.compile(r"\+?[0-9]{3,15}")


class _TrunkInvite(Struct, frozen=True):
    """An INVITE at a trunk.

    `shown` are the numbers in the headers that show the caller ID, `others` those in further headers that name a person.
    `names` are the display names, except numbers. `hidden` is true if the caller ID is withheld.
    """

    to: str
    shown: tuple[str, ...]
    others: tuple[str, ...]
    names: tuple[str, ...]
    hidden: bool


class _Trunk(asyncio.DatagramProtocol):
    """A SIP trunk that records the INVITEs, and declines every call or redirects it to another number."""

    def __init__(self, *, redirects: bool) -> None:
        self.redirects = redirects
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
        first = [b"SIP/2.0 603 Decline"]
        if self.redirects:
            port = self._transport.get_extra_info("sockname")[1]
            contact = f"Contact: <sip:{ELSEWHERE}@127.0.0.1:{port}>".encode()
            first = [b"SIP/2.0 302 Moved Temporarily", contact]
        self.invites.append(_read_invite(data))
        self._transport.sendto(b"\r\n".join([*first, *lines, b"Content-Length: 0", b"", b""]), addr)
        if not self.invited.done():
            self.invited.set_result(None)


def _read_invite(data: bytes) -> _TrunkInvite:
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = [(name.strip().lower(), value) for name, _, value in (line.partition(":") for line in lines)]
    shown = [value for name, value in headers if name in _SHOWN]
    others = [value for name, value in headers if name in _OTHERS]
    numbers = _numbers(shown)
    names = [
        name.strip() for value in (*shown, *others) for name in re.findall(r'^\s*"?([^"<:]+?)"?\s*<', value)
    ]
    private = any(name == "privacy" and value.strip() != "none" for name, value in headers)
    to = re.match(r"INVITE sips?:([^@; ]*)@", first)
    return _TrunkInvite(
        to=to[1] if to else "",
        shown=numbers,
        others=_numbers(others),
        names=tuple(name for name in names if name and not _NUMBER.fullmatch(name)),
        hidden=private or "anonymous" in numbers,
    )


def _numbers(values: list[str]) -> tuple[str, ...]:
    return tuple(number for value in values for number in re.findall(r"(?:sips?|tel):([^@>;,]*)", value))


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
        return self._check_invites(await self._watch_trunk(port, redirects=False))

    async def place_redirected(self, port: int) -> None:
        """Place one call and redirect it. Raises `DialerFault` if the dialer calls `ELSEWHERE`."""
        self._check_invites(await self._watch_trunk(port, redirects=True))

    def _check_invites(self, invites: list[_TrunkInvite]) -> str:
        for invite in invites:
            if invite.to and not same_number(invite.to, TO):
                raise DialerFault(f"the trunk got a call to {invite.to}, which was not checked", "INVITE")
            if self.caller_id and not any(same_number(shown, self.caller_id) for shown in invite.shown):
                raise DialerFault("the trunk did not get the checked caller ID", "INVITE")
            if invite.hidden:
                raise DialerFault("the trunk got a call with a withheld caller ID", "INVITE")
            self._check_identities(invite)
        return "INVITE" if invites else ""

    def _check_identities(self, invite: _TrunkInvite) -> None:
        """Raise `DialerFault` if a header names another person. History-Info may contain the called number."""
        numbers = [number for number in (*invite.shown, *invite.others) if _NUMBER.fullmatch(number)]
        caller = self.caller_id or (numbers[0] if numbers else "")
        other = next(
            (name for name in numbers if not same_number(name, caller) and not same_number(name, TO)), ""
        )
        if other:
            raise DialerFault(f"the trunk also got {other}, which was not checked", "INVITE")
        if invite.names:
            raise DialerFault("the trunk got a caller name, which was not checked", "INVITE")

    async def _watch_trunk(self, port: int, *, redirects: bool) -> list[_TrunkInvite]:
        assert self.trunk is not None
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _Trunk(redirects=redirects), local_addr=("127.0.0.1", self.trunk)
        )
        try:
            running = asyncio.create_task(self._run_command(port))
            await asyncio.wait([protocol.invited], timeout=self.patience)
            if redirects and protocol.invited.done():
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
