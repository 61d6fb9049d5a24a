"""The dialers under test, except real ones (`real_dialers.py`).

Emulated dialers run the shipped or the operator's configuration.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from dialgate.client import Dialgate
from dialgate.tools.conformance import dialplan, freeswitch, opensips
from dialgate.tools.conformance.asterisk import Channel
from dialgate.tools.conformance.model import CALLER, CAMPAIGN, ELSEWHERE, TO, EmulatedCall

_WITH_PREFIX: Final = f"9{TO.removeprefix('+')}"  # the number as VICIdial dials it
_AGI, _HTTP = "127.0.0.1:4573", "127.0.0.1:8080"  # the gate's addresses in the shipped configurations
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


class Emulated(Struct, frozen=True):
    """A kind of emulated dialer.

    `extension` is the extension to call, for Asterisk only. `bypass` is the name of the case in which the trunk is reached
    without a check. Its ways are in the file for Asterisk, and in requests within a call for a SIP proxy.
    """

    about: str
    file: str
    context: str
    run: Callable[[str, str], Awaitable[EmulatedCall]]
    extension: str = ""
    bypass: str = ""


def _channel(extension: str, caller_name: str, **variables: str) -> Channel:
    """Return a channel on which the dialer withholds the caller ID, and what an earlier check may have left."""
    left = {
        "DG_DECISION": "allow", "DG_DECISION_ID": "earlier", "DG_CLASS": "number", "DG_ANSWER": "allow",
        "AGISTATUS": "SUCCESS", "SIPFROMDOMAIN": "elsewhere.example", "CALLERID(pres)": "prohib",
        "REDIRECTING(count)": "1", "REDIRECTING(from-num)": ELSEWHERE, "REDIRECTING(from-name)": "Somebody else",
    }  # fmt: skip
    return Channel(extension=extension, caller=CALLER, caller_name=caller_name, variables=left | variables)


async def _asterisk(text: str, context: str) -> EmulatedCall:
    return await dialplan.run(text, context, _channel(TO, "Somebody else"))


async def _vicidial(text: str, context: str) -> EmulatedCall:
    """Place a call as VICIdial does: the extension has its dial prefix (9), and the caller name is its call code."""
    channel = _channel(_WITH_PREFIX, "V7152252280000844707", CAMPCUST=CAMPAIGN.upper(), CAMPDTO="60")
    departure = await dialplan.run(text, context, channel)
    result = channel.variables
    status = lead_status(result.get("DIALSTATUS", ""), result.get("HANGUPCAUSE", ""))
    is_bound = result.get("DG_CLASS") == "number"
    if not departure.how and status and not (is_bound and status == _DO_NOT_CALL):
        return EmulatedCall(problem=f"the lead gets the status {status}")
    return departure


_DO_NOT_CALL: Final = "DNCCAR"


def lead_status(dial_status: str, hangup_cause: str) -> str:
    """Return the status that VICIdial (SVN 3884) gives to a lead whose call ended, or "" if it will call the lead again.

    The setting `Enhanced Disconnect Logging` must be 1 or 2, and the column `vicidial_auto_calls.status` must accept
    `DNCCAR`. By default it does not, and the lead gets `NA` instead.
    """
    match dial_status, hangup_cause:
        case "DNC", _:
            return _DO_NOT_CALL
        case "DISCONNECT", _:
            return "ADCCAR"
        case ("CHANUNAVAIL", _) | ("CONGESTION", "1"):
            return "ADC"
        case "CONGESTION", "19" | "21" | "34" | "38" | "102":
            return "ADCT"
    return ""


async def _freeswitch(text: str, context: str) -> EmulatedCall:
    return await freeswitch.FreeswitchCall(text, freeswitch.dialers_variables()).run(context)


EMULATED: Final = {
    "asterisk": Emulated(
        "Asterisk, AGI()", "asterisk/dialgate-agi.conf", "dialgate-out", _asterisk, TO, "another"
    ),
    "asterisk-curl": Emulated(
        "Asterisk, CURL()", "asterisk/dialgate-curl.conf", "dialgate-out", _asterisk, TO, "another"
    ),
    "vicidial": Emulated(
        "VICIdial and GoAutodial, carrier entry", "vicidial/carrier-entry.conf", "", _vicidial, _WITH_PREFIX, "another"
    ),
    "freeswitch": Emulated("FreeSWITCH, mod_curl", "freeswitch/dialgate.xml", "dialgate", _freeswitch),
    "freeswitch-httapi": Emulated(
        "FreeSWITCH, mod_httapi", "freeswitch/dialgate-httapi.xml", "dialgate", _freeswitch
    ),
    "opensips": Emulated(
        "OpenSIPS, rest_client", "opensips/dialgate.cfg", "DIALGATE", opensips.place, bypass="within"
    ),
}  # fmt: skip


class ConfiguredDialer(Struct, frozen=True):
    """An emulated dialer with one configuration file."""

    kind: Emulated
    text: str
    context: str

    async def bypasses(self) -> list[str]:
        """Return the ways to the trunk without a check. Raises `Unknown`."""
        if self.kind.extension:
            return dialplan.other_dials(self.text, self.context, self.kind.extension)
        return await opensips.relayed_within(self.text)

    async def place(self, port: int) -> str:
        departure = await self._run(port)
        if departure.problem:
            raise DialerFault(departure.problem)
        if not departure.how:
            return ""
        if departure.unchecked:
            raise DialerFault(f"left unchecked: {', '.join(departure.unchecked)}", departure.how)
        if not re.search(rf"(?<!\d){TO.removeprefix('+')}(?!\d)", departure.how):
            raise DialerFault("a different number was dialled", departure.how)
        if departure.shown != CALLER:
            raise DialerFault(f"the call showed a different caller ID: {departure.shown}", departure.how)
        return departure.how

    async def place_redirected(self, port: int) -> None:
        """Place one call and redirect it to `ELSEWHERE`. Raises `DialerFault` if the dialer calls that number."""
        if (await self._run(port)).follows:
            raise DialerFault("the dialer follows the trunk's 302 to a number that was not checked")

    async def _run(self, port: int) -> EmulatedCall:
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
