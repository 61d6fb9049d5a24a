"""Conformance of dialers: a dialer places a call only if the gate permits the call.

Every shipped configuration passes the conformance kit, and the kit detects common mistakes.
"""

import asyncio
import gc
import json
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from dialgate.config.webhook_dialects import Profile, read
from dialgate.interfaces.cli import main
from dialgate.tools.conformance import dialplan, kit
from dialgate.tools.conformance.asterisk import Channel, agi
from dialgate.tools.conformance.dialers import (
    EMULATED,
    ConfiguredDialer,
    Dialer,
    PythonClient,
    lead_status,
    read_shipped,
)
from dialgate.tools.conformance.gates import TestCall as PlacedCall
from dialgate.tools.conformance.gates import frozen, mismatch, playing, silent
from dialgate.tools.conformance.kit import CASES, MOVED, cases_for
from dialgate.tools.conformance.model import CALLER, TO, Unknown
from dialgate.tools.conformance.real_dialers import RealDialer
from tests.support import yaml_files
from tests.support.conformance import failed_cases, finding
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"


async def test_shipped_configurations_and_client_pass_every_case() -> None:
    dialers: list[Dialer] = [*(read_shipped(name, DEPLOY) for name in EMULATED), PythonClient()]
    found = await asyncio.gather(*(failed_cases(dialer) for dialer in dialers))
    assert list(zip([*EMULATED, "python"], found, strict=True)) == [
        (name, set()) for name in (*EMULATED, "python")
    ]


def test_closing_gate_leaves_no_open_connection() -> None:
    """A closing gate also closes a connection that it has not yet served. `gc.collect` reveals a leaked socket."""

    async def close_during_connection(turns: int) -> None:
        async with playing(iter([silent])) as port:
            caller = socket.create_connection(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)
        with caller:
            caller.settimeout(20)
            with suppress(ConnectionResetError):
                assert caller.recv(1) == b""

    for turns in range(8):
        asyncio.run(close_during_connection(turns))
    gc.collect()  # visits all objects of the test process, which takes half a second


SHIPPED = (DEPLOY / "asterisk/dialgate-agi.conf").read_text()
CURL = (DEPLOY / "asterisk/dialgate-curl.conf").read_text()
XML = (DEPLOY / "freeswitch/dialgate.xml").read_text()
HTTAPI = (DEPLOY / "freeswitch/dialgate-httapi.xml").read_text()
ENTRY = (DEPLOY / "vicidial/carrier-entry.conf").read_text()
SIP = (DEPLOY / "opensips/dialgate.cfg").read_text()
TEST = '${REGEX("^SUCCESS allow [+0-9]+$" ${AGISTATUS} ${DG_DECISION} ${DG_FROM})}'
LIMIT = "Set(TIMEOUT(absolute)=1.5)"
SHOWN = "Set(CALLERID(pres)=allowed)"
HEADER = "Set(CURLOPT(header)=yes)"
WHOLE = re.search(r"\^HTTP.*allow\$", CURL)[0]  # type: ignore[index]
PLACED = {"allow", "stale"}
HELD = {"silent", "slow", "frozen"}
DEAD = {"down", "early", "half", "nonsense", "error", "empty", "quote", "long"}
URL = ('"http://127.0.0.1:8080/v1/check.txt?to=" + $(rU{rest.escape}) + "&from=" + $(fU{rest.escape})\n'
       '        + "&campaign=acme-fibre&call_id=" + $(ci{rest.escape});')  # fmt: skip
LITERAL = (
    '"http://127.0.0.1:8080/v1/check.txt?to=$(rU{rest.escape})&from=$(fU{rest.escape})&campaign=acme-fibre";'
)
IS_ALLOW = '$(avp(dg_answer){s.encode.hexa}) == "616c6c6f77"'
# Common mistakes and lines of earlier versions, and the cases that find them.
OPEN = [
    ("asterisk", SHIPPED, LIMIT, "NoOp()", HELD),
    ("asterisk", SHIPPED, SHOWN, "NoOp()", {"allow", "stale"}),
    ("asterisk", SHIPPED, ",60,i)", ",60)", {"moved"}),
    ("asterisk", SHIPPED, "Set(CALLERID(name)=)", "Set(CALLERID(name)=Acme)", set()),  # a fixed name is no fault
    ("asterisk", SHIPPED, "${DG_TO}@trunk", "${DG_TO}0@trunk", {"allow", "stale"}),
    ("vicidial", ENTRY, "exten => T,1,", "exten => _8X.,1,Dial(PJSIP/${EXTEN:1}@CARRIER,,To)\nexten => T,1,", {"another"}),
    ("asterisk-curl", CURL, SHOWN, "NoOp()", {"allow", "stale"}),
    ("asterisk-curl", CURL, ",60,i)", ",60)", {"moved"}),
    ("vicidial", ENTRY, LIMIT, "NoOp()", HELD),
    ("vicidial", ENTRY, "Set(AGIEXITONHANGUP=yes)", "NoOp()", {"silent", "frozen"}),
    ("vicidial", ENTRY, '${IF(${REGEX("^DNC$" ${DIALSTATUS})}?34:42)}', "34", DEAD),
    ("vicidial", ENTRY, 'REGEX("^number$" ${DG_CLASS})', 'REGEX("^.*$" ${DG_CLASS})', DEAD),
    ("vicidial", ENTRY, "T,n,Hangup(42)", "T,n,Hangup(34)", {"silent", "slow", "frozen"}),
    ("vicidial", ENTRY, "Toif(", "Tof(", {"moved"}),
    ("opensips", SIP, URL, LITERAL, {"allow"}),
    ("opensips", SIP, 'remove_hf("Privacy");', "", {"allow", "stale"}),
    ("opensips", SIP, 'uac_replace_to("", "sip:$avp(dg_to)@trunk.example");', "", {"allow", "stale"}),
    ("opensips", SIP, 't_on_failure("DIALGATE_FAILED");', "", {"moved"}),
    ("opensips", SIP, IS_ALLOW, '$avp(dg_answer) != "deny"', {"nonsense", "empty", "quote"}),
    ("opensips", SIP, IS_ALLOW, '$avp(dg_answer) == "allow"', {"upper"}),
    ("opensips", SIP, IS_ALLOW, '$avp(dg_answer) =~ "^allow$"', {"upper", "null"}),
    ("opensips", SIP, "$avp(dg_code) == 200", "$avp(dg_code) > 0", {"status"}),
    ("opensips", SIP, 'curl_timeout", 2)', 'curl_timeout", 1)', {"allow"}),
    ("opensips", SIP, 'remove_hf_glob("P-*");', "", {"allow", "stale"}),
    ("opensips", SIP, 'remove_hf_glob("[abdjnsy]");', "", {"allow", "stale"}),
    ("opensips", SIP, " || !validate_dialog()", "", {"within"}),
    ("opensips", SIP, ' || (is_method("INVITE") && $DLG_status < 3)', "", {"within"}),
    ("opensips", SIP, '!is_method("INVITE|ACK|BYE|UPDATE|PRACK|INFO")', "0 == 1", {"within"}),
    ("asterisk", SHIPPED, TEST, '${REGEX("^SUCCESS" ${AGISTATUS})}', {"deny", "early", "empty", "error", "half"}),
    ("asterisk", SHIPPED, TEST, '${IF(${REGEX("^deny$" ${DG_DECISION})}?0:1)}', DEAD),
    ("asterisk", SHIPPED, "1,Set(DG_DECISION=)", "1,NoOp(not cleared)", {"early", "empty"}),
    ("asterisk", SHIPPED, "Set(CALLERID(name)=)", "NoOp()", {"allow", "stale"}),
    ("asterisk", SHIPPED, "Set(REDIRECTING(count)=0)", "NoOp()", {"allow", "stale"}),
    ("asterisk", SHIPPED, "Set(REDIRECTING(from-num-valid)=no)", "NoOp()", {"allow", "stale"}),
    ("asterisk", SHIPPED, "Set(SIPFROMDOMAIN=)", "NoOp()", {"allow", "stale"}),
    ("vicidial", ENTRY, "Toif(${CALLERID(num)})", "Toi", {"allow", "stale"}),
    ("vicidial", ENTRY, "Set(REDIRECTING(count)=0)", "NoOp()", {"allow", "stale"}),
    ("asterisk-curl", CURL, HEADER, "NoOp()", {"allow"}),
    ("asterisk-curl", CURL, WHOLE, "allow$", {"status", "cut", "newline", "null"}),
    ("asterisk-curl", CURL, "ength: 5", "ength: [0-9]+", {"cut", "newline", "null"}),
    ("asterisk-curl", CURL, " 200 ", " [0-9]+ ", {"status"}),
    ("asterisk-curl", CURL, "httptimeout)=0.3", "httptimeout)=4", {"slow"}),
    ("freeswitch", XML, 'field="${curl_response_data}" expression="^HTTP/1', 'field="x" expression="^|^HTTP/1', DEAD | HELD | {"deny"}),
    ("freeswitch", XML, "outbound_redirect_fatal=true,", "", {"moved"}),
    ("freeswitch", XML, "origination_privacy=screen,", "", PLACED),
    ("freeswitch", XML, "origination_caller_id_number=${dg_from}", "x=y", PLACED),
    ("freeswitch", XML, "origination_caller_id_name=_undef_,", "", PLACED),
    ("freeswitch", XML, 'application="unset" data="export_vars"', 'application="log" data="x"', PLACED),
    ("freeswitch", XML, "sip_copy_custom_headers=false", "x=y", PLACED),
    ("freeswitch", XML, "sip_copy_multipart=false", "x=y", PLACED),
    ("freeswitch", XML, "campon=false", "x=y", PLACED),
    ("freeswitch", XML, "trunk/${dg_to}", "trunk/${destination_number}", PLACED),
    ("freeswitch-httapi", HTTAPI, "outbound_redirect_fatal=true,", "", {"moved"}),
    ("freeswitch-httapi", HTTAPI, 'application="unset" data="export_vars"', 'application="log" data="x"', PLACED),
    ("freeswitch-httapi", HTTAPI, "trunk/${dg_to}", "trunk/${destination_number}", PLACED),
    ("freeswitch-httapi", HTTAPI, 'application="set" data="dg_decision="', 'application="log" data="x"', {"empty", "down", "early"}),
]  # fmt: skip


async def test_common_mistakes_are_found() -> None:
    few = asyncio.Semaphore(6)  # more dialers at once would not keep their limit of 0.3 s on a busy machine

    async def find(client: str, text: str, right: str, instead: str, found: set[str]) -> set[str]:
        assert right in text, right
        dialer = ConfiguredDialer(EMULATED[client], text.replace(right, instead), EMULATED[client].context)
        async with few:
            return await failed_cases(dialer, found | {"allow"})

    assert await asyncio.gather(*(find(*row) for row in OPEN)) == [found for *_, found in OPEN]


# What a reader does not support is refused, and named. `$[…]` opened the trunk after a quotation mark in the answer.
UNSUPPORTED = [
    ("asterisk", SHIPPED, "Set(AGIEXITONHANGUP=yes)", "System(rm)", "the application System"),
    ("asterisk", SHIPPED, "Set(AGIEXITONHANGUP=yes)", "Set(X=${SHELL(rm)})", "the function SHELL"),
    ("asterisk", SHIPPED, " same => n,Set(AGIEXITONHANGUP=yes)", "same => x", "the line same => x"),
    ("asterisk", SHIPPED, TEST, '$["${AGISTATUS}" = "SUCCESS" & "${DG_DECISION}" = "allow"]', "compare with REGEX()"),
    ("vicidial", ENTRY, TEST, '$["${DG_DECISION}" != "deny"]', "compare with REGEX()"),
    ("freeswitch", XML, 'application="unset"', 'application="system"', "the application system"),
    ("freeswitch", XML, "[outbound", "sofia/gateway/other/1,[outbound", "the dial string sofia/gateway/other/1,"),
    ("opensips", SIP, "record_route();", 'exec_msg("rm");', "the function exec_msg"),
    ("opensips", SIP, "record_route();", "while (1) { exit; }", "the statement"),
    ("opensips", SIP, "record_route();", "$var(x) = 1;", "an assignment to $var(x)"),
    ("opensips", SIP, "route[TO_TRUNK] {", "route[OTHER] {", "a script without route TO_TRUNK"),
]  # fmt: skip


@pytest.mark.parametrize(("client", "text", "right", "instead", "problem"), UNSUPPORTED)
async def test_unsupported_part_is_refused(
    client: str, text: str, right: str, instead: str, problem: str
) -> None:
    assert right in text
    dialer = ConfiguredDialer(EMULATED[client], text.replace(right, instead), EMULATED[client].context)
    with pytest.raises(Unknown, match=re.escape(problem)):
        await failed_cases(dialer, {"allow"})


GLOBALS = "[globals]\nOUT=PJSIP/trunk ; ours\n"
# Lines added to the shipped file, and the step that is found.
BESIDE = [
    (
        "[phones]\nexten => _X.,1,Dial(PJSIP/${EXTEN}@trunk)",
        "[phones] _X. step 1: Dial(PJSIP/${EXTEN}@trunk)",
    ),
    (
        "[phones]\nexten => _X.,1,NoOp()\n same => n,dial(PJSIP/trunk/sip:${FILTER(0-9,${EXTEN:1})}@h,60)",
        "step 2",
    ),
    ("[phones]\nexten => _X.,1,ExecIf($[${X} > 1]?Dial(SIP/trunk/${EXTEN}))", "ExecIf"),
    ("[phones]\nexten => _X.,1,Dial(PJSIP/1001&PJSIP/${EXTEN}@trunk)", "PJSIP/1001&"),
    ("[phones]\nexten => _X.,1,RetryDial(x,1,2,PJSIP/${EXTEN}@trunk)", "RetryDial"),
    (GLOBALS + "[phones]\nexten => _X.,1,Dial(${OUT}/sip:${EXTEN}@h)", "${OUT}"),
    (GLOBALS + "[phones]\nexten => _X.,1,Dial(${GLOBAL(OUT)}/sip:${EXTEN}@h)", "${GLOBAL(OUT)}"),
    ("exten => 0,1,Dial(PJSIP/${DG_TO}@trunk)", "[dialgate-out] 0 step 1"),
    ("[phones]\nexten => _1X.,1,Dial(PJSIP/${EXTEN})\n same => n,Dial(Local/${EXTEN}@trunk)", ""),
    ("[phones]\nexten => _X.,1,Dial(PJSIP/${EXTEN}@other)\n same => n,NoOp(PJSIP/1@trunk)", ""),
]


@pytest.mark.parametrize(("beside", "found"), BESIDE)
async def test_unchecked_dial_in_the_file_is_found(beside: str, found: str) -> None:
    asterisk = ConfiguredDialer(EMULATED["asterisk"], f"{SHIPPED}\n{beside}\n", "dialgate-out")
    (seen,) = [item async for item in kit.run(asterisk, cases=[cases_for(asterisk)[-1]])]
    assert (seen.ok, found in seen.note) == (not found, True)
    assert bool(seen.note) is bool(found)


async def test_script_without_a_main_route_is_not_said_to_be_closed_within_a_call() -> None:
    routes = SIP[: SIP.index("route {")] + SIP[SIP.index("route[WITHIN]") :]
    opensips = ConfiguredDialer(EMULATED["opensips"], routes, "DIALGATE")
    (found,) = [item async for item in kit.run(opensips, cases=[cases_for(opensips)[-1]])]
    assert (found.ok, "no main route" in found.note) == (False, True)


# What a script with the routes of an earlier version relayed: it trusted every To tag.
TRUSTING = """route {
    if (has_totag()) {
        if (!loose_route()) {
            send_reply(404, "Not here");
            exit;
        }
        t_relay();
        exit;
    }
    route(DIALGATE);
}
"""


async def test_every_request_within_a_call_that_reaches_another_number_is_named() -> None:
    routes = SIP[: SIP.index("route {")] + TRUSTING + SIP[SIP.index("route[WITHIN]") :]
    opensips = ConfiguredDialer(EMULATED["opensips"], routes, "DIALGATE")
    (found,) = [item async for item in kit.run(opensips, cases=[cases_for(opensips)[-1]])]
    assert (found.ok, found.note.count("; ")) == (False, 3)
    assert "an INVITE with a To tag and a Route, but without a call" in found.note


NOWHERE = [
    ("phones", "the file has no context [phones]; it has [dialgate-out]."),
    (
        "short",
        "no pattern in the context [short] matches +390612345678, the test call's number; the patterns are: _1XX.",
    ),
]


@pytest.mark.parametrize(("context", "problem"), NOWHERE)
def test_wrong_context_is_named(tmp_path: Path, context: str, problem: str) -> None:
    text = f"[short]\nexten => _1XX,1,Hangup()\n{SHIPPED}" if context == "short" else SHIPPED
    (tmp_path / "mine.conf").write_text(text)
    words = ["conformance", "asterisk", "--file", str(tmp_path / "mine.conf"), "--context", context, "--json"]
    ran = CliRunner().invoke(main.app, words)
    error = json.loads(ran.stderr or ran.stdout)["error"]
    assert (ran.exit_code, error["code"], error["field"]) == (2, "conformance.unknown", "context")
    assert problem in error["message"]


async def test_hanging_call_is_explained_if_it_is_no_fault() -> None:
    (drip,) = [case for case in CASES if case.may_hang]
    found = await finding(read_shipped("asterisk", DEPLOY), drip)
    assert found.ok
    assert "Asterisk cannot end such a call" in found.note


FREESWITCH = sorted((DEPLOY / "freeswitch").glob("dialgate*.xml"))


ENDINGS = [
    ({}, None, "hanging"),
    ({}, 0.05, "hanging"),
    ({"AGIEXITONHANGUP": "yes"}, None, "hanging"),
    ({"AGIEXITONHANGUP": "yes"}, 0.05, "HANGUP"),
]


@pytest.mark.parametrize(("variables", "limit", "status"), ENDINGS)
async def test_agi_has_no_time_limit_of_its_own(
    variables: dict[str, str], limit: float | None, status: str
) -> None:
    ends = asyncio.get_running_loop().time() + limit if limit else None
    channel = Channel(extension=TO, variables=dict(variables), limit=ends)
    found = "hanging"
    async with frozen() as port:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                found = await agi(channel, f"agi://127.0.0.1:{port}/check")
    assert found == status


TO_FORM = "to=%2B390612345678&from=%2B390844123456"
ASKED = [
    (b"agi_request: x\nagi_arg_1: +390612345678\nagi_arg_2: +390844123456\n\n", ""),
    (b"agi_request: x\nagi_arg_1: 390612345678\nagi_arg_2: 0844123456\n\n", ""),
    (b"agi_request: x\nagi_arg_1: 612345678\nagi_arg_2: +390844123456\n\n", "about '612345678'"),
    (b"agi_request: x\nagi_arg_1: +390612345678\nagi_arg_2: anonymous\n\n", "caller ID 'anonymous'"),
    (b"agi_request: x\nagi_arg_1: +390844123456\nagi_arg_2: +390612345678\n\n", "about '+390844123456'"),
    (b"agi_request: x\n\n", "about ''"),
    (f"GET /v1/check.txt?{TO_FORM} HTTP/1.1\r\n\r\n".encode(), ""),
    (b"GET /v1/check.txt?to=$(rU{rest.escape})&from=$(fU{rest.escape}) HTTP/1.1\r\n\r\n", "rest.escape"),
    (b"GET /v1/check.txt?to=+390612345678&from=+390844123456 HTTP/1.1\r\n\r\n", ""),
    (b"GET /v1/check.txt?to=%2B390612345678 HTTP/1.1\r\n\r\n", "caller ID ''"),
    (f"POST /v1/check.form HTTP/1.1\r\n\r\n{TO_FORM}".encode(), ""),
    (b'POST /v1/check HTTP/1.1\r\n\r\n{"to": "06 1234 5678", "from": "+390844123456"}', ""),
    (b'POST /v1/check HTTP/1.1\r\n\r\n{"to": "+390612345679", "from": "+390844123456"}', "390612345679"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "problem"), ASKED)
def test_request_is_compared_with_the_call(request_: bytes, problem: str) -> None:
    found = mismatch(request_, PlacedCall(TO, CALLER))
    assert problem in found if problem else found == ""


def test_unknown_caller_id_must_be_a_number() -> None:
    request_ = b"GET /v1/check.txt?to=%2B390612345678&from={} HTTP/1.1\r\n\r\n"
    assert mismatch(request_.replace(b"{}", b"0699"), PlacedCall(TO)) == ""
    assert mismatch(request_.replace(b"&from={}", b""), PlacedCall(TO)) == ""
    assert "is not a number" in mismatch(request_.replace(b"{}", b"$fU"), PlacedCall(TO))


# VICIdial SVN 3884, Enhanced Disconnect Logging 1 or 2.
STATUSES = [
    ("DNC", "34", "DNCCAR"), ("CONGESTION", "34", "ADCT"), ("CONGESTION", "42", ""), ("CONGESTION", "1", "ADC"),
    ("CHANUNAVAIL", "21", "ADC"), ("DISCONNECT", "34", "ADCCAR"), ("ANSWER", "16", ""), ("", "42", ""),
]  # fmt: skip


@pytest.mark.parametrize(("dial_status", "cause", "status"), STATUSES)
def test_lead_status_is_that_of_vicidial(dial_status: str, cause: str, status: str) -> None:
    assert lead_status(dial_status, cause) == status


CLASSES = [
    ("number", "DNC", "34", "DNCCAR"), ("call", "CONGESTION", "42", ""), ("gate", "CONGESTION", "42", ""),
    ("", "CONGESTION", "42", ""), ('\\"', "CONGESTION", "42", ""),
]  # fmt: skip


@pytest.mark.parametrize(("reason_class", "dial_status", "cause", "lead"), CLASSES)
async def test_lead_is_closed_only_if_the_number_must_not_be_called(
    reason_class: str, dial_status: str, cause: str, lead: str
) -> None:
    async def answers(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for name, value in (("DECISION", "deny"), ("CLASS", reason_class), ("DIALSTATUS", "DNC")):
            line = f'SET VARIABLE {"DG_" if name != "DIALSTATUS" else ""}{name} "{value}"\n'
            writer.write(line.encode())
            await reader.readline()

    channel = Channel(extension=f"9{TO[1:]}", caller=CALLER, caller_name="V7152252280000844707")
    channel.variables |= {"CAMPCUST": "X", "CAMPDTO": "60"}
    async with playing(iter([answers])) as port:
        await dialplan.run(ENTRY.replace("127.0.0.1:4573", f"127.0.0.1:{port}"), "", channel)
    found = channel.variables["DIALSTATUS"], channel.variables["HANGUPCAUSE"]
    assert (*found, lead_status(*found)) == (dial_status, cause, lead)


@pytest.mark.parametrize("path", FREESWITCH, ids=[path.stem for path in FREESWITCH])
def test_freeswitch_linter_finds_no_problem(path: Path) -> None:
    for words in (("analyze",), ("lint", "--max-line-length", "400")):
        program = [sys.executable, "-c", "from frslint import main; main()", *words, str(path)]
        ran = subprocess.run(program, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


ASTERISK = sorted([*(DEPLOY / "asterisk").glob("*.conf"), DEPLOY / "vicidial" / "carrier-entry.conf"])


def lint(folder: Path, text: str) -> list[str]:
    """Return asterisklint's findings without style hints. A carrier entry is wrapped in a context."""
    path = folder / "extensions.conf"
    context = "" if "[dialgate-out]" in text else "[default]\n"
    path.write_text(f"[general]\n[globals]\n{context}{text}")
    program = [
        sys.executable,
        str(Path(sys.executable).with_name("asterisklint")),
        "dialplan-check",
        str(path),
    ]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    return [line for line in (ran.stdout + ran.stderr).splitlines() if " H_" not in line]


@pytest.mark.parametrize("path", ASTERISK, ids=[path.stem for path in ASTERISK])
def test_asterisk_linter_finds_no_problem(path: Path, tmp_path: Path) -> None:
    assert lint(tmp_path, path.read_text("utf-8")) == []


def test_asterisk_linter_finds_mistakes(tmp_path: Path) -> None:
    spoiled = SHIPPED.replace("Hangup(21)", "Hangupp(21)", 1).replace("FILTER(", "FLITER(", 1)
    assert len(lint(tmp_path, spoiled)) == 2


LISTED = (DEPLOY / "README.md").read_text("utf-8")
PAGES = sorted(DEPLOY / name for name in set(re.findall(r"\(([a-z-]+/README\.md)\)", LISTED)))


@pytest.mark.parametrize("page", PAGES, ids=[page.parent.name for page in PAGES])
def test_page_has_its_sections_and_names_its_files(page: Path) -> None:
    text = page.read_text("utf-8")
    assert {"Install", "Test", "What the agent sees", "Undo"} <= set(
        re.findall("^## (.*)$", text, re.MULTILINE)
    )
    files = {path.name for path in page.parent.iterdir()}
    assert files - {"README.md"} <= set(
        re.findall(r"[\w.-]+\.(?:conf|xml|lua|cfg|list|json|conf\.xml)\b", text)
    )


def test_first_page_lists_every_dialer_folder() -> None:
    pages = {path.parent.name for path in DEPLOY.glob("*/README.md")}
    dialers = pages - {"systemd", "container", "kubernetes", "stack"}
    assert {page.parent.name for page in PAGES} == dialers


def test_genesys_action_matches_its_profile() -> None:
    action = json.loads((DEPLOY / "hosted/genesys-data-action.json").read_text())
    sent = json.loads(re.sub(r"\$\{input\.(\w+)\}", r"\1", action["config"]["request"]["requestTemplate"]))
    profile = msgspec.convert(yaml_files.read(ROOT / "config/webhooks/genesys.yaml"), Profile)
    assert read(profile, sent, {}) == {name: name for name in ("to", "from", "campaign", "call_id")}
    fields = action["contract"]["output"]["successSchema"]["properties"]
    assert set(fields) == set(profile.allow.body) == set(profile.deny.body)


# ---- real dialers ----------------------------------------------------------------------------------------------------

# A minimal dialer that places the call by its exit code, or by an INVITE to a trunk.
ASKS = """
import os, socket, sys, urllib.request
def allowed():
    url = "http://127.0.0.1:%s/v1/check.txt?to=%%2B390612345678&from=%%2B390844123456" % os.environ["DIALGATE_PORT"]
    try:
        return urllib.request.urlopen(url, timeout=0.3).read() == b"allow"
    except (OSError, ValueError):
        return {on_fault}
    except Exception:
        return {on_fault}
if not allowed():
    sys.exit(1)
if len(sys.argv) > 1:
    invite = "INVITE sip:%s@x SIP/2.0\\r\\nVia: SIP/2.0/UDP x\\r\\nCall-ID: 1\\r\\n{headers}\\r\\n\\r\\n"
    trunk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    trunk.settimeout(5)
    trunk.sendto((invite % "{to}").encode(), ("127.0.0.1", int(sys.argv[1])))
    answer = trunk.recv(2000).decode()
    if answer.startswith("SIP/2.0 302 ") and {follows}:
        to = answer.partition("Contact: <sip:")[2].partition("@")[0]
        trunk.sendto((invite % to).encode(), ("127.0.0.1", int(sys.argv[1])))
    else:
        assert answer[8:11] in ("302", "603")
"""


def command(
    folder: Path,
    *,
    on_fault: bool,
    trunk: int | None = None,
    invite: tuple[str, str] = (TO, f"From: <sip:{CALLER}@a>"),
    follows: bool = False,
) -> str:
    script = folder / "dialer.py"
    text = ASKS.replace("{on_fault}", str(on_fault)).replace("{follows}", str(follows))
    script.write_text(text.replace("{to}", invite[0]).replace("{headers}", invite[1]))
    return f"{sys.executable} {script}" + (f" {trunk}" if trunk else "")


async def test_real_dialer_is_judged_by_its_exit_code(tmp_path: Path) -> None:
    assert await failed_cases(RealDialer(command(tmp_path, on_fault=False), 5)) == set()
    wrong = {"down", "silent", "early", "error"}
    assert await failed_cases(RealDialer(command(tmp_path, on_fault=True), 5), wrong) == wrong


# Request URI and headers of an INVITE at the trunk, and the finding.
SENT = [
    ("+390612345678", "From: <sip:+390844123456@a>", ""),
    ("0612345678", "From: <sip:trunk@a>\\r\\nP-Asserted-Identity: <sip:0844123456@a>", ""),
    ("+390612345679", "From: <sip:+390844123456@a>", "+390612345679, which was not checked"),
    ("+390612345678", "From: <sip:anonymous@anonymous.invalid>", "did not get the checked caller ID"),
    ("+390612345678", "From: <sip:+390844123456@a>\\r\\nPrivacy: id", "withheld"),
    ("+390612345678", "From: <sip:+390699999999@a>", "did not get the checked caller ID"),
    (
        "+390612345678",
        "From: <sip:+390844123456@a>\\r\\nDiversion: <sip:+390699999999@a>",
        "also got +390699999999",
    ),
    (
        "+390612345678",
        "From: <sip:+390844123456@a>\\r\\nP-Asserted-Identity: <tel:+390699999999>",
        "also got +390699999999",
    ),
    ("+390612345678", "From: <sip:+390844123456@a>\\r\\nHistory-Info: <sip:+390612345678@a>;index=1", ""),
    ("+390612345678", "From: Somebody else <sip:+390844123456@a>", "got a caller name"),
    ("+390612345678", "From: +390844123456 <sip:+390844123456@a>", ""),
]


@pytest.mark.parametrize(("to", "headers", "problem"), SENT)
async def test_trunk_checks_number_and_caller_id(
    tmp_path: Path, unused_udp_port: int, to: str, headers: str, problem: str
) -> None:
    words = command(tmp_path, on_fault=False, trunk=unused_udp_port, invite=(to, headers))
    dialer = RealDialer(words, 5, unused_udp_port, CALLER)
    (found,) = [item async for item in kit.run(dialer, cases=CASES[:1])]
    assert (found.ok, found.through) == (not problem, "INVITE")
    assert problem in found.note


@pytest.mark.parametrize("follows", [False, True])
async def test_dialer_that_follows_a_redirect_is_found(
    tmp_path: Path, unused_udp_port: int, follows: bool
) -> None:
    words = command(tmp_path, on_fault=False, trunk=unused_udp_port, follows=follows)
    (found,) = [item async for item in kit.run(RealDialer(words, 5, unused_udp_port), cases=[MOVED])]
    assert (found.ok, "+390699999999" in found.note) == (not follows, follows)


async def test_real_dialer_is_judged_by_the_invite_at_its_trunk(tmp_path: Path, unused_udp_port: int) -> None:
    words = command(tmp_path, on_fault=False, trunk=unused_udp_port)
    dialer = RealDialer(words, 1.5, unused_udp_port)
    through = [finding.case async for finding in kit.run(dialer, cases=CASES[:3]) if finding.through]
    assert through == ["allow"]


# ---- the command -----------------------------------------------------------------------------------------------------


def test_command_reports_each_case() -> None:
    ran = CliRunner().invoke(main.app, ["conformance", "python", "--json"])
    cases = [json.loads(line) for line in ran.stdout.splitlines()]
    assert (ran.exit_code, [item["case"] for item in cases]) == (0, [case.name for case in CASES])


def test_failing_dialplan_gives_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "mine.conf").write_text("[out]\nexten => _X.,1,Dial(x)\nexten => _+X.,1,Dial(x)\n")
    words = ["conformance", "asterisk", "--file", str(tmp_path / "mine.conf"), "--context", "out"]
    ran = CliRunner().invoke(main.app, words)
    assert (ran.exit_code, ran.stdout.count("OPEN")) == (1, len(CASES) + 1)


@pytest.mark.parametrize(
    "words", [["nobody"], ["own"], ["asterisk", "--file", __file__], ["python", "--wait", "0"]]
)
def test_misuse_gives_exit_code_2(words: list[str]) -> None:
    assert CliRunner().invoke(main.app, ["conformance", *words]).exit_code == 2
