"""Dialers that leave the caller ID to the gate (`auto`): each presents the number in the answer, or places no call."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import repeat
from pathlib import Path
from typing import TypeAlias

import pytest

from dialgate.client import Dialgate
from dialgate.core.model import SECOND
from dialgate.tools.conformance import dialplan, opensips
from dialgate.tools.conformance.asterisk import Channel
from dialgate.tools.conformance.freeswitch import FreeswitchCall, dialers_variables
from dialgate.tools.conformance.gates import allow, playing
from dialgate.tools.conformance.model import CALLER, CAMPAIGN, TO
from tests.support import pbx, yaml_files
from tests.support.paths import ROOT
from tests.support.pbx import Pbx
from tests.support.world import KEY, NOW

DEPLOY = ROOT / "deploy"
CHOSEN = "+390844765432"  # the campaign's other number has no proof, and the dialers' own number is not the campaign's
AUTO = {"DIALGATE_FROM": "auto", "DIALGATE_CAMPAIGN": CAMPAIGN, "CAMPCUST": CAMPAIGN.upper()}

# Places one call with a gate on two ports, of AGI and HTTP. Returns the caller ID that the trunk receives, or "".
Place: TypeAlias = Callable[[Path, int, int], Awaitable[str]]


def configuration(name: str, agi: int, http: int) -> str:
    text = (DEPLOY / name).read_text()
    return text.replace("127.0.0.1:4573", f"127.0.0.1:{agi}").replace("127.0.0.1:8080", f"127.0.0.1:{http}")


async def asterisk(_: Path, agi: int, http: int) -> str:
    channel = Channel(extension=TO, caller=CALLER, variables=dict(AUTO))
    left = await dialplan.run(configuration("asterisk/dialgate-agi.conf", agi, http), "dialgate-out", channel)
    return left.shown if left.how else ""


async def vicidial(_: Path, agi: int, http: int) -> str:
    text = configuration("vicidial/carrier-entry.conf", agi, http)
    text = text.replace("Set(DG_FROM=${FILTER(+0-9,${CALLERID(num)})})", "Set(DG_FROM=auto)")
    channel = Channel(
        extension=f"9{TO.removeprefix('+')}",
        caller=CALLER,
        caller_name="V7152252280000844707",
        variables=dict(AUTO),
    )
    left = await dialplan.run(text, "", channel)
    return left.shown if left.how else ""


async def httapi(_: Path, agi: int, http: int) -> str:
    text = configuration("freeswitch/dialgate-httapi.xml", agi, http)
    left = await FreeswitchCall(text, dialers_variables() | {"dialgate_from": "auto"}).run("dialgate")
    return left.shown if left.how else ""


async def lua(folder: Path, agi: int, http: int) -> str:
    """Run the script in a real Lua interpreter."""
    script = folder / "dialgate.lua"
    script.write_text(configuration("freeswitch/dialgate.lua", agi, http))
    values = {"destination_number": TO, "caller_id_number": CALLER, "dialgate_from": "auto"}
    words = ("lua5.4", str(ROOT / "tests/tools/freeswitch_session.lua"), str(script), CAMPAIGN)
    process = await asyncio.create_subprocess_exec(
        *words, *(f"{name}={value}" for name, value in values.items()), stdout=asyncio.subprocess.PIPE
    )
    lines = (await process.communicate())[0].decode().splitlines()
    bridge = next((line for line in lines if line.startswith("bridge ")), "")
    return bridge.partition("origination_caller_id_number=")[2].partition("]")[0]


async def python(_: Path, __: int, http: int) -> str:
    async with Dialgate(f"http://127.0.0.1:{http}", KEY, timeout=20, clock=lambda: NOW / SECOND) as gate:
        verdict = await gate.check(to=TO, from_="auto", campaign=CAMPAIGN)
    return verdict.from_ if verdict.allow else ""


PRESENTING: dict[str, Place] = {
    "asterisk": asterisk,
    "vicidial": vicidial,
    "freeswitch-httapi": httapi,
    "freeswitch-lua": lua,
    "python": python,
}


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Pbx]:
    def replace_caller_ids(folder: Path) -> None:
        path = folder / "controllers/acme.yaml"
        text = yaml_files.read(path)
        (campaign,) = text["campaigns"]
        numbers = {"caller_ids": ["+390612345670", CHOSEN], "dial_region": "IT"}
        yaml_files.write(path, text | {"campaigns": [campaign | numbers]})

    async with pbx.run_gate(tmp_path, prepare=replace_caller_ids) as made:
        yield made


@pytest.mark.parametrize("name", PRESENTING)
async def test_a_dialer_presents_the_number_in_the_answer(name: str, tmp_path: Path, gate: Pbx) -> None:
    if name == "freeswitch-lua" and not (shutil.which("lua5.4") and shutil.which("curl")):
        pytest.skip("needs lua5.4 and curl")
    assert await PRESENTING[name](tmp_path, gate.port, gate.made.port) == CHOSEN
    (record,) = gate.made.records()
    assert (record.facts.caller_id.number, record.decision.allow) == (CHOSEN, True)


@pytest.mark.parametrize("name", PRESENTING.keys() - {"python"})
async def test_an_allow_without_a_number_places_no_call(name: str, tmp_path: Path) -> None:
    """An answer that does not say which number to present never lets a dialer present its own."""
    async with playing(repeat(allow)) as port:
        assert await PRESENTING[name](tmp_path, port, port) == ""


async def test_a_dialer_that_cannot_present_the_answer_refuses_auto(gate: Pbx) -> None:
    http = gate.made.port
    curl = configuration("asterisk/dialgate-curl.conf", gate.port, http)
    channel = Channel(extension=TO, caller="auto", variables=dict(AUTO))
    assert not (await dialplan.run(curl, "dialgate-out", channel)).how
    # Even if its filter for numbers is removed, the text of the answer is not exactly `allow`.
    unfiltered = curl.replace("${FILTER(+0-9,${CALLERID(num)})}", "auto")
    assert not (
        await dialplan.run(unfiltered, "dialgate-out", Channel(extension=TO, variables=dict(AUTO)))
    ).how
    xml = configuration("freeswitch/dialgate.xml", gate.port, http).replace(
        "from=${url_encode(${dg_from})}", "from=auto"
    )
    assert not (await FreeswitchCall(xml, dialers_variables()).run("dialgate")).how
    proxy = configuration("opensips/dialgate.cfg", gate.port, http).replace(
        '"&from=" + $(fU{rest.escape})', '"&from=auto"'
    )
    assert not (await opensips.place(proxy, "DIALGATE")).how
    assert [record.decision.allow for record in gate.made.records()] == [False, True, True, True]
