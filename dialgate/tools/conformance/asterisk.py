"""An emulated Asterisk as a FastAGI server sees it: connection, environment, commands and replies.

The emulator is as strict as Asterisk 22.10.1 and records everything that Asterisk could not process. `Quirks` adds
unusual behaviour. The dialplan decides whether to dial (`dialplan.py`).

AGI() has no time limit. It ends when the server closes the connection. With `AGIEXITONHANGUP` it also ends when
the caller hangs up or `TIMEOUT(absolute)` expires. While AGI() reads an incomplete line, it detects neither of
these two events.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
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
    - `patience` is the time in seconds after which the caller hangs up, or None for never.
    """

    extra: tuple[str, ...] = ()
    arguments_first: bool = False
    hangup_before: int = 0
    replies: Mapping[str, str] = {}
    keys: tuple[str, ...] = ()
    early: Mapping[str, str] = {}
    patience: float | None = None


class Channel(Struct, kw_only=True):
    """An Asterisk channel.

    - `said` contains every line from the server, and `violations` the lines that Asterisk could not process.
    - `ended` is true after `HANGUP` or after the caller hung up.
    - `presentation` is `CALLERID(pres)`. `redirecting` contains the fields of `REDIRECTING()`, which PJSIP sends as Diversion
      and History-Info.
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
    presentation: str = "allowed"
    redirecting: dict[str, str] = field(default_factory=dict)
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
        self._started = asyncio.get_running_loop().time()
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
        ends = None if in_line or self._channel_ended else self._end_of_channel()
        try:
            async with asyncio.timeout_at(ends):
                return await self._reader.read(_LINE_BYTES)
        except TimeoutError:
            self._channel_ended = True
            self._channel.expired = ends == self._channel.limit
            self._channel.ended = not self._channel.expired
            self._writer.write(b"HANGUP\n")
        if self._channel.variables.get("AGIEXITONHANGUP") == "yes":
            return None
        return await self._read(in_line=True)  # from now on only the server can end AGI()

    def _end_of_channel(self) -> float | None:
        patience = self._channel.quirks.patience
        ends = (self._channel.limit, None if patience is None else self._started + patience)
        return min((end for end in ends if end is not None), default=None)

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
        for name, needed, act in self._COMMANDS:
            if upper == name or upper.startswith(f"{name} "):
                arguments = words[name.count(" ") + 1 :]
                if self._channel.ended and name not in _ON_DEAD:
                    return _DEAD
                return act(self, arguments) if len(arguments) >= needed else _USAGE.format(word=name)
        self._channel.violations.append("an unknown command")
        return _UNKNOWN

    def _set(self, arguments: list[str]) -> str:
        """Set a variable. Asterisk reports success even for an unknown function."""
        name, value = arguments[:2]
        if name.startswith("ARRAY(") and name.endswith(")"):
            names = name[len("ARRAY(") : -1].split(",")
            values = value.split(",") + [""] * len(names)
            self._channel.variables.update(zip(names, values, strict=False))
        elif name.endswith(")"):
            self._channel.violations.append("a function that cannot be set")
        else:
            self._channel.variables[name] = value
        return "200 result=1"

    def _get(self, arguments: list[str]) -> str:
        value = self._channel.variables.get(arguments[0].removeprefix("${").removesuffix("}"))
        return "200 result=0" if value is None else f"200 result=1 ({value})"

    def _reply_zero(self, _: list[str]) -> str:
        return "200 result=0"

    def _reply_one(self, _: list[str]) -> str:
        return "200 result=1"

    def _play(self, arguments: list[str]) -> str:
        """Play a file. A key among the escape digits stops the playback; other keys are lost."""
        name, escapes = arguments[:2]
        key = self._channel.quirks.early.get(name, "")
        return f"200 result={ord(key)} endpos=4000" if key and key in escapes else "200 result=0 endpos=8000"

    def _get_data(self, _: list[str]) -> str:
        pressed = next(self._keys, "")
        return f"200 result={pressed}" if pressed else "200 result= (timeout)"

    def _hang_up(self, _: list[str]) -> str:
        self._channel.ended = True
        return "200 result=1"

    # Name, minimum number of arguments, and effect.
    _COMMANDS: Final[tuple[tuple[str, int, Callable[["_Session", list[str]], str]], ...]] = (
        ("SET VARIABLE", 2, _set),
        ("GET VARIABLE", 1, _get),
        ("GET FULL VARIABLE", 1, _get),
        ("SET CALLERID", 1, _reply_one),
        ("STREAM FILE", 2, _play),
        ("GET DATA", 1, _get_data),
        ("ANSWER", 0, _reply_zero),
        ("EXEC", 1, _reply_zero),
        ("VERBOSE", 1, _reply_one),
        ("NOOP", 0, _reply_zero),
        ("HANGUP", 0, _hang_up),
    )


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
    """Split a line as Asterisk does.

    Blanks separate words, quotes group them, and a backslash escapes one character.
    """
    words, word, quoted, escaped, begun = [], "", False, False, False
    for letter in line:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\":
            escaped = begun = True
        elif letter == '"':
            quoted, begun = not quoted, True
        elif letter in " \t" and not quoted:
            words += [word] if begun else []
            word, begun = "", False
        else:
            word, begun = word + letter, True
    return words + ([word] if begun else [])
