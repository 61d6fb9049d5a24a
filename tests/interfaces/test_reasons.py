"""Tests of the reason class, which tells a dialer how to handle a denial.

They cover the table in the documentation, the order of the classes, and every response format that contains the class.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dialgate.config import loader
from dialgate.core.reasons import REASON_CLASSES, REASONS, classify
from dialgate.interfaces.http.error_codes import CODES
from dialgate.tools.conformance import dialplan
from dialgate.tools.conformance.dialers import lead_status
from tests.support import pbx, yaml_files
from tests.support.paths import ROOT
from tests.support.pbx import CAMPAIGN, Pbx
from tests.support.world import CALLER, CLEAR, LISTED

PAGE = (
    (ROOT / "docs/reference/reasons.md")
    .read_text("utf-8")
    .partition("| class | reasons |")[2]
    .partition("\n\n")[0]
)


def test_the_reference_lists_every_code_in_its_class() -> None:
    named = {
        code: name
        for name, codes in re.findall(r"^\| `(number|call|gate)` \| (.*?) \|", PAGE, re.MULTILINE)
        for code in re.findall("`([^`]+)`", codes)
    }
    assert named == REASON_CLASSES


COMBINED = [
    ((), ""),
    (("hours.outside", "registry.listed"), "number"),
    (("gate.rule_error", "revocation.revoked"), "number"),
    (("gate.rule_error", "frequency.exceeded"), "call"),
    (("registry.expired",), "call"),
    (("caller_id.not_assigned", "campaign.unknown"), "call"),
    (("gate.unavailable",), "gate"),
    (("number.invalid", "registry.unknown"), "number"),
    (("number.invalid", "campaign.unknown"), "call"),
    (("campaign.unknown", "number.not_diallable", "consent.missing"), "call"),
]


@pytest.mark.parametrize(("codes", "expected"), COMBINED)
def test_the_class_that_applies_longest_counts(codes: tuple[str, ...], expected: str) -> None:
    assert classify(codes) == expected


NATIONAL, UNSIGNED = CLEAR.removeprefix("+39"), CLEAR.removeprefix("+")
# Called number, campaign, the campaign's dial region, and the class. `+3900` is not in the numbering plan.
WRITTEN = [
    (UNSIGNED, "fibre", "IT", "call"),
    (NATIONAL, "fibre", "IT", "call"),
    (UNSIGNED, "", "IT", "call"),
    ("118", "fibre", "IT", "call"),
    (UNSIGNED, CAMPAIGN, "", "call"),
    (NATIONAL, CAMPAIGN, "", "call"),
    ("%2B" + UNSIGNED, CAMPAIGN, "IT", "call"),
    (CLEAR.replace("+39", "+39,"), CAMPAIGN, "IT", "call"),
    ("", CAMPAIGN, "IT", "call"),
    ("+3900", CAMPAIGN, "IT", "number"),
    ("118", CAMPAIGN, "IT", "number"),
    (LISTED, CAMPAIGN, "", "number"),
]


@pytest.mark.parametrize(("to", "campaign", "dial_region", "expected"), WRITTEN)
async def test_only_a_number_that_was_read_becomes_do_not_call(
    tmp_path: Path, to: str, campaign: str, dial_region: str, expected: str
) -> None:
    """If the campaign is unknown or has no dial region, the number may be misread.

    Dialers must not mark a misread number as do-not-call.
    """
    async with pbx.run_gate(tmp_path) as asterisk:
        dial_in(asterisk, dial_region)
        asked = {"to": to, "from": CALLER, "campaign": campaign}
        client = asterisk.made.client
        for path in ("/v1/check", "/v1/simulate"):
            async with client.post(path, json=asked) as answer:
                assert (await answer.json())["reason_class"] == expected
        async with client.get("/v1/check.txt", params=asked) as answer:
            assert answer.headers["Dialgate-Class"] == expected
        channel = asterisk.channel(to)
        await asterisk.agi(channel, "check", to, CALLER, campaign)
        assert channel.variables["DG_CLASS"] == expected
        await asterisk.agi(channel, "vicidial", to, CALLER, "V7152252280000844707", campaign)
        found = channel.variables["DIALSTATUS"], channel.variables["HANGUPCAUSE"]
        assert found == (("DNC", "34") if expected == "number" else ("CONGESTION", "42"))


def dial_in(asterisk: Pbx, region: str) -> None:
    """Change the campaign's dial region."""
    app = asterisk.made.app
    path = app.config.folder / "controllers" / "acme.yaml"
    written = yaml_files.read(path)
    written["campaigns"][0]["dial_region"] = region
    yaml_files.write(path, written)
    app.reload(loader.load(app.config.path))


@pytest.mark.parametrize(("campaign", "status"), [("FIBRE", ""), ("ACME-FIBRE", "DNCCAR")])
async def test_a_lead_of_an_unknown_campaign_stays_callable(
    asterisk: Pbx, campaign: str, status: str
) -> None:
    """The VICIdial carrier entry marks an enrolled number as do-not-call only if the gate knows the campaign.

    The test runs `deploy/vicidial/carrier-entry.conf`.
    """
    channel = asterisk.channel(f"9{LISTED.removeprefix('+')}", caller_name="V7152252280000844707")
    channel.variables |= {"CAMPCUST": campaign, "CAMPDTO": "60"}
    entry = (ROOT / "deploy/vicidial/carrier-entry.conf").read_text("utf-8")
    await dialplan.run(entry.replace("127.0.0.1:4573", f"127.0.0.1:{asterisk.port}"), "", channel)
    found = channel.variables["DIALSTATUS"], channel.variables["HANGUPCAUSE"]
    assert lead_status(*found) == status


@pytest.mark.parametrize("code", sorted(set(CODES) - set(REASONS)))
def test_an_error_is_never_of_class_number(code: str) -> None:
    assert classify([code]) == "gate"


@pytest.fixture
async def asterisk(tmp_path: Path) -> AsyncIterator[Pbx]:
    async with pbx.run_gate(tmp_path) as made:
        yield made


async def test_agi_sets_the_class_and_an_error_is_of_class_gate(asterisk: Pbx) -> None:
    seen = [
        (await asterisk.run_check(to, script=script)).variables["DG_CLASS"]
        for to, script in ((LISTED, "check"), (CLEAR, "check"), (CLEAR, "elsewhere"))
    ]
    assert seen == ["number", "", "gate"]
