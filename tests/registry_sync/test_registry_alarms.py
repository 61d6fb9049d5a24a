"""When a number without an answer that holds is a matter for a person: not while one is on its way, or asked for in time.

The clock is a value; the registry is simulated, on real files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dialgate.core.model import DAY, HOUR, SECOND
from registry_sync.run_report import Summary
from tests.support.registry_world import NUMBERS, Night, load_list
from tests.support.world import NOW

FIRST, LATER = NUMBERS[:200], NUMBERS[200:]


class Case(NamedTuple):
    """A list is submitted, and `answered` at once, unless the registry's `fault` prevents it. Perhaps a `second` is loaded.
    `after` so long the job runs, and has `raised` alarms, `expiring` `about` so many numbers."""

    after: int
    raised: set[str]
    about: int = 0
    settings: dict[str, Any] = {}  # noqa: RUF012 - nothing changes it
    answered: bool = True
    fault: str = ""
    second: bool = True
    dry: bool = False


CASES = {
    "the list was submitted in this run": Case(0, set(), answered=False, second=False),
    "it is awaited": Case(24 * HOUR, set(), answered=False, second=False),
    "its answer is overdue": Case(
        24 * HOUR + SECOND, {"answer_overdue", "expiring", "no_consultation"}, 200, answered=False, second=False
    ),
    "its answer is faulty": Case(
        HOUR, {"answer_faulty", "expiring", "no_consultation"}, 200, fault="partial", second=False
    ),
    "the registry refused it": Case(
        HOUR, {"package_refused", "expiring", "no_consultation"}, 200, fault="refused", second=False
    ),
    "a list came since, and the next submission is before the next run": Case(
        HOUR, set(), settings={"submit_every_hours": 20}
    ),
    "a list came since, and the next submission is just before the next run": Case(
        HOUR, set(), settings={"submit_every_hours": 25}
    ),
    "a list came since, and the next submission is after the next run": Case(
        HOUR - SECOND, {"expiring"}, 100, settings={"submit_every_hours": 25}
    ),
    "a list came since, and the year's spending is over": Case(
        HOUR, {"expiring", "spending_limit"}, 100, settings={"submit_every_hours": 20, "numbers_a_year": 200}
    ),
    "a list came since, and the year's spending allows half of it": Case(
        HOUR, {"expiring", "spending_limit"}, 50, settings={"submit_every_hours": 20, "numbers_a_year": 250}
    ),
    "a list came since, and is submitted": Case(21 * HOUR, set(), settings={"submit_every_hours": 20}),
    "a dry run would submit it": Case(21 * HOUR, set(), settings={"submit_every_hours": 20}, dry=True),
    "a month has passed, and the next consultation is under way": Case(31 * DAY, set()),
}  # fmt: skip


async def judged(night: Night, case: Case) -> Summary:
    await load_list(night, FIRST)
    first = await night.part()
    night.registry.fault = case.fault
    if case.answered:
        first = await night.night()
    if case.second:
        await load_list(night, LATER, name="milan")
    night.hand.at = NOW + case.after
    if not case.after:
        return first
    (part,) = (await night.run(dry=case.dry)).parts
    return part


@pytest.mark.parametrize("name", CASES)
async def test_only_what_is_neither_on_its_way_nor_about_to_be_asked_for_is_an_alarm(
    tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    part = await judged(Night(tmp_path, **case.settings), case)
    assert {alarm.kind for alarm in part.alarms} == case.raised
    assert _told(part) == ([f"{case.about:,}"] if case.about else [])


def _told(part: Summary) -> Iterable[str]:
    """How many numbers `expiring` speaks of."""
    return [alarm.text.split()[0] for alarm in part.alarms if alarm.kind == "expiring"]
