"""An emulator for the subset of FreeSWITCH's XML dialplan that the shipped dialplans use.

Like FreeSWITCH, the emulator first evaluates all conditions and runs inline actions immediately. It then runs the
other actions. An unknown element or application ends the run with `Unknown`. It behaves as observed on FreeSWITCH
1.11.3-dev (cc93a68); what reaches the trunk is in `freeswitch_leg.py`.
"""

import math
import re
from contextlib import suppress
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from dialgate.tools.conformance.expressions import Unknown
from dialgate.tools.conformance.fetching import FetchedResponse, fetch
from dialgate.tools.conformance.freeswitch_leg import FreeswitchChannel, FreeswitchInvite, leave

_VARIABLE: Final = re.compile(r"\$\{([\w-]+)\}")
_ENCODE: Final = re.compile(r"\$\{url_encode\(([^()]*)\)\}")
_CONDITION: Final = frozenset({"field", "expression", "break"})
_OK: Final = 200
_PROFILE_SECONDS: Final = 1.0  # the profile's `timeout` in httapi.conf.xml


class FreeswitchCall:
    """One run of a dialplan for one channel. `response` is the SIP status that `respond` sent, or 0."""

    def __init__(self, document: ET.Element, channel: FreeswitchChannel) -> None:
        self.channel = channel
        self.response = 0
        self._document = document

    async def run(self, context: str) -> list[FreeswitchInvite]:
        """Run to the end and return the INVITEs that leave.

        Raises `Unknown`.
        """
        for name, data in await self._hunt(context):
            expanded = self._expand(data)
            if name == "bridge":
                return leave(self.channel, expanded)
            if name == "transfer":
                self.channel.number, _, target = expanded.split(" ")
                return await self.run(target)
            if not await self._execute(name, expanded):
                return []
        return []

    async def _hunt(self, context: str) -> list[tuple[str, str]]:
        """Evaluate a context's conditions, run the inline actions and return the other actions."""
        contexts = [node for node in self._document.iter("context") if node.get("name") == context]
        if not contexts:
            raise Unknown(f"the context {context}")
        actions: list[tuple[str, str]] = []
        for extension in contexts[0].iter("extension"):
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
            match = self._match(condition)
            chosen = condition.findall("action" if match else "anti-action")
            ends = bool(match or chosen)
            for action in chosen:
                name, data = action.get("application", ""), action.get("data", "")
                for at, group in enumerate(match.groups() if match else (), 1):
                    data = data.replace(f"${at}", group or "")
                if action.get("inline") == "true":
                    await self._execute(name, self._expand(data))
                else:
                    actions.append((name, data))
            if not match and condition.get("break") != "never":
                break
        return actions, ends

    def _match(self, condition: ET.Element) -> re.Match[str] | None:
        field = condition.get("field", "")
        value = self._expand(field) if "$" in field else self.channel.profile.get(field, "")
        return re.search(condition.get("expression", "").replace(r"\z", r"\Z"), value)

    async def _execute(self, name: str, data: str) -> bool:
        """Run an application. Return False if the call has ended."""
        variables = self.channel.variables
        variable, _, value = data.partition("=")
        match name:
            case "set":
                variables[variable] = value
            case "export":
                variables[variable] = value
                variables["export_vars"] = ",".join([*self.channel.exports, variable])
            case "unset":
                variables.pop(data, None)
            case "curl":
                await self._curl(data)
            case "httapi":
                return self._follow(await fetch(data, _PROFILE_SECONDS))
            case "respond":
                self.response = int(data.partition(" ")[0])
                return False
            case "hangup":
                variables["hangup_cause"] = data or "NORMAL_CLEARING"
                return False
            case "log":
                pass
            case _:
                raise Unknown(f"the application {name}")
        return True

    async def _curl(self, data: str) -> None:
        """Set the response's variables as mod_curl does: also a part of a body, up to a null byte."""
        url, _, options = data.partition(" ")
        limit = self.channel.variables.get("curl_timeout", "")  # no limit without the variable
        response = await fetch(url, float(limit) if limit else math.inf)
        body = response.body.partition("\0")[0] if response else ""
        if "headers" in options.split():
            body = "".join((*response.lines, "\r\n") if response else ()) + "\n" + body
        code = str(response.status) if response else "0"
        self.channel.variables |= {"curl_response_code": code, "curl_response_data": body}

    def _follow(self, response: FetchedResponse | None) -> bool:
        """Apply the XML document in a response. Return False if the call has ended.

        If there is no document, or the status is not 200, the call continues. A document may be cut off.
        """
        if response is None or response.status != _OK or "text/xml" not in response.media:
            return True
        document = read_leniently(response.body)
        for variable in document.findall("variables/*"):
            self.channel.variables[variable.tag] = variable.text or ""
        return document.find("work/hangup") is None

    def _expand(self, text: str) -> str:
        text = _VARIABLE.sub(lambda match: self.channel.get(match[1]), text)
        return _ENCODE.sub(lambda match: quote(match[1], safe=""), text)


def read_leniently(text: str) -> ET.Element:
    """Return what can be read of an XML document up to its first error or its end, as FreeSWITCH does."""
    parser: ET.XMLPullParser[ET.Element] = ET.XMLPullParser(events=("start",))
    parser.feed(text.partition("\0")[0])
    with suppress(ET.ParseError):
        for event in parser.read_events():
            if isinstance(root := event[-1], ET.Element):
                return root
    return ET.Element("empty")


async def call(text: str, context: str, channel: FreeswitchChannel) -> list[FreeswitchInvite]:
    """Place a call with a dialplan. Return the INVITEs that leave: none if the call was not placed.

    Raises `Unknown`.
    """
    return await FreeswitchCall(ET.fromstring(text), channel).run(context)  # noqa: S314 - the operator's own file
