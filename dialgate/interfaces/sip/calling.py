"""One call to oneself, as a caller: it is placed, rings or not, is answered or not, and is ended (RFC 3261 sections 9.1, 13,
15.1 and 17.1). Bytes and the time in, bytes out.

What it hears is kept as a trace. The password's digest is left out of it.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from dialgate.interfaces.sip.digest import Credentials, NoDigest, authorization
from dialgate.interfaces.sip.message import (
    Answered,
    BadRequest,
    Fields,
    NotSip,
    Reply,
    addresses,
    first,
    request,
    response,
    written,
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


class Place(Struct, frozen=True, kw_only=True):
    """`uri`: whom to call; `caller`: as whom; `host`, `port`: where we are; `name`: drawn by lot, of this call alone."""

    uri: str
    caller: str
    host: str
    port: int
    name: str
    media_port: int


class Patience(Struct, frozen=True, kw_only=True):
    """Milliseconds: for which it may ring, and for which to listen once it was answered."""

    ring: Ms = 45_000
    listen: Ms = 3_000


class Calling:
    """`rang` and `answered`: ms since it began, or -1. `status`: the last one of the call, 0 where nobody answers at all."""

    def __init__(
        self, place: Place, timers: Timers, patience: Patience, credentials: Credentials | None, now: Ms
    ) -> None:
        self._place, self._timers, self._patience, self._credentials = place, timers, patience, credentials
        self.state: State = "calling"
        self.status, self.phrase = 0, ""
        self.rang = self.answered = -1
        self.trace: list[tuple[Ms, str, bytes]] = []
        self._begun = now
        self._sequence = 0
        self._proof: tuple[str, str] | None = None
        self._sent = self._acked = b""
        self._resend: Ms = 0
        self._pause: Ms = 0
        self._ends: Ms = 0
        self._dialog: tuple[str, str, list[str]] = ("", "", [])  # To, where to, by which way
        self.wake: Ms = now

    @property
    def call_id(self) -> str:
        return f"{self._place.name}@{self._place.host}"

    # ---- what to send ------------------------------------------------------------------------------------------------

    def begin(self, now: Ms) -> list[bytes]:
        return self._told(self._invite(now), now)

    def _invite(self, now: Ms) -> list[bytes]:
        self._sequence += 1
        more = [self._proof] if self._proof else []
        sdp = self._offer()
        fields = [*self._own("INVITE"), ("Contact", self._contact()), ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
                  *more, _CONTENT]  # fmt: skip
        return self._persist(written(f"INVITE {self._place.uri} SIP/2.0", fields, sdp), now)

    def heard(self, data: bytes, now: Ms) -> list[bytes]:
        """What came for this call, and what is to be said to it."""
        self.trace.append((now - self._begun, "<", data))
        try:
            told = response(data)
        except NotSip:
            return self._told(self._asked(data, now), now)
        if first(told.headers, "call-id") != self.call_id:
            return []
        method = first(told.headers, "cseq").rpartition(" ")[2]
        answers = {"INVITE": self._invited, "CANCEL": self._cancelled, "BYE": self._left}
        return self._told(answers[method](told, now) if method in answers else [], now)

    def due(self, now: Ms) -> list[bytes]:
        """What time alone brings."""
        if self.state == "done" or now < self.wake:
            return []
        if self.state == "ringing" and now >= self._ends:
            return self._told(self._cancel(now), now)
        if self.state == "talking" and now >= self._ends:
            return self._told(self._bye(now), now)
        if now >= self._ends:
            self._finish()
            return []
        return self._told(self._again(now), now)

    def _again(self, now: Ms) -> list[bytes]:
        if self.state in {"ringing", "talking"} or now < self._resend:
            self.wake = self._ends if self.state in {"ringing", "talking"} else min(self._resend, self._ends)
            return []
        self._pause *= 2  # timers A and E
        self._resend = now + self._pause
        self.wake = min(self._resend, self._ends)
        return [self._sent]

    def _persist(self, data: bytes, now: Ms) -> list[bytes]:
        """Sent again until it is answered, or for so long as anybody may take."""
        self._sent, self._pause = data, self._timers.t1
        self._resend, self._ends = now + self._pause, now + self._timers.lifetime
        self.wake = self._resend
        return [data]

    def _told(self, sent: list[bytes], now: Ms) -> list[bytes]:
        self.trace += [(now - self._begun, ">", _SECRET.sub(rb"\1(left out)", each)) for each in sent]
        return sent

    def _finish(self) -> None:
        self.state, self.wake = "done", 1 << 62

    # ---- what was answered -------------------------------------------------------------------------------------------

    def _invited(self, told: Answered, now: Ms) -> list[bytes]:
        sequence = first(told.headers, "cseq").partition(" ")[0]
        if sequence != str(self._sequence) or self.state in {"talking", "leaving", "done"}:
            return [self._acked] if told.status >= _FINAL and self._acked else []
        if told.status < _FINAL:
            return self._provisional(told, now)
        self.status, self.phrase = told.status, told.phrase
        if told.status < _REFUSED:
            return self._answered(told, now)
        self._acked = self._ack_of_refusal(told)
        again = self._challenged(told)
        if again:
            self.state = "calling"
            return [self._acked, *self._invite(now)]
        self._finish()
        return [self._acked]

    def _provisional(self, told: Answered, now: Ms) -> list[bytes]:
        if told.status in _RINGS and self.rang < 0:
            self.rang = now - self._begun
        if self.state == "calling":
            self.state = "ringing"
            self._ends = self.wake = max(now, self._begun + self._patience.ring)
        return []

    def _answered(self, told: Answered, now: Ms) -> list[bytes]:
        if self.answered < 0:
            self.answered = now - self._begun
        contact = [each for value in told.headers.get("contact", ()) for each in addresses(value)]
        target = contact[0].uri if contact else self._place.uri
        ways = told.headers.get("record-route", [])
        self._dialog = (
            first(told.headers, "to"),
            target,
            [way for value in reversed(ways) for way in _ways(value)],
        )
        self._acked = written(f"ACK {target} SIP/2.0", self._within("ACK"))
        if self.state == "cancelling":
            return [self._acked, *self._bye(now)]
        self.state = "talking"
        self._ends = self.wake = now + self._patience.listen
        return [self._acked]

    def _challenged(self, told: Answered) -> bool:
        """Once: who is challenged again has the wrong password."""
        if told.status not in _CHALLENGES or self._credentials is None or self._proof is not None:
            return False
        asks, answers = _CHALLENGES[told.status]
        cnonce = self._place.name[:16]
        try:
            made = authorization(
                told.headers.get(asks, ()), self._credentials, "INVITE", self._place.uri, cnonce
            )
        except NoDigest:
            return False
        self._proof = (answers, made)
        return True

    def _cancelled(self, told: Answered, now: Ms) -> list[bytes]:
        if told.status >= _FINAL and self.state == "cancelling":
            self._resend = self._ends  # the answer to the call itself is still to come
            self.wake = min(self.wake, now + self._timers.lifetime)
        return []

    def _left(self, told: Answered, now: Ms) -> list[bytes]:  # noqa: ARG002 - as the others
        if told.status >= _FINAL:
            self._finish()
        return []

    def _asked(self, data: bytes, now: Ms) -> list[bytes]:  # noqa: ARG002 - as the others
        """What the other side asks within the call."""
        try:
            head, _ = request(data)
        except (NotSip, BadRequest):
            return []
        reply = Reply(head, self._place.host, self._place.port, b"probe")
        if head.method == "ACK":
            return []
        if head.method == "BYE" and self.state in {"talking", "leaving"}:
            self._finish()
            return [reply.bytes(_STATUS_OK, "OK")]
        if head.method == "OPTIONS":
            return [reply.bytes(_STATUS_OK, "OK")]
        if head.method == "INVITE":
            return [reply.bytes(488, "Not Acceptable Here")]
        return [reply.bytes(481, "Call/Transaction Does Not Exist")]

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _own(self, method: str) -> list[tuple[str, str]]:
        at = self._place
        return [
            ("Via", f"SIP/2.0/UDP {at.host}:{at.port};rport;branch={self._branch()}"),
            ("Max-Forwards", "70"),
            ("From", f"<{at.caller}>;tag={at.name[:12]}"),
            ("To", f"<{at.uri}>"),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self._sequence} {method}"),
        ]

    def _branch(self) -> str:
        return f"z9hG4bK{self._place.name}{self._sequence}"

    def _contact(self) -> str:
        return f"<sip:probe@{self._place.host}:{self._place.port}>"

    def _within(self, method: str) -> Fields:
        """Of a request in the dialog, with a branch of its own."""
        to, _, ways = self._dialog
        fields = dict(self._own(method)) | {"To": to}
        fields["Via"] = fields["Via"].replace(self._branch(), f"{self._branch()}{method}")
        return [*fields.items(), *(("Route", way) for way in ways)]

    def _ack_of_refusal(self, told: Answered) -> bytes:
        fields = dict(self._own("ACK")) | {"To": first(told.headers, "to")}
        return written(f"ACK {self._place.uri} SIP/2.0", fields.items())

    def _cancel(self, now: Ms) -> list[bytes]:
        self.state, self.status, self.phrase = "cancelling", 487, "It rang, and nobody answered"
        return self._persist(written(f"CANCEL {self._place.uri} SIP/2.0", self._own("CANCEL")), now)

    def _bye(self, now: Ms) -> list[bytes]:
        self.state = "leaving"
        self._sequence += 1
        return self._persist(written(f"BYE {self._dialog[1]} SIP/2.0", self._within("BYE")), now)

    def _offer(self) -> bytes:
        at = self._place
        family = "IP6" if ":" in at.host else "IP4"
        lines = (
            "v=0", f"o=- 1 1 IN {family} {at.host}", "s=-", f"c=IN {family} {at.host}", "t=0 0",
            f"m=audio {at.media_port} RTP/AVP 8 0 101", "a=rtpmap:101 telephone-event/8000", "a=recvonly",
        )  # fmt: skip
        return ("\r\n".join(lines) + "\r\n").encode()


def _ways(value: str) -> Sequence[str]:
    """Of one Record-Route, the last first."""
    return [f"<{each.uri}>" for each in reversed(addresses(value))]


def told_in_full(trace: Sequence[tuple[Ms, str, bytes]]) -> bytes:
    """A trace as it is kept: a line with milliseconds and direction, then the message."""
    return b"".join(b"%d ms %s\r\n%b\r\n" % (at, way.encode(), data) for at, way, data in trace)
