"""A reader of FreeSWITCH's XML dialplan: what the shipped dialplans use, as observed on FreeSWITCH 1.11.3-dev (cc93a68).

Like FreeSWITCH, it first evaluates all conditions and runs inline actions immediately, then runs the other actions.
A dialer can export variables and send headers that replace the number, the caller ID or its presentation on the trunk,
so `bridge` must do everything in `_BEFORE` and `_IN_BRACKETS`.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from dialgate.tools.conformance.model import (
    CALLER,
    CAMPAIGN,
    ELSEWHERE,
    IDENTITIES,
    TO,
    EmulatedCall,
    FetchedResponse,
    Unknown,
    expand,
    fetch,
)

_CONDITION: Final = frozenset({"field", "expression", "break"})
_ENCODE: Final = re.compile(r"url_encode\((.*)\)")
_LEG: Final = re.compile(r"\[([^]]*)\]sofia/(?:gateway/)?[^/,|@]+/([^/,|@]+)(?:@[^/,|]+)?")
_OK: Final = 200
_PROFILE_SECONDS: Final = 1.0  # the profile's `timeout` in httapi.conf.xml
# Variables of the call at its bridge, and of the leg in brackets: what the dialer set otherwise reaches the trunk.
_BEFORE: Final = {
    "export_vars": "", "sip_copy_custom_headers": "false", "sip_copy_multipart": "false", "campon": "false",
}  # fmt: skip
_IN_BRACKETS: Final = {"origination_caller_id_name": "_undef_"}
_EARLIER_ALLOW: Final = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDialgate-Decision: allow\r\n\r\n\nallow"


def dialers_variables() -> dict[str, str]:
    """Return the variables of a call whose dialer left an earlier allow, and set all that could replace what is checked."""
    other = f"sip:{ELSEWHERE}@pbx"
    exported = {
        "sip_invite_req_uri": other, "sip_invite_from_uri": other, "sip_from_uri": other, "sip_route_uri": other,
        "origination_caller_id_number": ELSEWHERE, "origination_privacy": "hide_number",
    }  # fmt: skip
    headers = {f"sip_h_{name}": f"<{other}>" for name in (*IDENTITIES, "X-Customer")}
    return exported | headers | {
        "curl_response_code": "200", "curl_response_data": _EARLIER_ALLOW, "dg_decision": "allow",
        "destination_number": ELSEWHERE, "effective_caller_id_number": ELSEWHERE, "campon": "true",
        "export_vars": ",".join(exported), "dialgate_campaign": CAMPAIGN,
    }  # fmt: skip


class FreeswitchCall:
    """One run of a dialplan for the test call. `response` is the SIP status that `respond` sent, or 0."""

    def __init__(self, text: str, variables: dict[str, str]) -> None:
        self.variables = variables
        self.response = 0
        self._profile = {"destination_number": TO, "caller_id_number": CALLER, "uuid": "u-1"}
        self._document = ET.fromstring(text)  # noqa: S314 - the operator's own file

    async def run(self, context: str) -> EmulatedCall:
        """Run to the end. Raises `Unknown`."""
        for name, data in await self._hunt(context):
            expanded = await self._expand(data)
            if name == "bridge":
                return leave(self.variables, expanded)
            if name == "transfer":
                self._profile["destination_number"], _, target = expanded.split(" ")
                return await self.run(target)
            if not await self._execute(name, expanded):
                break
        return EmulatedCall()

    async def _hunt(self, context: str) -> list[tuple[str, str]]:
        """Evaluate a context's conditions, run the inline actions and return the other actions."""
        node = next((node for node in self._document.iter("context") if node.get("name") == context), None)
        if node is None:
            raise Unknown(f"the context {context}")
        actions: list[tuple[str, str]] = []
        for extension in node.iter("extension"):
            more, ends = await self._hunt_extension(extension)
            actions += more
            if ends and extension.get("continue") != "true":
                break
        return actions

    async def _hunt_extension(self, extension: ET.Element) -> tuple[list[tuple[str, str]], bool]:
        """Run an extension's inline actions. Return its other actions, and whether the search ends here.

        It ends if the last condition matched or had an anti-action.
        """
        actions: list[tuple[str, str]] = []
        ends = False
        for condition in extension.findall("condition"):
            if condition.find("condition") is not None or not set(condition.keys()) <= _CONDITION:
                raise Unknown(f"a condition with {', '.join(condition.keys())}")
            match = await self._match(condition)
            chosen = condition.findall("action" if match else "anti-action")
            ends = bool(match or chosen)
            for action in chosen:
                name, data = action.get("application", ""), action.get("data", "")
                for at, group in enumerate(match.groups() if match else (), 1):
                    data = data.replace(f"${at}", group or "")
                if action.get("inline") == "true":
                    await self._execute(name, await self._expand(data))
                else:
                    actions.append((name, data))
            if not match and condition.get("break") != "never":
                break
        return actions, ends

    async def _match(self, condition: ET.Element) -> re.Match[str] | None:
        field = condition.get("field", "")
        value = await self._expand(field) if "$" in field else self._profile.get(field, "")
        return re.search(condition.get("expression", "").replace(r"\z", r"\Z"), value)

    async def _execute(self, name: str, data: str) -> bool:
        """Run an application. Return False if the call has ended."""
        variable, _, value = data.partition("=")
        match name:
            case "set":
                self.variables[variable] = value
            case "unset":
                self.variables.pop(data, None)
            case "curl":
                await self._curl(data)
            case "httapi":
                return self._follow(await fetch(data, _PROFILE_SECONDS))
            case "respond":
                self.response = int(data.partition(" ")[0])
                return False
            case "hangup":
                self.variables["hangup_cause"] = data or "NORMAL_CLEARING"
                return False
            case "log":
                pass
            case _:
                raise Unknown(f"the application {name}")
        return True

    async def _curl(self, data: str) -> None:
        """Set the response's variables as mod_curl does: also a part of a body, up to a null byte."""
        url, _, options = data.partition(" ")
        limit = self.variables.get("curl_timeout", "")  # no limit without the variable
        response = await fetch(url, float(limit) if limit else None)
        body = response.body.partition("\0")[0] if response else ""
        if "headers" in options.split():
            body = (response.head if response else "") + "\n" + body
        code = str(response.status) if response else "0"
        self.variables |= {"curl_response_code": code, "curl_response_data": body}

    def _follow(self, response: FetchedResponse | None) -> bool:
        """Apply the XML document in a response. Return False if the call has ended.

        If there is no document, or the status is not 200, the call continues. A document may be cut off.
        """
        if response is None or response.status != _OK or "text/xml" not in response.media:
            return True
        document = read_leniently(response.body)
        for variable in document.findall("variables/*"):
            self.variables[variable.tag] = variable.text or ""
        return document.find("work/hangup") is None

    async def _expand(self, text: str) -> str:
        return await expand(text, self._value)

    async def _value(self, name: str) -> str:
        """Return a variable, which hides the field of the call that has the same name."""
        if encoded := _ENCODE.fullmatch(name):
            return quote(encoded[1], safe="")
        return self.variables.get(name) or self._profile.get(name, "")


def leave(variables: Mapping[str, str], dial_string: str) -> EmulatedCall:
    """Return what `bridge` sends to the trunk. Raises `Unknown` for a dial string without brackets, or with two legs."""
    leg = _LEG.fullmatch(dial_string)
    if leg is None:
        raise Unknown(f"the dial string {dial_string}")
    own = dict(pair.split("=", 1) for pair in leg[1].split(",") if "=" in pair)
    wanted = [(variables, _BEFORE), (own, _IN_BRACKETS)]
    return EmulatedCall(
        how=leg[2],
        shown=own.get("origination_caller_id_number", "") if own.get("origination_privacy") == "screen" else "anonymous",
        follows=own.get("outbound_redirect_fatal") != "true",
        unchecked=tuple(
            f"what `{name}={value}` prevents"
            for actual, values in wanted
            for name, value in values.items()
            if actual.get(name, "") != value
        ),
    )  # fmt: skip


def read_leniently(text: str) -> ET.Element:
    """Return what can be read of an XML document up to its first error or its end, as FreeSWITCH does."""
    parser: ET.XMLPullParser[ET.Element] = ET.XMLPullParser(events=("start",))
    parser.feed(text.partition("\0")[0])
    with suppress(ET.ParseError):
        for event in parser.read_events():
            if isinstance(root := event[-1], ET.Element):
                return root
    return ET.Element("empty")
