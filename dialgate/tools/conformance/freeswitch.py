"""FreeSWITCH's XML dialplan, as much of it as ours use: conditions hunted first, with inline actions run at once, and then
the actions that were found. Whatever is not known here ends the run with `Unknown`."""

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from dialgate.tools.conformance.expressions import Unknown
from dialgate.tools.conformance.fetching import Fetched, fetch

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_ENCODE: Final = re.compile(r"\$\{url_encode\(([^()]*)\)\}")
_APPLICATIONS: Final = frozenset({"set", "curl", "httapi", "log", "export"})
_OK: Final = 200
_PROFILE_SECONDS: Final = 1.0  # `timeout` of the profile in httapi.conf.xml


class Call:
    """A channel in a dialplan."""

    def __init__(self, document: ET.Element, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self._document = document

    async def run(self, context: str) -> str:
        """The dial string of the bridge, or nothing where the call ends without. Raises `Unknown`."""
        for action in await self._found(context):
            name, data = action.get("application", ""), self._filled(action.get("data", ""))
            if name == "bridge":
                return data
            if name == "transfer":
                self.variables["destination_number"], _, there = data.split(" ")
                return await self.run(there)
            if name == "hangup" or not await self._execute(name, data):
                return ""
        return ""

    async def _found(self, context: str) -> list[ET.Element]:
        """The actions to be run, after those that are inline were."""
        named = [each for each in self._document.iter("context") if each.get("name") == context]
        if not named:
            raise Unknown(f"no context {context}")
        found: list[ET.Element] = []
        for extension in named[0].iter("extension"):
            actions, matched = await self._hunted(extension)
            found += actions
            if matched and extension.get("continue") != "true":
                break
        return found

    async def _hunted(self, extension: ET.Element) -> tuple[list[ET.Element], bool]:
        """Its actions, or anti-actions, and whether it matched."""
        found: list[ET.Element] = []
        for condition in extension.iter("condition"):
            field, expression = condition.get("field", ""), condition.get("expression", "")
            value = self._filled(field) if "$" in field else self.variables.get(field, "")
            match = re.search(expression, value)
            for action in condition.findall("action" if match else "anti-action"):
                if match:
                    data = action.get("data", "")
                    for at, group in enumerate(match.groups(), 1):
                        data = data.replace(f"${at}", group or "")
                    action.set("data", data)
                if action.get("inline") == "true":
                    await self._execute(action.get("application", ""), self._filled(action.get("data", "")))
                else:
                    found.append(action)
            if not match:
                return found, False
        return found, True

    async def _execute(self, name: str, data: str) -> bool:
        """False where the call is over."""
        if name not in _APPLICATIONS:
            raise Unknown(f"the application {name}")
        if name == "set":
            variable, _, value = data.partition("=")
            self.variables[variable] = value
        elif name == "curl":
            limit = self.variables.get("curl_timeout", "")  # without the variable there is none
            answer = await fetch(data.partition(" ")[0], float(limit) if limit else math.inf)
            code, body = (str(answer.status), answer.body) if answer else ("0", "")
            self.variables |= {"curl_response_code": code, "curl_response_data": body}
        elif name == "httapi":
            return self._worked(await fetch(data, _PROFILE_SECONDS))
        return True

    def _worked(self, answer: Fetched | None) -> bool:
        """What is not a 200 with XML leaves the application, and the call goes on."""
        if answer is None or answer.status != _OK or "text/xml" not in answer.media:
            return True
        try:
            document = ET.fromstring(answer.body)  # noqa: S314 - of the gate under test
        except ET.ParseError:
            return True
        for variable in document.findall("variables/*"):
            self.variables[variable.tag] = variable.text or ""
        return document.find("work/hangup") is None

    def _filled(self, text: str) -> str:
        text = _VARIABLE.sub(lambda found: self.variables.get(found[1], ""), text)
        return _ENCODE.sub(lambda found: quote(found[1], safe=""), text)


def leg_variables(dial_string: str) -> dict[str, str]:
    """The variables of a leg, in brackets before its channel."""
    found = re.match(r"\[([^]]*)\]", dial_string)
    return dict(pair.split("=", 1) for pair in found[1].split(",") if "=" in pair) if found else {}


async def call(text: str, context: str, variables: Mapping[str, str]) -> str:
    """Place a call by a dialplan. Returns the dial string, or nothing. Raises `Unknown`."""
    return await Call(ET.fromstring(text), variables).run(context)  # noqa: S314 - the operator's own file
