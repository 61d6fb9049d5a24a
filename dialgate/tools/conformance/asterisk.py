"""An emulated Asterisk as a FastAGI server sees it: connection, environment, commands and replies.

The emulator is as strict as Asterisk 22.10.1 and records everything that Asterisk could not process. `Quirks` adds
unusual behaviour. The dialplan decides whether to dial (`dialplan.py`).

AGI() has no time limit. It ends when the server closes the connection. With `AGIEXITONHANGUP` it also ends when
`TIMEOUT(absolute)` expires, which it does not detect while it reads an incomplete line.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct, field

PORT: Final = 4573
_CONNECT_SECONDS: Final = 2
_LINE_BYTES: Final = 8192
_MOST_WORDS: Final = 128
_UNKNOWN: Final = "510 Invalid or unknown command"
_DEAD: Final = "511 Command Not Permitted on a dead channel or intercept routine"
_USAGE: Final = "520-Invalid command syntax.  Proper usage follows:\nUsage: {word}\n520 End of proper usage."
# Minimum number of arguments, and the reply of commands without an effect.
_COMMANDS: Final = {
    "SET VARIABLE": (2, ""), "GET VARIABLE": (1, ""), "GET FULL VARIABLE": (1, ""), "STREAM FILE": (2, ""),
    "GET DATA": (1, ""), "HANGUP": (0, ""), "SET CALLERID": (1, "200 result=1"), "VERBOSE": (1, "200 result=1"),
    "ANSWER": (0, "200 result=0"), "EXEC": (1, "200 result=0"), "NOOP": (0, "200 result=0"),
}  # fmt: skip
# Commands that are permitted on a dead channel.
_ON_DEAD: Final = ("SET VARIABLE", "GET VARIABLE", "GET FULL VARIABLE", "EXEC", "VERBOSE", "NOOP", "DATABASE")


class Quirks(Struct, frozen=True, kw_only=True):
    """Unusual behaviour by Asterisk or the caller.

    - `extra` contains environment lines from a future version.
    - `arguments_first` puts the arguments before the rest of the environment.
    - `hangup_before` makes the caller hang up before the reply to the command with this number (1 is the first).
    - `replies` maps the beginning of a command to the reply.
    - `keys` contains the keys that the caller presses, one for each question.
    - `early` maps a file to the keys that the caller presses while it plays.
    """

    extra: tuple[str, ...] = ()
    arguments_first: bool = False
    hangup_before: int = 0
    replies: Mapping[str, str] = {}
    keys: tuple[str, ...] = ()
    early: Mapping[str, str] = {}


class Channel(Struct, kw_only=True):
    """An Asterisk channel.

    - `said` contains every line from the server, and `violations` the lines that Asterisk could not process.
    - `ended` is true after `HANGUP` or after the caller hung up.
    - `limit` is the loop time at which `TIMEOUT(absolute)` ends the channel. `expired` is true if this happened.
    """

    extension: str
    caller: str = "unknown"
    caller_name: str = "unknown"
    uniqueid: str = "1795510800.1"
    language: str = "en"
    variables: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    ended: bool = False
    limit: float | None = None
    expired: bool = False
    quirks: Quirks = Quirks()


async def agi(channel: Channel, url: str, *arguments: str) -> str:
    """Run the `AGI()` application, then set AGISTATUS and return it.

    AGISTATUS is SUCCESS even if the server sends nothing.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or PORT, limit=_LINE_BYTES
            )
    except (OSError, TimeoutError):
        status = "FAILURE"
    else:
        try:
            status = await _Session(channel, reader, writer).run(url, arguments)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    channel.variables["AGISTATUS"] = status
    return status


class _Session:
    def __init__(self, channel: Channel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._channel, self._reader, self._writer = channel, reader, writer
        self._keys = iter(channel.quirks.keys)
        self._commands = 0
        self._channel_ended = False

    async def run(self, url: str, arguments: tuple[str, ...]) -> str:
        channel = self._channel
        with suppress(ConnectionError):
            self._writer.write(environment(channel, url, arguments))
            async for line in self._lines():
                self._writer.write(self._answer(line))
                await self._writer.drain()
        return "HANGUP" if channel.ended or channel.expired else "SUCCESS"

    async def _lines(self) -> AsyncIterator[str]:
        """Yield the lines from the server, at most one line per read from the socket, and at the end an incomplete one.

        If two lines arrive together, Asterisk processes the second line only after its next read. The emulator does
        the same.
        """
        kept, piece = b"", b"."
        while piece or b"\n" in kept:
            read = await self._read(in_line=bool(kept) and b"\n" not in kept)
            if read is None:
                return
            piece = read
            line, ended, kept = (kept + piece).partition(b"\n")
            if not ended:
                kept = line
                if len(kept) >= _LINE_BYTES:
                    self._channel.violations.append("a line longer than Asterisk's buffer")
                    return
                continue
            if kept:
                self._channel.violations.append("a command before the reply to the previous one")
            yield line.decode("utf-8", "replace")
        if kept:  # Asterisk executes it
            self._channel.violations.append("a line without a newline")
            yield kept.decode("utf-8", "replace")

    async def _read(self, *, in_line: bool) -> bytes | None:
        """Read from the server. Return None if AGI() ends because the channel ended.

        Within a line (`in_line`), AGI() does not notice the end of the channel.
        """
        ends = None if in_line or self._channel_ended else self._channel.limit
        try:
            async with asyncio.timeout_at(ends):
                return await self._reader.read(_LINE_BYTES)
        except TimeoutError:
            self._channel_ended = True
            self._channel.expired = True
            self._writer.write(b"HANGUP\n")
        if self._channel.variables.get("AGIEXITONHANGUP") == "yes":
            return None
        return await self._read(in_line=True)  # from now on only the server can end AGI()

    def _answer(self, line: str) -> bytes:
        channel = self._channel
        channel.said.append(line)
        self._commands += 1
        words = _words(line)
        if len(words) > _MOST_WORDS:
            channel.violations.append("more words than Asterisk accepts")
        hangup = b""
        if self._commands == channel.quirks.hangup_before:
            channel.ended, hangup = True, b"HANGUP\n"
        reply = self._reply(line, words)
        return hangup + reply.encode() + b"\n"

    def _reply(self, line: str, words: list[str]) -> str:
        upper = " ".join(words).upper()
        for prefix, reply in self._channel.quirks.replies.items():
            if line.startswith(prefix):
                return reply
        for name, (needed, reply) in _COMMANDS.items():
            if upper == name or upper.startswith(f"{name} "):
                arguments = words[name.count(" ") + 1 :]
                if self._channel.ended and name not in _ON_DEAD:
                    return _DEAD
                if len(arguments) < needed:
                    return _USAGE.format(word=name)
                return reply or self._act(name, arguments)
        self._channel.violations.append("an unknown command")
        return _UNKNOWN

    def _act(self, name: str, arguments: list[str]) -> str:
        match name:
            case "SET VARIABLE":
                self._set(*arguments[:2])
            case "GET VARIABLE" | "GET FULL VARIABLE":
                value = self._channel.variables.get(arguments[0].removeprefix("${").removesuffix("}"))
                return "200 result=0" if value is None else f"200 result=1 ({value})"
            case "STREAM FILE":  # a key among the escape digits stops the playback; other keys are lost
                key = self._channel.quirks.early.get(arguments[0], "")
                has_stopped = key and key in arguments[1]
                return f"200 result={ord(key)} endpos=4000" if has_stopped else "200 result=0 endpos=8000"
            case "GET DATA":
                pressed = next(self._keys, "")
                return f"200 result={pressed}" if pressed else "200 result= (timeout)"
            case "HANGUP":
                self._channel.ended = True
        return "200 result=1"

    def _set(self, name: str, value: str) -> None:
        """Set a variable. Asterisk reports success even for an unknown function."""
        if name.startswith("ARRAY(") and name.endswith(")"):
            names = name[len("ARRAY(") : -1].split(",")
            values = value.split(",") + [""] * len(names)
            self._channel.variables.update(zip(names, values, strict=False))
        elif name.endswith(")"):
            self._channel.violations.append("a function that cannot be set")
        else:
            self._channel.variables[name] = value


def environment(channel: Channel, url: str, arguments: tuple[str, ...]) -> bytes:
    """Return the lines that Asterisk sends at the start of a FastAGI connection."""
    script = url.partition("://")[2].partition("/")[2]
    lines = ["agi_network: yes"] + ([f"agi_network_script: {script}"] if script else [])
    lines += [f"agi_{name}: {value}" for name, value in _fields(channel, url)]
    numbered = [f"agi_arg_{at}: {value}" for at, value in enumerate(arguments, 1)]
    extra = list(channel.quirks.extra)
    whole = numbered + lines + extra if channel.quirks.arguments_first else lines + extra + numbered
    return ("\n".join(whole) + "\n\n").encode()


def _fields(channel: Channel, url: str) -> list[tuple[str, str]]:
    return [
        ("request", url), ("channel", "PJSIP/dialer-00000001"), ("language", channel.language), ("type", "PJSIP"),
        ("uniqueid", channel.uniqueid), ("version", "22.10.1"), ("callerid", channel.caller),
        ("calleridname", channel.caller_name), ("callingpres", "0"), ("callingani2", "0"), ("callington", "0"),
        ("callingtns", "0"), ("dnid", channel.extension), ("rdnis", "unknown"), ("context", "dialer"),
        ("extension", channel.extension), ("priority", "3"), ("enhanced", "0.0"), ("accountcode", ""),
        ("threadid", "140000000000000"),
    ]  # fmt: skip


def _words(line: str) -> list[str]:
    """Split a line as Asterisk does: blanks separate words, quotes group them, and a backslash escapes a character."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.quotes, lexer.whitespace = True, "", '"', " \t"
    try:
        return list(lexer)
    except ValueError:  # an unclosed quote, which Asterisk closes at the end
        return _words(f'{line}"')
