"""An emulator for the subset of Asterisk's dialplan language that the shipped dialplans use.

It runs extensions.conf on a channel until the call ends. An unknown application or function ends the run with
`Unknown`, because a dialplan that the emulator does not understand must not pass the test. It behaves as
observed on Asterisk 22.10.1 and 18.26.4. Expressions are in `expressions.py`.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from dialgate.tools.conformance.asterisk import Channel, agi
from dialgate.tools.conformance.expressions import Unknown, evaluate
from dialgate.tools.conformance.fetching import fetch

_LINE: Final = re.compile(r"(exten|same)\s*=>?\s*(.*)")
_STEP: Final = re.compile(r"(\w+)(?:\((\w+)\))?,([A-Za-z]\w*)(?:\((.*)\))?")
_OPTION: Final = re.compile(r"([A-Za-z])(?:\(([^)]*)\))?")
_CLASSES: Final = {"[:print:]": r"\x20-\x7e", "[:cntrl:]": r"\x00-\x1f\x7f"}
_CURL_SECONDS: Final = 180.0  # if the dialplan sets no CURLOPT
_MOST_STEPS: Final = 200
_BUFFER: Final = 4096  # VAR_BUF_SIZE: capacity of `${…}` and `$[…]`, with the NUL at the end
_EXPIRED: Final = "T"  # the extension that runs when TIMEOUT(absolute) expires


class NoExtension(Unknown):
    """Raised if no extension in the chosen context matches the test call's number."""


class Step(Struct, frozen=True):
    label: str
    application: str
    data: str


def read(text: str) -> dict[str, dict[str, list[Step]]]:
    """Return the steps by context and pattern. Lines before the first context are in context ""."""
    contexts: dict[str, dict[str, list[Step]]] = {"": {}}
    context = pattern = ""
    for raw in text.splitlines():
        line = raw.partition(";")[0].strip()
        if line.startswith("["):
            context = line.strip("[]")
            contexts.setdefault(context, {})
        elif match := _LINE.fullmatch(line):
            rest = match[2]
            if match[1] == "exten":
                pattern, _, rest = (part.strip() for part in rest.partition(","))
            step = _STEP.fullmatch(rest)
            if step is None:
                raise Unknown(f"the line {line}")
            contexts[context].setdefault(pattern, []).append(Step(step[2] or "", step[3], step[4] or ""))
    return contexts


def matching(extensions: Mapping[str, list[Step]], extension: str) -> list[Step]:
    for pattern, steps in extensions.items():
        if pattern == extension or (pattern.startswith("_") and _pattern(pattern).fullmatch(extension)):
            return steps
    return []


def _pattern(pattern: str) -> re.Pattern[str]:
    ends = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", ".": ".+", "!": ".*"}
    parts = re.findall(r"\[[^]]*\]|.", pattern[1:])
    return re.compile("".join(part if part[0] == "[" else ends.get(part, re.escape(part)) for part in parts))


class DialplanRun:
    """One run of a dialplan, for one channel in one context.

    `placed` is the dial string, and `shown` the caller ID that the trunk received. `unchecked` names what else the
    trunk received about the caller. `forwards` is true if Dial() follows a redirect (302) that the trunk's driver
    passes to Asterisk's core (`redirect_method=uri_core`).
    """

    def __init__(self, channel: Channel, extensions: Mapping[str, list[Step]]) -> None:
        self.channel = channel
        self.placed = self.shown = ""
        self._dialer_name = channel.caller_name
        self.unchecked: list[str] = []
        self.forwards = False
        self._extensions = extensions
        self._steps = matching(extensions, channel.extension)
        self._at = 0
        self._curl_seconds, self._curl_head = _CURL_SECONDS, False

    async def run(self) -> None:
        """Run the dialplan to its end. `placed` is then the dial string, or "" if no call was placed."""
        for _ in range(_MOST_STEPS):
            if self.channel.expired:
                self._expire()
            if self._at >= len(self._steps) or self.channel.ended or self.placed:
                return
            step = self._steps[self._at]
            self._at += 1
            await self._do(step.application, step.data)
        raise Unknown("a dialplan that does not end")

    def _expire(self) -> None:
        self.channel.limit, self.channel.expired = None, False
        self._steps, self._at = self._extensions.get(_EXPIRED, []), 0

    async def _do(self, application: str, data: str) -> None:
        if application == "ExecIf":
            condition, _, then = (await self._expand(data)).partition("?")
            inner = _STEP.fullmatch(f"1,{then}")
            if condition not in {"", "0"} and inner is not None:
                await self._do(inner[3], inner[4] or "")
            return
        act = self._APPLICATIONS.get(application)
        if act is None:
            raise Unknown(f"the application {application}")
        expanded = await self._expand(data)
        if application == "AGI":
            url, *arguments = expanded.split(",")
            await agi(self.channel, url, *arguments)
        else:
            act(self, expanded)

    def _set(self, data: str) -> None:
        name, _, value = data.partition("=")
        if name == "CURLOPT(httptimeout)":
            self._curl_seconds = float(value)
        elif name == "CURLOPT(header)":
            self._curl_head = value == "yes"
        elif name == "CALLERID(num)":
            self.channel.caller = value
        elif name == "CALLERID(name)":
            self.channel.caller_name = value
        elif name == "CALLERID(pres)":
            self.channel.presentation = value
        elif name == "TIMEOUT(absolute)":
            now = asyncio.get_running_loop().time()
            self.channel.limit = now + float(value) if float(value) else None
        elif name.startswith("REDIRECTING("):
            self.channel.redirecting[name[len("REDIRECTING(") : -1]] = value
        elif "(" not in name:
            self.channel.variables[name.lstrip("_")] = value
        elif not name.startswith("CURLOPT("):
            raise Unknown(f"the function {name}")

    def _goto_if(self, data: str) -> None:
        condition, _, labels = data.partition("?")
        yes, _, no = labels.partition(":")
        label = no if condition in {"", "0"} else yes
        if label:
            self._at = next(at for at, step in enumerate(self._steps) if step.label == label)

    def _hangup(self, data: str) -> None:
        self.channel.variables["HANGUPCAUSE"] = data or "16"
        self.channel.ended = True

    def _dial(self, data: str) -> None:
        channel = self.channel
        options = _OPTION.findall(data.split(",")[2] if data.count(",") > 1 else "")
        # f() replaces name, number and presentation on the trunk's channel only.
        forced = next((argument for option, argument in options if option == "f"), None)
        self.placed = data
        self.shown = channel.caller if channel.presentation.startswith("allowed") else "anonymous"
        if forced is not None:
            self.shown = forced
        redirecting = channel.redirecting
        self.unchecked = [name for name, leaves in (
            ("the dialer's caller name", channel.caller_name == self._dialer_name != "" and forced is None),
            ("Diversion", redirecting.get("count", "0") != "0"),
            ("History-Info", redirecting.get("from-num") and redirecting.get("from-num-valid") != "no"),
            ("a name in History-Info", redirecting.get("from-name") and redirecting.get("from-name-valid") != "no"),
            ("the domain in From", channel.variables.get("SIPFROMDOMAIN")),
        ) if leaves]  # fmt: skip
        self.forwards = all(option != "i" for option, _ in options)

    def _ignore(self, _: str) -> None:
        """Ignore an application that only writes to a log on a real Asterisk."""

    _APPLICATIONS: Final[dict[str, Callable[["DialplanRun", str], None]]] = {
        "Set": _set,
        "GotoIf": _goto_if,
        "Hangup": _hangup,
        "Dial": _dial,
        "NoOp": _ignore,
        "Log": _ignore,
        "AGI": _ignore,  # it awaits, so `_do` runs it
    }

    # ---- `${…}` and `$[…]` -------------------------------------------------------------------------------------------

    async def _expand(self, text: str) -> str:
        done = ""
        while (begin := text.find("$")) >= 0 and begin + 1 < len(text):
            if text[begin + 1] not in "{[":
                done, text = done + text[: begin + 1], text[begin + 1 :]
                continue
            end = _closing(text, begin + 1)
            inner = await self._expand(text[begin + 2 : end])
            inner = inner[: _BUFFER - 1]
            value = await self._value(inner) if text[begin + 1] == "{" else evaluate(inner)
            done, text = done + text[:begin] + value, text[end + 1 :]
        return done + text

    async def _value(self, name: str) -> str:
        function = re.match(r"([A-Z]+)\((.*)", name, re.DOTALL)
        if function is not None:  # a value that did not fit the buffer cuts off the bracket
            return await self._function(function[1], function[2][:-1]) if name.endswith(")") else ""
        name, _, cut = name.partition(":")  # the first letter, or the number of letters from the end as `-40`
        own = {"EXTEN": self.channel.extension, "UNIQUEID": self.channel.uniqueid}
        value = own.get(name, self.channel.variables.get(name, ""))
        return value[int(cut) :] if cut else value

    async def _function(self, name: str, data: str) -> str:
        if name == "CURL":
            return await self._fetch(data)
        if name == "CALLERID":
            return {"num": self.channel.caller, "name": self.channel.caller_name}[data]
        function = _FUNCTIONS.get(name)
        if function is None:
            raise Unknown(f"the function {name}")
        return function(data)

    async def _fetch(self, url: str) -> str:
        """Return what arrived of a response, whatever its status, up to a null byte and without blanks at the end."""
        response = await fetch(url, self._curl_seconds)
        if response is None:
            return ""
        head = "".join([*response.lines, "\r\n"]) if self._curl_head else ""
        return (head + response.body).partition("\0")[0].rstrip()


def _filter(data: str) -> str:
    allowed, _, text = data.partition(",")
    return "".join(re.findall(f"[{allowed}]", text))


def _regex(data: str) -> str:
    """Match as POSIX does: `.` and classes match line breaks, and `$` matches only the end."""
    _, pattern, text = data.split('"', 2)
    for name, letters in _CLASSES.items():
        pattern = pattern.replace(name, letters)
    if pattern.endswith("$"):
        pattern = pattern[:-1] + r"\Z"
    return "1" if re.search(pattern, text.removeprefix(" "), re.DOTALL) else "0"


def _if(data: str) -> str:
    condition, _, values = data.partition("?")
    yes, _, no = values.partition(":")
    return no if condition.strip() in {"", "0"} else yes


_FUNCTIONS: Final[dict[str, Callable[[str], str]]] = {
    "FILTER": _filter,
    "IF": _if,
    "REGEX": _regex,
    "URIENCODE": lambda data: quote(data, safe=""),
    "TOLOWER": str.lower,
}


def _closing(text: str, begin: int) -> int:
    opening = text[begin]
    closing = {"{": "}", "[": "]"}[opening]
    depth = 0
    for at in range(begin, len(text)):
        depth += (text[at] == opening) - (text[at] == closing)
        if not depth:
            return at
    raise Unknown(f"unclosed bracket: {text}")


def _context(
    contexts: Mapping[str, dict[str, list[Step]]], name: str, extension: str
) -> dict[str, list[Step]]:
    """Return the context in which a call begins. Raises `NoExtension`."""
    where = f"context [{name}]" if name else "carrier entry (lines before the first context)"
    patterns = contexts.get(name)
    if patterns is None:
        known = (
            ", ".join(f"[{context}]" for context, extensions in contexts.items() if extensions)
            or "no context with extensions"
        )
        raise NoExtension(f"the file has no {where}; it has {known}. Name the context with --context.")
    if not matching(patterns, extension):
        known = ", ".join(patterns) or "none"
        raise NoExtension(
            f"no pattern in the {where} matches {extension}, the test call's number; the patterns are: {known}."
            " Add one, or name another context with --context. `include =>` is not followed."
        )
    return patterns


async def run(text: str, context: str, channel: Channel) -> DialplanRun:
    """Run a dialplan for one call, and return the finished run. Raises `Unknown`."""
    extensions = _context(read(text), context, channel.extension)
    result = DialplanRun(channel, extensions)
    await result.run()
    return result
