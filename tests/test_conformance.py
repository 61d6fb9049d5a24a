"""The shipped configurations stay closed whatever the gate does, and the kit finds those that do not."""

import asyncio
import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from msgspec import Struct
from typer.testing import CliRunner

from dialgate.conformance import kit
from dialgate.conformance.dialers import PLAYED, TO, Commanded, Configured, Dialer, Python, shipped
from dialgate.conformance.dialplan import Unknown
from dialgate.conformance.gates import playing, silent
from dialgate.conformance.kit import CASES, Case, Finding
from dialgate.interfaces import cli
from dialgate.webhooks import parse_profile, read
from tests.serving import ROOT

DEPLOY = ROOT / "deploy"


async def opened(dialer: Dialer, among: set[str] | None = None) -> set[str]:
    """The cases, of all or of some, in which the dialer did what it must not. All at once: each has a gate of its own."""
    cases = [case for case in CASES if among is None or case.name in among]
    return {
        found.case
        for found in await asyncio.gather(*(finding(dialer, case) for case in cases))
        if not found.ok
    }


async def finding(dialer: Dialer, case: Case) -> Finding:
    """A call that is to get through is closed where the machine is too busy to answer in the dialer's time: it is placed again."""
    for _ in range(3 if case.through else 1):
        (found,) = [each async for each in kit.run(dialer, cases=[case])]
        if found.ok:
            break
    return found


async def test_every_shipped_configuration_and_our_client_are_closed() -> None:
    dialers: list[Dialer] = [*(shipped(name, DEPLOY) for name in PLAYED), Python()]
    found = await asyncio.gather(*(opened(dialer) for dialer in dialers))
    assert list(zip([*PLAYED, "python"], found, strict=True)) == [
        (name, set()) for name in (*PLAYED, "python")
    ]


@pytest.mark.parametrize("turns", range(8))
def test_a_gate_that_ends_whatever_the_moment_keeps_no_caller(turns: int) -> None:
    """Also one who was accepted and not served yet. An open socket that is forgotten is an error here."""

    async def called() -> None:
        async with playing(iter([silent])) as port:
            caller = socket.create_connection(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)
        with caller:
            caller.settimeout(20)
            with suppress(ConnectionResetError):
                assert caller.recv(1) == b""

    asyncio.run(called())
    gc.collect()


class Lua(Struct, frozen=True):
    """deploy/freeswitch/dialgate.lua in a real Lua, on a channel that has an earlier allow."""

    folder: Path

    async def place(self, port: int) -> str:
        text = (DEPLOY / "freeswitch/dialgate.lua").read_text()
        here = self.folder / f"at-{port}.lua"
        here.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
        left = ("curl_response_code=200", "curl_response_data=allow")
        words = ("lua5.4", str(ROOT / "tests/freeswitch_session.lua"), str(here), "acme-fibre", TO, *left)
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode()


async def test_the_lua_script_is_closed(tmp_path: Path) -> None:
    if not (shutil.which("lua5.4") and shutil.which("curl")) and not os.environ.get("CI"):
        pytest.skip("needs lua5.4 and curl")
    assert await opened(Lua(tmp_path)) == set()


SHIPPED = (DEPLOY / "asterisk/dialgate-agi.conf").read_text()
CURL = (DEPLOY / "asterisk/dialgate-curl.conf").read_text()
XML = (DEPLOY / "freeswitch/dialgate.xml").read_text()
TEST = '$["${AGISTATUS}" = "SUCCESS" & "${DG_DECISION}" = "allow"]'
# What people write, and what it costs.
OPEN = [
    ("asterisk", SHIPPED, TEST, '$["${AGISTATUS}" = "SUCCESS"]', {"deny", "early", "empty", "error", "half"}),
    ("asterisk", SHIPPED, TEST, '$["${DG_DECISION}" != "deny"]', {"down", "early", "empty"}),
    ("asterisk", SHIPPED, "1,Set(DG_DECISION=)", "1,NoOp(not cleared)", {"early", "empty"}),
    ("asterisk-curl", CURL, "^allow$", "allow", {"nonsense"}),
    ("asterisk-curl", CURL, "httptimeout)=0.3", "httptimeout)=4", {"slow"}),
    ("freeswitch", XML, "^200 allow$", "allow", {"nonsense"}),
]  # fmt: skip


async def test_what_people_get_wrong_is_found() -> None:
    wrong = []
    for client, text, right, instead, found in OPEN:
        assert right in text
        dialer = Configured(PLAYED[client], text.replace(right, instead), PLAYED[client].context)
        wrong.append(opened(dialer, found | {"allow"}))
    assert await asyncio.gather(*wrong) == [found for *_, found in OPEN]


@pytest.mark.parametrize("line", ["same => n,System(rm)", "same => n,Set(X=${SHELL(rm)})", "same => x"])
async def test_what_the_emulator_does_not_know_is_no_pass(line: str) -> None:
    text = SHIPPED.replace(" same => n,Set(AGIEXITONHANGUP=yes)", line)
    with pytest.raises(Unknown):
        await opened(Configured(PLAYED["asterisk"], text, "dialgate-out"), {"allow"})


FREESWITCH = sorted((DEPLOY / "freeswitch").glob("dialgate*.xml"))


@pytest.mark.parametrize("path", FREESWITCH, ids=[path.stem for path in FREESWITCH])
def test_somebody_elses_reader_of_freeswitch_finds_nothing_amiss(path: Path) -> None:
    for words in (("analyze",), ("lint", "--max-line-length", "400")):
        program = [sys.executable, "-c", "from frslint import main; main()", *words, str(path)]
        ran = subprocess.run(program, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


ASTERISK = sorted([*(DEPLOY / "asterisk").glob("*.conf"), DEPLOY / "vicidial" / "carrier-entry.conf"])


def linted(folder: Path, text: str) -> list[str]:
    """What asterisklint finds wrong, but for hints at another style. A carrier entry gets a context around it."""
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
def test_somebody_elses_reader_of_asterisk_finds_nothing_amiss(path: Path, tmp_path: Path) -> None:
    assert linted(tmp_path, path.read_text("utf-8")) == []


def test_what_asterisk_would_choke_on_is_found(tmp_path: Path) -> None:
    spoiled = SHIPPED.replace("Hangup(21)", "Hangupp(21)").replace("FILTER(", "FLITER(", 1)
    assert len(linted(tmp_path, spoiled)) == 2


LISTED = (DEPLOY / "README.md").read_text("utf-8")
PAGES = sorted(DEPLOY / name for name in set(re.findall(r"\(([a-z-]+/README\.md)\)", LISTED)))


@pytest.mark.parametrize("page", PAGES, ids=[page.parent.name for page in PAGES])
def test_every_page_tells_how_to_install_test_and_undo_and_names_what_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    assert {"Install", "Test", "What the agent sees", "Undo"} <= set(
        re.findall("^## (.*)$", text, re.MULTILINE)
    )
    files = {path.name for path in page.parent.iterdir()}
    assert files - {"README.md"} <= set(
        re.findall(r"[\w.-]+\.(?:conf|xml|lua|cfg|list|json|conf\.xml)\b", text)
    )


def test_every_folder_of_a_dialer_is_on_the_first_page() -> None:
    pages = {path.parent.name for path in DEPLOY.glob("*/README.md")}
    dialers = pages - {"systemd", "container", "kubernetes"}
    assert {page.parent.name for page in PAGES} == dialers


def test_the_genesys_action_sends_what_its_profile_reads() -> None:
    action = json.loads((DEPLOY / "hosted/genesys-data-action.json").read_text())
    sent = json.loads(re.sub(r"\$\{input\.(\w+)\}", r"\1", action["config"]["request"]["requestTemplate"]))
    profile = parse_profile(yaml.safe_load((ROOT / "config/webhooks/genesys.yaml").read_text()))
    assert read(profile, sent, {}) == {name: name for name in ("to", "from", "campaign", "call_id")}
    told = action["contract"]["output"]["successSchema"]["properties"]
    assert set(told) == set(profile.allow.body) == set(profile.deny.body)


# ---- somebody's own dialer -------------------------------------------------------------------------------------------

# Asks in the plainest way, and "places the call" by its exit code, or by an INVITE to a trunk.
ASKS = """
import os, socket, sys, urllib.request
def allowed():
    url = "http://127.0.0.1:%s/v1/check.txt?to=%%2B390612345678" % os.environ["DIALGATE_PORT"]
    try:
        return urllib.request.urlopen(url, timeout=0.3).read() == b"allow"
    except (OSError, ValueError):
        return {on_fault}
    except Exception:
        return {on_fault}
if not allowed():
    sys.exit(1)
if len(sys.argv) > 1:
    invite = b"INVITE sip:x SIP/2.0\\r\\nVia: SIP/2.0/UDP x\\r\\nCall-ID: 1\\r\\n\\r\\n"
    trunk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    trunk.settimeout(5)
    trunk.sendto(invite, ("127.0.0.1", int(sys.argv[1])))
    assert trunk.recv(2000).startswith(b"SIP/2.0 603 ")
"""


def command(folder: Path, *, on_fault: bool, trunk: int | None = None) -> str:
    script = folder / "dialer.py"
    script.write_text(ASKS.replace("{on_fault}", str(on_fault)))
    return f"{sys.executable} {script}" + (f" {trunk}" if trunk else "")


async def test_a_dialer_of_ones_own_is_judged_by_its_exit_code(tmp_path: Path) -> None:
    assert await opened(Commanded(command(tmp_path, on_fault=False), 5)) == set()
    wrong = {"down", "silent", "early", "error"}
    assert await opened(Commanded(command(tmp_path, on_fault=True), 5), wrong) == wrong


async def test_a_dialer_of_ones_own_is_judged_by_what_comes_out_at_its_trunk(
    tmp_path: Path, unused_udp_port: int
) -> None:
    words = command(tmp_path, on_fault=False, trunk=unused_udp_port)
    dialer = Commanded(words, 1.5, unused_udp_port)
    through = [finding.case async for finding in kit.run(dialer, cases=CASES[:3]) if finding.through]
    assert through == ["allow"]


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_tells_each_case_and_ends_with_the_sum() -> None:
    ran = CliRunner().invoke(cli.app, ["conformance", "python", "--json"])
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert (ran.exit_code, [each["case"] for each in told]) == (0, [case.name for case in CASES])


def test_an_open_dialplan_ends_the_command_with_one(tmp_path: Path) -> None:
    (tmp_path / "mine.conf").write_text("[out]\nexten => _X.,1,Dial(x)\nexten => _+X.,1,Dial(x)\n")
    words = ["conformance", "asterisk", "--file", str(tmp_path / "mine.conf"), "--context", "out"]
    ran = CliRunner().invoke(cli.app, words)
    assert (ran.exit_code, ran.stdout.count("OPEN")) == (1, len(CASES) - 1)


@pytest.mark.parametrize(
    "words", [["nobody"], ["own"], ["asterisk", "--file", __file__], ["python", "--wait", "0"]]
)
def test_misuse_is_told_as_such(words: list[str]) -> None:
    assert CliRunner().invoke(cli.app, ["conformance", *words]).exit_code == 2
