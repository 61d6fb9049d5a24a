"""A call to a caller ID through a trunk, placed by SIPp, to test whether it is answered.

SIPp runs `resources/probe/scenario.xml`, in which this module fills in the call's addresses and times. The scenario writes a log
message for each event, and SIPp writes every message of the call, which becomes the trace of the proof.
"""

import asyncio
import hashlib
import re
import secrets
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from dialgate.core.refusal import Refused

Outcome: TypeAlias = Literal["answered", "not_answered", "not_probed"]

_SCENARIO: Final = Path(__file__).parents[2] / "resources" / "probe" / "scenario.xml"
# The called line is unreachable or did not answer. Other statuses concern the trunk, and prove nothing about the line.
_NOT_ANSWERED: Final = frozenset({404, 410, 480, 484, 486, 487, 600, 603, 604})
_CANCELLED: Final = (487, "No answer")
_LIFETIME: Final = 64  # of a transaction, as a multiple of T1 (RFC 3261 section 17.1)
_INVITE_RETRIES, _OTHER_RETRIES = 6, 10  # within that time
# The final statuses that are assigned. SIPp has no pattern for statuses, and reads at most 64 KiB.
_REFUSALS: Final = (
    *range(300, 306),
    380,
    *range(400, 500),
    *range(500, 506),
    513,
    555,
    580,
    *range(600, 609),
)
_RINGING: Final = (180, 181, 182, 183)
_EVENT: Final = re.compile(
    r"^(\d+) (began|rang|trying|cancelled|final|answered)(?: SIP/2\.0 (\d{3}) ?(.*))?$", re.MULTILINE
)
_SECRET: Final = re.compile(rb'(?im)^((?:proxy-)?authorization:.*?response=")[^"]*')
_BRACKET: Final = r"\x5B"  # a bracket that begins none of SIPp's keywords
_MOST_CREDENTIALS: Final = 200  # SIPp reads at most 256 characters between two brackets
_VIA: Final = "Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=z9hG4bK@NAME@[cseq]"
_FROM: Final = "Max-Forwards: 70\nFrom: <@CALLER@>;tag=@NAME@\nCall-ID: [call_id]"
_OFFER: Final = """Contact: <sip:probe@[local_ip]:[local_port]>
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP[local_ip_type] @ADDRESS@
s=-
c=IN IP[local_ip_type] @ADDRESS@
t=0 0
m=audio @MEDIA@ RTP/AVP 8 0 101
a=rtpmap:101 telephone-event/8000
a=recvonly"""


class Credentials(Struct, frozen=True):
    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


class ProbeTrunk(Struct, frozen=True, kw_only=True):
    """The trunk to call through. `caller` is the caller ID to show, `local` the address to call from, if it matters."""

    host: str
    port: int
    caller: str
    local: tuple[str, int] | None = None
    credentials: Credentials | None = None


class ProbeTimes(Struct, frozen=True, kw_only=True):
    """Times in milliseconds: for ringing, for listening after the answer, and SIP's timer T1."""

    ring: int
    listen: int
    t1: int

    @property
    def whole_call(self) -> int:
        """The maximum duration of a call: INVITE, INVITE with the password, CANCEL or BYE, and their responses."""
        return self.ring + self.listen + 4 * _LIFETIME * self.t1


class Probe(Struct, frozen=True, kw_only=True):
    """The result of a probe call.

    Times are in ms since the start of the call, or -1 if the event did not occur. `packets` is the number of audio packets
    received. `status` is the last final status, or 0.
    """

    outcome: Outcome
    status: int
    phrase: str
    call_id: str
    rang: int
    answered: int
    packets: int
    trace: bytes

    @property
    def evidence(self) -> str:
        digest = hashlib.sha256(self.trace).hexdigest()
        return (
            f"sip:{self.call_id} status={self.status} rang_ms={self.rang} answered_ms={self.answered}"
            f" packets={self.packets} trace=sha256:{digest}"
        )


class _Sound(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.packets = 0

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - asyncio's signature
        self.packets += 1


async def call_number(number: str, trunk: ProbeTrunk, patience: ProbeTimes) -> Probe:
    """Call a number. Raises `OSError` if the trunk has no route, `Refused` if SIPp cannot run."""
    program = shutil.which("sipp")
    if program is None:
        raise Refused("probe.failed", "SIPp is not installed. Run: apt-get install sip-tester")
    loop = asyncio.get_running_loop()
    remote = await _resolve(trunk.host, trunk.port)
    local = trunk.local or (_address_towards(remote), 0)
    media, sound = await loop.create_datagram_endpoint(_Sound, local_addr=(local[0], 0))
    try:
        with TemporaryDirectory() as name:
            folder = Path(name)
            values = _values(number, trunk, patience, local[0], media.get_extra_info("sockname")[1])
            scenario = folder / "scenario.xml"
            scenario.touch(0o600)  # it holds the password
            scenario.write_text(_scenario(values), "utf-8")
            words = [
                *_words(number, trunk, patience, local, values["NAME"]),
                f"{_bracketed(remote[0])}:{remote[1]}",
            ]
            error = await _run(program, words, folder, patience.whole_call)
            log, trace = (folder / name for name in ("log", "trace"))
            if not (log.exists() and trace.exists()):
                raise Refused(
                    "probe.failed", f"SIPp placed no call. Check --trunk and --local. {error}".strip()
                )
            return _result(
                log.read_text("utf-8", "replace"), f"{values['NAME']}@{local[0]}", sound.packets,
                _SECRET.sub(rb"\1(left out)", trace.read_bytes()),
            )  # fmt: skip
    finally:
        media.close()


async def _resolve(host: str, port: int) -> tuple[str, int]:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    address = infos[0][4]
    return str(address[0]), int(address[1])


def _address_towards(remote: tuple[str, int]) -> str:
    """Return the local address from which packets to `remote` are sent. None is sent for it."""
    family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(remote)
        return str(sock.getsockname()[0])


async def _run(program: str, words: list[str], folder: Path, longest: int) -> str:
    """Run SIPp, and return the last line of its error output."""
    process = await asyncio.create_subprocess_exec(
        program, *words, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(longest / 1000 + 10):
            _, errors = await process.communicate()
    except TimeoutError:
        raise Refused("probe.failed", "SIPp did not end. Repeat the call") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return (errors.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


# ---- the scenario ----------------------------------------------------------------------------------------------------


def _words(
    number: str, trunk: ProbeTrunk, patience: ProbeTimes, local: tuple[str, int], name: str
) -> list[str]:
    return [
        "-sf", "scenario.xml", "-m", "1", "-nostdin", "-aa", "-skip_rlimit", "-i", local[0], *(["-p", str(local[1])] if local[1] else []),
        "-ci", "127.0.0.1", "-cid_str", f"{name}@%s", "-auth_uri", _target(number, trunk).removeprefix("sip:"),
        "-max_retrans", str(_OTHER_RETRIES), "-max_invite_retrans", str(_INVITE_RETRIES),
        "-max_non_invite_retrans", str(_OTHER_RETRIES), "-T2", str(8 * patience.t1),
        "-timeout", f"{patience.whole_call // 1000 + 5}s", "-trace_msg", "-message_file", "trace", "-trace_logs", "-log_file", "log",
    ]  # fmt: skip


def _values(
    number: str, trunk: ProbeTrunk, patience: ProbeTimes, host: str, media_port: int
) -> dict[str, str]:
    """Return the values for the scenario, by the names that stand between two @ in it."""
    return {
        "HEADERS": f"{_VIA}\n{_FROM}",
        "DIALOG_HEADERS": f"{_VIA}[msg_index]\n{_FROM}\nTo: <@URI@>[peer_tag_param]",
        "OFFER": _OFFER,
        "FIRST_RINGS": _rings(' next="ringing"'),
        "RINGS_AFTER_CHALLENGE": _rings(' next="ringing after challenge"'),
        "RINGS": _rings(),
        "CHALLENGES": _receive((401, 407), ' auth="true" next="challenged"') if trunk.credentials else "",
        "REFUSALS": _receive(_REFUSALS, ' next="refused"'),
        "OTHER_ANSWERS": _receive((202, 204), ' rrs="true" next="answered"'),
        "AUTHENTICATION": _authentication(trunk.credentials),
        "URI": _target(number, trunk).replace("[", _BRACKET),
        "CALLER": f"sip:{trunk.caller}@{_bracketed(trunk.host)}".replace("[", _BRACKET),
        "NAME": secrets.token_hex(12),
        "ADDRESS": host,
        "MEDIA": str(media_port),
        "T1": str(patience.t1),
        "LIFETIME": str(_LIFETIME * patience.t1),
        "RING": str(max(1, patience.ring)),
        "LISTEN": str(max(1, patience.listen)),
    }


def _scenario(values: dict[str, str]) -> str:
    text = _SCENARIO.read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _receive(statuses: Iterable[int], more: str) -> str:
    return "\n".join(f'<recv response="{status}" optional="true"{more}/>' for status in statuses)


def _rings(more: str = "") -> str:
    events = {100: "trying", **dict.fromkeys(_RINGING, "rang"), 199: "trying"}
    return "\n".join(
        f'<recv response="{status}" optional="true"{more}><action><log message="[clock_tick] {event}"/></action></recv>'
        for status, event in events.items()
    )


def _authentication(credentials: Credentials | None) -> str:
    """Return SIPp's keyword for the header with the digest. The password is not on SIPp's command line, which others can see."""
    if credentials is None:
        return "[authentication]"
    user, password = _escaped(credentials.user), _escaped(credentials.password)
    if len(user + password) > _MOST_CREDENTIALS:
        raise Refused(
            "probe.failed",
            "SIPp cannot use a user name and password as long as these. Choose shorter ones at the trunk",
        )
    return f"[authentication username={user} password={password}]"


def _escaped(text: str) -> str:
    """Escape the first and every special byte, which SIPp would interpret."""
    return "".join(
        chr(byte) if place and chr(byte).isascii() and chr(byte).isalnum() else f"\\x{byte:02X}"
        for place, byte in enumerate(text.encode())
    )


def _target(number: str, trunk: ProbeTrunk) -> str:
    return f"sip:{number}@{_bracketed(trunk.host)};user=phone"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# ---- the result ------------------------------------------------------------------------------------------------------


def _result(log: str, call_id: str, packets: int, trace: bytes) -> Probe:
    begun, rang, answered = 0, -1, -1
    status, phrase = 0, ""
    for tick, event, code, text in _EVENT.findall(log):
        at = int(tick) - begun
        match event:
            case "began":
                begun = int(tick)
            case "rang" if rang < 0:
                rang = at
            case "cancelled":
                status, phrase = _CANCELLED
            case "final":
                status, phrase = int(code), text.strip()
            case "answered" if answered < 0:
                status, phrase, answered = int(code), text.strip(), at
    outcome: Outcome = "not_probed"
    if answered >= 0:
        outcome = "answered"
    elif status in _NOT_ANSWERED:
        outcome = "not_answered"
    return Probe(
        outcome=outcome, status=status, phrase=phrase, call_id=call_id, rang=rang, answered=answered, packets=packets, trace=trace
    )  # fmt: skip
