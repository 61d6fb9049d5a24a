"""The state machine for an outgoing call (RFC 3261 sections 9.1, 13, 15.1 and 17.1).

It handles INVITE, ringing, answer and BYE. All messages are recorded in a trace, without the password digest.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from dialgate.interfaces.sip.digest import Credentials, NoDigest, authorization
from dialgate.interfaces.sip.message import (
    BadRequest,
    Fields,
    NotSip,
    Reply,
    Response,
    first_value,
    parse_addresses,
    read_request,
    read_response,
    write_request,
)
from dialgate.interfaces.sip.transactions import Ms, Timers

_STATUS_OK: Final = 200
_FINAL: Final = 200
_REFUSED: Final = 300
_CHALLENGES: Final = {
    401: ("www-authenticate", "Authorization"),
    407: ("proxy-authenticate", "Proxy-Authorization"),
}
_RINGS: Final = frozenset({180, 181, 182, 183})
_SECRET: Final = re.compile(rb'(?im)^((?:proxy-)?authorization:.*?response=")[^"]*')
_CONTENT: Final = ("Content-Type", "application/sdp")

State = Literal["calling", "ringing", "cancelling", "talking", "leaving", "done"]


class CallAddress(Struct, frozen=True, kw_only=True):
    """The addresses for a call, and the random, unique `name` of the call.

    `uri` is the called address, `caller` the caller ID, and `host` and `port` the local address.
    """

    uri: str
    caller: str
    host: str
    port: int
    name: str
    media_port: int


class Patience(Struct, frozen=True, kw_only=True):
    """The time limits for a call in milliseconds: for ringing, and for listening after the answer."""

    ring: Ms = 45_000
    listen: Ms = 3_000


class OutgoingCall:
    """An outgoing call.

    `rang_at` and `answered_at` are in ms since the start of the call. `rang_at` is -1 until the call rings, and
    `answered_at` is -1 until the call is answered. `status` is the last final status, or 0. Cancelling the call sets
    `status` to 487.
    """

    def __init__(
        self,
        address: CallAddress,
        timers: Timers,
        patience: Patience,
        credentials: Credentials | None,
        now: Ms,
    ) -> None:
        self._address, self._timers, self._patience, self._credentials = (
            address,
            timers,
            patience,
            credentials,
        )
        self.state: State = "calling"
        self.status, self.phrase = 0, ""
        self.rang_at = self.answered_at = -1
        self.trace: list[tuple[Ms, str, bytes]] = []
        self._start = now
        self._sequence = 0
        self._proof: tuple[str, str] | None = None
        self._request = self._ack = b""
        self._resend: Ms = 0
        self._pause: Ms = 0
        self._ends: Ms = 0
        self._dialog: tuple[str, str, list[str]] = ("", "", [])  # To, target, Route
        self.wake: Ms = now

    @property
    def call_id(self) -> str:
        return f"{self._address.name}@{self._address.host}"

    # ---- events --------------------------------------------------------------------------------------------------------

    def begin(self, now: Ms) -> list[bytes]:
        return self._trace(self._invite(now), now)

    def _invite(self, now: Ms) -> list[bytes]:
        self._sequence += 1
        more = [self._proof] if self._proof else []
        sdp = self._offer()
        fields = [*self._common_headers("INVITE"), ("Contact", self._contact()), ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
                  *more, _CONTENT]  # fmt: skip
        return self._persist(write_request(f"INVITE {self._address.uri} SIP/2.0", fields, sdp), now)

    def receive(self, data: bytes, now: Ms) -> list[bytes]:
        """Process a received message, and return the messages to send."""
        self.trace.append((now - self._start, "<", data))
        try:
            response = read_response(data)
        except NotSip:
            return self._trace(self._on_request(data), now)
        if first_value(response.headers, "call-id") != self.call_id:
            return []
        method = first_value(response.headers, "cseq").rpartition(" ")[2]
        handlers = {"INVITE": self._on_invite, "CANCEL": self._on_cancel, "BYE": self._on_bye}
        return self._trace(handlers[method](response, now) if method in handlers else [], now)

    def due(self, now: Ms) -> list[bytes]:
        """Return the messages that are due at `now`."""
        if self.state == "done" or now < self.wake:
            return []
        if self.state == "ringing" and now >= self._ends:
            return self._trace(self._cancel(now), now)
        if self.state == "talking" and now >= self._ends:
            return self._trace(self._bye(now), now)
        if now >= self._ends:
            self._finish()
            return []
        return self._trace(self._retransmit(now), now)

    def _retransmit(self, now: Ms) -> list[bytes]:
        if self.state in {"ringing", "talking"} or now < self._resend:
            self.wake = self._ends if self.state in {"ringing", "talking"} else min(self._resend, self._ends)
            return []
        self._pause *= 2  # timers A and E
        self._resend = now + self._pause
        self.wake = min(self._resend, self._ends)
        return [self._request]

    def _persist(self, data: bytes, now: Ms) -> list[bytes]:
        """Start a client transaction, and return its request `data` to send now.

        `due` retransmits the request until a response arrives or the transaction times out.
        """
        self._request, self._pause = data, self._timers.t1
        self._resend, self._ends = now + self._pause, now + self._timers.lifetime
        self.wake = self._resend
        return [data]

    def _trace(self, messages: list[bytes], now: Ms) -> list[bytes]:
        self.trace += [
            (now - self._start, ">", _SECRET.sub(rb"\1(left out)", message)) for message in messages
        ]
        return messages

    def _finish(self) -> None:
        self.state, self.wake = "done", 1 << 62

    # ---- responses -----------------------------------------------------------------------------------------------------

    def _on_invite(self, response: Response, now: Ms) -> list[bytes]:
        sequence = first_value(response.headers, "cseq").partition(" ")[0]
        if sequence != str(self._sequence) or self.state in {"talking", "leaving", "done"}:
            return [self._ack] if response.status >= _FINAL and self._ack else []
        if response.status < _FINAL:
            return self._on_provisional(response, now)
        self.status, self.phrase = response.status, response.phrase
        if response.status < _REFUSED:
            return self._on_answer(response, now)
        self._ack = self._ack_of_refusal(response)
        if self.state != "cancelling" and self._accept_challenge(response):
            self.state = "calling"
            return [self._ack, *self._invite(now)]
        self._finish()
        return [self._ack]

    def _on_provisional(self, response: Response, now: Ms) -> list[bytes]:
        if response.status in _RINGS and self.rang_at < 0:
            self.rang_at = now - self._start
        if self.state == "calling":
            self.state = "ringing"
            self._ends = self.wake = max(now, self._start + self._patience.ring)
        return []

    def _on_answer(self, response: Response, now: Ms) -> list[bytes]:
        if self.answered_at < 0:
            self.answered_at = now - self._start
        contacts = [
            contact for value in response.headers.get("contact", ()) for contact in parse_addresses(value)
        ]
        target = contacts[0].uri if contacts else self._address.uri
        routes = response.headers.get("record-route", [])
        self._dialog = (
            first_value(response.headers, "to"),
            target,
            [route for value in reversed(routes) for route in _reverse_route(value)],
        )
        self._ack = write_request(f"ACK {target} SIP/2.0", self._dialog_headers("ACK"))
        if self.state == "cancelling":
            return [self._ack, *self._bye(now)]
        self.state = "talking"
        self._ends = self.wake = now + self._patience.listen
        return [self._ack]

    def _accept_challenge(self, response: Response) -> bool:
        """Return whether to repeat the call with credentials. A second challenge means that the password is wrong."""
        if response.status not in _CHALLENGES or self._credentials is None or self._proof is not None:
            return False
        challenge, authorization_header = _CHALLENGES[response.status]
        cnonce = self._address.name[:16]
        try:
            proof = authorization(
                response.headers.get(challenge, ()), self._credentials, "INVITE", self._address.uri, cnonce
            )
        except NoDigest:
            return False
        self._proof = (authorization_header, proof)
        return True

    def _on_cancel(self, response: Response, now: Ms) -> list[bytes]:
        if response.status >= _FINAL and self.state == "cancelling":
            self._resend = self._ends  # the final response to the INVITE is still due
            self.wake = min(self.wake, now + self._timers.lifetime)
        return []

    def _on_bye(self, response: Response, now: Ms) -> list[bytes]:  # noqa: ARG002 - signature of the handlers
        if response.status >= _FINAL:
            self._finish()
        return []

    def _on_request(self, data: bytes) -> list[bytes]:
        try:
            head, _ = read_request(data)
        except (NotSip, BadRequest):
            return []
        reply = Reply(head, self._address.host, self._address.port, b"probe")
        if head.method == "ACK":
            return []
        if head.method == "BYE" and self.state in {"talking", "leaving"}:
            self._finish()
            return [reply.encode(_STATUS_OK, "OK")]
        if head.method == "OPTIONS":
            return [reply.encode(_STATUS_OK, "OK")]
        if head.method == "INVITE":
            return [reply.encode(488, "Not Acceptable Here")]
        return [reply.encode(481, "Call/Transaction Does Not Exist")]

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _common_headers(self, method: str) -> list[tuple[str, str]]:
        address = self._address
        return [
            ("Via", f"SIP/2.0/UDP {address.host}:{address.port};rport;branch={self._branch()}"),
            ("Max-Forwards", "70"),
            ("From", f"<{address.caller}>;tag={address.name[:12]}"),
            ("To", f"<{address.uri}>"),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self._sequence} {method}"),
        ]

    def _branch(self) -> str:
        return f"z9hG4bK{self._address.name}{self._sequence}"

    def _contact(self) -> str:
        return f"<sip:probe@{self._address.host}:{self._address.port}>"

    def _dialog_headers(self, method: str) -> Fields:
        """Return the headers for a request in the dialog. Each request gets its own branch."""
        to, _, routes = self._dialog
        fields = dict(self._common_headers(method)) | {"To": to}
        fields["Via"] = fields["Via"].replace(self._branch(), f"{self._branch()}{method}")
        return [*fields.items(), *(("Route", route) for route in routes)]

    def _ack_of_refusal(self, response: Response) -> bytes:
        fields = dict(self._common_headers("ACK")) | {"To": first_value(response.headers, "to")}
        return write_request(f"ACK {self._address.uri} SIP/2.0", fields.items())

    def _cancel(self, now: Ms) -> list[bytes]:
        self.state, self.status, self.phrase = "cancelling", 487, "No answer"
        return self._persist(
            write_request(f"CANCEL {self._address.uri} SIP/2.0", self._common_headers("CANCEL")), now
        )

    def _bye(self, now: Ms) -> list[bytes]:
        self.state = "leaving"
        self._sequence += 1
        return self._persist(
            write_request(f"BYE {self._dialog[1]} SIP/2.0", self._dialog_headers("BYE")), now
        )

    def _offer(self) -> bytes:
        address = self._address
        family = "IP6" if ":" in address.host else "IP4"
        lines = (
            "v=0", f"o=- 1 1 IN {family} {address.host}", "s=-", f"c=IN {family} {address.host}", "t=0 0",
            f"m=audio {address.media_port} RTP/AVP 8 0 101", "a=rtpmap:101 telephone-event/8000", "a=recvonly",
        )  # fmt: skip
        return ("\r\n".join(lines) + "\r\n").encode()


def _reverse_route(value: str) -> Sequence[str]:
    return [f"<{address.uri}>" for address in reversed(parse_addresses(value))]


def render_trace(trace: Sequence[tuple[Ms, str, bytes]]) -> bytes:
    """Return a trace as text: for each message, a line with milliseconds and direction, then the message."""
    return b"".join(b"%d ms %s\r\n%b\r\n" % (at, direction.encode(), data) for at, direction, data in trace)
