"""Conformance of FreeSWITCH: a changed or incomplete answer places no call, and only what was checked reaches the trunk.

`make test` has no FreeSWITCH; its behaviour is that observed on FreeSWITCH 1.11.3-dev (cc93a68) with mod_sofia.
"""

import asyncio
import shutil
from itertools import repeat
from pathlib import Path

import pytest
from msgspec import Struct

from dialgate.tools.conformance.freeswitch import FreeswitchCall, dialers_variables, leave
from dialgate.tools.conformance.gates import frozen, playing
from dialgate.tools.conformance.model import CALLER, TO, EmulatedCall
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
        # The session's getVariable() reads the called number from the same place as the script's bridge.
        variables = dialers_variables() | {"destination_number": TO, "caller_id_number": CALLER}
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
        pairs = (
            line.removeprefix("variable ").partition("=") for line in lines if line.startswith("variable ")
        )
        assert leave({name: value for name, _, value in pairs}, dials[0]) == EmulatedCall(how=TO)
        return TO


needs_lua = pytest.mark.skipif(
    not (shutil.which("lua5.4") and shutil.which("curl")), reason="needs lua5.4 and curl"
)


@needs_lua
async def test_lua_script_passes_every_case(tmp_path: Path) -> None:
    assert await failed_cases(Lua(tmp_path)) == set()


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
        ran = FreeswitchCall(text, dialers_variables())
        assert await ran.run("dialgate") == EmulatedCall()
        lines = await Lua(tmp_path).lines(port) if shutil.which("lua5.4") and shutil.which("curl") else []
    assert (ran.response, ran.variables.get("hangup_cause", "")) == (status, cause)
    if lines:
        assert [line for line in lines if line.startswith("respond")] == [
            "respond 500 Server Internal Error"
        ] * (status > 0)
        assert lines[-1] == f"hangup {cause or 'NORMAL_TEMPORARY_FAILURE'}"


async def test_freeswitch_answers_500_if_the_gate_is_down() -> None:
    """After a 503, a dialer tries its next server, which could be the trunk."""
    for text, context in ((XML, "dialgate"), (HTTAPI, "dialgate"), (CLOSED, "dialgate")):
        async with frozen() as port:
            ran = FreeswitchCall(text.replace("127.0.0.1:8080", f"127.0.0.1:{port}"), dialers_variables())
            assert (await ran.run(context), ran.response) == (EmulatedCall(), 500)
