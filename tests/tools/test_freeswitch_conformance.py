"""Conformance of FreeSWITCH: a changed or incomplete answer places no call, and only what was checked reaches the trunk.

`make test` has no FreeSWITCH; its behaviour is that observed on FreeSWITCH 1.11.3-dev (cc93a68) with mod_sofia.
"""

import asyncio
import shutil
from itertools import repeat
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from msgspec import Struct

from dialgate.tools.conformance import freeswitch
from dialgate.tools.conformance.dialers import (
    CALLER,
    EMULATED,
    TO,
    DialerFault,
    departure_of,
    freeswitch_channel,
)
from dialgate.tools.conformance.freeswitch_leg import FreeswitchChannel, leave
from dialgate.tools.conformance.gates import (
    allow,
    frozen,
    playing,
)
from tests.support.conformance import failed_cases
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
XML = (DEPLOY / "freeswitch/dialgate.xml").read_text()
HTTAPI = (DEPLOY / "freeswitch/dialgate-httapi.xml").read_text()
CLOSED = (DEPLOY / "freeswitch/dialgate-closed.xml").read_text()


class Lua(Struct, frozen=True):
    """A real Lua interpreter that runs deploy/freeswitch/dialgate.lua.

    The FreeSWITCH session is simulated. Its channel has the variables of `freeswitch_channel`.
    """

    folder: Path

    async def lines(self, port: int) -> list[str]:
        """Place one call. Return the applications that were executed, and at a bridge the variables."""
        text = (DEPLOY / "freeswitch/dialgate.lua").read_text()
        here = self.folder / f"at-{port}.lua"
        here.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
        channel = freeswitch_channel()
        # The session's getVariable() reads the called number from the same place as the script's bridge.
        variables = channel.variables | {"destination_number": TO, "caller_id_number": CALLER}
        words = ("lua5.4", str(ROOT / "tests/tools/freeswitch_session.lua"), str(here), "acme-fibre")
        process = await asyncio.create_subprocess_exec(
            *words, *(f"{name}={value}" for name, value in variables.items()), stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0].decode().splitlines()

    async def place(self, port: int) -> str:
        lines = await self.lines(port)
        dials = [line.removeprefix("bridge ") for line in lines if line.startswith("bridge ")]
        if not dials:
            return ""
        channel = freeswitch_channel()
        pairs = (
            line.removeprefix("variable ").partition("=") for line in lines if line.startswith("variable ")
        )
        channel.variables = {name: value for name, _, value in pairs}
        departure = departure_of(leave(channel, dials[0]))
        assert (departure.shown, departure.follows) == (CALLER, False)
        if departure.problem or departure.how != TO:
            raise DialerFault(departure.problem or departure.how, departure.how)
        return departure.how


needs_lua = pytest.mark.skipif(
    not (shutil.which("lua5.4") and shutil.which("curl")), reason="needs lua5.4 and curl"
)


@needs_lua
async def test_lua_script_passes_every_case(tmp_path: Path) -> None:
    assert await failed_cases(Lua(tmp_path)) == set()


@pytest.mark.parametrize("name", ["freeswitch", "freeswitch-httapi"])
async def test_freeswitch_reaches_the_trunk_with_what_was_checked_only(name: str) -> None:
    kind = EMULATED[name]
    async with playing(repeat(allow)) as port:
        text = (DEPLOY / kind.file).read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        (invite,) = await freeswitch.call(text, kind.context, freeswitch_channel())
    assert msgspec.structs.asdict(invite) == {
        "number": TO, "caller": CALLER, "name": "", "private": False, "rest": (), "follows": False, "repeats": False,
    }  # fmt: skip


# A call that exports or sets one variable, as observed on FreeSWITCH 1.11.3-dev with the files of 2026-11-27.
OLD_BRIDGE = "[outbound_redirect_fatal=true,origination_privacy=screen,origination_caller_id_number=1]sofia/gateway/t/1"
OTHER = "sip:9@trunk"
EXPORTED = [
    ("sip_invite_req_uri", OTHER, {"number": "9"}), ("sip_invite_from_uri", OTHER, {"caller": "9"}),
    ("sip_from_uri", OTHER, {"caller": "9"}), ("sip_from_display", "9", {"name": "9"}),
    ("sip_h_Privacy", "id", {"rest": ("Privacy",)}), ("sip_route_uri", OTHER, {"rest": ("sip_route_uri",)}),
    ("origination_caller_id_number", "9", {}), ("origination_privacy", "hide_number", {}),
    ("effective_caller_id_number", "9", {}), ("outbound_redirect_fatal", "false", {}),
    ("sip_req_uri", OTHER, {}), ("sip_to_uri", OTHER, {}), ("absolute_codec_string", "PCMA", {}), ("sip_rh_X-A", "1", {}),
    ("sip_ph_X-A", "1", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "changes"), EXPORTED)
def test_exported_variable_changes_the_leg_as_in_freeswitch(
    name: str, value: str, changes: dict[str, object]
) -> None:
    plain, channel = (
        FreeswitchChannel("1", "1", variables=made) for made in ({}, {name: value, "export_vars": name})
    )
    (before,), (after,) = leave(plain, OLD_BRIDGE), leave(channel, OLD_BRIDGE)
    assert msgspec.structs.replace(before, **changes) == after


def test_header_of_the_dialer_reaches_the_trunk_without_an_export() -> None:
    channel = FreeswitchChannel("1", "1", variables={"sip_h_Diversion": f"<{OTHER}>"})
    assert leave(channel, OLD_BRIDGE)[0].rest == ("Diversion",)


@pytest.mark.parametrize(
    ("reason_class", "status", "cause"),
    [("number", 0, "CALL_REJECTED"), ("call", 0, "OUTGOING_CALL_BARRED"), ("gate", 500, "")],
)
async def test_freeswitch_refuses_according_to_the_reason_class(
    tmp_path: Path, reason_class: str, status: int, cause: str
) -> None:
    """mod_sofia sends the causes as 603 and 403. NORMAL_TEMPORARY_FAILURE would be 503."""

    async def answers(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"deny x.y"
        head = f"HTTP/1.1 200 OK\r\nDialgate-Class: {reason_class}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    async with playing(repeat(answers)) as port:
        text = XML.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        ran = freeswitch.FreeswitchCall(ET.fromstring(text), freeswitch_channel())
        assert await ran.run("dialgate") == []
        lines = await Lua(tmp_path).lines(port) if shutil.which("lua5.4") and shutil.which("curl") else []
    assert (ran.response, ran.channel.variables.get("hangup_cause", "")) == (status, cause)
    if lines:
        assert [line for line in lines if line.startswith("respond")] == [
            "respond 500 Server Internal Error"
        ] * (status > 0)
        assert lines[-1] == f"hangup {cause or 'NORMAL_TEMPORARY_FAILURE'}"


async def test_freeswitch_answers_500_if_the_gate_is_down() -> None:
    """After a 503, a dialer tries its next server, which could be the trunk."""
    for text, context in ((XML, "dialgate"), (HTTAPI, "dialgate"), (CLOSED, "dialgate")):
        async with frozen() as port:
            ran = freeswitch.FreeswitchCall(
                ET.fromstring(text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")), freeswitch_channel()
            )
            assert (await ran.run(context), ran.response) == ([], 500)
