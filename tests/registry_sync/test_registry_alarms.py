"""Tests of the alarm `expiring`: a number has no valid answer, and no query will return one in time.

The clock is manual; the registry is simulated, on real files.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dialgate.core.model import DAY, HOUR, SECOND
from registry_sync.run_report import Summary
from tests.support.registry_world import NUMBERS, JobWorld, load_list
from tests.support.world import NOW

FIRST, LATER = NUMBERS[:200], NUMBERS[200:]


class Case(NamedTuple):
    """A scenario, and the alarms that the last run of the job must raise.

    The first run submits the numbers of a call list. If `answered` is true, the registry responds at once, and the job
    runs again. `fault` is the fault that the simulated registry injects, if any. If `second` is true, a second call
    list is loaded. The last run is `after` milliseconds after the first. `expiring_numbers` is the count in the text
    of the alarm `expiring`.
    """

    after: int
    alarms: set[str]
    expiring_numbers: int = 0
    settings: dict[str, Any] = {}  # noqa: RUF012 - never changed
    answered: bool = True
    fault: str = ""
    second: bool = True
    dry: bool = False


CASES = {
    "the list was submitted in this run": Case(0, set(), answered=False, second=False),
    "the answer is awaited": Case(24 * HOUR, set(), answered=False, second=False),
    "the answer is overdue": Case(
        24 * HOUR + SECOND, {"answer_overdue", "expiring", "no_consultation"}, 200, answered=False, second=False
    ),
    "the answer is faulty": Case(
        HOUR, {"answer_faulty", "expiring", "no_consultation"}, 200, fault="partial", second=False
    ),
    "the registry refused the package": Case(
        HOUR, {"package_refused", "expiring", "no_consultation"}, 200, fault="refused", second=False
    ),
    "a second list is loaded; the next submission is before the next run": Case(
        HOUR, set(), settings={"submit_every_hours": 20}
    ),
    "a second list is loaded; the next submission is exactly at the next run": Case(
        HOUR, set(), settings={"submit_every_hours": 25}
    ),
    "a second list is loaded; the next submission is after the next run": Case(
        HOUR - SECOND, {"expiring"}, 100, settings={"submit_every_hours": 25}
    ),
    "a second list is loaded; the yearly limit is reached": Case(
        HOUR, {"expiring", "spending_limit", "band_short"}, 100, settings={"submit_every_hours": 20, "numbers_a_year": 200}
    ),
    "a second list is loaded; the yearly limit allows half of it": Case(
        HOUR, {"expiring", "spending_limit", "band_short"}, 50, settings={"submit_every_hours": 20, "numbers_a_year": 250}
    ),
    "a second list is loaded and submitted": Case(21 * HOUR, set(), settings={"submit_every_hours": 20}),
    "a dry run would submit the second list": Case(21 * HOUR, set(), settings={"submit_every_hours": 20}, dry=True),
    "a month has passed; the next consultation is under way": Case(31 * DAY, set()),
}  # fmt: skip


async def run_case(job: JobWorld, case: Case) -> Summary:
    await load_list(job, FIRST)
    first = await job.run_once()
    job.registry.fault = case.fault
    if case.answered:
        first = await job.answer_and_run()
    if case.second:
        await load_list(job, LATER, name="milan")
    job.clock.at = NOW + case.after
    if not case.after:
        return first
    (part,) = (await job.run(dry=case.dry)).parts
    return part


@pytest.mark.parametrize("name", CASES)
async def test_expiring_numbers_raise_an_alarm_unless_a_query_is_under_way_or_due(
    tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    part = await run_case(JobWorld(tmp_path, **case.settings), case)
    assert {alarm.kind for alarm in part.alarms} == case.alarms
    assert _expiring_counts(part) == ([f"{case.expiring_numbers:,}"] if case.expiring_numbers else [])


def _expiring_counts(part: Summary) -> Iterable[str]:
    """Return the number at the start of each `expiring` alarm's text."""
    return [alarm.text.split()[0] for alarm in part.alarms if alarm.kind == "expiring"]
