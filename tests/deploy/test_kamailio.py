"""Kamailio in front of the trunk, with the shipped configuration."""

import re
from collections.abc import AsyncIterator
from functools import partial

import pytest
from aiohttp import ClientSession
from msgspec.structs import replace

from tests.support import kamailio_world, yaml_files
from tests.support.kamailio_world import Message, Request, Sip, user_of
from tests.support.paths import ROOT
from tests.support.world import CALLER, CLEAR, LISTED, World


@pytest.fixture
async def sip(running: World) -> AsyncIterator[Sip]:
    gate = f"http://127.0.0.1:{running.port}"
    async with kamailio_world.standing(running.folder, gate, running.folder / "data") as made:
        yield made
        made.prove()


async def test_allowed_call_reaches_the_trunk_with_the_checked_number(sip: Sip) -> None:
    answer = await sip.dialer.call()
    assert answer.status == 200
    (invite,) = sip.trunk.invites
    assert invite.uri.startswith(f"sip:{CLEAR}@{kamailio_world.TRUNK}")


async def test_denied_call_does_not_reach_the_trunk_and_has_a_reason(sip: Sip) -> None:
    answer = await sip.dialer.call(LISTED)
    assert answer.status == 608
    assert answer.get("Reason") == 'SIP;cause=608;text="dialgate:registry.listed", Q.850;cause=21'
    assert answer.get("X-Dialgate-Decision")
    assert sip.at_the_trunks == []


# ---- one check for each call -----------------------------------------------------------------------------------------


async def test_retransmitted_invite_is_one_call(sip: Sip) -> None:
    request = sip.dialer.invite()
    for _ in range(5):
        request.send()
    await request.final()
    for _ in range(5):
        request.send()
    assert (await sip.dialer.call(LISTED)).status == 608
    assert (len(sip.at_the_trunks), len(sip.allowed())) == (1, 1)


async def test_call_forked_upstream_rings_once(sip: Sip) -> None:
    first = sip.dialer.invite()
    other = replace(first, headers=first.headers | {"Via": first.headers["Via"] + "-other"})
    assert (await first.send_and_ack()).status == 200
    other.send()
    merged = await sip.dialer.until(lambda message: message.status == 482)
    assert merged.get("Call-ID") == first.headers["Call-ID"]
    assert len(sip.at_the_trunks) == 1


async def test_retried_call_is_another_attempt(sip: Sip) -> None:
    first = sip.dialer.invite()
    assert (await first.send_and_ack()).status == 200
    again = replace(
        first, headers=first.headers | {"CSeq": "2 INVITE", "Via": first.headers["Via"] + "-again"}
    )
    assert (await again.send_and_ack()).status == 200
    assert len(sip.allowed()) == 2


async def test_call_cancelled_while_ringing_is_cancelled_at_the_trunk(sip: Sip) -> None:
    sip.trunk.says = ["180 Ringing"]
    request = sip.dialer.invite().send()
    await sip.dialer.until(lambda message: request.is_answered_by(message) and message.status == 180)
    cancel = replace(request, method="CANCEL", headers=request.headers | {"CSeq": "1 CANCEL"})
    cancel.send()
    assert (await request.final()).status == 487
    await sip.trunk.until(lambda message: message.method == "CANCEL")


# ---- numbers ---------------------------------------------------------------------------------------------------------

READ = [
    ("%2B390612345678", 200),
    ("%2b39%30612345678", 200),
    ("0612345678", 200),
    ("00390612345678", 200),
    ("tel:+390612345678", 200),
    (f"sips:{CLEAR}@127.0.0.6", 200),
    (f"sip:{CLEAR}:password@127.0.0.6;user=phone", 200),
    (f"sip:{CLEAR}@127.0.0.3:5060;maddr=127.0.0.3", 200),
    ("tel:+390612345678;ext=9", 608),
    ("tel:0612345678;phone-context=+1", 608),
    ("+390612345678;phone-context=+1", 608),
    ("+390612345678;ext=5", 608),
    ("+390612345678,,5", 608),
    ("%2A67%2B390612345678", 608),
    ("%23310612345678", 608),
    ("+390612345678%00", 608),
    ("+39061234567%38%00", 608),
    ("+39%D9%A0612345678", 608),
    ("+39-06-12345678", 608),
    ("anonymous", 608),
    ("+", 608),
    ("+390612345679", 608),
    ("%2B390612345679", 608),
]


async def test_checked_number_is_dialled_for_every_notation(sip: Sip, running: World) -> None:
    statuses = {}
    for uri, _ in READ:
        statuses[uri] = (await sip.dialer.call(uri)).status
        for decision in sip.allowed():  # so it does not count as an attempt
            outcome = {"decision_id": decision, "outcome": "not_dialled"}
            await running.client.post("/v1/outcomes", json=outcome)
    assert statuses == dict(READ)
    assert {user_of(message.uri) for message in sip.at_the_trunks} == {CLEAR}


WITHHELD = [
    {"From": "<sip:anonymous@anonymous.invalid>;tag=w{}"},
    {"From": "Anonymous <sip:c8oqz84zk7z@privacy.example>;tag=w{}"},
    {"Privacy": "id"},
    {"Privacy": "none;user"},
    {"From": f"<sip:%2A67{CALLER}@10.0.0.7>;tag=w{{}}"},
]


async def test_withheld_caller_id_is_refused(sip: Sip) -> None:
    for at, changes in enumerate(WITHHELD):
        answer = await sip.dialer.call(**{name: value.format(at) for name, value in changes.items()})
        assert answer.status == 403
        assert "caller_id.withheld" in answer.get("Reason")
    assert sip.at_the_trunks == []


SPOOFED = {
    "P-Asserted-Identity": "<sip:+390699999999@x.example>",
    "P-Preferred-Identity": "<sip:+390699999999@x.example>",
    "Remote-Party-ID": "<sip:+390699999999@x.example>;party=calling",
    "Diversion": "<sip:+390699999999@x.example>;reason=unconditional",
    "History-Info": "<sip:+390699999999@x.example>;index=1",
    "Referred-By": "<sip:+390699999999@x.example>",
    "Identity": "eyJ.eyJ.x;info=<https://x.example/c>",
    "P-Charge-Info": "<sip:+390699999999@x.example>",
    "X-Dialgate-Decision": "made-up",
    "Subject": "a\r\n P-Asserted-Identity: <sip:+390699999999@x.example>",
    "p-asserted-identity ": "<sip:+390699999999@x.example>",
}


async def test_only_the_checked_caller_id_reaches_the_trunk(sip: Sip) -> None:
    answer = await sip.dialer.call(**SPOOFED, From=f'"Ministero" <sip:{CALLER}@x.example>;tag=sp')
    assert answer.status == 200
    (invite,) = sip.trunk.invites
    assert b"699999999" not in invite.raw
    assert b"Ministero" not in invite.raw
    assert b"made-up" not in invite.raw
    assert invite.get("P-Asserted-Identity") == f"<sip:{CALLER}@{kamailio_world.DOMAIN}>"


async def test_a_caller_id_left_to_the_gate_is_the_one_in_its_answer(sip: Sip) -> None:
    request = sip.dialer.invite(From="<sip:auto@x.example>;tag=auto")
    answer = await request.send_and_ack()
    assert answer.status == 200
    (invite,) = sip.trunk.invites
    assert user_of(invite.get("From")) == user_of(invite.get("Contact")) == CALLER
    assert invite.get("P-Asserted-Identity") == f"<sip:{CALLER}@{kamailio_world.DOMAIN}>"
    assert b"auto@" not in invite.raw
    assert (await request.within(answer, "BYE", cseq=2).send().final()).status == 200


AMBIGUOUS = [
    "From: <sip:+390699999999@x.example>;tag=x\r\n",
    "f: <sip:+390699999999@x.example>;tag=x\r\n",
    "To: <sip:+390699999999@x.example>\r\n",
    "User-Agent: x\rP-Asserted-Identity: <sip:+390699999999@x.example>\r\n",
    "Content-Length: 90\r\n",
    "Contact: <sip:a@127.0.0.2>\r\nContact: <sip:b@127.0.0.2>\r\n",
]


async def test_ambiguous_message_is_refused(sip: Sip) -> None:
    """Kamailio answers with 400, or not at all if the message cannot be answered."""
    requests = [sip.dialer.invite(more=more).send() for more in AMBIGUOUS]
    with_tab = sip.dialer.invite()
    sip.dialer.send(with_tab.text().replace(" SIP/2.0", "\t SIP/2.0", 1).encode())
    requests.append(with_tab)
    assert (await sip.dialer.call(LISTED)).status == 608
    assert {
        message.status
        for message in sip.dialer.kept
        for request in requests
        if request.is_answered_by(message)
    } == {400}
    assert (sip.at_the_trunks, sip.allowed()) == ([], {})


# ---- attempts to bypass the check ------------------------------------------------------------------------------------


async def test_route_of_the_dialer_is_ignored(sip: Sip) -> None:
    second = f"<sip:{kamailio_world.SECOND}:{sip.trunks[1].address[1]};lr>"
    assert (
        await sip.dialer.call(Route=f"<sip:{kamailio_world.PROXY}:{sip.port};lr>, {second}")
    ).status == 200
    assert (await sip.dialer.call(LISTED, Route=second)).status == 608
    assert [len(trunk.invites) for trunk in sip.trunks] == [1, 0]


async def test_forged_dialog_reaches_no_trunk(sip: Sip) -> None:
    host, port = sip.trunk.address
    route = f"<sip:{kamailio_world.PROXY}:{sip.port};lr;did=abc.1>, <sip:{host}:{port};lr>"
    for method in ("INVITE", "BYE", "UPDATE", "REFER", "INFO"):
        request = sip.dialer.invite(
            f"sip:{LISTED}@{host}:{port}", method, To=f"<sip:{LISTED}@x>;tag=made-up", Route=route
        )
        assert (await request.send().final()).status == 481
    sip.dialer.invite(f"sip:{LISTED}@{host}:{port}", "ACK", To=f"<sip:{LISTED}@x>;tag=y", Route=route).send()
    assert (await sip.dialer.call(LISTED)).status == 608
    assert [message for message in sip.trunk.kept if message.method != "OPTIONS"] == []


async def test_active_call_can_be_changed_but_not_redirected(sip: Sip) -> None:
    request = sip.dialer.invite()
    answer = await request.send_and_ack()
    host, port = sip.trunk.address
    again = request.within(
        answer, "INVITE", cseq=2, uri=f"sip:{LISTED}@{host}:{port}",
        P_Asserted_Identity="<sip:+390699999999@x>",
    )  # fmt: skip
    await sip.trunk.until(lambda message: message.method == "ACK")
    assert (await again.send().final()).status == 200
    changed = await sip.trunk.until(lambda message: message.method == "INVITE" and not message.is_new_call)
    assert user_of(changed.uri) == "line-7"
    assert b"699999999" not in changed.raw
    assert [user_of(value) for value in changed.all("From")] == [CALLER]
    forged = request.within(answer, "INVITE", cseq=3, To=f"<sip:{LISTED}@x>;tag=forged")
    assert (await forged.send().final()).status == 481
    for cseq, (name, number) in enumerate((("From", CALLER), ("To", CLEAR)), 10):
        named = again.headers[name].replace(number, "+390699999999")
        other = request.within(answer, "UPDATE", cseq=cseq, **{name: named})
        assert (await other.send().final()).status == 403
    refer = request.within(answer, "REFER", cseq=4, Refer_To=f"<sip:{LISTED}@{host}:{port}>")
    assert (await refer.send().final()).status == 403
    taken = request.within(answer, "INVITE", cseq=5, Replaces="x;to-tag=a;from-tag=b")
    assert (await taken.send().final()).status == 403
    for at, outsider in enumerate(
        (sip.stranger, sip.inbound)
    ):  # knowing the call's ids does not make a source part of it
        sneaked = request.within(answer, "BYE", cseq=20 + at)
        sneaked.dialer = outsider
        sneaked.send()
    bye = request.within(answer, "BYE", cseq=6, uri=f"sip:{LISTED}@{host}:{port}")
    assert (await bye.send().final()).status == 200
    assert (await request.within(answer, "INVITE", cseq=7).send().final()).status == 481
    byes = [
        (message.get("CSeq"), user_of(message.uri)) for message in sip.trunk.kept if message.method == "BYE"
    ]
    assert byes == [("6 BYE", "line-7")]


BODIES = [
    ("application/sdp", "v=0\r\n", 200),
    ("APPLICATION/SDP; charset=utf-8", "v=0\r\n", 200),
    ("application/ISUP;version=itu-t92+", "\x01\x11\x48", 415),
    ("application/resource-lists+xml", f'<entry uri="sip:{LISTED}@x"/>', 415),
    ("multipart/mixed;boundary=b", "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--\r\n", 415),
    ("application/sdp\r\nContent-Type: application/ISUP", "v=0\r\n", 400),
    ("application/sdp\r\nc: application/ISUP", "v=0\r\n", 400),
    ("application/sdp, application/ISUP", "v=0\r\n", 415),
    ("", "v=0\r\n", 415),
]


@pytest.mark.parametrize(("kind", "body", "status"), BODIES)
async def test_body_with_an_unchecked_number_is_refused(sip: Sip, kind: str, body: str, status: int) -> None:
    request = sip.dialer.invite(**({"Content_Type": kind} if kind else {}))
    request.body = body
    answer = await request.send_and_ack()
    assert answer.status == status
    assert len(sip.at_the_trunks) == (status == 200)
    if status == 200:
        more = request.within(answer, "INFO", cseq=2, Content_Type="application/ISUP")
        more.body = "\x02"
        assert (await more.send().final()).status == 415
        assert [message for message in sip.trunk.kept if message.method == "INFO"] == []


async def test_requests_before_the_answer_reach_the_ringing_line(
    sip: Sip,
) -> None:
    sip.trunk.says = ["183 Session Progress"]
    request = sip.dialer.invite().send()
    early = await sip.dialer.until(lambda message: request.is_answered_by(message) and message.status == 183)
    host, port = sip.trunk.address
    for cseq, method in enumerate(("UPDATE", "PRACK", "INFO", "OPTIONS"), 2):
        inner = request.within(early, method, cseq=cseq, uri=f"sip:{LISTED}@{host}:{port}")
        assert (await inner.send().final()).status == 200
    within = [message for message in sip.trunk.kept if message.get("Call-ID") == request.headers["Call-ID"]]
    assert {user_of(message.uri) for message in within if message.method != "INVITE"} == {"line-7"}


async def test_invite_within_an_unanswered_call_is_refused(sip: Sip) -> None:
    sip.trunk.says = ["183 Session Progress"]
    request = sip.dialer.invite().send()
    early = await sip.dialer.until(lambda message: request.is_answered_by(message) and message.status == 183)
    host, port = sip.trunk.address
    for tag in ("trunk", "other"):
        inner = request.within(
            early, "INVITE", cseq=2, uri=f"sip:{LISTED}@{host}:{port}", To=f"<sip:{LISTED}@x>;tag={tag}"
        )
        inner.headers["Via"] += tag
        inner.headers["Route"] = ", ".join(reversed(early.all("Record-Route")))
        assert (await inner.send().final()).status == 481
        inner.headers["CSeq"] = f"{3 + len(tag)} INVITE"
    assert len(sip.trunk.invites) == 1


OTHERS = ("REFER", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REGISTER", "INFO", "UPDATE", "BYE", "FOO")


async def test_only_an_invite_starts_a_call(sip: Sip) -> None:
    for method in OTHERS:
        request = sip.dialer.invite(CLEAR, method, Refer_To=f"<sip:{LISTED}@127.0.0.3>")
        assert (await request.send().final()).status == 405, method
    assert [message for message in sip.trunk.kept if message.method != "OPTIONS"] == []


async def test_unknown_sources_get_no_response_and_the_trunk_cannot_call_out(sip: Sip) -> None:
    quiet = sip.stranger.invite().send()
    assert (await sip.inbound.call()).status == 403
    assert (await sip.dialer.call(LISTED)).status == 608
    assert not [message for message in sip.stranger.kept if quiet.is_answered_by(message)]
    assert sip.at_the_trunks == []


# ---- the trunks ------------------------------------------------------------------------------------------------------


async def test_second_trunk_gets_the_call_if_the_first_fails(sip: Sip) -> None:
    sip.trunk.says = ["503 Service Unavailable"]
    request = sip.dialer.invite(**SPOOFED)
    answer = await request.send_and_ack()
    assert answer.status == 200
    first, second = (trunk.invites[0] for trunk in sip.trunks)
    assert b"699999999" not in first.raw + second.raw
    assert first.get("X-Dialgate-Decision") == second.get("X-Dialgate-Decision")
    assert second.uri.startswith(f"sip:{CLEAR}@{kamailio_world.SECOND}")
    assert (await request.within(answer, "BYE", cseq=2).send().final()).status == 200
    await sip.trunks[1].until(lambda message: message.method == "BYE")


async def test_no_failover_after_a_call_may_have_rung(sip: Sip) -> None:
    sip.trunk.says = ["180 Ringing", "503 Service Unavailable"]
    assert (await sip.dialer.call()).status == 500
    sip.trunk.says = ["486 Busy Here"]
    assert (await sip.dialer.call()).status == 486
    assert sip.trunks[1].invites == []


async def test_redirection_is_not_followed(sip: Sip) -> None:
    sip.trunk.says = ["302 Moved Temporarily"]
    answer = await sip.dialer.call()
    assert (answer.status, answer.get("Contact")) == (480, "")
    assert len(sip.at_the_trunks) == 1


async def test_silent_trunk_fails_over_and_no_trunk_is_500(sip: Sip) -> None:
    sip.trunk.says = []
    assert (await sip.dialer.call()).status == 200
    sip.trunks[1].says = ["503 Service Unavailable"]
    sip.trunk.says = ["500 Server Internal Error"]
    assert (await sip.dialer.call()).status == 500


# ---- log and metrics -------------------------------------------------------------------------------------------------


async def test_kamailio_logs_no_number_and_counts_every_call(sip: Sip) -> None:
    for uri in (CLEAR, LISTED, "+390612345678;x=1", "sip:+390612345678@@@x", "sip:+390612345678@[::"):
        sip.dialer.invite(uri).send()
    sip.dialer.send(
        f"INVITE sip:{CLEAR}@x SIP/2.0\r\nVia: SIP/2.0/UDP x\r\nTo: <sip:{CLEAR}\r\nFrom: +39061\r\n\r\n"
    )
    assert (await sip.dialer.call(LISTED)).status == 608
    written = sip.log.read_text()
    assert "decision" in written
    assert not [line for line in written.splitlines() if "61234567" in line]
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{sip.operations}/metrics") as answer:
        text = await answer.text()
    assert 'dialgate_calls{result="refused"}' in text.replace(" ", "").replace("kamailio_", "")


# ---- torture ---------------------------------------------------------------------------------------------------------


TORTURE = yaml_files.read(ROOT / "tests/cases/tables/sip_torture.yaml")


async def test_torture_messages_neither_crash_kamailio_nor_reach_a_trunk_unchecked(sip: Sip) -> None:
    """The fixture checks each INVITE at the trunks against the log."""
    host, port = sip.dialer.address
    for number in (LISTED, CLEAR):
        for place, (name, text) in enumerate(TORTURE.items()):
            raw = text.replace("{n}", number).replace("{v}", f"{host}:{port}")
            sip.dialer.send(raw.replace("{i}", f"{number[-1]}-{place}").encode())
            options = sip.dialer.invite(method="OPTIONS")
            assert (await options.send().final()).status == 200, name
    # All earlier checks have been answered by now.
    assert (await sip.dialer.call("+390600000000")).status == 608
    assert {user_of(invite.uri) for invite in sip.at_the_trunks} == {CLEAR}


# ---- requests of the called side -------------------------------------------------------------------------------------


def upstream(sip: Sip, invite: Message, cseq: int, method: str) -> Request:
    """Send a request from the called side, as the trunk would."""
    host, port = sip.trunk.address
    contact = re.search("<(.*)>", invite.get("Contact"))
    assert contact
    headers = {
        "Via": f"SIP/2.0/UDP {host}:{port};branch=z9hG4bKup{cseq}",
        "Max-Forwards": "70",
        "From": invite.get("To") + ";tag=trunk",
        "To": invite.get("From"),
        "Call-ID": invite.get("Call-ID"),
        "CSeq": f"{cseq} {method}",
        "Route": invite.get("Record-Route"),
        "Contact": f"<sip:line-7@{host}:{port}>",
    }
    request = Request(sip.inbound, method, contact[1], headers)
    sip.trunk.transport.sendto(request.text().encode(), sip.dialer.proxy)
    return request


async def test_called_side_can_change_and_end_the_call_in_its_dialog(sip: Sip) -> None:
    await sip.dialer.invite().send_and_ack()
    (invite,) = sip.trunk.invites
    await sip.trunk.until(lambda message: message.method == "ACK")
    for cseq, (method, status) in enumerate((("INVITE", 200), ("REFER", 403), ("BYE", 200)), 1):
        request = upstream(sip, invite, cseq, method)
        if status == 200:
            arrived = await sip.dialer.until(partial(is_of, method))
            assert (user_of(arrived.uri), user_of(arrived.get("From"))) == ("agent", CLEAR)
            sip.dialer.send(sip.dialer.reply(arrived, "200 OK"))
        assert (await sip.trunk.until(partial(answers, request))).status == status


def is_of(method: str, message: Message) -> bool:
    return message.method == method


def answers(request: Request, message: Message) -> bool:
    return message.status >= 200 and message.get("CSeq") == request.headers["CSeq"]
