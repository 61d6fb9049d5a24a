"""Tests of test numbers: every reason code has one, and none of them permits a call of a client without the setting."""

from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core import phone
from dialgate.core.decision import decide
from dialgate.core.model import Deny
from dialgate.core.reasons import REASONS, classify
from dialgate.core.responses import Answer
from dialgate.gate.fixed_answers import TEST_NUMBERS, answer_for_test
from tests.support import world
from tests.support.world import CALL, CLEAR, KEY, SCOPES

TESTER = world.client("tests", KEY, *SCOPES) | {"test_numbers": True}
STATUS = {"gate.unavailable": 503, "rate.exceeded": 429}


def test_each_reason_code_has_one_number_and_no_network_routes_it() -> None:
    assert sorted(TEST_NUMBERS.values()) == sorted(["", *REASONS])
    for number in TEST_NUMBERS:
        with pytest.raises(phone.NotANumber):
            phone.parse(number, "IT")


async def test_each_number_gets_its_answer_and_is_recorded_as_invalid(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    async with world.running(tmp_path, clients=[TESTER], **store_settings) as gate:
        await world.load_list(gate)
        for number, code in TEST_NUMBERS.items():
            call = CALL | {"to": number}
            answer = await gate.post("/v1/check", call, STATUS.get(code, 200))
            async with gate.client.get("/v1/check.txt", params=call) as response:
                text = await response.text()
            async with gate.client.get("/v1/freeswitch/httapi", params=call) as response:
                actions = await response.text()
            if not code:
                assert (answer["decision"], answer["to"], answer["from"]) == ("allow", number, CALL["from"])
                assert text == "allow"
                assert "hangup" not in actions
                continue
            assert text.startswith(f"deny {code}")
            assert "hangup" in actions
            if code != "rate.exceeded":
                assert answer["decision"] == "deny"
                assert [reason["code"] for reason in answer["reasons"]] == [code]
                assert answer["reason_class"] == classify([code])
        for record in gate.records():
            assert not record.decision.allow
            assert isinstance(record.decision.outcomes["number_valid"], Deny)
            assert decide(record.facts, gate.app.config.laws[record.country]) == record.decision
        assert [page async for page in gate.app._store.counted_attempts() if page] == []
        assert (await gate.post("/v1/check", CALL, 200))["decision"] == "allow"  # other numbers as always


async def test_without_the_setting_a_test_number_is_invalid(tmp_path: Path) -> None:
    async with world.running(tmp_path) as gate:
        for number in TEST_NUMBERS:
            answer = await gate.post("/v1/check", CALL | {"to": number}, 200)
            assert [reason["code"] for reason in answer["reasons"]] == ["number.invalid"]


def test_a_number_that_was_not_denied_as_invalid_keeps_its_answer() -> None:
    answer = Answer(decision="deny", decision_id="x-1")
    assert answer_for_test(answer, next(iter(TEST_NUMBERS)), 1) is answer
    assert answer_for_test(answer, CLEAR, 1) is answer


def test_a_trunk_has_no_test_numbers(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path, clients=[TESTER | {"trunk": True}])
    with pytest.raises(ConfigError, match="has both `trunk` and `test_numbers`"):
        loader.load(path)
