"""An emulator for the subset of FreeSWITCH's XML dialplan that the shipped dialplans use.

Like FreeSWITCH, the emulator first evaluates all conditions and runs inline actions immediately. It then runs the
other actions. An unknown element or application ends the run with `Unknown`.
"""

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from dialgate.tools.conformance.expressions import Unknown
from dialgate.tools.conformance.fetching import Response, fetch

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_ENCODE: Final = re.compile(r"\$\{url_encode\(([^()]*)\)\}")
_APPLICATIONS: Final = frozenset({"set", "curl", "httapi", "log", "export"})
_OK: Final = 200
_PROFILE_SECONDS: Final = 1.0  # the profile's `timeout` in httapi.conf.xml


class Call:
    def __init__(self, document: ET.Element, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self._document = document

    async def run(self, context: str) -> str:
        """Run to the end and return the bridge's dial string, or "" if there is none.

        Raises `Unknown`.
        """
        for action in await self._hunt(context):
            name, data = action.get("application", ""), self._expand(action.get("data", ""))
            if name == "bridge":
                return data
            if name == "transfer":
                self.variables["destination_number"], _, target = data.split(" ")
                return await self.run(target)
            if name == "hangup" or not await self._execute(name, data):
                return ""
        return ""

    async def _hunt(self, context: str) -> list[ET.Element]:
        """Evaluate a context's conditions, run the inline actions and return the other actions."""
        contexts = [node for node in self._document.iter("context") if node.get("name") == context]
        if not contexts:
            raise Unknown(f"the context {context}")
        actions: list[ET.Element] = []
        for extension in contexts[0].iter("extension"):
            more, has_matched = await self._hunt_extension(extension)
            actions += more
            if has_matched and extension.get("continue") != "true":
                break
        return actions

    async def _hunt_extension(self, extension: ET.Element) -> tuple[list[ET.Element], bool]:
        """Run an extension's inline actions. Return its other actions, and whether its conditions matched."""
        actions: list[ET.Element] = []
        for condition in extension.iter("condition"):
            field, expression = condition.get("field", ""), condition.get("expression", "")
            value = self._expand(field) if "$" in field else self.variables.get(field, "")
            match = re.search(expression, value)
            for action in condition.findall("action" if match else "anti-action"):
                if match:
                    data = action.get("data", "")
                    for at, group in enumerate(match.groups(), 1):
                        data = data.replace(f"${at}", group or "")
                    action.set("data", data)
                if action.get("inline") == "true":
                    await self._execute(action.get("application", ""), self._expand(action.get("data", "")))
                else:
                    actions.append(action)
            if not match:
                return actions, False
        return actions, True

    async def _execute(self, name: str, data: str) -> bool:
        """Run an application. Return False if the call has ended."""
        if name not in _APPLICATIONS:
            raise Unknown(f"the application {name}")
        if name == "set":
            variable, _, value = data.partition("=")
            self.variables[variable] = value
        elif name == "curl":
            limit = self.variables.get("curl_timeout", "")  # no limit without the variable
            response = await fetch(data.partition(" ")[0], float(limit) if limit else math.inf)
            code, body = (str(response.status), response.body) if response and response.whole else ("0", "")
            self.variables |= {"curl_response_code": code, "curl_response_data": body}
        elif name == "httapi":
            return self._follow(await fetch(data, _PROFILE_SECONDS))
        return True

    def _follow(self, response: Response | None) -> bool:
        """Apply the XML document in a response. Return False if the call has ended.

        If there is no document, or the status is not 200, the call continues.
        """
        if (
            response is None
            or not response.whole
            or response.status != _OK
            or "text/xml" not in response.media
        ):
            return True
        try:
            document = ET.fromstring(response.body)  # noqa: S314 - from the gate under test
        except ET.ParseError:
            return True
        for variable in document.findall("variables/*"):
            self.variables[variable.tag] = variable.text or ""
        return document.find("work/hangup") is None

    def _expand(self, text: str) -> str:
        text = _VARIABLE.sub(lambda match: self.variables.get(match[1], ""), text)
        return _ENCODE.sub(lambda match: quote(match[1], safe=""), text)


def leg_variables(dial_string: str) -> dict[str, str]:
    """Return a leg's variables, which are in brackets at the beginning of the dial string."""
    match = re.match(r"\[([^]]*)\]", dial_string)
    return dict(pair.split("=", 1) for pair in match[1].split(",") if "=" in pair) if match else {}


async def call(text: str, context: str, variables: Mapping[str, str]) -> str:
    """Place a call with a dialplan. Return the dial string, or "" if the call was not placed.

    Raises `Unknown`.
    """
    return await Call(ET.fromstring(text), variables).run(context)  # noqa: S314 - the operator's own file
