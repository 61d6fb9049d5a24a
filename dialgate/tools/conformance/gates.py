"""Faulty gates: FastAGI and HTTP servers on one port, whose behaviour depends on the test case.

The format of an HTTP response depends on the request path, so a dialer under test needs no special
configuration. Like a real gate, each faulty gate compares the numbers in a request with the call's numbers
(`mismatch`).
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

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
_AGI: Final = b"agi_"
_WORD: Final = b"allow"
_LATE_SECONDS: Final = 3.0
_DRIP_SECONDS: Final = 1.0
_LONG: Final = b"a" * 4096  # the maximum length of an Asterisk dialplan variable
_TO_NAMES: Final = ("to", "dnis", "phone_number", "number", "Caller-Destination-Number")
_FROM_NAMES: Final = ("from", "ani", "caller_id", "Caller-Caller-ID-Number")


class TestCall(Struct, frozen=True):
    """The call that the dialer must place.

    `shown` is its caller ID, or empty if the kit does not know it. `notes` describes each request whose numbers
    are wrong.
    """

    to: str
    shown: str = ""
    notes: list[str] = field(default_factory=list)


def mismatch(request: bytes, call: TestCall) -> str:
    """Return what is wrong with the numbers in a request, or "".

    If the kit does not know the caller ID, the request may contain any caller ID or none.
    """
    fields = _fields(request)
    to, shown = _first(fields, _TO_NAMES), _first(fields, _FROM_NAMES)
    if not same_number(to, call.to):
        return f"the request was about {to[:64]!r}; the call goes to {call.to}"
    if call.shown and not same_number(shown, call.shown):
        return f"the request had the caller ID {shown[:64]!r}; the call shows {call.shown}"
    if shown and not _national(shown):
        return f"the request had the caller ID {shown[:64]!r}, which is not a number"
    return ""


def _first(fields: dict[str, str], names: tuple[str, ...]) -> str:
    return next((fields[name] for name in names if name in fields), "")


def same_number(one: str, other: str) -> bool:
    return bool(_national(one)) and _national(one) == _national(other)


def _national(number: str) -> str:
    """Return the number without +39 or 0039 (dialers may omit these), or "" if the text is not a number."""
    plain = re.sub(r"[\s()./-]", "", number)
    return re.sub(r"^(\+|00)?39", "", plain) if re.fullmatch(r"\+?\d{3,15}", plain) else ""


def _fields(request: bytes) -> dict[str, str]:
    """Return a request's fields by name: AGI arguments, or the fields in a URL, a form or JSON."""
    text = request.decode("utf-8", "replace")
    if request.startswith(_AGI):
        values = dict(re.findall(r"^agi_([^:\n]*): ?([^\n]*)$", text, re.MULTILINE))
        return {"to": values.get("arg_1", ""), "from": values.get("arg_2", "")}
    head, _, body = text.partition("\r\n\r\n")
    query = dict(parse_qsl(head.split(" ")[1].partition("?")[2]))
    try:
        content = json.loads(body) if body else {}
    except ValueError:
        return dict(parse_qsl(body)) | query
    texts = content.items() if isinstance(content, dict) else ()
    return {name: value for name, value in texts if isinstance(value, str)} | query


async def _decide(
    request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, allow: bool
) -> None:
    if not request.startswith(_AGI):
        writer.write(_response(request, allow=allow))
        return
    for name, value in _ALLOW if allow else _DENY:
        writer.write(_set(name, value.encode()))
        await reader.readline()


allow: Final[Play] = partial(_decide, allow=True)
deny: Final[Play] = partial(_decide, allow=False)


async def silent(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await reader.read()  # until the dialer closes the connection


async def slow(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Allow the call, but only after every dialer should have given up."""
    try:
        async with asyncio.timeout(_LATE_SECONDS):
            await reader.read()
    except TimeoutError:
        await allow(request, reader, writer)


async def drip(request: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Allow the call, but send only one byte per second."""
    agi = _set("DECISION", _WORD)
    for byte in agi if request.startswith(_AGI) else _response(request, allow=True):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(_DRIP_SECONDS)


def _set(name: str, value: bytes) -> bytes:
    return b'SET VARIABLE DG_%b "%b"\n' % (name.encode(), value.replace(b'"', b'\\"'))


def _respond(agi: bytes, http: bytes | Callable[[bytes], bytes]) -> Play:
    """Return a gate that sends `agi` to AGI, and `http` to HTTP: a response, or what to make of the allow."""

    async def play(request: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.startswith(_AGI):
            writer.write(agi)
        else:
            writer.write(http if isinstance(http, bytes) else http(_response(request, allow=True)))

    return play


def _word(agi: bytes, http: bytes) -> Play:
    """Return a gate that responds with one of the texts in place of the decision."""
    return _respond(_set("DECISION", agi), _http("200 OK", "text/plain", http))


def _http(status: str, media: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def _until_word(response: bytes) -> bytes:
    """Return the response up to its decision, because a reader of XML may accept a document without its end."""
    return response[: response.rfind(_WORD) + len(_WORD)] if response.endswith(b"</document>") else response


_PAGE_ONLY: Final = _set("REASON", b"gate.error")
_ERROR: Final = "500 Internal Server Error"
_PAGE: Final = b'\x00\xffallow? <html>{"decision": "allow"'
# AGI announces no length, and Asterisk executes a command that has no line break. So `half` and `cut` cut the word there.
early: Final = _respond(b"", b"")
half: Final = _respond(b'SET VARIABLE DG_DECISION "al', lambda response: _until_word(response)[:-3])
cut: Final = _respond(
    b'SET VARIABLE DG_DECISION "allo',
    lambda response: re.sub(rb"(Content-Length: )\d+", rb"\g<1>5000", _until_word(response), count=1),
)
nonsense: Final = _respond(_PAGE + b"\n", _http("200 OK", "text/html", _PAGE))
error: Final = _respond(_PAGE_ONLY, _http(_ERROR, "text/plain", _ERROR.encode()))
wrong_status: Final = _respond(_PAGE_ONLY, lambda response: response.replace(b"200 OK", _ERROR.encode(), 1))
empty: Final = _respond(b"", _http("200 OK", "text/plain", b""))
quote: Final = _word(b'"', b'"')  # breaks an expression in a dialplan
long: Final = _word(_LONG, _LONG)
newline: Final = _word(b"allow ", b"allow\n")  # which `$` in a regular expression accepts
# Only the allow for a dialer written in C; in AGI a null ends the command.
null: Final = _word(b"deny\0allow", b"allow\0deny")
upper: Final = _word(b"ALLOW", b"ALLOW")


def _response(request: bytes, *, allow: bool) -> bytes:
    path = request.split(b" ")[1].split(b"?")[0]
    to = "+" + re.sub(r"\D", "", _first(_fields(request), _TO_NAMES))
    verdict = "allow" if allow else "deny"
    if path.endswith(b".txt"):
        return _http("200 OK", "text/plain", (verdict if allow else "deny registry.listed").encode())
    if path.endswith(b".form"):
        form = f"decision={verdict}&decision_id=c-1".encode()
        return _http("200 OK", "application/x-www-form-urlencoded", form)
    if path.endswith(b"/httapi"):
        work = "<break/>" if allow else '<hangup cause="CALL_REJECTED"/>'
        variables = f"<variables><dg_decision>{verdict}</dg_decision></variables>"
        document = f'<document type="xml/freeswitch-httapi"><work>{work}</work>{variables}</document>'
        return _http("200 OK", "text/xml", document.encode())
    fields = {"decision": verdict, "decision_id": "conformance-1", "to": to, "from": "", "valid_until": _FAR}
    if not allow:
        fields |= {"valid_until": "", "reason": "registry.listed", "reason_class": "number"}
    return _http("200 OK", "application/json", json.dumps(fields).encode())


@asynccontextmanager
async def playing(plays: Iterator[Play], port: int = 0, call: TestCall | None = None) -> AsyncIterator[int]:
    """Run a gate on a local port that handles each connection with the next item in `plays`.

    A request is denied if its numbers differ from the numbers in `call`.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read_request(reader)
        play = next(plays, early)
        if call is not None and (problem := mismatch(request, call)):
            call.notes.append(problem)
            play = deny
        await play(request, reader, writer)

    async with listening(serve, port) as actual_port:
        yield actual_port


@asynccontextmanager
async def frozen(port: int = 0) -> AsyncIterator[int]:
    """Run a gate that behaves as if stopped by SIGSTOP.

    The kernel accepts connections and data, but the gate never responds.
    """
    with socket.create_server(("127.0.0.1", port), backlog=100) as server:
        yield int(server.getsockname()[1])


@asynccontextmanager
async def listening(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    """Listen on a local port and run `serve` for each connection. Open connections are aborted at the end.

    This does not use asyncio's server. In Python 3.11, closing that server loses the connections that were
    accepted but not yet served.
    """
    accepted: list[socket.socket] = []
    serving: list[asyncio.Task[None]] = []

    async def serve_one(connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            await serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client closed the connection
        finally:
            writer.transport.abort()

    def accept() -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = server.accept()
            connection.settimeout(0)
            accepted.append(connection)
            serving.append(asyncio.create_task(serve_one(connection)))

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
            for connection in accepted:
                connection.close()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    """Read the AGI environment, or an HTTP request with its body."""
    start = await reader.readexactly(4)
    if start == _AGI:
        return start + await reader.readuntil(b"\n\n")
    head = start + await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")
