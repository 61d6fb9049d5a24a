"""FreeSWITCH's XML dialplan, as much of it as ours use: conditions hunted first, with inline actions run at once, and then
the actions that were found. Whatever is not known here ends the run with `Unknown`."""

import asyncio
import http.client
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from dialgate.conformance.dialplan import Unknown

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_ENCODE: Final = re.compile(r"\$\{url_encode\(([^()]*)\)\}")
_APPLICATIONS: Final = frozenset({"set", "curl", "bridge", "hangup", "log", "export"})


class Call:
    """A channel in a context."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)

    async def run(self, context: ET.Element) -> str:
        """The dial string of the bridge, or nothing where the call ends without."""
        found: list[ET.Element] = []
        for extension in context.iter("extension"):
            actions, matched = await self._hunted(extension)
            found += actions
            if matched and extension.get("continue") != "true":
                break
        for action in found:
            name, data = action.get("application", ""), self._filled(action.get("data", ""))
            if name == "bridge":
                return data
            if name == "hangup":
                return ""
            await self._execute(name, data)
        return ""

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

    async def _execute(self, name: str, data: str) -> None:
        if name not in _APPLICATIONS:
            raise Unknown(f"the application {name}")
        if name == "set":
            variable, _, value = data.partition("=")
            self.variables[variable] = value
        elif name == "curl":
            code, body = await asyncio.to_thread(self._curl, data.partition(" ")[0])
            self.variables |= {"curl_response_code": code, "curl_response_data": body}

    def _curl(self, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        seconds = float(
            self.variables.get("curl_timeout", "") or 3600
        )  # without the variable there is no limit
        connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
        try:
            connection.request("GET", f"{parts.path}?{parts.query}")
            answer = connection.getresponse()
            return str(answer.status), answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return "0", ""
        finally:
            connection.close()

    def _filled(self, text: str) -> str:
        text = _VARIABLE.sub(lambda found: self.variables.get(found[1], ""), text)
        return _ENCODE.sub(lambda found: quote(found[1], safe=""), text)


async def call(text: str, context: str, variables: Mapping[str, str]) -> str:
    """Place a call by a dialplan. Returns the dial string, or nothing. Raises `Unknown`."""
    for found in ET.fromstring(text).iter("context"):  # noqa: S314 - the operator's own file
        if found.get("name") == context:
            return await Call(variables).run(found)
    raise Unknown(f"no context {context}")
