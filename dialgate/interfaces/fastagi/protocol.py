"""What Asterisk and a FastAGI server say to each other, without sockets: the bytes that come, the lines that go.

Asterisk speaks first: `agi_NAME: VALUE` lines and an empty one. Then each command is one line, and is answered before the
next one is sent. `HANGUP` may stand between two answers and is none. A text that is no command can bring Asterisk down
(asterisk issue 2069), so nothing but `Command` values is ever written, and those cannot hold a line end.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from msgspec import Struct

LONGEST_LINE: Final = 8192  # Asterisk's own buffer, in bytes
MOST_BYTES: Final = 32 << 10  # of an environment; Asterisk sends some 500, and the arguments
_BEGINS: Final = b"agi_"
_VARIABLE: Final = re.compile(r"^agi_([^:\n]*): ?([^\n]*)$", re.MULTILINE)
_REPLY: Final = re.compile(r"(\d{3})(?: result=([^\s(]*))?(?: \((.*)\))?(?: .*)?")
_USAGE: Final = 520
_PROVISIONAL: Final = 200


class NotAgi(Exception):
    """What came is not what Asterisk says. The text never repeats it: a called number may stand there."""


class Environment(Struct, frozen=True):
    """`script`: the URL's path, with its query, not decoded. `values`: without the `agi_` before their names."""

    script: str
    values: dict[str, str]
    arguments: tuple[str, ...]


class Reply(Struct, frozen=True):
    """`result` is as it came: `1`, `-1`, digits that were pressed, or nothing; `value` what stood in brackets."""

    code: int
    result: str = ""
    value: str = ""


class Hangup(Struct, frozen=True):
    pass


Message: TypeAlias = Environment | Reply | Hangup


class Listener:
    """Bytes in, what was said out. It holds at most the environment until that is whole, and then one line."""

    def __init__(self) -> None:
        self._rest = b""
        self._introduced = False
        self._in_usage = False

    @property
    def expects_reply(self) -> bool:
        """What comes next is a reply from its first byte on."""
        return self._introduced and not self._rest and not self._in_usage

    def feed(self, data: bytes) -> Iterator[Message]:
        """Raises `NotAgi`, after which the listener is of no further use."""
        data = self._rest + data
        if not self._introduced:
            head, separator, data = data.partition(b"\n\n")
            _check(head)
            if not separator:
                self._rest = head
                return
            self._introduced = True
            yield _environment(head)
        *lines, self._rest = data.split(b"\n")
        for line in (*lines, self._rest):
            if len(line) > LONGEST_LINE:
                raise NotAgi("a line is longer than any that Asterisk sends")
        for line in lines:
            message = Hangup() if line == b"HANGUP" else self._reply(line.decode("utf-8", "replace"))
            if message is not None:
                yield message

    def _reply(self, line: str) -> Reply | None:
        """A usage (`520-…` to `520 …`) is one reply, whatever stands within it; `100 …` says that one will come."""
        if self._in_usage:
            self._in_usage = not line.startswith(f"{_USAGE} ")
            return None if self._in_usage else Reply(_USAGE)
        if line.startswith(f"{_USAGE}-"):
            self._in_usage = True
            return None
        reply = _REPLY.fullmatch(line)
        if reply is None:
            raise NotAgi("an answer came that is none of Asterisk's")
        code, result, value = reply.groups()
        return None if int(code) < _PROVISIONAL else Reply(int(code), result or "", value or "")


def _check(head: bytes) -> None:
    """What has come of an environment so far, as soon as it has come: a stranger is not listened to for long."""
    if not (head.startswith(_BEGINS) or _BEGINS.startswith(head)):
        raise NotAgi("this is no AGI environment; is it Asterisk that connects here?")
    if len(head) > MOST_BYTES:
        raise NotAgi("an environment is longer than any that Asterisk sends")


def _environment(head: bytes) -> Environment:
    text = head.decode("utf-8", "replace")
    lines = _VARIABLE.findall(text)
    if len(lines) != text.count("\n") + 1:
        raise NotAgi("this is no AGI environment; is it Asterisk that connects here?")
    values: dict[str, str] = dict(lines)
    if len(values) != len(lines):
        raise NotAgi("a name stands twice in the environment; Asterisk sends each once")
    arguments: list[str] = []
    while (value := values.get(f"arg_{len(arguments) + 1}")) is not None:
        arguments.append(value)
    return Environment(values.get("network_script", ""), values, tuple(arguments))


# ---- commands --------------------------------------------------------------------------------------------------------

Command: TypeAlias = bytes

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# What we ever say: codes, ids, times, file names. Nothing of it needs a quote or a backslash, and none gets through.
_VALUE: Final = re.compile(r"[A-Za-z0-9_.:/+-]{0,256}")
ANSWER: Final[Command] = b"ANSWER\n"
HANG_UP: Final[Command] = b"HANGUP\n"


def set_variable(name: str, value: str) -> Command:
    """Raises ValueError for a value that would have to be escaped."""
    return b'SET VARIABLE %b "%b"\n' % (_exact(_NAME, name), _exact(_VALUE, value))


def set_variables(values: Iterable[tuple[str, str]]) -> Command:
    """Two or more at once, in their order, by the dialplan's function ARRAY(). Raises ValueError, as above.

    Commands may not be sent ahead instead: Asterisk waits for its socket, and what its stdio has read from that with an
    earlier line it does not see until more comes (`run_agi` in res_agi.c)."""
    names, texts = zip(*values, strict=True)
    listed = b",".join([_exact(_NAME, name) for name in names])
    return b'SET VARIABLE ARRAY(%b) "%b"\n' % (listed, b",".join([_exact(_VALUE, value) for value in texts]))


def stream_file(name: str, digits: str = "") -> Command:
    """Play a file; a key among `digits` stops it, and is the result, as its character code."""
    return b'STREAM FILE "%b" "%b"\n' % (_exact(_VALUE, name), _exact(_VALUE, digits))


def get_data(name: str, patience: int, most: int) -> Command:
    """Play a file and take at most `most` keys; `patience` in milliseconds."""
    return b'GET DATA "%b" %d %d\n' % (_exact(_VALUE, name), patience, most)


def _exact(pattern: re.Pattern[str], text: str) -> bytes:
    if not pattern.fullmatch(text):
        raise ValueError("this may not stand in a command")
    return text.encode("ascii")
