"""Tests of the recall line.

The line answers people who call back, and records a revocation when a caller presses a key. An answered call proves
that the caller ID can be called back.
"""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dialgate.interfaces.fastagi.recall import LANGUAGES
from dialgate.tools.conformance import dialplan
from tests.support import pbx
from tests.support.asterisk import Quirks
from tests.support.pbx import Pbx, decision_and_reason
from tests.support.world import CALLER, CLEAR, CONFIG

LINE = "+390299000000"  # a caller ID that needs a proof
ASKED = count()
DIALPLAN = CONFIG.parent / "deploy" / "asterisk" / "dialgate-recall.conf"
MENU = 'GET DATA "dialgate/it/menu" 5000 1'


@pytest.fixture
async def asterisk(tmp_path: Path) -> AsyncIterator[Pbx]:
    async with pbx.run_gate(tmp_path) as made:
        pbx.present(made.made.app, LINE)
        yield made


async def called_back(
    asterisk: Pbx,
    caller: str = CLEAR,
    called: str = LINE,
    *,
    quirks: Quirks | None = None,
    language: str = "it",
) -> list[str]:
    """Return the prompts that a caller hears."""
    channel = asterisk.channel(called, quirks=quirks or Quirks(), language=language)
    channel.caller = caller
    await asterisk.agi(channel, "recall")
    assert channel.violations == []
    return channel.said


async def check_call(asterisk: Pbx, shown: str = CALLER) -> tuple[str, str]:
    """Check a call with the caller ID `shown`, under a new call id."""
    channel = asterisk.channel(CLEAR)
    channel.uniqueid = f"2.{next(ASKED)}"
    await asterisk.agi(channel, "check", CLEAR, shown, "acme-fibre")
    return decision_and_reason(channel)


async def test_the_recall_line_announces_caller_and_controller(asterisk: Pbx) -> None:
    said = await called_back(asterisk)
    assert said == [
        "ANSWER",
        'STREAM FILE "dialgate/it/welcome" "1"',
        'STREAM FILE "dialgate/it/who-acme" "1"',
        MENU,
        MENU,
        'STREAM FILE "dialgate/it/goodbye" ""',
        "HANGUP",
    ]


async def test_a_key_press_records_a_revocation(asterisk: Pbx) -> None:
    assert await check_call(asterisk) == ("allow", "")
    said = await called_back(asterisk, quirks=Quirks(keys=("1",)))
    assert said.count(MENU) == 1
    assert 'STREAM FILE "dialgate/it/stopped" ""' in said
    assert await check_call(asterisk) == ("deny", "revocation.revoked")
    async with asterisk.made.client.get(
        "/v1/revocations", params={"number": CLEAR, "purpose": "complaint"}
    ) as answer:
        entry = (await answer.json())["entries"][0]
    assert (entry["channel"], entry["proof"], entry["actor"]) == ("recall", "recall:1795510800.1", "pbx")


@pytest.mark.parametrize("during", ["welcome", "who-acme"])
async def test_a_key_press_before_the_menu_records_a_revocation(asterisk: Pbx, during: str) -> None:
    """The controller is still announced, but the menu is not read out."""
    assert await check_call(asterisk) == ("allow", "")
    said = await called_back(asterisk, quirks=Quirks(early={f"dialgate/it/{during}": "1"}))
    keys = '""' if during == "welcome" else '"1"'
    assert said[2:] == [
        f'STREAM FILE "dialgate/it/who-acme" {keys}',
        'STREAM FILE "dialgate/it/stopped" ""',
        'STREAM FILE "dialgate/it/goodbye" ""',
        "HANGUP",
    ]
    assert await check_call(asterisk) == ("deny", "revocation.revoked")


@pytest.mark.parametrize("called", ["+390299000000", "390299000000", "0299000000"])
async def test_the_shipped_dialplan_answers_in_italian(asterisk: Pbx, called: str) -> None:
    """The cases include a default Asterisk, whose channels are in English."""
    text = DIALPLAN.read_text().replace("127.0.0.1:4573", f"127.0.0.1:{asterisk.port}")
    channel = asterisk.channel(called, language="en")
    assert (await dialplan.run(text, "dialgate-recall", channel)).how == ""
    assert channel.said[:2] == ["ANSWER", 'STREAM FILE "dialgate/it/welcome" "1"']
    assert channel.ended


async def test_the_caller_of_a_french_caller_id_is_french(asterisk: Pbx) -> None:
    """The trunk omits the caller's country code. In Italy, the same digits would be a landline number in Rome."""
    pbx.present(asterisk.made.app, "+33162123456")
    await called_back(asterisk, "0612345678", "+33162123456", quirks=Quirks(keys=("1",)))
    keys, store = asterisk.made.app.registrar.access.keys, asterisk.made.app._store
    (entry,) = await store.since(0, 9)
    assert keys.ledger.unseal(entry.sealed) == "+33612345678"


async def test_another_key_records_nothing(asterisk: Pbx) -> None:
    said = await called_back(asterisk, quirks=Quirks(keys=("5",)))
    assert said.count(MENU) == 2
    assert await check_call(asterisk) == ("allow", "")


async def test_an_answered_call_proves_the_caller_id(asterisk: Pbx) -> None:
    """Before the answered call, checks with this caller ID are denied. The proof expires as the country file says."""
    assert await check_call(asterisk, LINE) == ("deny", "caller_id.not_recallable")
    await called_back(asterisk)
    await asterisk.made.app.tick()
    assert await check_call(asterisk, LINE) == ("allow", "")


UNANSWERED: list[dict[str, Any]] = [
    {"replies": {"ANSWER": "200 result=-1"}},
    {"replies": {"STREAM FILE": "200 result=-1 endpos=0"}},
    {"replies": {"ANSWER": "511 Command Not Permitted on a dead channel or intercept routine"}},
    {"hangup_before": 1},
    {"hangup_before": 3},
    {"replies": {'STREAM FILE "dialgate/it/who-acme"': "200 result=-1 endpos=0"}},  # the file is missing
]


@pytest.mark.parametrize("quirks", UNANSWERED)
async def test_a_call_without_an_announced_controller_proves_nothing(
    asterisk: Pbx, quirks: dict[str, Any]
) -> None:
    await called_back(asterisk, quirks=Quirks(**quirks))
    await asterisk.made.app.tick()
    assert await check_call(asterisk, LINE) == ("deny", "caller_id.not_recallable")


async def test_a_caller_with_withheld_number_hears_other_ways_to_object(asterisk: Pbx) -> None:
    said = await called_back(asterisk, "unknown")
    assert 'STREAM FILE "dialgate/it/withheld" ""' in said
    assert MENU not in said


@pytest.mark.parametrize("quirks", [Quirks(keys=("1",)), Quirks(early={"dialgate/it/welcome": "1"})])
async def test_a_revocation_that_cannot_be_recorded_is_not_confirmed(asterisk: Pbx, quirks: Quirks) -> None:
    await asterisk.made.app._store.close()
    said = await called_back(asterisk, quirks=quirks)
    assert 'STREAM FILE "dialgate/it/failed" ""' in said
    assert not [line for line in said if "stopped" in line]


@pytest.mark.parametrize("called", ["0299000000", "390299000000", "00390299000000"])
async def test_the_dialled_number_may_have_any_notation(asterisk: Pbx, called: str) -> None:
    assert "ANSWER" in await called_back(asterisk, called=called)


@pytest.mark.parametrize("called", ["+390299000001", "9000000", "s", "00"])
async def test_a_call_to_another_number_is_not_answered(asterisk: Pbx, called: str) -> None:
    assert "ANSWER" not in await called_back(asterisk, called=called)


@pytest.mark.parametrize(("language", "spoken"), [("en", "en"), ("en_GB", "en"), ("de", "it")])
async def test_prompts_are_in_the_channels_language_or_italian(
    asterisk: Pbx, language: str, spoken: str
) -> None:
    assert f'STREAM FILE "dialgate/{spoken}/welcome" "1"' in await called_back(asterisk, language=language)


def test_every_prompt_has_its_text_in_every_language() -> None:
    prompts = {"welcome", "menu", "stopped", "withheld", "failed", "goodbye"}
    for language in LANGUAGES:
        found = {path.stem for path in (CONFIG / "prompts" / language).glob("*.txt")}
        assert {name for name in found if not name.startswith("who-")} == prompts
        assert "who-acme" in found
