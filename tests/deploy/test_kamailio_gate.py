"""Kamailio in front of the trunk, and a gate that is slow, dead, lying, restarting, or talks nonsense: closed each time."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dialgate.audit.reconciliation import cdr
from dialgate.tools.conformance import gates
from dialgate.tools.conformance.gates import Play
from tests.bench import kamailio
from tests.bench import sip as sip_bench
from tests.support import kamailio_world
from tests.support.kamailio_world import Sip, user_of
from tests.support.world import CALLER, CLEAR, LISTED

ALLOW = {
    "decision": "allow",
    "decision_id": "1f0c9a3e-0",
    "to": CLEAR,
    "from": CALLER,
    "valid_until": "2099-01-01T00:00:00.000Z",
}
_ids = count(1)


def saying(told: Any, status: str = "200 OK") -> Play:
    """A gate's answer, whatever was asked; an allow has a new id each time."""
    text = told if isinstance(told, str) else json.dumps(told)

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = text.replace(f'"{ALLOW["decision_id"]}"', f'"1f0c9a3e-{next(_ids)}"').encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    return play


class Stage:
    """What the gate on `port` plays next, to each caller until it is changed; `asked`: what it was asked."""

    def __init__(self) -> None:
        self.play: Play = gates.early
        self.asked: list[dict[str, Any]] = []
        self.port = 0

    def __iter__(self) -> "Stage":
        return self

    def __next__(self) -> Play:
        play = self.play

        async def noted(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.append(json.loads(asked.partition(b"\r\n\r\n")[2]))
            await play(asked, reader, writer)

        return noted


@asynccontextmanager
async def staged(folder: Path, **more: str) -> AsyncIterator[tuple[Sip, Stage]]:
    stage = Stage()
    async with gates.playing(stage) as port:
        stage.port = port
        async with kamailio_world.standing(
            folder, f"http://127.0.0.1:{port}", folder / "data", **more
        ) as sip:
            yield sip, stage


CLOSED: dict[str, Play] = {
    "early": gates.early,
    "silent": gates.silent,
    "slow": gates.slow,
    "half": gates.half,
    "nonsense": gates.nonsense,
    "error": gates.error,
    "empty": gates.empty,
    "no object": saying("[]"),
    "no decision": saying({**ALLOW, "decision": ""}),
    "nearly allow": saying({**ALLOW, "decision": "Allow"}),
    "allow as a number": saying({**ALLOW, "decision": 1}),
    "a list of allows": saying({**ALLOW, "decision": ["allow"]}),
    "true": saying({**ALLOW, "decision": True}),
    "an id as a number": saying({**ALLOW, "decision_id": 17}),
    "numbers as numbers": saying({**ALLOW, "to": 390612345678, "from": 390844123456}),
    "no id": saying({**ALLOW, "decision_id": ""}),
    "an id that is a header": saying({**ALLOW, "decision_id": "1\r\nP-Asserted-Identity: <sip:x@y>"}),
    "another number": saying({**ALLOW, "to": LISTED}),
    "a longer number": saying({**ALLOW, "to": CLEAR + "9"}),
    "no number": saying({**ALLOW, "to": ""}),
    "another caller ID": saying({**ALLOW, "from": "+390844123457"}),
    "no caller ID": saying({**ALLOW, "from": ""}),
    "a number that is a header": saying({**ALLOW, "to": f"{CLEAR}\r\nX: y"}),
    "a number that is a URI": saying({**ALLOW, "to": f"{CLEAR}@elsewhere;x="}),
    "an allow with an error": saying(ALLOW, "500 Internal Server Error"),
    "an allow that is created": saying(ALLOW, "201 Created"),
    "a redirection": saying(ALLOW, "302 Found"),
    "unavailable": saying({"decision": "deny", "reasons": []}, "503 Service Unavailable"),
    "a key that is not known": saying({"error": {"code": "auth.unknown"}}, "401 Unauthorized"),
}


async def test_whatever_is_wrong_with_the_gate_no_call_goes_out(tmp_path: Path) -> None:
    """And the dialer is told to ask again, but never by a 503, which would send it past the gate."""
    async with staged(tmp_path) as (sip, stage):
        stage.play = saying(ALLOW)
        assert (await sip.dialer.call()).status == 200  # so that every process has an allow to remember
        for name, play in CLOSED.items():
            stage.play = play
            answer = await sip.dialer.call()
            assert (name, answer.status, answer.get("Retry-After")) == (name, 500, "5")
        stage.play = saying(ALLOW)
        assert (await sip.dialer.call()).status == 200
        assert len(sip.at_the_trunks) == 2


async def test_a_decision_that_a_call_left_with_opens_no_second(tmp_path: Path) -> None:
    """Whatever makes the gate repeat it: a question asked again, long after, or a lie."""
    async with staged(tmp_path) as (sip, stage):
        stage.play = saying({**ALLOW, "decision_id": "again-7"})
        assert [(await sip.dialer.call()).status for _ in range(3)] == [200, 482, 482]
        assert len(sip.at_the_trunks) == 1


async def test_a_campaign_that_is_no_name_is_told_to_the_gate_as_it_is(tmp_path: Path) -> None:
    async with staged(tmp_path) as (sip, stage):
        stage.play = saying(ALLOW)
        for named in ('a","to":"+390699999999', "a\\", "Über", "{}", "acme-fibre"):
            await sip.dialer.call(X_Dialgate_Campaign=named)
            assert stage.asked[-1]["campaign"] == named
            assert stage.asked[-1]["to"] == CLEAR


async def test_a_gate_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    async with staged(tmp_path) as (sip, stage):
        port = stage.port
    async with kamailio_world.standing(tmp_path, f"http://127.0.0.1:{port}", tmp_path / "data") as sip:
        assert (await sip.dialer.call()).status == 500
        stage.play = saying(ALLOW)
        async with gates.playing(stage, port):
            assert (await sip.dialer.call()).status == 200
        assert (await sip.dialer.call()).status == 500
        assert len(sip.at_the_trunks) == 1


HOSTILE = {"code": "x\r\nP-Asserted-Identity: <sip:a@b>", "severity": "gate"}


async def test_what_a_denial_says_cannot_become_a_header(tmp_path: Path) -> None:
    async with staged(tmp_path) as (sip, stage):
        stage.play = saying(
            {"decision": "deny", "decision_id": "a-1", "reasons": [HOSTILE], "not_before": "\r\nX: y"}
        )
        answer = await sip.dialer.call()
        assert (answer.status, answer.get("X-Dialgate-Not-Before"), answer.get("X")) == (608, "", "")
        assert answer.get("Reason").startswith('SIP;cause=608;text="dialgate:unknown"')


async def test_the_answer_says_when_the_call_may_be_made(tmp_path: Path) -> None:
    async with staged(tmp_path, JCARD='"https://gate.example/jcard"') as (sip, stage):
        later = {"code": "hours.outside", "severity": "statute"}
        told = {"decision": "deny", "decision_id": "a-1", "not_before": "2026-11-25T08:00:00.000Z"}
        stage.play = saying({**told, "reasons": [later]})
        answer = await sip.dialer.call()
        assert answer.get("X-Dialgate-Not-Before") == "2026-11-25T08:00:00.000Z"
        assert answer.get("Call-Info") == "<https://gate.example/jcard>;purpose=jwscard"


async def test_a_call_that_is_given_up_during_the_check_never_leaves(tmp_path: Path) -> None:
    """Whether the gate then allows, or does not answer."""
    answered = asyncio.Event()

    async def late(asked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await saying(ALLOW)(asked, reader, writer)

    async with staged(tmp_path, GATE_PATIENCE="1000", TRUNK_PATIENCE="3000") as (sip, stage):
        for play in (late, gates.silent):
            stage.play = play
            request = sip.dialer.invite().send()
            await sip.dialer.until(lambda each, asked=request: asked.heard(each) and each.status == 100)  # type: ignore[misc] # mypy: default of a lambda
            cancel = replace(request, method="CANCEL", headers=request.headers | {"CSeq": "1 CANCEL"}).send()
            assert (await cancel.final()).status == 200
            answered.set()
            assert (await request.final()).status in {487, 500}
        stage.play = saying({"decision": "deny", "decision_id": "a-1", "reasons": []})
        assert (await sip.dialer.call()).status == 608
        assert sip.at_the_trunks == []


async def test_each_call_is_asked_about_once_however_often_it_is_sent(tmp_path: Path) -> None:
    async with staged(tmp_path, GATE_PATIENCE="1000", TRUNK_PATIENCE="3000") as (sip, stage):
        stage.play = gates.silent
        request = sip.dialer.invite()
        for _ in range(6):
            request.send()
        assert (await request.final()).status == 500
        assert len(stage.asked) == 1
        (asked,) = stage.asked
        assert (asked["to"], asked["from"], asked["campaign"]) == (CLEAR, CALLER, "acme-fibre")
        stage.play = saying(ALLOW)
        await sip.dialer.call(X_Dialgate_Campaign="other", X_Dialgate_Call_Type="ai_voice")
        assert (stage.asked[1]["campaign"], stage.asked[1]["call_type"]) == ("other", "ai_voice")
        assert stage.asked[0]["call_id"] != stage.asked[1]["call_id"]


@pytest.mark.parametrize(("refusal", "status"), [("608", 608), ("603", 603), ("403", 403), ("503", 608)])
async def test_each_dialer_is_refused_in_the_words_it_understands(
    tmp_path: Path, refusal: str, status: int
) -> None:
    async with staged(tmp_path, refusal=f'"{refusal}"') as (sip, stage):
        stage.play = saying(
            {"decision": "deny", "decision_id": "a-1", "reasons": [{"code": "hours.outside"}]}
        )
        assert (await sip.dialer.call()).status == status


async def test_a_dialer_that_calls_too_fast_is_told_to_wait(tmp_path: Path) -> None:
    async with staged(tmp_path, calls="5") as (sip, stage):
        stage.play = saying({"decision": "deny", "decision_id": "a-1", "reasons": []})
        asked = [sip.dialer.invite().send() for _ in range(20)]
        said = [(await each.final()).status for each in asked]
        assert set(said) == {608, 500}
        assert len(stage.asked) == said.count(608) <= 10


async def test_what_is_dialled_is_what_the_gate_answered(tmp_path: Path) -> None:
    async with staged(tmp_path) as (sip, stage):
        stage.play = saying(ALLOW)
        assert (await sip.dialer.call("0612345678")).status == 200
        (invite,) = sip.trunk.invites
        assert user_of(invite.uri) == user_of(invite.get("To")) == CLEAR


async def test_what_it_accounts_for_is_what_reconcile_reads(tmp_path: Path) -> None:
    async with staged(tmp_path, WITH_ACCOUNTING="") as (sip, stage):
        stage.play = saying(REFUSAL)
        assert (await sip.dialer.call()).status == 608
        stage.play = saying(ALLOW)
        sip.trunk.says = ["486 Busy Here"]
        assert (await sip.dialer.call()).status == 486
        sip.trunk.says = ["200 OK"]
        async with asyncio.timeout(5):
            while b";code=200" not in sip.log.read_bytes():
                await sip.dialer.call()  # it writes once it has answered
    calls = cdr.read(sip.log, "kamailio", cdr.Columns(), "UTC")
    assert (calls.numbers, calls.callers) == ([CLEAR], [CALLER])
    assert all(each.startswith("1f0c9a3e-") for each in calls.decision or [""])
    assert set(calls.answered.tolist()) == {True, False}


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
async def test_who_does_not_know_608_hears_why_from_a_server_that_is_told_no_number(
    tmp_path: Path, says: list[str], heard: list[int]
) -> None:
    async with staged(tmp_path, WITH_ANNOUNCEMENT="") as (sip, stage):
        announcer = sip.trunks[1]
        stage.play, announcer.says = saying(REFUSAL), says
        assert (await sip.dialer.call(Feature_Caps="*;+sip.608")).status == 608
        assert announcer.invites == []
        request = sip.dialer.invite()
        await request.answered()
        assert [each.status for each in sip.dialer.kept if request.heard(each)] == heard
        (invite,) = announcer.invites
        assert user_of(invite.uri) == "refused"
        assert (invite.get("X-Dialgate-Reason"), invite.all("P-Asserted-Identity")) == ("registry.listed", [])
        assert "612345678" not in invite.get("From") + invite.get("To") + invite.uri
        assert CALLER not in invite.get("From")
        assert sip.trunk.invites == []


SWITCHES = (
    "WITH_PERMITS", "PERMIT_ONLY", "WITH_ANNOUNCEMENT", "WITH_TLS", "WITH_ACCOUNTING", "JCARD", "WITH_MODULE_MESSAGES",
)  # fmt: skip


@pytest.mark.parametrize("switches", [(), *((one,) for one in SWITCHES), SWITCHES])
async def test_every_choice_in_the_shipped_files_is_a_configuration(
    tmp_path: Path, switches: tuple[str, ...]
) -> None:
    for name in kamailio.FILES:
        shutil.copy(kamailio_world.SHIPPED / name, tmp_path)
    local = tmp_path / "local.cfg"
    for switch in switches:
        text = local.read_text()
        assert text.count(f"##!define {switch}") == 1
        local.write_text(text.replace(f"##!define {switch}", f"#!define {switch}"))
    words = ["kamailio", "-c", "-f", str(tmp_path / "kamailio.cfg"), "-Y", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"WARNING" not in said


async def test_whole_calls_from_sipp_to_sipp_are_none_lost() -> None:
    """The bench, in small: SIPp is the dialer and the trunk, the gate a process of its own."""
    figures = await asyncio.to_thread(lambda: list(sip_bench.run(calls=150, rounds=1)))
    told = {figure.name: figure for figure in figures}
    assert (told["sip.lost"].value, told["sip.lost"].baseline) == (0, 0)
    assert told["sip.allowed"].value > 0.98
    assert told["sip.calls"].value > 0
