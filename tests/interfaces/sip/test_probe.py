"""The probe of caller IDs, with SIPp as the trunk, and with trunks that are slow, silent or require authentication."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.config import loader
from dialgate.interfaces.cli import main
from dialgate.interfaces.sip.digest import Credentials, NoDigest, authorization
from dialgate.interfaces.sip.outgoing_call import CallAddress, OutgoingCall, Patience
from dialgate.interfaces.sip.transactions import Timers
from dialgate.store import CallerIdProof
from dialgate.store.factory import open_store
from tests.support import yaml_files
from tests.support.world import write_folder

LINE = "+390612340000"
needs_sipp = pytest.mark.skipif(which("sipp") is None, reason="needs SIPp (`make system`)")

_HEAD = (
    "[last_Via:]\r\n[last_From:]\r\n[last_To:];tag=[pid]S[call_number]\r\n[last_Call-ID:]\r\n[last_CSeq:]\r\n"
)
_SDP = "v=0\no=- 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\nm=audio [media_port] RTP/AVP 8\n"


def send(status: str, more: str = "", *, sdp: bool = False) -> str:
    body = (
        f"Content-Type: application/sdp\nContent-Length: [len]\n\n{_SDP}" if sdp else "Content-Length: 0\n\n"
    )
    return f"<send><![CDATA[\nSIP/2.0 {status}\n{_HEAD}Contact: <sip:line@[local_ip]:[local_port]>\n{more}{body}]]></send>"


INVITE = '<recv request="INVITE"/>'
ACK = '<recv request="ACK"/>'
ANSWERED = [INVITE, send("180 Ringing"), '<pause milliseconds="50"/>', send("200 OK", sdp=True), ACK,
            '<recv request="BYE"/>', send("200 OK")]  # fmt: skip
CHALLENGE = (
    'WWW-Authenticate: Digest realm="trunk", nonce="47364c23432d2e131a5fb210812c", qop="auth,auth-int"{}\n'
)


def challenged(algorithm: str) -> list[str]:
    asks = send("401 Unauthorized", CHALLENGE.format(algorithm))
    proved = (
        '<recv request="INVITE"><action><verifyauth assign_to="ok" username="acme" password="s3cret"/>'
        '<test assign_to="wrong" variable="ok" compare="equal" value=""/></action></recv>'
        '<Reference variables="ok,wrong"/>'
    )
    return [INVITE, asks, ACK, proved, *ANSWERED[1:]]


TRUNKS = {
    "answers": (ANSWERED, "answered"),
    "asks who calls, by MD5": (challenged(""), "answered"),
    "asks who calls, by SHA-256": (challenged(", algorithm=SHA-256"), "answered"),
    "rings out": ([INVITE, send("180 Ringing"), '<recv request="CANCEL"/>', send("200 OK"),
                   send("487 Request Terminated").replace("[last_CSeq:]", "CSeq: 1 INVITE"), ACK], "not_answered"),
    "is busy": ([INVITE, send("486 Busy Here"), ACK], "not_answered"),
    "knows no such number": ([INVITE, send("404 Not Found"), ACK], "not_answered"),
    "will not have us": ([INVITE, send("403 Forbidden"), ACK], "not_probed"),
    "is out of order": ([INVITE, send("503 Service Unavailable"), ACK], "not_probed"),
}  # fmt: skip


@asynccontextmanager
async def trunk(folder: Path, scenario: list[str], port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run SIPp for one call."""
    path = folder / "trunk.xml"
    path.write_text(f'<?xml version="1.0"?><scenario name="trunk">{"".join(scenario)}</scenario>')
    process = await asyncio.create_subprocess_exec(
        "sipp", "-sf", str(path), "-i", "127.0.0.1", "-p", str(port), "-m", "1", "-timeout", "20s", "-nostdin",
        "-auth_uri", f"sip:{LINE}@127.0.0.1", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def probed(config: Path, port: int, *words: str) -> tuple[int, Any]:
    given = ["caller-id", "probe", *words, "--trunk", f"127.0.0.1:{port}", "--config", str(config), "--json"]
    run = CliRunner(env={"DIALGATE_PROBE_PASSWORD": "s3cret"}).invoke
    done = await asyncio.to_thread(run, main.app, [*given, "--tries", "1", "--listen", "0.1"])
    return done.exit_code, json.loads(done.stdout)


def configured(folder: Path) -> Path:
    """Write a configuration with a caller ID that needs a proof."""
    config = write_folder(folder)
    path = folder / "controllers" / "acme.yaml"
    written = yaml_files.read(path)
    written["campaigns"][0]["caller_ids"] += [LINE, "156"]
    yaml_files.write(path, written)
    loader.load(config).data.mkdir()
    return config


async def proofs(config: Path) -> list[CallerIdProof]:
    store = await open_store(loader.load(config))
    try:
        return list(await store.proofs())
    finally:
        await store.close()


@needs_sipp
@pytest.mark.parametrize("kind", TRUNKS)
async def test_only_the_response_of_the_trunk_proves_a_line(
    tmp_path: Path, unused_udp_port: int, kind: str
) -> None:
    scenario, outcome = TRUNKS[kind]
    config = configured(tmp_path)
    async with trunk(tmp_path, scenario, unused_udp_port) as sipp:
        code, (response,) = await probed(
            config, unused_udp_port, LINE, "--ring", "1", *(["--user", "acme"] if "asks" in kind else [])
        )
        assert (await asyncio.wait_for(sipp.wait(), 20)) == 0, (await sipp.communicate())[1].decode()
    assert (response["outcome"], code) == (outcome, 0 if outcome == "answered" else 1)
    assert bool(response["why"]) == (outcome == "not_probed")
    held = await proofs(config)
    if outcome == "not_probed":
        assert held == []
        return
    (proof,) = held
    assert (proof.caller_id, proof.kind, proof.answered) == (LINE, "probe", outcome == "answered")
    (trace,) = (tmp_path / "data" / "probes").iterdir()
    assert f"trace=sha256:{sha256(trace.read_bytes()).hexdigest()} file={trace.name}" in proof.evidence
    assert b"s3cret" not in trace.read_bytes()
    assert trace.stat().st_mode & 0o077 == 0
    if outcome == "answered":
        assert 0 <= response["rang_ms"] <= response["answered_ms"]


@needs_sipp
async def test_all_skips_numbers_that_need_no_proof(tmp_path: Path, unused_udp_port: int) -> None:
    """Short codes and numbers with the prefix 0844 need no proof."""
    config = configured(tmp_path)
    async with trunk(tmp_path, ANSWERED, unused_udp_port):
        code, response = await probed(config, unused_udp_port, "--all", "--ring", "5")
    assert (code, [entry["caller_id"] for entry in response]) == (0, [LINE])


async def test_only_caller_ids_of_campaigns_are_called(tmp_path: Path, unused_udp_port: int) -> None:
    code, response = await probed(configured(tmp_path), unused_udp_port, "+390612349999")
    assert (code, response["error"]["code"]) == (2, "caller_id.invalid")


async def test_an_unreachable_trunk_is_reported_as_the_reason(tmp_path: Path, unused_udp_port: int) -> None:
    code, (response,) = await probed(configured(tmp_path), unused_udp_port, LINE, "--ring", "1", "--t1", "10")
    assert (code, response["outcome"], response["status"]) == (1, "not_probed", 0)
    assert "the trunk did not respond" in response["why"]


# ---- without a trunk -------------------------------------------------------------------------------------------------

ADDRESS = CallAddress(
    uri=f"sip:{LINE}@t", caller=f"sip:{LINE}@t", host="192.0.2.1", port=5060, name="n" * 24, media_port=4000
)
QUICK = Timers(t1=10, t2=40, t4=50)


def call(credentials: Credentials | None = None) -> OutgoingCall:
    return OutgoingCall(ADDRESS, QUICK, Patience(ring=1_000, listen=100), credentials, 0)


def reply(sent: bytes, status: str, more: str = "") -> bytes:
    kept = [
        line
        for line in sent.decode().split("\r\n")
        if line.startswith(("Via", "From", "To", "Call-ID", "CSeq"))
    ]
    return ("\r\n".join([f"SIP/2.0 {status}", *kept]).replace("To: ", "To: ") + f"\r\n{more}\r\n").encode()


def test_an_unanswered_invite_is_retransmitted_and_given_up() -> None:
    made = call()
    (sent,) = made.begin(0)
    again: list[int] = []
    while made.state != "done":
        again += [made.wake] * len(made.due(made.wake))
    assert again == [10, 30, 70, 150, 310, 630]
    assert (made.status, made.answered_at) == (0, -1)
    assert sent.startswith(f"INVITE sip:{LINE}@t SIP/2.0\r\n".encode())


def test_a_repeated_answer_is_acknowledged_again_and_bye_follows_the_route() -> None:
    made = call()
    (sent,) = made.begin(0)
    ok = reply(
        sent,
        "200 OK",
        "Contact: <sip:line@198.51.100.7>\r\nRecord-Route: <sip:a;lr>\r\nRecord-Route: <sip:b;lr>\r\n",
    )
    (ack,) = made.receive(ok, 5)
    assert ack.startswith(b"ACK sip:line@198.51.100.7 SIP/2.0\r\n")
    assert ack.index(b"Route: <sip:b;lr>") < ack.index(b"Route: <sip:a;lr>")
    assert made.receive(ok, 6) == [ack]
    (bye,) = made.due(105)
    assert bye.startswith(b"BYE sip:line@198.51.100.7 SIP/2.0\r\n")
    assert made.receive(ok, 106) == [ack]
    assert made.due(made.wake) == [bye]
    made.receive(reply(bye, "200 OK"), 200)
    assert (made.state, made.answered_at) == ("done", 5)


def test_a_call_answered_during_its_cancellation_counts_as_answered() -> None:
    made = call()
    (sent,) = made.begin(0)
    made.receive(reply(sent, "180 Ringing"), 5)
    (cancel,) = made.due(1_000)
    assert cancel.startswith(b"CANCEL ")
    ack, bye = made.receive(reply(sent, "200 OK", "Contact: <sip:x>\r\n"), 1_001)
    assert (ack[:3], bye[:3], made.status, made.answered_at) == (b"ACK", b"BYE", 200, 1_001)


@pytest.mark.parametrize(
    "challenge",
    ["401 Unauthorized\r\nWWW-Authenticate", "407 Proxy Authentication Required\r\nProxy-Authenticate"],
)
def test_a_challenge_during_the_cancellation_ends_the_call(challenge: str) -> None:
    """Otherwise the call that was cancelled would ring again."""
    made = call(MUFASA)
    (sent,) = made.begin(0)
    made.receive(reply(sent, "180 Ringing"), 5)
    made.due(1_000)
    refusal = reply(sent, f"{challenge}: {RFC7616.format('MD5')}")
    (ack,) = made.receive(refusal, 1_001)
    assert (ack[:3], made.state, made.answered_at) == (b"ACK", "done", -1)
    assert made.receive(refusal, 1_002) == [ack]


def test_the_other_side_may_hang_up() -> None:
    made = call()
    (sent,) = made.begin(0)
    made.receive(reply(sent, "200 OK", "Contact: <sip:x>\r\n"), 5)
    bye = (
        reply(sent, "")
        .replace(b"SIP/2.0 \r\n", b"BYE sip:probe@192.0.2.1 SIP/2.0\r\n")
        .replace(b"1 INVITE", b"7 BYE")
    )
    (response,) = made.receive(bye, 20)
    assert (response[:11], made.state) == (b"SIP/2.0 200", "done")


NOISE = [
    b"",
    b"\0",
    b"SIP/2.0 200 OK\r\n\r\n",
    b"SIP/2.0 200\r\nCSeq: 1\r\n\r\n",
    b"NOTIFY sip:x SIP/2.0\r\n\r\n",
]


@pytest.mark.parametrize("noise", NOISE)
def test_noise_changes_nothing(noise: bytes) -> None:
    made = call()
    made.begin(0)
    assert (made.receive(noise, 1), made.state) == ([], "calling")


# The examples of RFC 7616 section 3.9.1 and RFC 2617 section 3.5.
MUFASA = Credentials("Mufasa", "Circle of Life")
RFC7616 = 'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'  # fmt: skip
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
RESPONSES = [
    ([RFC7616.format("MD5")], "8ca523f5e9506fed4657c9700eebdbec"),
    ([RFC7616.format("SHA-256")], "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    (
        [RFC7616.format("MD5"), RFC7616.format("SHA-256")],
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    ),
]


@pytest.mark.parametrize(("challenges", "answer"), RESPONSES)
def test_a_challenge_is_answered_as_the_standard_computes_it(challenges: list[str], answer: str) -> None:
    made = authorization(challenges, MUFASA, "GET", "/dir/index.html", CNONCE)
    assert f'response="{answer}"' in made
    assert "Circle of Life" not in made + repr(MUFASA)


@pytest.mark.parametrize("challenge", ["Basic realm=x", 'Digest realm="x', 'Digest realm="x", nonce="y", algorithm=MD4', 'Digest realm="x", nonce="y", qop="auth-int"'])  # fmt: skip
def test_a_challenge_that_cannot_be_met_is_not_answered(challenge: str) -> None:
    with pytest.raises(NoDigest):
        authorization([challenge], MUFASA, "INVITE", "sip:x", CNONCE)
