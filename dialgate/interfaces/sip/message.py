"""SIP messages (RFC 3261 sections 7, 18.3 and 20): a strict reader and a writer.

Messages that another reader might read differently are rejected: repeated headers that must be unique, lines that do not end
in CRLF, and control characters. Text is Latin-1, so that echoed headers keep their bytes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from msgspec import Struct

MAX_HEAD: Final = 16 << 10  # bytes; a large INVITE has 4 KiB
MAX_BODY: Final = 64 << 10
_MAX_LINES: Final = 256
_MAX_LINE: Final = 4 << 10  # characters of an unfolded header; an Identity header (RFC 8224) has about 1 KiB
_MAX_CSEQ: Final = 1 << 31
_TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]+"  # noqa: S105 - a token of the grammar
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_REQUEST_LINE: Final = re.compile(rf"({_TOKEN}) (\S+) SIP/(\d+\.\d+)")
_STATUS_LINE: Final = re.compile(r"SIP/2\.0 ([1-6]\d\d) (.*)")
_NAME: Final = re.compile(_TOKEN)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# The look-behind and the possessive quantifiers (`*+`) keep the time linear in the number of blanks.
_FOLD: Final = re.compile(r"(?<![ \t])[ \t]*+(?:\r\n[ \t]++)++")
_LENGTH: Final = re.compile(rf"[0-9]{{1,{len(str(MAX_BODY))}}}")
_CSEQ: Final = re.compile(rf"(\d{{1,10}})[ \t]+({_TOKEN})")
_VIA: Final = re.compile(
    rf"SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*({_TOKEN})[ \t]+"
    r"([A-Za-z0-9.\-_]+|\[[0-9A-Fa-f:.]+\])(?:[ \t]*:[ \t]*(\d{1,5}))?",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rf"[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_QUOTED}|[^\s;,\"<>]+))?")
_NAME_ADDR: Final = re.compile(rf"[ \t]*+(?:{_QUOTED}|[^\"<>,;:]*+)[ \t]*+<([^<>\s\"]+)>")
_ADDR_SPEC: Final = re.compile(r"[ \t]*([^\s<>\",;?]+)")
_SEPARATOR: Final = re.compile(r"[ \t]*(?:,|$)")
_COMPACT: Final = {
    "c": "content-type", "e": "content-encoding", "f": "from", "i": "call-id", "k": "supported", "l": "content-length",
    "m": "contact", "s": "subject", "t": "to", "v": "via", "x": "session-expires", "y": "identity", "r": "refer-to",
    "b": "referred-by",
}  # fmt: skip
_REQUIRED_ONCE: Final = ("from", "to", "call-id", "cseq")
_ONCE_AT_MOST: Final = ("max-forwards", "content-type")
MAGIC: Final = "z9hg4bk"

Headers = dict[str, list[str]]
Fields = Iterable[tuple[str, str]]
Parameters = dict[str, str | None]


class NotSip(Exception):
    """The error for a message that is not SIP or cannot be answered. `str()` never quotes the message."""


class BadRequest(Exception):
    """The error for a malformed request, with the status and phrase of the response."""

    def __init__(self, head: "Head", phrase: str, status: int = 400) -> None:
        super().__init__(phrase)
        self.head, self.phrase, self.status = head, phrase, status


class Address(Struct, frozen=True):
    """An entry in a From, To, Contact, Record-Route or similar header: the unchanged URI and the parameters."""

    uri: str
    parameters: Parameters


class Via(Struct, frozen=True):
    """The topmost Via header value.

    `sent_by` is the host in lower case, with the port if there is one. `end` is the position
    at which the value ends within its header.
    """

    transport: str
    sent_by: str
    port: int | None
    parameters: Parameters
    end: int

    @property
    def branch(self) -> str:
        return (self.parameters.get("branch") or "").lower()


class Head(Struct, frozen=True):
    """A request without its body. `sender` and `target` are From and To, or None if malformed."""

    method: str
    uri: str
    headers: Headers
    via: Via
    sender: Address | None = None
    target: Address | None = None

    @property
    def from_tag(self) -> str:
        return (self.sender.parameters.get("tag") or "") if self.sender else ""

    @property
    def in_dialog(self) -> bool:
        return bool(self.target and self.target.parameters.get("tag"))

    def single(self, name: str) -> str:
        """Return the value of a header that may occur only once, or an empty string. Raises `BadRequest`."""
        values = self.headers.get(name, ())
        if len(values) > 1:
            raise BadRequest(self, f"More than one {name}")
        return values[0] if values else ""

    @property
    def length(self) -> int | None:
        """Return the length of the body in bytes, or None if there is no Content-Length."""
        value = first_value(self.headers, "content-length")
        return int(value) if value else None


class Response(Struct, frozen=True):
    """A response from another SIP element."""

    status: int
    phrase: str
    headers: Headers
    body: bytes


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_head(raw: bytes) -> Head:
    """Read a request up to the empty line. Raises `NotSip` if it is no request, `BadRequest` if it is malformed."""
    start_line, *header_lines = _split_lines(raw)
    start = _REQUEST_LINE.fullmatch(start_line)
    headers, header_fault = _read_headers(header_lines)
    if start is None and (_STATUS_LINE.match(start_line) or " SIP/" not in start_line):
        raise NotSip("no request")
    via = _read_via(headers)
    method, uri, version = start.groups() if start else ("", "", "2.0")
    sender, target = (_single_address(headers.get(name, ())) for name in ("from", "to"))
    head = Head(method, uri, headers, via, sender, target)
    if start is None:
        raise BadRequest(head, "Bad request line")
    if version != "2.0":
        raise BadRequest(head, "Version Not Supported", 505)
    fault = _find_length_fault(headers)
    if method != "ACK":  # an ACK is matched by its Via and never answered
        fault = fault or header_fault or _find_fault(head)
    if fault:
        raise BadRequest(head, fault)
    return head


def read_request(datagram: bytes) -> tuple[Head, bytes]:
    """Parse a datagram into the head and body of a request. Raises `NotSip`, `BadRequest`.

    Bytes after the body are ignored (section 18.3).
    """
    raw, _, body = datagram.partition(b"\r\n\r\n")
    head = read_head(raw)
    length = len(body) if head.length is None else head.length
    if length > len(body):
        raise BadRequest(head, "Content-Length is larger than the body")
    return head, body[:length]


def read_response(datagram: bytes) -> Response:
    """Read a whole response. Raises `NotSip`."""
    raw, _, body = datagram.partition(b"\r\n\r\n")
    start_line, *header_lines = _split_lines(raw)
    start = _STATUS_LINE.fullmatch(start_line)
    headers, fault = _read_headers(header_lines)
    if start is None or fault or any(len(headers.get(name, ())) != 1 for name in _REQUIRED_ONCE):
        raise NotSip("no response")
    return Response(int(start[1]), start[2], headers, body)


def first_value(headers: Mapping[str, Sequence[str]], name: str) -> str:
    values = headers.get(name)
    return values[0] if values else ""


def parse_addresses(value: str) -> list[Address]:
    """Return the addresses in a header's value, or an empty list if any part is malformed."""
    addresses: list[Address] = []
    at = 0
    while at <= len(value):
        uri = _NAME_ADDR.match(value, at) or _ADDR_SPEC.match(value, at)
        if uri is None:
            return []
        parameters, at = _read_parameters(value, uri.end())
        separator = _SEPARATOR.match(value, at)
        if parameters is None or separator is None:
            return []
        addresses.append(Address(uri[1], parameters))
        at = separator.end()
        if at == len(value) and not separator[0].endswith(","):
            return addresses
    return []


def _split_lines(raw: bytes) -> list[str]:
    if len(raw) > MAX_HEAD:
        raise NotSip("the head is too long")
    text = raw.decode("latin-1")
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    lines = text.split("\r\n")
    if len(lines) > _MAX_LINES or not text.count("\r") == text.count("\n") == len(lines) - 1:
        raise NotSip("too many lines, or lines that do not end in CRLF")
    return lines


def _read_headers(lines: list[str]) -> tuple[Headers, str]:
    """Return the well-formed headers, and an error text, which is empty if no header is malformed."""
    headers: Headers = {}
    fault = ""
    for line in lines:
        spelling, colon, value = line.partition(":")
        name = _normalise_name(spelling)
        if len(line) > _MAX_LINE:
            fault = "Header too long"
        elif not colon or not name or (not value.isprintable() and _CONTROL.search(value)):
            fault = "Bad header line"
        else:
            headers.setdefault(name, []).append(value.strip(" \t"))
    return headers, fault


@lru_cache(256)  # messages use few names, in few spellings
def _normalise_name(spelling: str) -> str:
    name = spelling.rstrip(" \t").lower()
    return _COMPACT.get(name, name) if _NAME.fullmatch(name) else ""


def _find_length_fault(headers: Headers) -> str:
    values = headers.get("content-length", ["0"])
    if len(values) > 1:
        return "More than one content-length"
    is_valid = _LENGTH.fullmatch(values[0]) and int(values[0]) <= MAX_BODY
    return "" if is_valid else "Bad Content-Length"


def _find_fault(head: Head) -> str:
    headers = head.headers
    for name in _REQUIRED_ONCE:
        if len(headers.get(name, ())) != 1 or not headers[name][0]:
            return f"Exactly one {name} header is required"
    for name in _ONCE_AT_MOST:
        if len(headers.get(name, ())) > 1:
            return f"More than one {name}"
    cseq = _CSEQ.fullmatch(headers["cseq"][0])
    if cseq is None or int(cseq[1]) >= _MAX_CSEQ or cseq[2] != head.method:
        return "Bad CSeq"
    return "" if head.sender and head.target else "Bad From or To"


def _single_address(values: Sequence[str]) -> Address | None:
    addresses = parse_addresses(values[0]) if len(values) == 1 else []
    return addresses[0] if len(addresses) == 1 else None


def _read_via(headers: Headers) -> Via:
    """Read the topmost Via, which determines where the response is sent. Raises `NotSip`."""
    value = first_value(headers, "via")
    via = _VIA.match(value)
    parameters, end = _read_parameters(value, via.end()) if via else (None, 0)
    if via is None or parameters is None or not _SEPARATOR.match(value, end):
        raise NotSip("no readable Via")
    transport, host, port = via.groups()
    sent_by = host.lower() if port is None else f"{host.lower()}:{int(port)}"
    return Via(transport.upper(), sent_by, int(port) if port else None, parameters, end)


def _read_parameters(text: str, at: int) -> tuple[Parameters | None, int]:
    """Return the parameters that begin at `at` (None if a parameter is repeated), and the position after them."""
    parameters: Parameters = {}
    while parameter := _PARAMETER.match(text, at):
        name = parameter[1].lower()
        if name in parameters:
            return None, at
        parameters[name] = parameter[2]
        at = parameter.end()
    return parameters, at


# ---- writing ---------------------------------------------------------------------------------------------------------


class Reply:
    """The responses to a request from `host` and `port`.

    The responses differ only in status and fields. All have the same To tag (section 8.2.6.2). The tag is a keyed hash
    of the request, so no tag is stored.
    """

    def __init__(self, request: Head, host: str, port: int, secret: bytes) -> None:
        self._request, self._host, self._port, self._secret = request, host, port, secret
        self._echo = ""

    def encode(self, status: int, phrase: str, fields: Fields = ()) -> bytes:
        self._echo = self._echo or self._echo_headers()
        return _encode(f"SIP/2.0 {status} {phrase}\r\n{self._echo}", fields)

    def _echo_headers(self) -> str:
        headers = self._request.headers
        first, *others = headers["via"]
        lines = [f"Via: {value}\r\n" for value in (self._add_received(first), *others)]
        for name, spelling in (("from", "From"), ("to", "To"), ("call-id", "Call-ID"), ("cseq", "CSeq")):
            values = headers.get(name, ())[:1]
            lines += [
                f"{spelling}: {self._add_tag(value) if name == 'to' else value}\r\n" for value in values
            ]
        lines += [f"Timestamp: {value}\r\n" for value in headers.get("timestamp", ())[:1]]
        return "".join(lines)

    def _add_received(self, value: str) -> str:
        """Add the actual source of the request to its Via (RFC 3261 section 18.2.1, RFC 3581 section 4)."""
        via = self._request.via
        others = "".join(
            f";{name}={parameter}" if parameter is not None else f";{name}"
            for name, parameter in via.parameters.items()
            if name not in {"received", "rport"}
        )
        rport = f";rport={self._port}" if "rport" in via.parameters else ""
        return f"SIP/2.0/{via.transport} {via.sent_by}{others};received={self._host}{rport}{value[via.end :]}"

    def _add_tag(self, value: str) -> str:
        request = self._request
        if request.target is None or request.in_dialog:
            return value
        seed = f"{request.via.branch}\0{request.headers.get('call-id')}\0{request.headers.get('cseq')}"
        return f"{value};tag={blake2b(seed.encode(), key=self._secret, digest_size=8).hexdigest()}"


def write_request(start: str, fields: Fields, body: bytes = b"") -> bytes:
    return _encode(f"{start}\r\n", fields, body)


def _encode(head: str, fields: Fields, body: bytes = b"") -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    return f"{head}{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


# ---- streams ---------------------------------------------------------------------------------------------------------


class Stream:
    """A reader that splits a TCP stream into requests by their mandatory Content-Length (section 18.3).

    It buffers at most one request.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._head: Head | None = None  # of the request whose body is incomplete

    @property
    def is_incomplete(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[Head, bytes] | None]:
        """Yield complete requests, and None for each ping (two CRLF, RFC 5626 section 4.4.1).

        Raises `NotSip`, `BadRequest`. After either error, the connection must be closed.
        """
        self._buffer += data
        while True:
            if self._buffer == b"\r\n":
                return  # half a ping
            if self._buffer.startswith(b"\r\n"):
                is_ping = self._buffer.startswith(b"\r\n\r\n")
                self._buffer = self._buffer[4 if is_ping else 2 :]
                if is_ping:
                    yield None
                continue
            request = self._next_request()
            if request is None:
                return
            yield request

    def _next_request(self) -> tuple[Head, bytes] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise NotSip("the head is too long")
            return None
        head = self._head = self._head or read_head(self._buffer[:end])
        if head.length is None:
            raise BadRequest(head, "Content-Length is required over TCP")
        begin, after = end + 4, end + 4 + head.length
        if len(self._buffer) < after:
            return None
        body, self._buffer, self._head = self._buffer[begin:after], self._buffer[after:], None
        return head, body
