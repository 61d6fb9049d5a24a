"""Gates that behave badly: one port that takes FastAGI and HTTP alike, and does to each caller what a case wants.

An HTTP answer has the form that the path asks for, so that a dialer under test needs no other configuration than its own.
As a real gate, it compares the numbers of the request with those of the call: see `mismatch`.
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote_plus

from msgspec import Struct, field

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Play: TypeAlias = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_FAR: Final = "2099-01-01T00:00:00.000Z"
_ALLOW: Final = (
    ("DECISION", "deny"),
    ("REASON", ""),
    ("DECISION_ID", "conformance-1"),
    ("DECISION", "allow"),
)
_DENY: Final = (
    ("DECISION", "deny"),
    ("REASON", "registry.listed"),
    ("CLASS", "number"),
    ("DECISION_ID", "conformance-1"),
)
_TO: Final = re.compile(rb'(?:[?&]to=|^to=|"to"\s*:\s*"|"id"\s*:\s*"(?=\+))([^&"\s]+)', re.MULTILINE)
_LATE_SECONDS: Final = 3.0
_DRIP_SECONDS: Final = 1.0
_LONG: Final = b"a" * 4096  # as much as a variable of Asterisk's dialplan holds
_TO_NAMES: Final = ("to", "dnis", "phone_number", "number", "Caller-Destination-Number", "resource.id")
_FROM_NAMES: Final = ("from", "ani", "caller_id", "Caller-Caller-ID-Number", "subject.properties.caller_id")


class TestCall(Struct, frozen=True):
    """The call that a dialer was made to place. `shown`: its caller ID, or empty where the kit does not know it.
    `notes`: what a request said otherwise."""

    to: str
    shown: str = ""
    notes: list[str] = field(default_factory=list)


def mismatch(request: bytes, call: TestCall) -> str:
    """Return what is wrong with the numbers that a request names, or nothing. A caller ID that the kit does not know
    may be missing or any number."""
    named = _named(request)
    to = next((named[name] for name in _TO_NAMES if name in named), "")
    shown = next((named[name] for name in _FROM_NAMES if name in named), "")
    if not same_number(to, call.to):
        return f"the gate was asked about {to[:64]!r}; the call goes to {call.to}"
    if call.shown and not same_number(shown, call.shown):
        return f"the gate was asked about the caller ID {shown[:64]!r}; the call shows {call.shown}"
    if shown and not _national(shown):
        return f"the gate was asked about the caller ID {shown[:64]!r}, which is no number"
    return ""


def same_number(one: str, other: str) -> bool:
    return bool(_national(one)) and _national(one) == _national(other)


def _national(number: str) -> str:
    """+39 06…, 0039 06… and 06… are one number. Empty for what is none."""
    plain = re.sub(r"[\s()./-]", "", number)
    return re.sub(r"^(\+|00)?39", "", plain) if re.fullmatch(r"\+?\d{3,15}", plain) else ""


def _named(request: bytes) -> dict[str, str]:
    """The fields of a request by their names: AGI's arguments, and whatever stands in a URL, a form or JSON."""
    text = request.decode("utf-8", "replace")
    if text.startswith("agi_"):
        values = dict(re.findall(r"^agi_([^:\n]*): ?([^\n]*)$", text, re.MULTILINE))
        return {"to": values.get("arg_1", ""), "from": values.get("arg_2", "")}
    head, _, body = text.partition("\r\n\r\n")
    found = dict(parse_qsl(head.split(" ")[1].partition("?")[2]))
    try:
        sent = json.loads(body) if body else {}
    except ValueError:
        return dict(parse_qsl(body)) | found
    return dict(_leaves(sent)) | found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, str):
        yield path, value


async def _spoken(
    asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, allow: bool
) -> None:
    if not asked.startswith(b"agi_"):
        writer.write(_answer(asked, allow=allow))
        return
    for name, value in _ALLOW if allow else _DENY:
        writer.write(f'SET VARIABLE DG_{name} "{value}"\n'.encode())
        await reader.readline()


async def allow(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _spoken(asked, reader, writer, allow=True)


async def deny(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _spoken(asked, reader, writer, allow=False)


async def silent(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await reader.read()  # until the other side has had enough


async def slow(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An allow, when a dialer must long have given up."""
    try:
        async with asyncio.timeout(_LATE_SECONDS):
            await reader.read()
    except TimeoutError:
        await allow(asked, reader, writer)


async def early(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def half(asked: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Cut off in the middle of an allow."""
    whole = b'SET VARIABLE DG_DECISION "al' if asked.startswith(b"agi_") else _answer(asked, allow=True)[:-3]
    writer.write(whole)


async def nonsense(asked: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = b'\x00\xffallow? <html>{"decision": "allow"'
    writer.write(body + b"\n" if asked.startswith(b"agi_") else _http("200 OK", "text/html", body))


async def error(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An error page of somebody on the way, which has no answer in it."""
    if asked.startswith(b"agi_"):
        writer.write(b'SET VARIABLE DG_REASON "gate.error"\n')
        await reader.readline()
    else:
        writer.write(_http("500 Internal Server Error", "text/plain", b"Internal Server Error"))


async def empty(asked: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"" if asked.startswith(b"agi_") else _http("200 OK", "text/plain", b""))


async def quote(asked: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A quote where the answer is due, on which an expression of a dialplan breaks off."""
    await _garbage(asked, b'"', writer)


async def long(asked: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """More than a dialplan's variable holds."""
    await _garbage(asked, _LONG, writer)


async def _garbage(asked: bytes, value: bytes, writer: asyncio.StreamWriter) -> None:
    escaped = value.replace(b'"', b'\\"')
    line = b'SET VARIABLE DG_DECISION "%b"\n' % escaped
    writer.write(line if asked.startswith(b"agi_") else _http("200 OK", "text/plain", value))


async def drip(asked: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An allow, one byte a second."""
    agi = b'SET VARIABLE DG_DECISION "allow"\n'
    for byte in agi if asked.startswith(b"agi_") else _answer(asked, allow=True):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(_DRIP_SECONDS)


def _answer(asked: bytes, *, allow: bool) -> bytes:
    path = asked.split(b" ")[1].split(b"?")[0]
    found = _TO.search(asked)
    to = "+" + re.sub(r"\D", "", unquote_plus(found[1].decode("latin-1")) if found else "")
    said = "allow" if allow else "deny"
    told = {"decision": said, "decision_id": "conformance-1", "to": to, "from": "", "valid_until": _FAR}
    if not allow:
        told |= {"valid_until": "", "reason": "registry.listed", "reason_class": "number"}
    if path.endswith(b".txt"):
        return _http("200 OK", "text/plain", (said if allow else "deny registry.listed").encode())
    if path.endswith(b".form"):
        return _http(
            "200 OK", "application/x-www-form-urlencoded", f"decision={said}&decision_id=c-1".encode()
        )
    if path.endswith(b"/httapi"):
        work = "<break/>" if allow else '<hangup cause="CALL_REJECTED"/>'
        variables = f"<variables><dg_decision>{said}</dg_decision></variables>"
        document = f'<document type="xml/freeswitch-httapi">{variables}<work>{work}</work></document>'
        return _http("200 OK", "text/xml", document.encode())
    if path.startswith(b"/access/"):
        return _http("200 OK", "application/json", json.dumps({"decision": allow, "context": {}}).encode())
    return _http("200 OK", "application/json", json.dumps(told).encode())


def _http(status: str, media: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def playing(plays: Iterator[Play], port: int = 0, call: TestCall | None = None) -> AsyncIterator[int]:
    """A gate on a port of this machine that does one of `plays` to each caller, and hangs up. A request for other
    numbers than those of `call` is denied."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await _asked(reader)
        play = next(plays, early)
        if call is not None and (problem := mismatch(asked, call)):
            call.notes.append(problem)
            play = deny
        await play(asked, reader, writer)

    async with listening(served, port) as at:
        yield at


@asynccontextmanager
async def frozen(port: int = 0) -> AsyncIterator[int]:
    """A gate that was stopped (SIGSTOP): the kernel takes its connections and what is sent, and nothing ever answers."""
    with socket.create_server(("127.0.0.1", port), backlog=100) as server:
        yield int(server.getsockname()[1])


@asynccontextmanager
async def listening(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    """A port of this machine where `serve` has each caller to itself; who is left at the end is cut off.

    asyncio's own server (3.11) loses who was accepted but not yet served when it is closed.
    """
    accepted: list[socket.socket] = []
    serving: list[asyncio.Task[None]] = []

    async def served(caller: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=caller)
        try:
            await serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller is done
        finally:
            writer.transport.abort()

    def accept() -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            caller, _ = server.accept()
            caller.settimeout(0)
            accepted.append(caller)
            serving.append(asyncio.create_task(served(caller)))

    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", port), backlog=100) as server:
        server.settimeout(0)
        loop.add_reader(server, accept)
        try:
            yield int(server.getsockname()[1])
        finally:
            loop.remove_reader(server)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            for caller in accepted:
                caller.close()


async def _asked(reader: asyncio.StreamReader) -> bytes:
    """The environment, or the request with its body."""
    begins = await reader.readexactly(4)
    if begins == b"agi_":
        return begins + await reader.readuntil(b"\n\n")
    head = begins + await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")
