import time
from collections.abc import Sequence

import numpy as np
import pytest

from dialgate.core.responses import Answer, refusal
from tests.bench import soak
from tests.bench.growth import fit
from tests.bench.oracle import LIMIT, Oracle

ALLOW = Answer(decision="allow", decision_id="log-1")
FAILED = refusal("gate.unavailable")


def judged(answers: Sequence[Answer], late: float | None = None) -> Oracle:
    """Return an oracle with the answers to checks of one number, which began `late` seconds after its stop, if it has one."""
    oracle = Oracle(1)
    if late is not None:
        oracle.stop(0)
    for check, answer in enumerate(answers):
        oracle.answered(0, check, time.monotonic() + (late or 0), answer)
    return oracle


@pytest.mark.parametrize(
    ("answers", "late", "faults"),
    [
        ([ALLOW] * LIMIT, None, 0),
        ([ALLOW] * (LIMIT + 1), None, 1),
        ([ALLOW], 1, 1),
        ([ALLOW], -1, 0),  # asked before the stop was acknowledged: either order is possible
        ([FAILED] * 9, 1, 0),
    ],
)
def test_the_oracle_finds_unlawful_allows(answers: list[Answer], late: float | None, faults: int) -> None:
    assert len(judged(answers, late).faults) == faults


def test_the_oracle_finds_allows_that_no_log_contains() -> None:
    oracle = judged([ALLOW, FAILED, ALLOW])
    oracle.logged(0)
    assert [*oracle.unlogged()] == ["1 allows are in no log, the first of check 2"]
    oracle.logged(2)
    assert [*oracle.unlogged()] == []


def test_an_outage_lasts_until_the_last_denial_without_a_decision() -> None:
    oracle = judged([ALLOW, FAILED, FAILED])
    oracle.answered(0, 3, time.monotonic(), ALLOW)
    figures = {figure.name: figure.value for figure in oracle.figures([time.monotonic() - 3])}
    assert figures["soak.outage"] == pytest.approx(3, abs=0.5)
    assert figures["soak.unavailable"] == 0
    figures = {figure.name: figure.value for figure in oracle.figures([time.monotonic() + 1])}
    assert (figures["soak.outage"], figures["soak.unavailable"]) == (0, 2)


def test_a_slope_comes_with_its_standard_error() -> None:
    times = np.arange(100.0)
    assert fit(times, 5 + 2 * times) == pytest.approx((2, 0))
    noise = np.random.default_rng(1).normal(0, 10, 100)
    slope, error = fit(times, 2 * times + noise)
    expected = np.polyfit(times, 2 * times + noise, 1, cov="unscaled")
    assert slope == pytest.approx(expected[0][0])
    assert error == pytest.approx(10 * expected[1][0, 0] ** 0.5, rel=0.2)


@pytest.mark.torture
def test_two_gates_survive_five_minutes_of_everything() -> None:
    figures = {figure.name: figure.value for figure in soak.run(minutes=5, rate=500, failover_minutes=2)}
    assert figures["soak.failovers"] == 2
    assert min(figures[f"soak.{name}"] for name in ("stops", "reloads", "swaps", "removals", "outcomes")) > 0
    for gate in ("one", "two"):
        growth, error = (figures[f"soak.{gate}.threads_{name}"] for name in ("slope", "slope_error"))
        assert growth < 60 + 3 * error  # a thread a minute, which would not be noise
