import json
import subprocess
import sys

import pytest

from dialgate.tools.capacity import AGENT_CALLS, MEASURED, capacity
from tests.support.commands import run_command
from tests.support.paths import ROOT

# A busy machine and a small run measure another value. A constant that no longer holds differs by more.
FACTOR = 3
SMALL = {
    "capacity": ("--requests", "4000"),
    "configuration": ("--campaigns", "20000"),
    "log": ("--records", "10000"),
    "numberset": ("--numbers", "1000000"),
    "ledger": ("--revocations", "20000", "--store", "redis"),
}


@pytest.mark.torture
@pytest.mark.parametrize("benchmark", SMALL)
def test_each_constant_is_near_a_new_measurement(benchmark: str) -> None:
    words = [sys.executable, "-m", "tests.bench", benchmark, *SMALL[benchmark]]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    measured = {figure["name"]: figure["value"] for figure in map(json.loads, done.stdout.splitlines())}
    expected = {
        constant.figure: constant.value for constant in MEASURED.values() if constant.figure in measured
    }
    of_this = {
        name for name in (item.figure for item in MEASURED.values()) if name.startswith(f"{benchmark}.")
    }
    assert expected.keys() == of_this
    ratios = {name: measured[name] / value for name, value in expected.items()}
    assert {name: ratio for name, ratio in ratios.items() if not 1 / FACTOR < ratio < FACTOR} == {}


def test_every_constant_is_measured_again() -> None:
    assert {constant.figure.partition(".")[0] for constant in MEASURED.values()} == SMALL.keys()


def test_a_country_is_calculated_from_the_constants() -> None:
    needed = capacity(20_000_000, 90)
    assert needed.mean_checks_per_second == 231
    attempts = 20e6 * 90 * MEASURED["attempt"].value / 1e9
    assert attempts < needed.redis_memory_gb < attempts * 2
    assert needed.log_packed_gb_per_month == pytest.approx(
        20e6 * 30 * MEASURED["packed"].value / 1e9, rel=0.05
    )
    assert (needed.registry_numbers_per_year, needed.gates) == (120_000_000, 2)


def test_more_calls_need_more_gates_than_two() -> None:
    assert capacity(1_000_000_000, 90).gates > 10
    assert capacity(1_000_000_000, 90, "embedded").gates == 1


@pytest.mark.parametrize(
    ("words", "code", "calls"),
    [
        (("--calls-per-day", "1000"), 0, 1000),
        (("--agents", "20"), 0, 20 * AGENT_CALLS),
        ((), 2, None),
        (("--agents", "20", "--calls-per-day", "1"), 2, None),
    ],
)
def test_the_command_takes_calls_or_agents(words: tuple[str, ...], code: int, calls: int | None) -> None:
    done = run_command("dialgate", "capacity", *words, "--json")
    assert done.code == code
    assert json.loads(done.out).get("calls_per_day") == calls


def test_the_command_shows_a_table() -> None:
    shown = run_command("dialgate", "capacity", "--agents", "200").out
    assert "redis memory gb" in shown
    assert "embedded store gb" not in shown
