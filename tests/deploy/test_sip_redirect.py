"""Kamailio as a SIP redirect server, with the shipped configuration: it sends a 302 only after an allow of the gate."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from dialgate.tools.conformance import gates
from tests.deploy.test_kamailio import AMBIGUOUS
from tests.deploy.test_kamailio_fuzz import EVIL, MESSAGES, allow_one_call, damage
from tests.deploy.test_kamailio_gate import ALLOW, CLOSED, GateStub, is_trying, respond
from tests.support import kamailio_world
from tests.support.kamailio_world import PROXY, REDIRECT, Message, Sip
from tests.support.world import CALLER, CLEAR, LISTED, World

DIALER = kamailio_world.DIALER
CONTACTS = [f"<sip:{CLEAR}@trunk-a.example:5060;transport=udp>;q=1.0", f"<sip:{CLEAR}@trunk-b.example>;q=0.9"]


@asynccontextmanager
async def redirecting(folder: Path, gate: str, **more: str) -> AsyncIterator[Sip]:
    async with kamailio_world.standing(folder, gate, folder / "data", REDIRECT, **more) as sip:
        yield sip
        assert sip.at_the_trunks == []
        assert CLEAR[4:] not in sip.log.read_text()


@pytest.fixture
async def sip(running: World) -> AsyncIterator[Sip]:
    async with redirecting(running.folder, f"http://127.0.0.1:{running.port}") as made:
        yield made


@asynccontextmanager
async def with_stub(folder: Path, **more: str) -> AsyncIterator[tuple[Sip, GateStub]]:
    stub = GateStub()
    async with gates.playing(stub) as port:
        stub.port = port
        url = f"http://127.0.0.1:{port}"
        async with redirecting(folder, url, **more) as sip:
            yield sip, stub


def contacts(answer: Message) -> list[str]:
    return re.split(", *", answer.get("Contact"))


# ---- answers ---------------------------------------------------------------------------------------------------------


async def test_allowed_call_is_redirected_to_the_trunks_with_the_checked_number(sip: Sip) -> None:
    answer = await sip.dialer.call("0612345678")
    assert (answer.status, contacts(answer)) == (302, CONTACTS)
    assert sip.allowed()[answer.get("X-Dialgate-Decision")] == (CLEAR, CALLER)
    assert (answer.get("X-Dialgate-Valid-Until") > "2026", answer.get("Expires")) == (True, "")


@pytest.mark.parametrize(("refusal", "status"), [("608", 608), ("603", 603), ("403", 403), ("503", 608)])
async def test_denied_call_gets_the_configured_refusal(tmp_path: Path, refusal: str, status: int) -> None:
    denial = {
        "decision": "deny",
        "decision_id": "a-1",
        "reason_class": "number",
        "reasons": [{"code": "registry.listed"}],
    }
    async with with_stub(tmp_path, refusal=f'"{refusal}"') as (sip, stub):
        stub.play = respond({**denial, "not_before": "2026-11-25T08:00:00.000Z"})
        answer = await sip.dialer.call()
    assert answer.status == status
    assert answer.get("Reason") == f'SIP;cause={status};text="dialgate:registry.listed", Q.850;cause=21'
    names = ("Decision", "Reason", "Class", "Not-Before")
    values = ["a-1", "registry.listed", "number", "2026-11-25T08:00:00.000Z"]
    assert [answer.get(f"X-Dialgate-{name}") for name in names] == values
    assert answer.get("Contact") == ""


async def test_no_call_is_redirected_with_any_fault_of_the_gate(tmp_path: Path) -> None:
    """The status is never 503, after which a client tries the next server (RFC 3261 section 21.5.4)."""
    async with with_stub(tmp_path, GATE_PATIENCE="1000") as (sip, stub):
        stub.play = respond(ALLOW)
        assert (await sip.dialer.call()).status == 302  # so a later process may hold an allow
        for name, play in CLOSED.items():
            stub.play = play
            answer = await sip.dialer.call()
            assert (name, answer.status, answer.get("Retry-After")) == (name, 500, "5")
            assert (answer.get("X-Dialgate-Reason"), answer.get("Contact")) == ("gate.unavailable", "")


async def test_a_gate_that_is_down_redirects_nothing_and_is_not_ready(tmp_path: Path) -> None:
    async with with_stub(tmp_path) as (sip, stub):
        port = stub.port
    async with kamailio_world.standing(
        tmp_path, f"http://127.0.0.1:{port}", tmp_path / "data", REDIRECT
    ) as sip:
        assert (await sip.dialer.call()).status == 500
        assert (await sip.dialer.invite(method="OPTIONS").send().final()).status == 500


async def test_options_shows_whether_the_gate_is_ready(sip: Sip, running: World) -> None:
    assert (await sip.dialer.invite(method="OPTIONS").send().final()).status == 200
    await running.app._store.close()
    await running.app.tick()
    assert (await sip.dialer.invite(method="OPTIONS").send().final()).status == 500
    assert (await sip.dialer.call()).status == 500


# ---- numbers ---------------------------------------------------------------------------------------------------------

WITHHELD = "caller_id.withheld"
CALLERS = [
    ({}, ""),
    ({"From": f"tel:{CALLER};tag={{}}"}, ""),
    ({"From": f"<sip:{CALLER};verstat=No-TN-Validation@h>;tag={{}}"}, ""),
    ({"From": f'"Acme, Fibre" <sip:{CALLER[1:]}@h>;tag={{}}', "P-Asserted-Identity": f"<sip:{CALLER}@h>"}, ""),
    ({"P-Asserted-Identity": f'"A, <sip:{EVIL}@h>" <sip:{CALLER}@h>, <tel:{CALLER}>', "Privacy": "none"}, ""),
    ({"P-Asserted-Identity": f"<sip:{CALLER}@h>\r\nP-Asserted-Identity: tel:{CALLER}"}, ""),
    ({"Remote-Party-ID": f"<sip:{CALLER}@h>;party=calling;privacy=off;screen=yes"}, ""),
    ({"Remote-Party-ID": f"<sip:{CALLER}@h>;privacy=full"}, WITHHELD),
    ({"Remote-Party-ID": f"<sip:{CALLER}@h>;privacy=off, <sip:{CALLER}@h>;privacy=full"}, WITHHELD),
    ({"Remote-Party-ID": f"<sip:{EVIL}@h>"}, WITHHELD),
    ({"P-Asserted-Identity": "<sip:+390844999999@h>"}, WITHHELD),
    ({"P-Asserted-Identity": f"<sip:{CALLER}9@h>"}, WITHHELD),
    ({"P-Asserted-Identity": f"<sip:{CALLER}@h>, <sip:{EVIL}@h>"}, WITHHELD),
    ({"P-Asserted-Identity": f"<sip:{CALLER}@h>\r\nP-Asserted-Identity: <sip:{EVIL}@h>"}, WITHHELD),
    ({"P-Asserted-Identity": f"<sip:{CALLER}@h>", "P-Preferred-Identity": f"<sip:{EVIL}@h>"}, WITHHELD),
    ({"P-Asserted-Identity": f'"x" <sip:{EVIL}@h>;x="y" <sip:{CALLER}@h>'}, WITHHELD),
    ({"P-Asserted-Identity": "what?"}, WITHHELD),
    ({"p-asserted-identity ": f"<sip:{EVIL}@h>"}, WITHHELD),
    ({"Subject": f"a\r\nP-Asserted-Identity:\r\n <sip:{EVIL}@h>"}, WITHHELD),
    ({"Privacy": "id"}, WITHHELD),
    ({"From": "Anonymous <sip:anonymous@anonymous.invalid>;tag={}"}, WITHHELD),
    ({"From": f"<sip:{CALLER}@anonymous.invalid>;tag={{}}", "P-Asserted-Identity": f"<sip:{CALLER}@h>"}, WITHHELD),
    ({"P-Asserted-Identity": f"<sip:{CALLER}@anonymous.invalid>"}, WITHHELD),
    ({"From": "<sip:auto@h>;tag={}"}, WITHHELD),  # a 302 cannot say which caller ID to present
    ({"From": f"<sip:{EVIL}@h>;tag={{}}"}, "caller_id.not_assigned"),
]  # fmt: skip


async def test_the_caller_id_must_be_equal_in_all_headers(tmp_path: Path) -> None:
    """The trunk may show the number in any of them. What differs is checked, and so denied and recorded, as withheld."""
    async with with_stub(tmp_path, calls="1000") as (sip, stub):
        stub.play = allow_one_call()
        for at, (changes, reason) in enumerate(CALLERS):
            answer = await sip.dialer.call(
                **{name: value.replace("{}", f"t{at}") for name, value in changes.items()}
            )
            shown = {"": CALLER, WITHHELD: "anonymous"}.get(reason, EVIL)
            assert (answer.status, stub.asked[-1]["from"]) == (608 if reason else 302, shown), changes
        assert len(stub.asked) == len(CALLERS)


async def test_a_withheld_caller_id_is_denied_and_recorded(sip: Sip) -> None:
    answer = await sip.dialer.call(P_Asserted_Identity=f"<sip:{EVIL}@h>")
    assert (answer.status, answer.get("X-Dialgate-Reason")) == (608, WITHHELD)
    assert answer.get("X-Dialgate-Decision")


NUMBERS = [
    (f"sips:{CLEAR}@h:5061;transport=tcp", 302), (f"sip:%2B{CLEAR[1:]}@h", 302), (f"sip:00{CLEAR[1:]}@h", 302),
    (f"tel:{CLEAR}", 302), (f"tel:{CLEAR[:3]}-06-1234.5678", 302), (f"tel:{CLEAR};ext=12", 608),
    (f"sip:{CLEAR};ext=12@h", 608), (f"sip:{CLEAR};npdi;rn=+39123@h", 608), (f"sip:9{CLEAR}@h", 608),
    (f"sip:%252B{CLEAR[1:]}@h", 608), ("sip:h", 608), (f"sip:{LISTED}@h", 608), (f"<sip:{CLEAR}@h>", 400),
]  # fmt: skip


async def test_the_number_of_the_request_uri_is_checked(tmp_path: Path) -> None:
    async with with_stub(tmp_path, calls="1000") as (sip, stub):
        stub.play = allow_one_call(f"00{CLEAR[1:]}")
        for uri, status in NUMBERS:
            request = sip.dialer.invite()
            answer = await replace(request, uri=uri).send_and_ack()
            assert answer.status == status, uri
            if status == 302:
                assert contacts(answer) == CONTACTS


# ---- transactions ----------------------------------------------------------------------------------------------------


async def test_retransmissions_and_forks_are_one_call(sip: Sip) -> None:
    first = sip.dialer.invite()
    for _ in range(5):
        first.send()
    assert (await first.send_and_ack()).status == 302
    replace(first, headers=first.headers | {"Via": first.headers["Via"] + "-other"}).send()
    await sip.dialer.until(lambda message: message.status == 482)
    statuses = {message.status for message in sip.dialer.kept if first.is_answered_by(message)}
    assert (statuses, len(sip.allowed())) == ({100, 302, 482}, 1)


async def test_an_unacknowledged_302_is_sent_again_unchanged(sip: Sip) -> None:
    request = sip.dialer.invite().send()

    def is_second(message: Message) -> bool:
        return [kept.raw for kept in sip.dialer.kept if kept.status == 302].count(message.raw) > 1

    assert request.is_answered_by(await sip.dialer.until(is_second))


async def test_call_cancelled_during_the_check_is_not_redirected(tmp_path: Path) -> None:
    answered = asyncio.Event()

    async def late(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await respond(ALLOW)(asked, reader, writer)

    async with with_stub(tmp_path) as (sip, stub):
        stub.play = late
        request = sip.dialer.invite().send()
        await sip.dialer.until(lambda message: is_trying(request, message))
        cancel = replace(request, method="CANCEL", headers=request.headers | {"CSeq": "1 CANCEL"}).send()
        assert (await cancel.final()).status == 200
        answered.set()
        assert (await request.final()).status == 487


OTHERS = [
    ({"method": "REGISTER"}, 405),
    ({"method": "REFER"}, 405),
    ({"method": "BYE"}, 405),
    ({"method": "NEWMETHOD"}, 405),
    ({"To": f"<sip:{CLEAR}@h>;tag=in-dialog"}, 481),
    ({"Require": "100rel, x"}, 420),
    ({"Max_Forwards": "0"}, 483),
]  # fmt: skip


async def test_nothing_else_is_redirected_or_checked(tmp_path: Path) -> None:
    async with with_stub(tmp_path) as (sip, stub):
        stub.play = respond(ALLOW)
        for changes, status in OTHERS:
            answer = await sip.dialer.invite(**changes).send().final()
            assert answer.status == status, changes
            assert answer.get("Unsupported") == changes.get("Require", "")
        twice = "X-Dialgate-Campaign: a\r\nX-Dialgate-Campaign: b\r\n"
        ambiguous = [sip.dialer.invite(more=more).send() for more in (*AMBIGUOUS, twice)]
        quiet = sip.stranger.invite().send()
        assert (await sip.dialer.call()).status == 302
        assert not [message for message in sip.stranger.kept if quiet.is_answered_by(message)]
        received = {m.status for m in sip.dialer.kept for request in ambiguous if request.is_answered_by(m)}
        assert (received, len(stub.asked)) == ({400}, 1)


@pytest.mark.parametrize(
    "contacts", ["<sip:+39NUMBER@h>", "<sip:NUMBER@h>>", "sip:NUMBER@h", "<sip:+390699999999@h>", ""]
)
async def test_a_contact_that_is_not_the_checked_number_alone_is_never_sent(
    tmp_path: Path, contacts: str
) -> None:
    async with with_stub(tmp_path, contacts=f'"{contacts}"') as (sip, stub):
        stub.play = respond(ALLOW)
        answer = await sip.dialer.call()
        assert (answer.status, answer.get("Contact")) == (500, "")


# ---- SIPp ------------------------------------------------------------------------------------------------------------

SCENARIO = """<?xml version="1.0" encoding="UTF-8"?><scenario name="asks">
<send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Acme" <sip:%(caller)s@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:dialer@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio 6000 RTP/AVP 8
]]></send>
<recv response="100" optional="true"/>
<recv response="%(status)s"><action>
<ereg regexp="%(header)s" search_in="hdr" header="%(name)s" check_it="true" assign_to="1"/>
</action></recv>
<Reference variables="1"/>
<send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Acme" <sip:%(caller)s@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
</scenario>"""
ALLOWED = {"status": "302", "name": "Contact:", "header": f".*sip:\\{CLEAR}@trunk-a.*sip:\\{CLEAR}@trunk-b"}
DENIED = {"status": "608", "name": "Reason:", "header": "Q.850;cause=21"}


@pytest.mark.parametrize("transport", ["u1", "t1"])
@pytest.mark.parametrize(("number", "wanted"), [(CLEAR, ALLOWED), (LISTED, DENIED)])
async def test_sipp_is_redirected_or_refused_by_udp_and_by_tcp(
    tmp_path: Path, sip: Sip, transport: str, number: str, wanted: dict[str, str]
) -> None:
    scenario = tmp_path / "asks.xml"
    scenario.write_text(SCENARIO % (wanted | {"caller": CALLER}))
    calls = 5 if number == CLEAR else 40  # more than five to a number are denied
    process = await asyncio.create_subprocess_exec(
        "sipp", f"{PROXY}:{sip.port}", "-sf", str(scenario), "-s", number, "-t", transport, "-i", DIALER, "-bind_local",
        "-m", str(calls), "-r", "50", "-timeout", "20s", "-timeout_error", "-nostdin",
        cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
    assert len(sip.allowed()) == (calls if number == CLEAR else 0)


# ---- damaged messages ------------------------------------------------------------------------------------------------


async def test_damaged_messages_are_redirected_to_no_other_number(tmp_path: Path) -> None:
    seed = random.randrange(1, 1 << 30)
    draw = random.Random(seed)
    async with with_stub(tmp_path, calls="100000") as (sip, stub):
        stub.play = allow_one_call()
        for at in range(MESSAGES):
            sip.dialer.send(damage(sip.dialer.invite().text(), draw))
            if at % 50 == 49:  # Kamailio still runs, and has processed the messages
                await sip.dialer.invite(method="OPTIONS").send_until_final()
        assert (await sip.dialer.call()).status == 302
        redirected = [message for message in sip.dialer.kept if message.status == 302]
        assert len(redirected) > 1, "the damage is too heavy for a meaningful test"
        assert {tuple(contacts(message)) for message in redirected} == {tuple(CONTACTS)}, seed
