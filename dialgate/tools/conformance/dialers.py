"""The dialers under test, except real ones (`real_dialers.py`).

Emulated dialers run the shipped or the operator's configuration.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from dialgate.client import Dialgate
from dialgate.tools.conformance import dialplan, freeswitch, freeswitch_leg, trunk_dials, vicidial
from dialgate.tools.conformance.asterisk import Channel
from dialgate.tools.conformance.opensips import IDENTITIES, Invite, OpenSips, user

TO, CALLER, CAMPAIGN = "+390612345678", "+390844123456", "acme-fibre"
ELSEWHERE: Final = "+390699999999"  # the number to which a trunk redirects
_WITH_PREFIX: Final = f"9{TO.removeprefix('+')}"  # the number as VICIdial dials it
_EARLIER_ALLOW: Final = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDialgate-Decision: allow\r\n\r\n\nallow"
_AGI, _HTTP = "127.0.0.1:4573", "127.0.0.1:8080"  # the gate's addresses in the shipped configurations
_REDIRECTING: Final = {"count": "1", "from-num": ELSEWHERE, "from-name": "Somebody else"}
_MOST_SECONDS: Final = 4.0  # after this time a call by an emulated dialer counts as hanging


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
    """A kind of emulated dialer.

    `extension` is the extension to call, for Asterisk only. `within` returns the requests within a call that the dialer
    relays to an unchecked number, for a SIP proxy only.
    """

    about: str
    file: str
    context: str
    run: Callable[[str, str], Awaitable[Departure]]
    extension: str = ""
    within: Callable[[str], Awaitable[list[str]]] | None = None


async def _asterisk(text: str, context: str) -> Departure:
    channel = Channel(
        extension=TO,
        caller=CALLER,
        caller_name="Somebody else",
        presentation="prohib",
        redirecting=dict(_REDIRECTING),
        variables=_leftovers(),
    )
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
        redirecting=dict(_REDIRECTING),
        variables=variables,
    )
    departure = _departure(await dialplan.run(text, context, channel))
    result = channel.variables
    status = vicidial.lead_status(result.get("DIALSTATUS", ""), result.get("HANGUPCAUSE", ""))
    is_bound = result.get("DG_CLASS") == "number"
    if not departure.how and status and not (is_bound and status == vicidial.DO_NOT_CALL):
        return Departure(problem=f"the lead gets the status {status}")
    return departure


def _departure(run: dialplan.DialplanRun) -> Departure:
    problem = f"left unchecked: {', '.join(run.unchecked)}" if run.unchecked else ""
    return Departure(how=run.placed, shown=run.shown, follows=run.forwards, problem=problem)


async def _freeswitch(text: str, context: str) -> Departure:
    """Place a call through a dialer that has set and exported everything that could replace what is checked."""
    return departure_of(await freeswitch.call(text, context, freeswitch_channel()))


def freeswitch_channel() -> freeswitch_leg.FreeswitchChannel:
    """Return a channel with an earlier allow, foreign variables and the headers of the dialer's INVITE."""
    other = f"sip:{ELSEWHERE}@pbx"
    exported = {
        "sip_invite_req_uri": other, "sip_invite_from_uri": other, "sip_from_uri": other, "sip_route_uri": other,
        "sip_invite_to_uri": other, "sip_from_display": ELSEWHERE, "sip_h_Privacy": "id",
        "origination_caller_id_number": ELSEWHERE, "origination_caller_id_name": ELSEWHERE,
        "origination_privacy": "hide_number", "outbound_redirect_fatal": "false", "originate_retries": "3",
    }  # fmt: skip
    copied = {f"sip_h_{name}": f"<{other}>" for name in (*IDENTITIES, "X-Customer")}
    left = {"curl_response_code": "200", "curl_response_data": _EARLIER_ALLOW, "dg_decision": "allow"}
    hidden = {
        "destination_number": ELSEWHERE, "effective_caller_id_number": ELSEWHERE,
        "effective_caller_id_name": ELSEWHERE, "campon": "true",
    }  # fmt: skip
    return freeswitch_leg.FreeswitchChannel(
        number=TO,
        caller=CALLER,
        name=ELSEWHERE,
        private=True,
        variables={
            **exported, **copied, **left, **hidden, "sip_multipart": "application/isup",
            "export_vars": ",".join(exported), "dialgate_campaign": CAMPAIGN,
        },
    )  # fmt: skip


def departure_of(invites: Sequence[freeswitch_leg.FreeswitchInvite]) -> Departure:
    """Return the outcome of a call by FreeSWITCH."""
    if not invites:
        return Departure()
    unchecked = [header for invite in invites for header in invite.rest]
    unchecked += ["a display name" for invite in invites if invite.name]
    unchecked += ["another attempt" for invite in invites if invite.repeats]
    return Departure(
        how=_other_than(TO, (invite.number for invite in invites)),
        shown=_other_than(CALLER, ("anonymous" if invite.private else invite.caller for invite in invites)),
        follows=any(invite.follows for invite in invites),
        problem=_left_unchecked(unchecked),
    )


def _other_than(wanted: str, values: Iterable[str]) -> str:
    """Return the first value that is not the wanted one, or the wanted one if there is none."""
    return next((value for value in values if value != wanted), wanted)


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
    return Departure(how=how, shown=shown, follows=follows, problem=_left_unchecked(unchecked))


def _left_unchecked(names: Iterable[str]) -> str:
    unique = dict.fromkeys(names)
    return f"left unchecked: {', '.join(unique)}" if unique else ""


_TARGET, _OTHER_TARGET = "sip:line@trunk", f"sip:{ELSEWHERE}@trunk"
# Requests that lead to an unchecked number, with the dialog's state. None may be relayed.
_WITHIN: Final = (
    ("INVITE", 0, _OTHER_TARGET, "an INVITE with a To tag and a Route, but without a call"),
    ("INVITE", 2, _OTHER_TARGET, "an INVITE to another number before the answer"),
    ("INVITE", 4, _OTHER_TARGET, "an INVITE to another number after the answer"),
    ("REFER", 4, _TARGET, "a REFER"),
)


async def _within_opensips(text: str) -> list[str]:
    switch, relayed = OpenSips(text), []
    if not switch.has_route(""):
        return ["not tested: the file has no main route; name the whole script with --file"]
    for method, dialog, uri, name in _WITHIN:
        invite = Invite(
            uri=uri, from_uri=f"sip:{CALLER}@pbx", to_uri=uri, method=method, to_tag="x", dialog=dialog, target=_TARGET
        )  # fmt: skip
        invite.headers["Route"] = "<sip:opensips;lr>"
        await switch.call(invite, "")
        if invite.left:
            relayed.append(name)
    return relayed


def _leftovers() -> dict[str, str]:
    """Return the variables that an earlier check, or the dialer's own dialplan, may have left on the same channel."""
    return {
        "DG_DECISION": "allow", "DG_DECISION_ID": "earlier", "DG_CLASS": "number", "DG_ANSWER": "allow",
        "AGISTATUS": "SUCCESS", "SIPFROMDOMAIN": "elsewhere.example",
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
    "opensips": Emulated(
        "OpenSIPS, rest_client", "opensips/dialgate.cfg", "DIALGATE", _opensips, within=_within_opensips
    ),
}


class ConfiguredDialer(Struct, frozen=True):
    """An emulated dialer with one configuration file."""

    kind: Emulated
    text: str
    context: str

    def unchecked_dials(self) -> list[str]:
        """Return every step that dials the trunk, except the step that dials the test call. Raises `Unknown`."""
        return trunk_dials.others(self.text, self.context, self.kind.extension)

    async def unchecked_within(self) -> list[str]:
        """Return the requests within a call that reach an unchecked number. Raises `Unknown`."""
        return await self.kind.within(self.text) if self.kind.within else []

    async def place(self, port: int) -> str:
        departure = await self._run(port)
        if departure.problem:
            raise DialerFault(departure.problem, departure.how)
        if departure.how and not re.search(rf"(?<!\d){TO.removeprefix('+')}(?!\d)", departure.how):
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


def read_shipped(name: str, folder: Path) -> ConfiguredDialer:
    """Read a dialer's shipped configuration from `folder`. Raises `OSError`."""
    kind = EMULATED[name]
    return ConfiguredDialer(kind, (folder / kind.file).read_text("utf-8"), kind.context)
