"""An emulated Asterisk as a FastAGI server sees it: connection, environment, commands and replies.

The emulator reads as Asterisk 22.10.1 does. Of the commands it knows `SET VARIABLE`, the only one that a check sends. The
dialplan decides whether to dial (`dialplan.py`).

AGI() has no time limit. It ends when the server closes the connection. With `AGIEXITONHANGUP` it also ends when
`TIMEOUT(absolute)` expires, which it does not detect while it reads an incomplete line.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct, field

PORT: Final = 4573
_CONNECT_SECONDS: Final = 2
_LINE_BYTES: Final = 8192
_UNKNOWN: Final = "510 Invalid or unknown command"


class Channel(Struct, kw_only=True):
    """An Asterisk channel.

    - `violations` contains what Asterisk could not process.
    - `ended` is true after the channel was hung up.
    - `limit` is the loop time at which `TIMEOUT(absolute)` ends the channel. `expired` is true if this happened.
    """

    extension: str
    caller: str = "unknown"
    caller_name: str = "unknown"
    uniqueid: str = "1795510800.1"
    variables: dict[str, str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    ended: bool = False
    limit: float | None = None
    expired: bool = False

    def session(self) -> "AgiSession":
        return AgiSession(self)


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
            status = await channel.session().run(reader, writer, url, arguments)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    channel.variables["AGISTATUS"] = status
    return status


class AgiSession:
    """One run of `AGI()` on a channel."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._channel_ended = False

    async def run(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str, arguments: tuple[str, ...]
    ) -> str:
        self._reader, self._writer = reader, writer
        with suppress(ConnectionError):
            writer.write(("\n".join(self.environment(url, arguments)) + "\n\n").encode())
            async for line in self._lines():
                writer.write(self.answer(line).encode() + b"\n")
                await writer.drain()
        return "HANGUP" if self.channel.ended or self.channel.expired else "SUCCESS"

    def environment(self, url: str, arguments: tuple[str, ...]) -> list[str]:
        """Return the lines that Asterisk sends at the start of a FastAGI connection."""
        script = url.partition("://")[2].partition("/")[2]
        lines = ["agi_network: yes"] + ([f"agi_network_script: {script}"] if script else [])
        lines += [f"agi_{name}: {value}" for name, value in _fields(self.channel, url)]
        return lines + [f"agi_arg_{at}: {value}" for at, value in enumerate(arguments, 1)]

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
                    self.channel.violations.append("a line longer than Asterisk's buffer")
                    return
                continue
            if kept:
                self.channel.violations.append("a command before the reply to the previous one")
            yield line.decode("utf-8", "replace")
        if kept:  # Asterisk executes it
            self.channel.violations.append("a line without a newline")
            yield kept.decode("utf-8", "replace")

    async def _read(self, *, in_line: bool) -> bytes | None:
        """Read from the server. Return None if AGI() ends because the channel ended.

        Within a line (`in_line`), AGI() does not notice the end of the channel.
        """
        ends = None if in_line or self._channel_ended else self.channel.limit
        try:
            async with asyncio.timeout_at(ends):
                return await self._reader.read(_LINE_BYTES)
        except TimeoutError:
            self._channel_ended = True
            self.channel.expired = True
            self._writer.write(b"HANGUP\n")
        if self.channel.variables.get("AGIEXITONHANGUP") == "yes":
            return None
        return await self._read(in_line=True)  # from now on only the server can end AGI()

    def answer(self, line: str) -> str:
        """Execute a command, and return the reply."""
        match split_words(line):
            case [word, kind, name, value, *_] if f"{word} {kind}".upper() == "SET VARIABLE":
                self.set_variable(name, value)
                return "200 result=1"
        self.channel.violations.append("an unknown command")
        return _UNKNOWN

    def set_variable(self, name: str, value: str) -> None:
        """Set a variable. Asterisk reports success even for an unknown function."""
        if name.startswith("ARRAY(") and name.endswith(")"):
            names = name[len("ARRAY(") : -1].split(",")
            values = value.split(",") + [""] * len(names)
            self.channel.variables.update(zip(names, values, strict=False))
        elif name.endswith(")"):
            self.channel.violations.append("a function that cannot be set")
        else:
            self.channel.variables[name] = value


def _fields(channel: Channel, url: str) -> list[tuple[str, str]]:
    return [
        ("request", url), ("channel", "PJSIP/dialer-00000001"), ("language", "en"), ("type", "PJSIP"),
        ("uniqueid", channel.uniqueid), ("version", "22.10.1"), ("callerid", channel.caller),
        ("calleridname", channel.caller_name), ("callingpres", "0"), ("callingani2", "0"), ("callington", "0"),
        ("callingtns", "0"), ("dnid", channel.extension), ("rdnis", "unknown"), ("context", "dialer"),
        ("extension", channel.extension), ("priority", "3"), ("enhanced", "0.0"), ("accountcode", ""),
        ("threadid", "140000000000000"),
    ]  # fmt: skip


def split_words(line: str) -> list[str]:
    """Split a line as Asterisk does: blanks separate words, quotes group them, and a backslash escapes a character."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.quotes, lexer.whitespace = True, "", '"', " \t"
    try:
        return list(lexer)
    except ValueError:  # an unclosed quote, which Asterisk closes at the end
        return split_words(f'{line}"')
