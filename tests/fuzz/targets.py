"""Fuzz targets: properties that must hold for any bytes from the network.

A target takes bytes and raises `AssertionError` if its property is violated. It returns the parsed data, or a
falsy value if nothing was parsed. Hypothesis (tests/interfaces/test_fuzz.py) and atheris (`make fuzz`) use the same
targets.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Network
from typing import Any, Final, cast

from dialgate.config.clients import Client
from dialgate.config.listeners import FastAgi as Listen
from dialgate.core.model import Call
from dialgate.core.responses import Answer
from dialgate.interfaces.fastagi.protocol import LONGEST_LINE, MOST_BYTES, Listener, NotAgi
from dialgate.interfaces.fastagi.server import CallConnection, FastAgiServer
from dialgate.interfaces.http import body
from dialgate.interfaces.http import check as http_check
from dialgate.interfaces.http.errors import Fault

_COMMAND: Final = re.compile(
    rb'(SET VARIABLE (?:[A-Z_]+|ARRAY\([A-Z_,]+,DG_DECISION\)) "[A-Za-z0-9_.,:/+-]*"|ANSWER|HANGUP|STREAM FILE .*|GET DATA .*)\n'
)
_DIGITS: Final = re.compile(r"[0-9]{6,}")
_CLIENT: Final = Client(name="fuzz", controllers=(), scopes=("check",), sources=("127.0.0.1/32",))
_NOT_AGI: Final[list[Any]] = ["not AGI"]
_ALLOWED: Final = Answer(decision="allow", decision_id="1-1", to="+390612345678")


def listener(data: bytes) -> list[Any]:
    """Check that the FastAGI parser does not depend on how the data is split, and that its buffer is bounded."""
    whole, pieces = Listener(), Listener()
    parsed = _parsed(whole, [data])
    assert parsed == _parsed(pieces, [data[at : at + 61] for at in range(0, len(data), 61)])
    assert len(whole._rest) <= max(MOST_BYTES, LONGEST_LINE)
    return [] if parsed == _NOT_AGI else parsed


def _parsed(parser: Listener, pieces: list[bytes]) -> list[Any]:
    messages: list[Any] = []
    with suppress(NotAgi):
        for piece in pieces:
            messages += parser.feed(piece)
        return messages
    return _NOT_AGI


class _Transport:
    """A transport that keeps the written data."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)


class Loop(asyncio.SelectorEventLoop):
    """An event loop that runs callbacks at once and drops timers, so that nothing accumulates over millions of runs."""

    def call_later(self, delay: Any, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override] # typeshed binds the callback to its arguments
        return asyncio.TimerHandle(delay, callback, args, self, context)

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override] # as above
        if not self.is_running():
            return super().call_soon(callback, *args, context=context)
        callback(*args)
        return asyncio.Handle(callback, args, self, context)


class _Gate:
    """A gate that allows numbers of odd length and never answers for the others. It records the calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.allowed = False

    def check(self, call: Call, _: Client, __: str) -> asyncio.Future[Answer]:
        self.calls.append(call)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if len(call.to) % 2:
            self.allowed = True
            answer.set_result(_ALLOWED)
        return answer


class _App:
    class config:  # noqa: N801 - replaces an attribute
        networks: Final = ((IPv4Network("127.0.0.1/32"), _CLIENT),)

        class settings:  # noqa: N801 - as above
            fastagi = Listen()

    def __init__(self) -> None:
        self.gate = _Gate()


class _Door(FastAgiServer):
    def __init__(self, app: _App) -> None:
        super().__init__(cast("Any", app))
        self._most = 1  # connections; normally set by `start`


def talk(data: bytes) -> list[bytes]:
    """Check that FastAGI sends only known commands. Needs a `Loop`.

    Also check that an `allow` follows an initial `deny`, and that the gate really permitted the call.
    """
    app, transport = _App(), _Transport()
    call = CallConnection(_Door(app))
    call.connection_made(cast("Any", transport))
    for at in range(0, len(data), 64):
        if not transport.closed:
            call.data_received(data[at : at + 64])
    call.connection_lost(None)
    commands = transport.written
    assert all(_COMMAND.fullmatch(line) for line in commands)
    allows = [line for line in commands if line.endswith(b'allow"\n')]
    if allows:
        assert app.gate.allowed
        assert commands == [b'SET VARIABLE DG_DECISION "deny"\n', *allows]
    return allows


def form(data: bytes) -> Call | None:
    """Check that a form is parsed into a request, or causes an error whose text contains no number."""
    return _request_from(lambda: http_check.from_pairs(body.parameters(data.decode("ascii", "replace"))))


def _request_from(read: Callable[[], Call]) -> Call | None:
    problem = None
    try:
        return read()
    except Fault as fault:
        problem = (fault.status, fault.problem.message + fault.problem.field)
    assert problem[0] in range(400, 500)
    assert not _DIGITS.search(problem[1])
    return None


TARGETS: Final[dict[str, Callable[[bytes], object]]] = {
    "listener": listener,
    "talk": talk,
    "form": form,
}
# The first seed of each target is a complete request.
SEEDS: Final = {
    "listener": [b"agi_network: yes\nagi_arg_1: a\n\n200 result=1\nHANGUP\n520-x\n520 y\n"],
    "talk": [b"agi_network_script: check\nagi_arg_1: +3906\n\n" + b"200 result=1\n" * 8,
             b"agi_network_script: check\nagi_arg_1: +390\n\n" + b"200 result=1\n" * 8,
             b"agi_network_script: vicidial\nagi_arg_1: 39\n\nHANGUP\n200 result=1\n"],
    "form": [b"to=%2B390612345678&from=1&campaign=x&call_type=agent"],
}  # fmt: skip
# Words that mutation alone would hardly find.
WORDS: Final = (
    b"agi_", b"agi_network_script: check\n", b"agi_network_script: recall\n", b"agi_arg_1: ", b"\n", b"\n\n",
    b"200 result=1\n", b"HANGUP\n", b"511 x\n", b"520-x\n", b"520 x\n", b"to=", b"from=", b"campaign=", b"call_type=agent",
    b"&", b"%2B", b"%00", b"%ff", b"+", b"+390612345678", b"+390844123456", b"acme-fibre",
)  # fmt: skip


def shaped(name: str, data: bytes) -> bytes:
    """Turn fuzzer input into raw bytes, a sequence of words, or a modified seed.

    Coverage guidance does not help with decoders written in C. With words and seeds, more inputs pass these decoders.
    """
    kind, rest = data[:1], data[1:]
    if kind < b"\x55":
        return rest
    if kind < b"\xaa":
        return b"".join(WORDS[byte % len(WORDS)] for byte in rest[:64])
    seed = SEEDS[name][len(rest) % len(SEEDS[name])]
    begin, size = (*rest[:2], 0, 0)[:2]
    return seed[:begin] + rest[2:] + seed[begin + size % 16 :]
