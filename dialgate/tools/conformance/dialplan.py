"""A reader of Asterisk's dialplan language: what the shipped dialplans use, as observed on Asterisk 22.10.1 and 18.26.4.

It runs extensions.conf on a channel until the call ends. `$[…]` is refused: after a syntax error, which an external
value can cause, Asterisk takes the text before the error for the result, and that is true. `REGEX()` has no such trap.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from dialgate.tools.conformance.asterisk import Channel, agi
from dialgate.tools.conformance.model import EmulatedCall, Unknown, expand, fetch

_LINE: Final = re.compile(r"(exten|same)\s*=>?\s*(.*)")
_STEP: Final = re.compile(r"(\w+)(?:\((\w+)\))?,([A-Za-z]\w*)(?:\((.*)\))?")
_OPTION: Final = re.compile(r"([A-Za-z])(?:\(([^)]*)\))?")
_SETTABLE: Final = re.compile(
    r"\w+|CALLERID\((num|name|pres)\)|REDIRECTING\([a-z-]+\)|TIMEOUT\(absolute\)|CURLOPT\([a-z]+\)"
)
_CLASSES: Final = {"[:print:]": r"\x20-\x7e", "[:cntrl:]": r"\x00-\x1f\x7f"}
_CURL_SECONDS: Final = "180"  # if the dialplan sets no CURLOPT
_MOST_STEPS: Final = 200
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


def _matching(extensions: Mapping[str, list[Step]], extension: str) -> list[Step]:
    for pattern, steps in extensions.items():
        if pattern == extension or (pattern.startswith("_") and _pattern(pattern).fullmatch(extension)):
            return steps
    return []


def _pattern(pattern: str) -> re.Pattern[str]:
    ends = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", ".": ".+", "!": ".*"}
    parts = re.findall(r"\[[^]]*\]|.", pattern[1:])
    return re.compile("".join(part if part[0] == "[" else ends.get(part, re.escape(part)) for part in parts))


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
    if not _matching(patterns, extension):
        known = ", ".join(patterns) or "none"
        raise NoExtension(
            f"no pattern in the {where} matches {extension}, the test call's number; the patterns are: {known}."
            " Add one, or name another context with --context. `include =>` is not followed."
        )
    return patterns


async def run(text: str, context: str, channel: Channel) -> EmulatedCall:
    """Run a dialplan for one call until it is placed or ends. Raises `Unknown`."""
    extensions = _context(read(text), context, channel.extension)
    channel.variables |= {
        "EXTEN": channel.extension, "UNIQUEID": channel.uniqueid,
        "CALLERID(num)": channel.caller, "CALLERID(name)": channel.caller_name,
    }  # fmt: skip
    steps, at = _matching(extensions, channel.extension), 0
    for _ in range(_MOST_STEPS):
        if channel.expired:
            channel.limit, channel.expired = None, False
            steps, at = extensions.get(_EXPIRED, []), 0
        if at >= len(steps) or channel.ended:
            return EmulatedCall()
        step, at = steps[at], at + 1
        if "$[" in step.data:
            raise Unknown(f"$[…] in {step.application}({step.data}): compare with REGEX()")
        data = await expand(step.data, lambda name: _value(name, channel))
        if step.application == "Dial":
            return _dial(data, channel)
        if step.application == "GotoIf" and (label := _choose(data)):
            at = next(place for place, other in enumerate(steps) if other.label == label)
        await _execute(step.application, data, channel)
    raise Unknown("a dialplan that does not end")


async def _execute(application: str, data: str, channel: Channel) -> None:
    match application:
        case "AGI":
            url, *arguments = data.split(",")
            await agi(channel, url, *arguments)
        case "Hangup":
            channel.variables["HANGUPCAUSE"] = data or "16"
            channel.ended = True
        case "Set":
            _set(data, channel)
        case _ if application not in {"GotoIf", "NoOp", "Log"}:
            raise Unknown(f"the application {application}")


def _set(data: str, channel: Channel) -> None:
    name, _, value = data.partition("=")
    if not _SETTABLE.fullmatch(name):
        raise Unknown(f"the function {name}")
    channel.variables[name.lstrip("_")] = value
    if name == "TIMEOUT(absolute)":
        channel.limit = asyncio.get_running_loop().time() + float(value) if float(value) else None


def _dial(data: str, channel: Channel) -> EmulatedCall:
    variables = channel.variables
    options = dict(_OPTION.findall(data.split(",")[2] if data.count(",") > 1 else ""))
    presented = variables.get("CALLERID(pres)", "allowed").startswith("allowed")
    name = variables["CALLERID(name)"]
    # f() replaces name, number and presentation on the trunk's channel only.
    leaves = (
        ("the dialer's caller name", "f" not in options and name and name == channel.caller_name),
        ("Diversion", variables.get("REDIRECTING(count)", "0") != "0"),
        ("History-Info", variables.get("REDIRECTING(from-num)") and variables.get("REDIRECTING(from-num-valid)") != "no"),
        ("a name in History-Info", variables.get("REDIRECTING(from-name)") and variables.get("REDIRECTING(from-name-valid)") != "no"),
        ("the domain in From", variables.get("SIPFROMDOMAIN")),
    )  # fmt: skip
    return EmulatedCall(
        how=data,
        shown=options.get("f", variables["CALLERID(num)"] if presented else "anonymous"),
        follows="i" not in options,
        unchecked=tuple(name for name, has_left in leaves if has_left),
    )


async def _value(name: str, channel: Channel) -> str:
    function = re.fullmatch(r"([A-Z]+)\((.*)\)", name, re.DOTALL)
    if name in channel.variables or function is None:
        name, _, cut = name.partition(":")  # the first letter, or the number of letters from the end as `-40`
        value = channel.variables.get(name, "")
        return value[int(cut) :] if cut else value
    if function[1] == "CURL":
        return await _fetch(function[2], channel.variables)
    if function[1] not in _FUNCTIONS:
        raise Unknown(f"the function {function[1]}")
    return _FUNCTIONS[function[1]](function[2])


async def _fetch(url: str, variables: Mapping[str, str]) -> str:
    """Return what arrived of a response, whatever its status, up to a null byte and without blanks at the end."""
    response = await fetch(url, float(variables.get("CURLOPT(httptimeout)", _CURL_SECONDS)))
    if response is None:
        return ""
    head = response.head if variables.get("CURLOPT(header)") == "yes" else ""
    return (head + response.body).partition("\0")[0].rstrip()


def _choose(data: str) -> str:
    """Return the first or the second value of `CONDITION?FIRST:SECOND`."""
    condition, _, values = data.partition("?")
    yes, _, no = values.partition(":")
    return no if condition.strip() in {"", "0"} else yes


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


_FUNCTIONS: Final[dict[str, Callable[[str], str]]] = {
    "FILTER": _filter,
    "IF": _choose,
    "REGEX": _regex,
    "URIENCODE": lambda data: quote(data, safe=""),
    "TOLOWER": str.lower,
}

# ---- other steps that dial the trunk ---------------------------------------------------------------------------------

_DIALLING: Final = frozenset({"dial", "retrydial", "originate", "page", "execif", "exec", "tryexec"})
_GLOBAL: Final = re.compile(r"\[globals\](?P<lines>[^\[]*)")
_ASSIGNED: Final = re.compile(r"^\s*(\w+)\s*=>?\s*([^;\n]*)", re.MULTILINE)
_INNERMOST: Final = re.compile(r"\$(?:\{[^${}\[\]]*\}|\[[^${}\[\]]*\])")
_DESTINATION: Final = re.compile(r"\b([A-Za-z]\w*)/([^,&?)]+)")


def other_dials(text: str, context: str, extension: str) -> list[str]:
    """Return the other steps in the file that dial the same trunk as `extension` in `context`. Raises `Unknown`.

    `run` follows one context, so it misses others. Included files and destinations computed at run time are not covered.
    """
    contexts = read(text)
    globals_ = dict(_ASSIGNED.findall("".join(_GLOBAL.findall(text))))
    steps = _matching(contexts.get(context, {}), extension)
    checked = next((step for step in steps if _trunks(step, globals_)), None)
    trunks = _trunks(checked, globals_) if checked else set[str]()
    return [
        f"[{name}] {pattern} step {at}: {step.application}({step.data})"
        for name, extensions in contexts.items()
        for pattern, steps in extensions.items()
        for at, step in enumerate(steps, 1)
        if step is not checked and trunks & _trunks(step, globals_)
    ]


def _trunks(step: Step, globals_: Mapping[str, str]) -> set[str]:
    """Return the trunks that the step dials.

    Destinations have the form `PJSIP/NUMBER@TRUNK`, `PJSIP/TRUNK/sip:NUMBER@HOST` or `SIP/TRUNK/NUMBER`.
    """
    if step.application.lower() not in _DIALLING:
        return set()
    data = re.sub(
        r"\$\{(?:GLOBAL\()?(\w+)\)?\}", lambda match: globals_.get(match[1], match[0]).strip(), step.data
    )
    while (blanked := _INNERMOST.sub("_", data)) != data:  # values that are known only at run time
        data = blanked
    trunks = set()
    for technology, destination in _DESTINATION.findall(data):
        if technology.lower() != "local":
            first, slash, _ = destination.partition("/")
            trunks.add((first if slash else destination.rpartition("@")[2]).lower())
    return trunks
