"""SIP messages (RFC 3261 sections 7, 18.3 and 20): what comes in, read strictly; what goes out.

What two readers may read differently is not read at all: a header of which there must be one stands once, lines end in
CRLF, no control character stands anywhere. Text is latin-1 here, so that what is echoed goes back byte for byte.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from msgspec import Struct

LONGEST_HEAD: Final = 16 << 10  # bytes; an INVITE with everything has 4 KiB
LONGEST_BODY: Final = 64 << 10
_MOST_LINES: Final = 256
_TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]+"  # noqa: S105 - a token of the grammar
_START: Final = re.compile(rf"({_TOKEN}) (\S+) SIP/(\d+\.\d+)")
_STATUS: Final = re.compile(r"SIP/2\.0 ([1-6]\d\d) (.*)")
_NAME: Final = re.compile(_TOKEN)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOLD: Final = re.compile(r"[ \t]*\r\n[ \t]+")
_CSEQ: Final = re.compile(rf"(\d{{1,10}})[ \t]+({_TOKEN})")
_MOST_CSEQ: Final = 1 << 31
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_VIA: Final = re.compile(
    rf"SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*({_TOKEN})[ \t]+"
    r"([A-Za-z0-9.\-_]+|\[[0-9A-Fa-f:.]+\])(?:[ \t]*:[ \t]*(\d{1,5}))?",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rf"[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_QUOTED}|[^\s;,\"<>]+))?")
_NAMED: Final = re.compile(rf"[ \t]*(?:{_QUOTED}|[^\"<>,;:]*)[ \t]*<([^<>\s\"]+)>")
_BARE: Final = re.compile(r"[ \t]*([^\s<>\",;?]+)")
_NEXT: Final = re.compile(r"[ \t]*(?:,|$)")
_COMPACT: Final = {
    "c": "content-type", "e": "content-encoding", "f": "from", "i": "call-id", "k": "supported", "l": "content-length",
    "m": "contact", "s": "subject", "t": "to", "v": "via", "x": "session-expires", "y": "identity", "r": "refer-to",
    "b": "referred-by",
}  # fmt: skip
# As nearly everybody writes them, so that few names must be looked at.
_NAMES: Final = {
    name: _COMPACT.get(name.lower(), name.lower())
    for name in (
        "Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Contact", "Allow", "Supported", "User-Agent", "Content-Type",
        "Content-Length", "P-Asserted-Identity", "Privacy", "Date", "Expires", "Route", "v", "f", "t", "i", "m", "l", "c",
    )
}  # fmt: skip
_ONCE: Final = ("from", "to", "call-id", "cseq")
_ONCE_AT_MOST: Final = ("content-length", "max-forwards", "content-type")
MAGIC: Final = "z9hg4bk"

Headers = dict[str, list[str]]
Fields = Iterable[tuple[str, str]]


class NotSip(Exception):
    """There is nobody to answer, or nothing that an answer could be matched by. The text repeats nothing of it."""


class BadRequest(Exception):
    """A request that is refused before it is understood, with the status and phrase of the answer."""

    def __init__(self, head: "Head", phrase: str, status: int = 400) -> None:
        super().__init__(phrase)
        self.head, self.phrase, self.status = head, phrase, status


class Via(Struct, frozen=True):
    """The topmost. `sent_by` is lower case, with the port as it stands; `end`: where it ends in the header's value."""

    transport: str
    sent_by: str
    port: int | None
    parameters: dict[str, str | None]
    end: int

    @property
    def branch(self) -> str:
        return (self.parameters.get("branch") or "").lower()


class Head(Struct, frozen=True):
    """A request without its body. `sender`, `target`: of From and To, where they could be read."""

    method: str
    uri: str
    headers: Headers
    via: Via
    sender: "Address | None" = None
    target: "Address | None" = None

    @property
    def from_tag(self) -> str:
        return (self.sender.parameters.get("tag") or "") if self.sender else ""

    @property
    def in_dialog(self) -> bool:
        return bool(self.target and self.target.parameters.get("tag"))

    def one(self, name: str) -> str:
        """Of a header that may stand once. Raises `BadRequest`."""
        values = self.headers.get(name, ())
        if len(values) > 1:
            raise BadRequest(self, f"More than one {name}")
        return values[0] if values else ""

    @property
    def length(self) -> int | None:
        """Of the body, in bytes, if it is said."""
        told = self.headers.get("content-length")
        return int(told[0]) if told else None


class Answered(Struct, frozen=True):
    """A response that came in."""

    status: int
    phrase: str
    headers: Headers
    body: bytes


class Address(Struct, frozen=True):
    """Of From, To, Contact, Record-Route and their like: the URI as it stands, and the header's parameters."""

    uri: str
    parameters: dict[str, str | None]


# ---- in --------------------------------------------------------------------------------------------------------------


def head(raw: bytes) -> Head:
    """A request's lines, without the empty one. Raises `NotSip`, also for a response; `BadRequest`."""
    lines = _lines(raw)
    start = _START.fullmatch(lines[0])
    headers, faults = _fields(lines[1:])
    if start is None and (_STATUS.match(lines[0]) or " SIP/" not in lines[0]):
        raise NotSip("no request")
    via = _via(headers)
    method, uri, version = start.groups() if start else ("", "", "2.0")
    sender, target = (_single(headers.get(name, ())) for name in ("from", "to"))
    read = Head(method, uri, headers, via, sender, target)
    if start is None:
        raise BadRequest(read, "Bad request line")
    if version != "2.0":
        raise BadRequest(read, "Version Not Supported", 505)
    if method == "ACK":
        return read  # it is matched by its Via, and never answered
    if faults or (fault := _fault(read)):
        raise BadRequest(read, faults or fault)
    return read


def request(datagram: bytes) -> tuple[Head, bytes]:
    """A whole request, as UDP brings it. What follows the body is left out (section 18.3)."""
    raw, _, body = datagram.partition(b"\r\n\r\n")
    read = head(raw)
    length = len(body) if read.length is None else read.length
    if length > len(body):
        raise BadRequest(read, "Content-Length is larger than the body")
    return read, body[:length]


def response(datagram: bytes) -> Answered:
    """Raises `NotSip`."""
    raw, _, body = datagram.partition(b"\r\n\r\n")
    lines = _lines(raw)
    start = _STATUS.fullmatch(lines[0])
    headers, faults = _fields(lines[1:])
    if start is None or faults or any(len(headers.get(name, ())) != 1 for name in _ONCE):
        raise NotSip("no response")
    return Answered(int(start[1]), start[2], headers, body)


def _lines(raw: bytes) -> list[str]:
    if len(raw) > LONGEST_HEAD:
        raise NotSip("a head that is too long")
    text = raw.decode("latin-1")
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    lines = text.split("\r\n")
    if len(lines) > _MOST_LINES or not text.count("\r") == text.count("\n") == len(lines) - 1:
        raise NotSip("lines that do not end in CRLF, or too many of them")
    return lines


def _fields(lines: list[str]) -> tuple[Headers, str]:
    """And what is wrong with them, if something is."""
    headers: Headers = {}
    fault = ""
    for line in lines:
        written, colon, value = line.partition(":")
        name = _NAMES.get(written) or _name(written)
        if not colon or not name or (not value.isprintable() and _CONTROL.search(value)):
            fault = "Bad header line"
        elif name in headers:
            headers[name].append(value.strip(" \t"))
        else:
            headers[name] = [value.strip(" \t")]
    return headers, fault


def _name(written: str) -> str:
    """Nothing where it is none."""
    name = written.rstrip(" \t").lower()
    return _COMPACT.get(name, name) if _NAME.fullmatch(name) else ""


def _fault(read: Head) -> str:
    headers = read.headers
    for name in _ONCE:
        if len(headers.get(name, ())) != 1 or not headers[name][0]:
            return f"Exactly one {name} is needed"
    for name in _ONCE_AT_MOST:
        if len(headers.get(name, ())) > 1:
            return f"More than one {name}"
    told = headers.get("content-length", ["0"])[0]
    if not (
        told.isascii()
        and told.isdecimal()
        and len(told) <= len(str(LONGEST_BODY))
        and int(told) <= LONGEST_BODY
    ):
        return "Bad Content-Length"
    found = _CSEQ.fullmatch(headers["cseq"][0])
    if found is None or int(found[1]) >= _MOST_CSEQ or found[2] != read.method:
        return "Bad CSeq"
    return "" if read.sender and read.target else "Bad From or To"


def _single(values: Sequence[str]) -> Address | None:
    found = addresses(values[0]) if len(values) == 1 else []
    return found[0] if len(found) == 1 else None


def _via(headers: Headers) -> Via:
    """The topmost, by which alone an answer can find its way."""
    value = headers.get("via", [""])[0]
    found = _VIA.match(value)
    if found is None:
        raise NotSip("no Via that could be read")
    transport, host, port = found.groups()
    parameters, end = _parameters(value, found.end())
    if parameters is None or not _NEXT.match(value, end):
        raise NotSip("no Via that could be read")
    by = host.lower() if port is None else f"{host.lower()}:{int(port)}"
    return Via(transport.upper(), by, int(port) if port else None, parameters, end)


def _parameters(text: str, at: int) -> tuple[dict[str, str | None] | None, int]:
    """From `at` on, and where they end; none where one stands twice."""
    held: dict[str, str | None] = {}
    while found := _PARAMETER.match(text, at):
        name = found[1].lower()
        if name in held:
            return None, at
        held[name] = found[2]
        at = found.end()
    return held, at


def addresses(value: str) -> list[Address]:
    """Of a header's value; none where any of it cannot be read."""
    found: list[Address] = []
    at = 0
    while at <= len(value):
        each = _NAMED.match(value, at) or _BARE.match(value, at)
        if each is None:
            return []
        parameters, at = _parameters(value, each.end())
        after = _NEXT.match(value, at)
        if parameters is None or after is None:
            return []
        found.append(Address(each[1], parameters))
        if after.end() == len(value) and not after[0].endswith(","):
            return found
        at = after.end()
    return []


def tokens(headers: Headers, name: str) -> list[str]:
    """Of a header that lists them, as Require and Supported do, in lower case."""
    return [
        each.strip().lower() for value in headers.get(name, ()) for each in value.split(",") if each.strip()
    ]


# ---- out -------------------------------------------------------------------------------------------------------------


class Reply:
    """The answers to one request that came from `host` and `port`. They share everything but status and fields: the To
    tag too (section 8.2.6.2), which is made of the request and a secret, so that it need not be remembered."""

    def __init__(self, to: Head, host: str, port: int, secret: bytes) -> None:
        self._to, self._host, self._port, self._secret = to, host, port, secret
        self._echo = ""

    def bytes(self, status: int, phrase: str, fields: Fields = ()) -> bytes:
        self._echo = self._echo or self._echoed()
        more = "".join([f"{name}: {value}\r\n" for name, value in fields])
        return f"SIP/2.0 {status} {phrase}\r\n{self._echo}{more}Content-Length: 0\r\n\r\n".encode("latin-1")

    def _echoed(self) -> str:
        headers = self._to.headers
        first, *others = headers["via"]
        lines = [f"Via: {value}\r\n" for value in (self._received(first), *others)]
        for name, written in (("from", "From"), ("to", "To"), ("call-id", "Call-ID"), ("cseq", "CSeq")):
            for value in headers.get(name, ())[:1]:
                tagged = self._tagged(value) if name == "to" else value
                lines.append(f"{written}: {tagged}\r\n")
        lines += [f"Timestamp: {value}\r\n" for value in headers.get("timestamp", ())[:1]]
        return "".join(lines)

    def _received(self, value: str) -> str:
        """RFC 3261 section 18.2.1, RFC 3581 section 4: where the request really came from."""
        via = self._to.via
        kept = "".join(
            f";{name}={told}" if told is not None else f";{name}"
            for name, told in via.parameters.items()
            if name not in {"received", "rport"}
        )
        rport = f";rport={self._port}" if "rport" in via.parameters else ""
        return f"SIP/2.0/{via.transport} {via.sent_by}{kept};received={self._host}{rport}{value[via.end :]}"

    def _tagged(self, value: str) -> str:
        if self._to.target is None or self._to.in_dialog:
            return value
        seed = f"{self._to.via.branch}\0{self._to.headers.get('call-id')}\0{self._to.headers.get('cseq')}"
        return f"{value};tag={blake2b(seed.encode(), key=self._secret, digest_size=8).hexdigest()}"


def written(start: str, fields: Fields, body: bytes = b"") -> bytes:
    """A request. `fields` without Content-Length."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    return f"{start}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


# ---- streams ---------------------------------------------------------------------------------------------------------


class Stream:
    """What comes by TCP, cut into requests by their Content-Length, without which there is no telling where one ends
    (section 18.3). It holds no more than one of them."""

    def __init__(self) -> None:
        self._held = b""
        self._read: Head | None = None  # of the request whose body is still to come

    @property
    def midway(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[tuple[Head, bytes] | None]:
        """None for each ping (RFC 5626 section 4.4.1: two CRLF). Raises `NotSip`, `BadRequest`: hang up then."""
        self._held += data
        while True:
            if self._held == b"\r\n":
                return  # half a ping
            if self._held.startswith(b"\r\n"):
                ping = self._held.startswith(b"\r\n\r\n")
                self._held = self._held[4 if ping else 2 :]
                if ping:
                    yield None
                continue
            whole = self._next()
            if whole is None:
                return
            yield whole

    def _next(self) -> tuple[Head, bytes] | None:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            if len(self._held) > LONGEST_HEAD:
                raise NotSip("a head that is too long")
            return None
        read = self._read = self._read or head(self._held[:end])
        if read.length is None:
            raise BadRequest(read, "Content-Length is needed over TCP")
        begin, after = end + 4, end + 4 + read.length
        if len(self._held) < after:
            return None
        body, self._held, self._read = self._held[begin:after], self._held[after:], None
        return read, body


def first(headers: Mapping[str, list[str]], name: str) -> str:
    values = headers.get(name)
    return values[0] if values else ""
