"""A platform of voice agents behind Kamailio, with the shipped `platforms.cfg`: SIPp is the platform and the carrier."""

import asyncio
import hashlib
import re
import ssl
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SOCK_DGRAM

from msgspec import Struct
from msgspec.structs import replace

from dialgate.tools.conformance import gates
from dialgate.tools.conformance.gates import Play
from tests.deploy.test_kamailio_gate import ALLOW, GateStub, respond
from tests.support import kamailio_world, world
from tests.support.kamailio_world import DIALER, DOMAIN, SHIPPED, STRANGER, TRUNK, Message, Request, Sip, read
from tests.support.ports import free_port
from tests.support.world import CALLER, CLEAR, LISTED, World

PASSWORD = "a-password-of-the-tests"
REFUSAL = {"decision": "deny", "decision_id": "a-1", "reasons": [{"code": "registry.listed"}]}

SDP = "v=0\no=- 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\nm=audio 6000 RTP/AVP 8\n"
ANSWER = """<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]%s
[last_Call-ID:]
[last_CSeq:]
[last_Record-Route:]
Contact: <sip:line-7@[local_ip]:[local_port]>
Content-Length: 0

]]></send>"""
CARRIER = f"""<?xml version="1.0" encoding="UTF-8"?><scenario name="carrier">
<recv request="INVITE"/>{ANSWER % ";tag=trunk"}<recv request="ACK"/>
<recv request="BYE"/>{ANSWER % ""}
</scenario>"""


class Carrier(Struct):
    port: int
    trace: Path

    def calls(self) -> list[Message]:
        """Return the INVITEs that the carrier received."""
        parts = re.split(r"(?m)^-{40,}.*\n", self.trace.read_text() if self.trace.exists() else "")
        received = [part.partition("\n\n")[2] for part in parts if part.startswith("UDP message received")]
        messages = {text: read(text.replace("\n", "\r\n").encode()) for text in received}
        return [message for message in messages.values() if message.method == "INVITE"]


class Line(Struct):
    """A platform, its Kamailio and its carrier."""

    sip: Sip
    carrier: Carrier
    folder: Path

    async def dial(self, number: str, *steps: str) -> None:
        """Run a call of the platform to `number`. Fail if the responses are not those in `steps`."""
        scenario = self.folder / "platform.xml"
        scenario.write_text(f'<?xml version="1.0"?><scenario name="platform">{"".join(steps)}</scenario>')
        process = await asyncio.create_subprocess_exec(
            "sipp", f"{kamailio_world.PROXY}:{self.sip.port}", "-sf", str(scenario), "-s", number, "-i", DIALER, "-bind_local",
            "-m", "1", "-timeout", "20s", "-timeout_error", "-nostdin", cwd=self.folder, stdout=DEVNULL, stderr=PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()[-2000:]


@asynccontextmanager
async def carrier(folder: Path) -> AsyncIterator[Carrier]:
    scenario, trace = folder / "carrier.xml", folder / "carrier.log"
    scenario.write_text(CARRIER)
    port = free_port(TRUNK, SOCK_DGRAM)
    process = await asyncio.create_subprocess_exec(
        "sipp", "-sf", str(scenario), "-i", TRUNK, "-bind_local", "-p", str(port), "-trace_msg", "-message_file", str(trace),
        "-nostdin", cwd=folder, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
    try:
        yield Carrier(port, trace)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def line(folder: Path, gate: str, **more: str) -> AsyncIterator[Line]:
    """Run the shipped configuration for platforms. The platform of the tests is `livekit`, which has a password."""
    values = {"WITH_PASSWORDS": "", "password": f'"{PASSWORD}"', **more}
    async with (
        carrier(folder) as made,
        kamailio_world.standing(
            folder, gate, folder / "data", SHIPPED, "platforms.cfg", f"{TRUNK}:{made.port}", **values
        ) as sip,
    ):
        yield Line(sip, made, folder)


@asynccontextmanager
async def stubbed_line(folder: Path, **more: str) -> AsyncIterator[tuple[Line, GateStub]]:
    stub = GateStub()
    async with (
        gates.playing(stub) as stub.port,
        line(folder, f"http://127.0.0.1:{stub.port}", **more) as made,
    ):
        yield made, stub


# ---- steps of a platform ---------------------------------------------------------------------------------------------


def request(
    method: str, cseq: int, *lines: str, to: str = "[service]", call: str = "", within: bool = False
) -> str:
    """Return a SIPp step. `call` is the prefix of another call's id; `within` sends it in the answered call."""
    uri = "[next_url]" if within else f"sip:{to}@[remote_ip]:[remote_port]"
    more = "".join(f"{text}\n" for text in (*(["[routes]"] if within else []), *lines))
    branch = "[branch-3]" if method == "ACK" and not within else "[branch]"
    body = (
        f"Content-Type: application/sdp\nContent-Length: [len]\n\n{SDP}"
        if method == "INVITE"
        else "Content-Length: 0\n\n"
    )
    return f"""<send{' retrans="500"' if method != "ACK" else ""}><![CDATA[
{method} {uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}
From: <sip:{CALLER}@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]{call[:4]}
To: <sip:{to}@[remote_ip]:[remote_port]>{"[peer_tag_param]" if within or method == "ACK" else ""}
Call-ID: {call}[call_id]
CSeq: {cseq} {method}
Contact: <sip:agent@[local_ip]:[local_port]>
Max-Forwards: 70
{more}{body}]]></send>"""


def expect(status: int) -> str:
    more = {407: ' auth="true"', 200: ' rrs="true"'}.get(status, "")
    return f'<recv response="100" optional="true"/><recv response="{status}"{more}/>'


def call(status: int, cseq: int = 1, to: str = "[service]", prefix: str = "") -> str:
    """Return the steps of a call with the password. It uses two sequence numbers, and is acknowledged."""
    login = f"[authentication username=livekit password={PASSWORD}]"
    end = request("ACK", cseq + 1, to=to, call=prefix, within=status == 200)
    return "".join((
        request("INVITE", cseq, to=to, call=prefix), expect(407), request("ACK", cseq, to=to, call=prefix),
        request("INVITE", cseq + 1, login, to=to, call=prefix), expect(status), end,
    ))  # fmt: skip


HANG_UP = request("BYE", 9, within=True) + expect(200)


# ---- allow, deny, stop -----------------------------------------------------------------------------------------------


async def test_only_allowed_calls_of_a_platform_reach_the_carrier(running: World) -> None:
    async with line(running.folder, f"http://127.0.0.1:{running.port}") as made:
        await made.dial(CLEAR, call(200), HANG_UP)
        await made.dial(LISTED, call(603))
        await running.post("/v1/revocations", {"number": CLEAR, "controller": "acme"})
        await made.dial(CLEAR, call(603))
        made.sip.trunk.kept += made.carrier.calls()
        assert [kamailio_world.user_of(invite.uri) for invite in made.carrier.calls()] == [CLEAR]
        assert b"authorization" not in made.carrier.calls()[0].raw.lower()
        made.sip.prove()


async def test_second_leg_of_a_platform_needs_an_allow_of_its_own(running: World) -> None:
    refer = request("REFER", 3, f"Refer-To: <sip:{LISTED}@{TRUNK}>", within=True) + expect(403)
    async with line(running.folder, f"http://127.0.0.1:{running.port}") as made:
        await made.dial(CLEAR, call(200), refer, HANG_UP)
        await made.dial(CLEAR, call(603, to=LISTED, prefix="leg2///"), call(200, cseq=3), HANG_UP)
        made.sip.trunk.kept += made.carrier.calls()
        numbers = [kamailio_world.user_of(invite.uri) for invite in made.carrier.calls()]
        assert numbers == [CLEAR, CLEAR]
        made.sip.prove()


# ---- faults of the gate ----------------------------------------------------------------------------------------------

FAULTS: dict[str, Play] = {
    "down": gates.early,
    "500": gates.error,
    "500 with an allow": respond(ALLOW, "500 Internal Server Error"),
    "401": respond({"error": {"code": "auth.unknown"}}, "401 Unauthorized"),
    "nonsense": gates.nonsense,
    "another number": respond({**ALLOW, "to": LISTED}),
}


async def test_no_fault_of_the_gate_lets_a_call_of_a_platform_through(tmp_path: Path) -> None:
    answered = asyncio.Event()

    async def late(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await respond(ALLOW)(asked, reader, writer)

    async with stubbed_line(tmp_path, GATE_PATIENCE="1000") as (made, stub):
        for play in FAULTS.values():
            stub.play = play
            await made.dial(CLEAR, call(500))
        stub.play = late
        began = time.monotonic()
        await made.dial(CLEAR, call(500))
        assert time.monotonic() - began < 10
        answered.set()
        stub.play = respond(ALLOW)
        assert made.carrier.calls() == []
        await made.dial(CLEAR, call(200), HANG_UP)
        assert len(made.carrier.calls()) == 1


async def test_a_platform_that_tries_again_is_checked_again(tmp_path: Path) -> None:
    """The next route of a platform has the same Call-ID, a retry by an SDK another one."""
    async with stubbed_line(tmp_path) as (made, stub):
        stub.play = respond(REFUSAL)
        await made.dial(CLEAR, call(603), call(603, cseq=3))
        await made.dial(CLEAR, call(603))
        assert len({asked["call_id"] for asked in stub.asked}) == len(stub.asked) == 3
        assert made.carrier.calls() == []


# ---- who calls -------------------------------------------------------------------------------------------------------


def with_password(first: Request, challenge: Message, name: str, password: str, cseq: int = 2) -> Request:
    """Return the call again, with a digest of the password (RFC 2617)."""
    nonce = re.search('nonce="([^"]+)"', challenge.get("Proxy-Authenticate"))
    assert nonce
    uri = f"sip:{DOMAIN}"

    def digest(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    secret, place = digest(f"{name}:{DOMAIN}:{password}"), digest(f"INVITE:{uri}")
    response = digest(f"{secret}:{nonce[1]}:00000001:c:auth:{place}")
    login = (
        f'Digest username="{name}", realm="{DOMAIN}", nonce="{nonce[1]}", uri="{uri}", response="{response}", '
        f'qop=auth, nc=00000001, cnonce="c"'
    )
    branch = f"{first.headers['Via']}-{cseq}"
    changed = {"CSeq": f"{cseq} INVITE", "Via": branch, "Proxy-Authorization": login}
    return replace(first, headers=first.headers | changed)


def from_elsewhere(sip: Sip, request: Request) -> Request:
    """Return the request as another address sends it, which also gets the response."""
    host, port = sip.stranger.address
    via = f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK-{request.method}-elsewhere"
    return replace(request, dialer=sip.stranger, headers=request.headers | {"Via": via})


WRONG = [("livekit", "wrong"), ("livekit", ""), ("retell", ""), ("nobody", PASSWORD), ("", ""), (DIALER, "")]


async def test_a_new_call_needs_the_password_each_time(tmp_path: Path) -> None:
    async with stubbed_line(tmp_path) as (made, stub):
        sip = made.sip
        stub.play = respond(ALLOW)
        for name, password in WRONG:
            first = sip.dialer.invite()
            challenge = await first.send_and_ack()
            again = with_password(first, challenge, name, password)
            assert (challenge.status, (await again.send_and_ack()).status) == (407, 407), name
        assert stub.asked == []
        first = sip.dialer.invite()
        challenge = await first.send_and_ack()
        again = with_password(first, challenge, "livekit", PASSWORD)
        answer = await again.send_and_ack()
        assert answer.status == 200
        assert (await sip.dialer.call()).status == 407  # also from an address that has authenticated
        heard = with_password(sip.dialer.invite(), challenge, "livekit", PASSWORD)
        assert (await heard.send_and_ack()).status == 407
        for method in ("BYE", "REFER", "OPTIONS"):
            from_elsewhere(sip, again.within(answer, method, cseq=20)).send()
        assert (await again.within(answer, "BYE", cseq=3).send().final()).status == 200
        assert sip.stranger.kept == []
        assert (len(stub.asked), len(made.carrier.calls())) == (1, 1)


async def test_calls_of_two_platforms_with_one_address_are_kept_apart(tmp_path: Path) -> None:
    async with stubbed_line(tmp_path) as (made, stub):
        stub.play = respond(ALLOW)
        calls = []
        for name in ("livekit", "jambonz"):
            first = made.sip.dialer.invite()
            again = with_password(first, await first.send_and_ack(), name, PASSWORD)
            calls.append((again, await again.send_and_ack()))
        assert [asked["campaign"] for asked in stub.asked] == ["acme-fibre", "acme-mobile"]
        for again, answer in calls:
            assert answer.status == 200
            assert (await again.within(answer, "BYE", cseq=3).send().final()).status == 200


async def test_platform_over_tls_needs_a_certificate_of_the_authority(tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    for folder in (tmp_path, stranger):
        world.write_certificate(folder)
    places = {"certificate.pem": "cert.pem", "dialers-ca.pem": "cert.pem", "/etc/kamailio": str(tmp_path)}
    settings = (SHIPPED / "tls.cfg").read_text("utf-8")
    for shipped, place in places.items():
        settings = settings.replace(shipped, place)
    config = tmp_path / "tls.cfg"
    config.write_text(settings, "utf-8")
    async with stubbed_line(tmp_path, WITH_TLS="", TLS_CONFIG=f'"{config}"') as (made, _):
        assert (
            await first_line_over_tls(made.sip, tmp_path) == b"SIP/2.0 407 Proxy Authentication Required\r\n"
        )
        assert await first_line_over_tls(made.sip, stranger) == b""


async def first_line_over_tls(sip: Sip, folder: Path) -> bytes:
    """Send a call over TLS with the certificate in `folder`. Return the first line of the response, or "" if refused."""
    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    writer = None
    try:
        reader, writer = await asyncio.open_connection(
            kamailio_world.PROXY, sip.port, ssl=context, local_addr=(DIALER, 0)
        )
        writer.write(sip.dialer.invite().text().replace("SIP/2.0/UDP", "SIP/2.0/TLS").encode())
        return await asyncio.wait_for(reader.readline(), 10)
    except (ssl.SSLError, ConnectionError):
        return b""
    finally:
        if writer:
            writer.close()


async def test_platform_with_several_addresses_is_one_dialer(tmp_path: Path) -> None:
    """It writes country codes without a plus, and its requests within a call may come from another of its addresses."""
    async with stubbed_line(tmp_path, sources=f"192.0.2.0/24,{DIALER}/32,{STRANGER}/32") as (made, stub):
        sip = made.sip
        stub.play = respond(ALLOW)
        first = sip.dialer.invite(
            CLEAR[1:], From=f"<sip:{CALLER[1:]}@x.example>;tag=p1", X_Dialgate_Campaign="acme-mobile"
        )
        answer = await first.send_and_ack()
        assert answer.status == 200
        (asked,) = stub.asked
        assert (asked["to"], asked["from"], asked["campaign"]) == (CLEAR, CALLER, "acme-mobile")
        from_elsewhere(sip, first.within(answer, "BYE", cseq=2)).send()
        ended = await sip.stranger.until(lambda message: message.status >= 200)
        assert (ended.status, ended.get("CSeq")) == (200, "2 BYE")
        assert len(made.carrier.calls()) == 1
