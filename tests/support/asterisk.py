"""A stricter emulated Asterisk for tests of the gate: all commands of 22.10.1 that a gate could send, and unusual behaviour."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from dialgate.tools.conformance.asterisk import AgiSession, Channel, split_words

_MOST_WORDS: Final = 128
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


class StrictChannel(Channel, kw_only=True):
    """A channel that also records every line from the server in `said`."""

    language: str = "en"
    said: list[str] = field(default_factory=list)
    quirks: Quirks = Quirks()

    def session(self) -> "_StrictSession":
        return _StrictSession(self)


class _StrictSession(AgiSession):
    channel: StrictChannel

    def __init__(self, channel: StrictChannel) -> None:
        super().__init__(channel)
        self._keys = iter(channel.quirks.keys)
        self._commands = 0

    def environment(self, url: str, arguments: tuple[str, ...]) -> list[str]:
        lines = super().environment(url, ())
        lines[lines.index("agi_language: en")] = f"agi_language: {self.channel.language}"
        given = super().environment(url, arguments)[len(lines) :]
        lines += self.channel.quirks.extra
        return given + lines if self.channel.quirks.arguments_first else lines + given

    def answer(self, line: str) -> str:
        channel = self.channel
        channel.said.append(line)
        self._commands += 1
        words = split_words(line)
        if len(words) > _MOST_WORDS:
            channel.violations.append("more words than Asterisk accepts")
        hangup = ""
        if self._commands == channel.quirks.hangup_before:
            channel.ended, hangup = True, "HANGUP\n"
        return hangup + self._reply(line, words)

    def _reply(self, line: str, words: list[str]) -> str:
        upper = " ".join(words).upper()
        for prefix, reply in self.channel.quirks.replies.items():
            if line.startswith(prefix):
                return reply
        for name, (needed, reply) in _COMMANDS.items():
            if upper == name or upper.startswith(f"{name} "):
                arguments = words[name.count(" ") + 1 :]
                if self.channel.ended and name not in _ON_DEAD:
                    return _DEAD
                if len(arguments) < needed:
                    return _USAGE.format(word=name)
                return reply or self._act(name, arguments)
        return super().answer(line)

    def _act(self, name: str, arguments: list[str]) -> str:
        match name:
            case "SET VARIABLE":
                self.set_variable(*arguments[:2])
            case "GET VARIABLE" | "GET FULL VARIABLE":
                value = self.channel.variables.get(arguments[0].removeprefix("${").removesuffix("}"))
                return "200 result=0" if value is None else f"200 result=1 ({value})"
            case "STREAM FILE":  # a key among the escape digits stops the playback; other keys are lost
                key = self.channel.quirks.early.get(arguments[0], "")
                has_stopped = key and key in arguments[1]
                return f"200 result={ord(key)} endpos=4000" if has_stopped else "200 result=0 endpos=8000"
            case "GET DATA":
                pressed = next(self._keys, "")
                return f"200 result={pressed}" if pressed else "200 result= (timeout)"
            case "HANGUP":
                self.channel.ended = True
        return "200 result=1"
