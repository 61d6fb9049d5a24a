"""Kamailio with a gate that is slow, down, restarting, or sends wrong or invalid responses: it always fails closed."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dialgate.audit.reconciliation import cdr
from dialgate.core.decision_ids import DecisionIds
from dialgate.tools.conformance import gates
from dialgate.tools.conformance.gates import Play
from tests.support import kamailio_world
from tests.support.kamailio_world import Message, Request, Sip, user_of
from tests.support.world import CALLER, CLEAR, LISTED

ALLOW = {
    "decision": "allow",
    "decision_id": "1f0c9a3e-0",
    "to": CLEAR,
    "from": CALLER,
    "valid_until": "2099-01-01T00:00:00.000Z",
}
_ids = count(1)


def respond(response: Any, status: str = "200 OK") -> Play:
    """Return a `Play` that sends `response` to every check, with a new id in place of the decision id of `ALLOW`."""
    text = response if isinstance(response, str) else json.dumps(response)

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = text.replace(f'"{ALLOW["decision_id"]}"', f'"1f0c9a3e-{next(_ids)}"').encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    return play


class GateStub:
    """A stub of a gate on `port`. `play` creates the responses; `asked` contains the received checks."""

    def __init__(self) -> None:
        self.play: Play = gates.early
        self.asked: list[dict[str, Any]] = []
        self.port = 0

    def __iter__(self) -> "GateStub":
        return self

    def __next__(self) -> Play:
        play = self.play

        async def recorded_play(
            asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            self.asked.append(json.loads(asked.partition(b"\r\n\r\n")[2]))
            await play(asked, reader, writer)

        return recorded_play


@asynccontextmanager
async def with_stub(folder: Path, **more: str) -> AsyncIterator[tuple[Sip, GateStub]]:
    stub = GateStub()
    async with gates.playing(stub) as port:
        stub.port = port
        async with kamailio_world.standing(
            folder,
            f"http://127.0.0.1:{port}",
            folder / "data",
            **more,
        ) as sip:
            yield sip, stub


CLOSED: dict[str, Play] = {
    "early": gates.early,
    "silent": gates.silent,
    "slow": gates.slow,
    "half": gates.half,
    "nonsense": gates.nonsense,
    "error": gates.error,
    "empty": gates.empty,
    "no object": respond("[]"),
    "no decision": respond({**ALLOW, "decision": ""}),
    "nearly allow": respond({**ALLOW, "decision": "Allow"}),
    "allow as a number": respond({**ALLOW, "decision": 1}),
    "a list of allows": respond({**ALLOW, "decision": ["allow"]}),
    "true": respond({**ALLOW, "decision": True}),
    "an id as a number": respond({**ALLOW, "decision_id": 17}),
    "numbers as numbers": respond({**ALLOW, "to": 390612345678, "from": 390844123456}),
    "an id that is nearly one of a shared gate": respond({**ALLOW, "decision_id": "k" * 31}),
    "no id": respond({**ALLOW, "decision_id": ""}),
    "an id that is a header": respond({**ALLOW, "decision_id": "1\r\nP-Asserted-Identity: <sip:x@y>"}),
    "another number": respond({**ALLOW, "to": LISTED}),
    "a longer number": respond({**ALLOW, "to": CLEAR + "9"}),
    "no number": respond({**ALLOW, "to": ""}),
    "another caller ID": respond({**ALLOW, "from": "+390844123457"}),
    "no caller ID": respond({**ALLOW, "from": ""}),
    "a number that is a header": respond({**ALLOW, "to": f"{CLEAR}\r\nX: y"}),
    "a number that is a URI": respond({**ALLOW, "to": f"{CLEAR}@elsewhere;x="}),
    "an allow with an error": respond(ALLOW, "500 Internal Server Error"),
    "an allow that is created": respond(ALLOW, "201 Created"),
    "a redirection": respond(ALLOW, "302 Found"),
    "unavailable": respond({"decision": "deny", "reasons": []}, "503 Service Unavailable"),
    "a key that is not known": respond({"error": {"code": "auth.unknown"}}, "401 Unauthorized"),
}


async def test_no_call_is_placed_with_any_fault_of_the_gate(tmp_path: Path) -> None:
    """The dialer gets 500 with Retry-After; a 503 would make it try the next server, past the gate."""
    async with with_stub(tmp_path, GATE_PATIENCE="1000") as (sip, stub):
        stub.play = respond(ALLOW)
        assert (await sip.dialer.call()).status == 200  # so every process has seen an allow
        for name, play in CLOSED.items():
            stub.play = play
            answer = await sip.dialer.call()
            assert (name, answer.status, answer.get("Retry-After")) == (name, 500, "5")
        stub.play = respond(ALLOW)
        assert (await sip.dialer.call()).status == 200
        assert len(sip.at_the_trunks) == 2


async def test_no_call_is_placed_if_the_answer_to_auto_names_no_number(tmp_path: Path) -> None:
    async with with_stub(tmp_path) as (sip, stub):
        for shown in ("", "auto", "anonymous", f"{CALLER}@x", 390844123456):
            stub.play = respond({**ALLOW, "from": shown})
            answer = await sip.dialer.call(From="<sip:auto@x.example>;tag=auto")
            assert (shown, answer.status) == (shown, 500)
        assert {check["from"] for check in stub.asked} == {"auto"}
        assert sip.at_the_trunks == []


async def test_decision_allows_only_one_call(tmp_path: Path) -> None:
    """A repeated decision id is refused, whether plain (one controller) or encrypted (several controllers)."""
    async with with_stub(tmp_path) as (sip, stub):
        for decision in ("again-7", DecisionIds(bytes(32)).outside([("1f0c9a3e-7", "acme")])[0]):
            stub.play = respond({**ALLOW, "decision_id": decision})
            assert [(await sip.dialer.call()).status for _ in range(3)] == [200, 482, 482]
        assert len(sip.at_the_trunks) == 2


async def test_invalid_campaign_name_is_sent_to_the_gate_unchanged(tmp_path: Path) -> None:
    async with with_stub(tmp_path) as (sip, stub):
        stub.play = respond(ALLOW)
        for name in ('a","to":"+390699999999', "a\\", "Über", "{}", "acme-fibre"):
            await sip.dialer.call(X_Dialgate_Campaign=name)
            assert stub.asked[-1]["campaign"] == name
            assert stub.asked[-1]["to"] == CLEAR


async def test_restarted_gate_is_used_again(tmp_path: Path) -> None:
    async with with_stub(tmp_path) as (sip, stub):
        port = stub.port
    async with kamailio_world.standing(tmp_path, f"http://127.0.0.1:{port}", tmp_path / "data") as sip:
        assert (await sip.dialer.call()).status == 500
        stub.play = respond(ALLOW)
        async with gates.playing(stub, port):
            assert (await sip.dialer.call()).status == 200
        assert (await sip.dialer.call()).status == 500
        assert len(sip.at_the_trunks) == 1


HOSTILE = {"code": "x\r\nP-Asserted-Identity: <sip:a@b>", "severity": "gate"}


async def test_text_of_a_denial_cannot_inject_a_header(tmp_path: Path) -> None:
    async with with_stub(tmp_path) as (sip, stub):
        stub.play = respond(
            {"decision": "deny", "decision_id": "a-1", "reasons": [HOSTILE], "not_before": "\r\nX: y"}
        )
        answer = await sip.dialer.call()
        assert (answer.status, answer.get("X-Dialgate-Not-Before"), answer.get("X")) == (608, "", "")
        assert answer.get("Reason").startswith('SIP;cause=608;text="dialgate:unknown"')


async def test_response_has_the_time_from_which_the_call_may_be_placed(tmp_path: Path) -> None:
    async with with_stub(tmp_path, JCARD='"https://gate.example/jcard"') as (sip, stub):
        later = {"code": "hours.outside", "severity": "statute"}
        response = {"decision": "deny", "decision_id": "a-1", "not_before": "2026-11-25T08:00:00.000Z"}
        stub.play = respond({**response, "reasons": [later]})
        answer = await sip.dialer.call()
        assert answer.get("X-Dialgate-Not-Before") == "2026-11-25T08:00:00.000Z"
        assert answer.get("Call-Info") == "<https://gate.example/jcard>;purpose=jwscard"


def is_trying(request: Request, message: Message) -> bool:
    return request.is_answered_by(message) and message.status == 100


async def test_call_cancelled_during_the_check_is_never_placed(tmp_path: Path) -> None:
    """The gate either allows the call later or does not respond."""
    answered = asyncio.Event()

    async def late(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await respond(ALLOW)(asked, reader, writer)

    async with with_stub(tmp_path, GATE_PATIENCE="1000", TRUNK_PATIENCE="3000") as (sip, stub):
        for play in (late, gates.silent):
            stub.play = play
            request = sip.dialer.invite().send()
            await sip.dialer.until(partial(is_trying, request))
            cancel = replace(request, method="CANCEL", headers=request.headers | {"CSeq": "1 CANCEL"}).send()
            assert (await cancel.final()).status == 200
            answered.set()
            assert (await request.final()).status in {487, 500}
        stub.play = respond({"decision": "deny", "decision_id": "a-1", "reasons": []})
        assert (await sip.dialer.call()).status == 608
        assert sip.at_the_trunks == []


async def test_retransmitted_call_is_checked_once(tmp_path: Path) -> None:
    async with with_stub(tmp_path, GATE_PATIENCE="1000", TRUNK_PATIENCE="3000") as (sip, stub):
        stub.play = gates.silent
        request = sip.dialer.invite()
        for _ in range(6):
            request.send()
        assert (await request.final()).status == 500
        assert len(stub.asked) == 1
        (asked,) = stub.asked
        assert (asked["to"], asked["from"], asked["campaign"]) == (CLEAR, CALLER, "acme-fibre")
        stub.play = respond(ALLOW)
        await sip.dialer.call(X_Dialgate_Campaign="other", X_Dialgate_Call_Type="ai_voice")
        assert (stub.asked[1]["campaign"], stub.asked[1]["call_type"]) == ("other", "ai_voice")
        assert stub.asked[0]["call_id"] != stub.asked[1]["call_id"]


async def test_call_rate_of_a_dialer_is_limited(tmp_path: Path) -> None:
    async with with_stub(tmp_path, calls="5") as (sip, stub):
        stub.play = respond({"decision": "deny", "decision_id": "a-1", "reasons": []})
        asked = [sip.dialer.invite().send() for _ in range(20)]
        output = [(await message.final()).status for message in asked]
        assert set(output) == {608, 500}
        assert len(stub.asked) == output.count(608) <= 10


async def test_number_in_the_response_is_dialled(tmp_path: Path) -> None:
    async with with_stub(tmp_path) as (sip, stub):
        stub.play = respond(ALLOW)
        assert (await sip.dialer.call("0612345678")).status == 200
        (invite,) = sip.trunk.invites
        assert user_of(invite.uri) == user_of(invite.get("To")) == CLEAR


async def test_a_call_in_shadow_mode_is_placed_only_to_a_number_that_the_gate_read(tmp_path: Path) -> None:
    would = {"would": "deny", "reason_class": "number", "reasons": [{"code": "registry.listed"}]}
    async with with_stub(tmp_path) as (sip, stub):
        stub.play = respond(ALLOW | would)
        assert (await sip.dialer.call("0612345678")).status == 200
        stub.play = respond(ALLOW | would | {"to": "0612345678"})
        assert (await sip.dialer.call("0612345678")).status == 500
        assert len(sip.at_the_trunks) == 1


async def test_reconcile_reads_the_accounting_log(tmp_path: Path) -> None:
    async with with_stub(tmp_path, WITH_ACCOUNTING="") as (sip, stub):
        stub.play = respond(REFUSAL)
        assert (await sip.dialer.call()).status == 608
        stub.play = respond(ALLOW)
        sip.trunk.says = ["486 Busy Here"]
        assert (await sip.dialer.call()).status == 486
        sip.trunk.says = ["200 OK"]
        async with asyncio.timeout(5):
            while b";code=200" not in sip.log.read_bytes():
                await sip.dialer.call()  # Kamailio writes the record after the response
    calls = cdr.read(sip.log, "kamailio", cdr.Columns(), "UTC").calls
    assert {(call.called, call.caller) for call in calls} == {(CLEAR, CALLER)}
    assert all(call.decision.startswith("1f0c9a3e-") for call in calls)
    assert {call.is_answered for call in calls} == {True, False}


REFUSAL = {"decision": "deny", "decision_id": "a-1", "reasons": [{"code": "registry.listed"}]}


@pytest.mark.parametrize(
    ("says", "heard"),
    [
        (["183 Session Progress", "480 Temporarily Unavailable"], [100, 183, 608]),
        (["183 Session Progress", "200 OK"], [100, 183, 200]),
        (["503 Service Unavailable"], [100, 608]),
        ([], [100, 608]),
    ],
)
async def test_announcement_server_gets_the_reason_but_no_number(
    tmp_path: Path, says: list[str], heard: list[int]
) -> None:
    async with with_stub(tmp_path, WITH_ANNOUNCEMENT="") as (sip, stub):
        announcer = sip.trunks[1]
        stub.play, announcer.says = respond(REFUSAL), says
        assert (await sip.dialer.call(Feature_Caps="*;+sip.608")).status == 608
        assert announcer.invites == []
        request = sip.dialer.invite()
        await request.send_and_ack()
        assert [message.status for message in sip.dialer.kept if request.is_answered_by(message)] == heard
        (invite,) = announcer.invites
        assert user_of(invite.uri) == "refused"
        assert (invite.get("X-Dialgate-Reason"), invite.all("P-Asserted-Identity")) == ("registry.listed", [])
        assert "612345678" not in invite.get("From") + invite.get("To") + invite.uri
        assert CALLER not in invite.get("From")
        assert sip.trunk.invites == []


SWITCHES = (
    "WITH_ANNOUNCEMENT",
    "WITH_TLS",
    "WITH_ACCOUNTING",
    "WITH_PASSWORDS",
    "JCARD",
    "WITH_MODULE_MESSAGES",
)


@pytest.mark.parametrize("switches", [(), *((one,) for one in SWITCHES), SWITCHES])
async def test_every_combination_of_switches_is_a_valid_configuration(
    tmp_path: Path, switches: tuple[str, ...]
) -> None:
    shutil.copytree(kamailio_world.SHIPPED, tmp_path, dirs_exist_ok=True)
    local = tmp_path / "local.cfg"
    for switch in switches:
        text = local.read_text()
        assert text.count(f"##!define {switch}") == 1
        local.write_text(text.replace(f"##!define {switch}", f"#!define {switch}"))
    words = ["kamailio", "-c", "-f", str(tmp_path / "kamailio.cfg"), "-Y", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"WARNING" not in output


async def test_call_id_cannot_change_the_accounting_record(tmp_path: Path) -> None:
    async with with_stub(tmp_path, WITH_ACCOUNTING="") as (sip, stub):
        stub.play = respond(ALLOW)
        async with asyncio.timeout(5):
            while b";code=200" not in sip.log.read_bytes():
                await sip.dialer.call(Call_ID=f"c{next(_ids)};src_user=1;dst_user=2;decision=3;code=404")
    calls = cdr.read(sip.log, "kamailio", cdr.Columns(), "UTC").calls
    assert {(call.called, call.caller, call.is_answered) for call in calls} == {(CLEAR, CALLER, True)}
    assert all(call.decision.startswith("1f0c9a3e-") for call in calls)
