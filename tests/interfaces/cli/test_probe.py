"""The probe of caller IDs, with SIPp as the trunk, and with trunks that are slow, silent or require authentication."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dialgate.config import loader
from dialgate.interfaces.cli import main
from dialgate.store import CallerIdProof
from dialgate.store.factory import open_store
from tests.support import yaml_files
from tests.support.world import serving, write_folder

LINE = "+390612340000"
PASSWORD = 's3[cr]e;"t\\x41\u00e9'  # SIPp interprets brackets and `\\x41`; fields of its files end with `;`

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


def challenged(algorithm: str, status: str = "401 Unauthorized", qop: str = "auth") -> list[str]:
    name = "Proxy-Authenticate" if status.startswith("407") else "WWW-Authenticate"
    challenge = (
        f'{name}: Digest realm="trunk", nonce="47364c23432d2e131a5fb210812c", qop="{qop}"{algorithm}\n'
    )
    return [INVITE, send(status, challenge), ACK, *ANSWERED]


def is_authenticated(received: bytes) -> bool:
    """Return whether an INVITE has the digest of RFC 7616 for the password."""
    header = re.search(
        rb"INVITE sip:.*?\r\n(?:Proxy-)?Authorization: Digest (.*?)\r\n.*?\r\n\r\n(.*?a=recvonly\r\n)",
        received,
        re.DOTALL,
    )
    assert header
    fields = dict(re.findall(r'(\w+)="?([^",]+)"?', header[1].decode()))

    def digest(*parts: bytes) -> bytes:
        new = sha256 if fields["algorithm"] == "SHA-256" else md5
        return new(b":".join(parts)).hexdigest().encode()

    secret = digest(b"acme", b"trunk", PASSWORD.encode())
    call = digest(
        b"INVITE", fields["uri"].encode(), *([digest(header[2])] if fields["qop"] == "auth-int" else [])
    )
    public = [fields[name].encode() for name in ("nonce", "nc", "cnonce", "qop")]
    response: bytes = fields["response"].encode()
    return response == digest(secret, *public, call)


OF_THE_INVITE = ("[last_CSeq:]", "CSeq: 1 INVITE")
RINGS_OUT = [INVITE, send("180 Ringing"), '<recv request="CANCEL"/>']
ROUTED = '<recv request="{}"><action><ereg regexp="sip:b;lr.*sip:a;lr" search_in="hdr" header="Route:" check_it="true" assign_to="{}"/></action></recv>'
TRUNKS = {
    "answers": (ANSWERED, "answered"),
    "asks who calls, by MD5": (challenged(""), "answered"),
    "asks who calls, by SHA-256": (challenged(", algorithm=SHA-256"), "answered"),
    "asks who calls, with the body": (challenged("", qop="auth,auth-int"), "answered"),
    "asks who calls, as a proxy": (challenged("", "407 Proxy Authentication Required"), "answered"),
    "asks again who calls": ([*challenged("")[:3], *challenged("")[:3]], "not_probed"),
    "asks who calls and is not told": (challenged("")[:3], "not_probed"),
    "hangs up": ([INVITE, send("180 Ringing"), send("200 OK", sdp=True), ACK, """<send><![CDATA[
BYE sip:probe@127.0.0.1 SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:line@[local_ip]>;tag=[pid]S[call_number]
To: <sip:probe@127.0.0.1>[peer_tag_param]
[last_Call-ID:]
CSeq: 7 BYE
Content-Length: 0

]]></send>""", '<recv response="200"/>'], "answered"),
    "has proxies": ([INVITE, send("180 Ringing"), send("200 OK", "Record-Route: <sip:a;lr>\nRecord-Route: <sip:b;lr>\n", sdp=True), ROUTED.format("ACK", "x"),
                     ROUTED.format("BYE", "y"), send("200 OK"), '<Reference variables="x,y"/>'], "answered"),
    "answers a line that is being given up": (
        [*RINGS_OUT, send("200 OK"), send("200 OK", sdp=True).replace(*OF_THE_INVITE), ACK, '<recv request="BYE"/>', send("200 OK")], "answered"),
    "rings out": ([*RINGS_OUT, send("200 OK"), send("487 Request Terminated").replace(*OF_THE_INVITE), ACK], "not_answered"),
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
        "-trace_msg", "-message_file", "trunk.messages", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def probed(config: Path, port: int, *words: str, **variables: str) -> tuple[int, Any]:
    given = ["caller-id", "probe", *words, "--trunk", f"127.0.0.1:{port}", "--config", str(config), "--json"]
    run = CliRunner(env={"DIALGATE_PROBE_PASSWORD": PASSWORD, **variables}).invoke
    async with serving(config):
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


@pytest.mark.parametrize("kind", TRUNKS)
async def test_only_the_response_of_the_trunk_proves_a_line(
    tmp_path: Path, unused_udp_port: int, kind: str
) -> None:
    scenario, outcome = TRUNKS[kind]
    config = configured(tmp_path)
    async with trunk(tmp_path, scenario, unused_udp_port) as sipp:
        code, (response,) = await probed(
            config,
            unused_udp_port,
            LINE,
            "--ring",
            "1",
            *(["--user", "acme"] if "asks" in kind and "not told" not in kind else []),
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
    assert PASSWORD.encode() not in trace.read_bytes()
    assert trace.stat().st_mode & 0o077 == 0
    if "asks" in kind:
        assert is_authenticated((tmp_path / "trunk.messages").read_bytes())
    if outcome == "answered":
        assert 0 <= response["rang_ms"] <= response["answered_ms"]


async def test_all_skips_numbers_that_need_no_proof(tmp_path: Path, unused_udp_port: int) -> None:
    """Short codes and numbers with the prefix 0844 need no proof."""
    config = configured(tmp_path)
    async with trunk(tmp_path, ANSWERED, unused_udp_port):
        code, response = await probed(config, unused_udp_port, "--all", "--ring", "5")
    assert (code, [entry["caller_id"] for entry in response]) == (0, [LINE])


async def test_only_caller_ids_of_campaigns_are_called(tmp_path: Path, unused_udp_port: int) -> None:
    code, response = await probed(configured(tmp_path), unused_udp_port, "+390612349999")
    assert (code, response["error"]["code"]) == (2, "caller_id.invalid")


async def test_without_sipp_the_command_names_the_package(tmp_path: Path, unused_udp_port: int) -> None:
    code, response = await probed(configured(tmp_path), unused_udp_port, LINE, PATH=str(tmp_path))
    assert (code, response["error"]["code"]) == (1, "probe.failed")
    assert response["error"]["message"] == "SIPp is not installed. Run: apt-get install sip-tester"


async def test_a_local_address_of_another_machine_is_reported(tmp_path: Path, unused_udp_port: int) -> None:
    code, response = await probed(configured(tmp_path), unused_udp_port, LINE, "--local", "192.0.2.1")
    assert (code, response["error"]["code"]) == (1, "trunk.unreachable")


async def test_an_unreachable_trunk_is_reported_as_the_reason(tmp_path: Path, unused_udp_port: int) -> None:
    code, (response,) = await probed(configured(tmp_path), unused_udp_port, LINE, "--ring", "1", "--t1", "10")
    assert (code, response["outcome"], response["status"]) == (1, "not_probed", 0)
    assert "the trunk did not respond" in response["why"]
