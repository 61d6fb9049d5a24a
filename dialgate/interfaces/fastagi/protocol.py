"""The FastAGI protocol without sockets: a parser for Asterisk's messages, and the commands to send.

Asterisk begins with `agi_NAME: VALUE` lines and an empty line. Each command is one line, and the next command is sent
only after Asterisk has replied. A `HANGUP` line may arrive between replies and is not a reply itself. An invalid
command can crash Asterisk (asterisk issue 2069), so only `Command` values are written. A `Command` cannot contain a
line break.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from msgspec import Struct

LONGEST_LINE: Final = 8192  # Asterisk's own buffer, in bytes
MOST_BYTES: Final = 32 << 10  # maximum environment size; Asterisk sends about 500, plus the arguments
_BEGINS: Final = b"agi_"
_VARIABLE: Final = re.compile(r"^agi_([^:\n]*): ?([^\n]*)$", re.MULTILINE)
_REPLY: Final = re.compile(r"(\d{3})(?: result=([^\s(]*))?(?: \((.*)\))?(?: .*)?")
_USAGE: Final = 520
_PROVISIONAL: Final = 200


class NotAgi(Exception):
    """The error for input that Asterisk would not send.

    The message never repeats the input, which may contain a called number.
    """


class Environment(Struct, frozen=True):
    """The variables for a call.

    `script` is the path and query of the URL, not decoded. The names in `values` lack the prefix `agi_`.
    """

    script: str
    values: dict[str, str]
    arguments: tuple[str, ...]


class AgiReply(Struct, frozen=True):
    """Asterisk's reply to a command.

    `result` is the text after `result=`: for example `1`, `-1` or pressed digits. `value` is the text in parentheses.
    """

    code: int
    result: str = ""
    value: str = ""


class Hangup(Struct, frozen=True):
    """Asterisk's notice that the call has ended."""


Message: TypeAlias = Environment | AgiReply | Hangup


class Listener:
    """A parser for Asterisk's messages. It buffers at most one incomplete environment or line."""

    def __init__(self) -> None:
        self._rest = b""
        self._introduced = False
        self._in_usage = False

    @property
    def expects_reply(self) -> bool:
        """Return whether the next byte begins a reply."""
        return self._introduced and not self._rest and not self._in_usage

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages in the data. Raises `NotAgi`; the listener cannot be used afterwards."""
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

    def _reply(self, line: str) -> AgiReply | None:
        """Parse one line of a reply. Return None if the reply is not complete yet.

        A usage text (`520-…` to `520 …`) is one reply. A line `100 …` only announces a reply.
        """
        if self._in_usage:
            self._in_usage = not line.startswith(f"{_USAGE} ")
            return None if self._in_usage else AgiReply(_USAGE)
        if line.startswith(f"{_USAGE}-"):
            self._in_usage = True
            return None
        reply = _REPLY.fullmatch(line)
        if reply is None:
            raise NotAgi("a line is not a reply from Asterisk")
        code, result, value = reply.groups()
        return None if int(code) < _PROVISIONAL else AgiReply(int(code), result or "", value or "")


def _check(head: bytes) -> None:
    """Raise `NotAgi` if `head` cannot be the start of an AGI environment or is longer than `MOST_BYTES`.

    The check does not wait for the whole environment, so that other clients are disconnected early.
    """
    if not (head.startswith(_BEGINS) or _BEGINS.startswith(head)):
        raise NotAgi("the client did not send an AGI environment. Only Asterisk may connect to this port")
    if len(head) > MOST_BYTES:
        raise NotAgi("the environment is longer than any that Asterisk sends")


def _environment(head: bytes) -> Environment:
    text = head.decode("utf-8", "replace")
    lines = _VARIABLE.findall(text)
    if len(lines) != text.count("\n") + 1:
        raise NotAgi("the client did not send an AGI environment. Only Asterisk may connect to this port")
    values: dict[str, str] = dict(lines)
    if len(values) != len(lines):
        raise NotAgi("a name is repeated in the environment, which Asterisk never does")
    arguments: list[str] = []
    while (value := values.get(f"arg_{len(arguments) + 1}")) is not None:
        arguments.append(value)
    return Environment(values.get("network_script", ""), values, tuple(arguments))


# ---- commands --------------------------------------------------------------------------------------------------------

Command: TypeAlias = bytes

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# Values are codes, ids, times and file names. None of them needs quotes or backslashes, so these are not allowed.
_VALUE: Final = re.compile(r"[A-Za-z0-9_.:/+-]{0,256}")
ANSWER: Final[Command] = b"ANSWER\n"
HANG_UP: Final[Command] = b"HANGUP\n"


def set_variable(name: str, value: str) -> Command:
    """Return the command that sets a variable. Raises `ValueError` if the value would need escaping."""
    return b'SET VARIABLE %b "%b"\n' % (_exact(_NAME, name), _exact(_VALUE, value))


def set_variables(values: Iterable[tuple[str, str]]) -> Command:
    """Return the command that sets two or more variables in order. Raises `ValueError`.

    The command uses the dialplan function ARRAY(), because two commands cannot be sent at once: Asterisk would leave
    the second line in the stdio buffer until more data arrives on the socket (`run_agi` in res_agi.c).
    """
    names, texts = zip(*values, strict=True)
    listed = b",".join([_exact(_NAME, name) for name in names])
    return b'SET VARIABLE ARRAY(%b) "%b"\n' % (listed, b",".join([_exact(_VALUE, value) for value in texts]))


def stream_file(name: str, digits: str = "") -> Command:
    """Return the command that plays a file until it ends or a key in `digits` is pressed.

    The result is the character code of the key.
    """
    return b'STREAM FILE "%b" "%b"\n' % (_exact(_VALUE, name), _exact(_VALUE, digits))


def get_data(name: str, timeout_ms: int, most: int) -> Command:
    """Return the command that plays a file and reads up to `most` key presses."""
    return b'GET DATA "%b" %d %d\n' % (_exact(_VALUE, name), timeout_ms, most)


def _exact(pattern: re.Pattern[str], text: str) -> bytes:
    if not pattern.fullmatch(text):
        raise ValueError("the text contains characters that are not allowed in an AGI command")
    return text.encode("ascii")
