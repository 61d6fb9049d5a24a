"""Limits of one client: it cannot make more calls than its setting, nor take the last space on the disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from dialgate.config.clients import Client
from dialgate.core.model import HOUR
from dialgate.gate.client_limits import RESERVE, CallRates, DiskShares
from tests.support import pbx, world
from tests.support.world import CALL, CLEAR, KEY, NOW, SCOPES, Hand, World

LIMITED = {**world.client("tests", KEY, *SCOPES), "calls_per_second": 1}
OTHER_KEY = "key-of-the-other-client"
DISK = 200 << 30


def client(calls: int, name: str = "acme") -> Client:
    return Client(name=name, controllers=("acme",), scopes=("check",), calls_per_second=calls)


# ---- calls per second ------------------------------------------------------------------------------------------------


def test_a_client_makes_its_calls_per_second_and_not_one_more() -> None:
    seconds = Hand(0)
    rates = CallRates(lambda: seconds.at / 1000)
    assert [rates.admit(client(3)) for _ in range(5)] == [True, True, True, False, False]
    assert [rates.admit(client(3, "other")) for _ in range(3)] == [True] * 3
    seconds.at = 333
    assert not rates.admit(client(3))
    seconds.at = 334
    assert rates.admit(client(3))
    assert not rates.admit(client(3))
    seconds.at = 3_600_000  # a pause is not saved up
    assert [rates.admit(client(3)) for _ in range(4)] == [True, True, True, False]


def test_a_changed_setting_takes_effect_at_once() -> None:
    rates = CallRates(lambda: 0.0)
    assert [rates.admit(client(10)) for _ in range(2)] == [True, True]
    assert [rates.admit(client(2)) for _ in range(3)] == [True, True, False]


QUERY = urlencode(CALL)
ASKED: list[tuple[str, str, Any]] = [
    ("POST", "/v1/check", CALL),
    ("GET", f"/v1/check.txt?{QUERY}", None),
    ("GET", f"/v1/check.form?{QUERY}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
async def test_a_call_over_the_limit_gets_429_and_no_decision(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    async with world.running(tmp_path, steady=lambda: 0.0, clients=[LIMITED]) as made:
        await made.post("/v1/check", CALL, 200)
        async with made.client.request(method, path, json=body) as response:
            text = await response.text()
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
        assert "rate.exceeded" in text
        if body is not None:
            assert msgspec.json.decode(text)["error"]["code"] == "rate.exceeded"
        else:
            assert text.startswith(("deny ", "decision=deny&"))
        assert len(made.records()) == 1
        assert made.sample("dialgate_calls_refused_total", client="tests") == 1


async def test_the_first_calls_of_a_batch_are_decided_and_the_others_denied(tmp_path: Path) -> None:
    async with world.running(
        tmp_path, steady=lambda: 0.0, clients=[LIMITED | {"calls_per_second": 2}]
    ) as made:
        answers = (await made.post("/v1/checks", {"calls": [CALL] * 4}, 200))["answers"]
        assert [bool(answer.get("decision_id")) for answer in answers] == [True, True, False, False]
        assert {answer["decision"] for answer in answers[2:]} == {"deny"}
        assert answers[3]["reasons"][0]["code"] == "rate.exceeded"
        assert answers[3]["reason_class"] == "gate"
        assert len(made.records()) == 2


async def test_asterisk_places_no_call_over_the_limit(tmp_path: Path) -> None:
    clients = [world.client("tests", KEY, *SCOPES), pbx.PBX | {"calls_per_second": 1}]
    async with pbx.run_gate(tmp_path, clients=clients) as asterisk:
        channels = [await asterisk.run_check(CLEAR) for _ in range(2)]
        while pbx.decision_and_reason(channels[-1]) == ("allow", ""):  # the machine took a second
            channels.append(await asterisk.run_check(CLEAR))
        assert pbx.decision_and_reason(channels[-1]) == ("deny", "rate.exceeded")
        assert channels[-1].variables["DG_CLASS"] == "gate"


# ---- the last space --------------------------------------------------------------------------------------------------


def refused(written: Mapping[str, int], size: int, free: int) -> set[str]:
    shares = DiskShares()
    shares.count(written)
    shares.look(size, free, NOW)
    return set(shares.refused)


def test_the_client_that_wrote_most_is_refused_first() -> None:
    written = {"heavy": 9_000, "middle": 5_000, "light": 100}
    assert refused(written, DISK, RESERVE) == set()
    assert refused(written, DISK, RESERVE - 1) == {"heavy"}
    assert refused(written, DISK, RESERVE // 2 + 1) == {"heavy"}
    assert refused(written, DISK, RESERVE // 2) == {"heavy", "middle"}
    assert refused(written, DISK, 0) == {"heavy", "middle"}  # the last one is never refused
    assert refused({"heavy": 9_000}, DISK, 0) == set()


def test_on_a_small_disk_a_twentieth_counts() -> None:
    written, small = {"heavy": 9_000, "light": 100}, 1 << 30
    assert refused(written, small, small // 20) == set()
    assert refused(written, small, small // 20 - 1) == {"heavy"}


def test_what_was_written_counts_for_about_an_hour() -> None:
    shares = DiskShares()
    shares.count({"morning": 9_000, "noon": 100})
    shares.look(DISK, 1, NOW)
    assert shares.refused == {"morning"}
    shares.look(DISK, 1, NOW + 4 * HOUR)
    shares.count({"noon": 9_000})
    shares.look(DISK, 1, NOW + 4 * HOUR)
    assert shares.refused == {"noon"}
    shares.look(DISK, DISK, NOW + 4 * HOUR)
    assert shares.refused == set()


async def check_as(made: World, key: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    async with made.client.post("/v1/check", json=CALL, headers=headers) as response:
        return response.status, await response.json()


async def test_while_the_disk_is_nearly_full_the_other_client_goes_on(tmp_path: Path) -> None:
    clients = [world.client("tests", KEY, *SCOPES), world.client("other", OTHER_KEY, "check")]
    async with world.running(tmp_path, clients=clients) as made:
        for key in (KEY, KEY, OTHER_KEY):
            assert (await check_as(made, key))[0] == 200
        made.app._upkeep.disk_shares.look(DISK, 1, NOW)
        status, answer = await check_as(made, KEY)
        assert (status, answer["reasons"][0]["code"]) == (503, "gate.unavailable")
        assert "disk is nearly full" in answer["reasons"][0]["text"]
        assert (await check_as(made, OTHER_KEY))[0] == 200
        made.app._upkeep.disk_shares.look(DISK, DISK, NOW)
        assert (await check_as(made, KEY))[0] == 200
        assert len(made.records()) == 5
