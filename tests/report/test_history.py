"""History: its counts are those of the log's records, read one by one, whatever is cached, packed or added meanwhile."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core.local_time import instant_in
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Instant
from dialgate.crypto.keys import Keys
from dialgate.decision_log import chains
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.report.history import DecisionHistory, HistoryOrder, HistoryRow, gather_history, history_csv
from tests.support import sample_log
from tests.support.sample_log import NOW, SampleDecision
from tests.support.world import CLEAR, write_folder

ROME = "Europe/Rome"
TODAY = date(2026, 11, 24)
CAMPAIGNS = {"acme": ("acme-fibre", "acme-mobile"), "rival": ("rival-loans",)}
LISTS = ((), ("rome",), ("rome", "milan"))


def draw_decisions(draw: random.Random, since: Instant, until: Instant, number: int) -> list[SampleDecision]:
    """Return random decisions of two controllers, oldest first."""
    decisions = []
    for at in sorted(draw.randrange(since, until) for _ in range(number)):
        controller = draw.choice(list(CAMPAIGNS))
        decisions.append(
            SampleDecision(
                CLEAR,
                at,
                allow=draw.random() < 0.6,
                controller=controller,
                campaign=draw.choice(CAMPAIGNS[controller]),
                lists=draw.choice(LISTS),
                shadow=draw.random() < 0.1,
            )
        )
    return decisions


@pytest.fixture
def config(tmp_path: Path) -> Config:
    loaded = loader.load(write_folder(tmp_path))
    loaded.data.mkdir()
    return loaded


def write_log(config: Config, decisions: Iterable[SampleDecision], log: int = 1) -> None:
    keys = Keys.open(config.data / "keys.json", log)
    sample_log.write(chains.folder(config.data, log), keys, decisions)


def order(
    first: date, last: date, now: Instant = NOW, controller: str = "acme", **more: object
) -> HistoryOrder:
    return HistoryOrder(controller=controller, zone=ROME, first=first, last=last, now=now, **more)  # type: ignore[arg-type]


def records(
    config: Config, asked: HistoryOrder, first: date, last: date
) -> Iterator[tuple[date, int, Record]]:
    """Read the controller's decisions entry by entry, with their local day and hour."""
    for _, entry in Chains(config.data).entries():
        if isinstance(entry, Record) and entry.facts.controller.id == asked.controller:
            local = datetime.fromtimestamp(entry.at // SECOND, ZoneInfo(ROME))
            is_wanted = first <= local.date() <= last and asked.hours[0] <= local.hour < asked.hours[1]
            if is_wanted and asked.campaign in {"", entry.facts.campaign.id}:
                yield local.date(), local.hour, entry


def counted(config: Config, asked: HistoryOrder) -> dict[str, object]:
    """Return what the history must hold."""
    campaigns, lists, reasons, slots = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    allowed = let_through = 0
    is_day = asked.first == asked.last
    for day, hour, record in records(config, asked, asked.first, asked.last):
        campaigns[record.facts.campaign.id] += 1
        lists.update([listing.list for listing in record.facts.listings] or [""])
        slots[f"{hour:02}" if is_day else day.isoformat()] += 1
        allowed += record.decision.allow
        if not record.decision.allow:
            reasons[record.decision.reasons[0].code] += 1
            let_through += record.shadow
    return {
        "allowed": allowed, "let_through": let_through, "campaigns": campaigns, "lists": lists, "reasons": reasons,
        "slots": slots,
    }  # fmt: skip


def shown(history: DecisionHistory) -> dict[str, object]:
    sections = {
        name: Counter({row.name: row.checked for row in getattr(history, name) if row.checked})
        for name in ("campaigns", "lists", "reasons", "slots")
    }
    return {"allowed": history.total.allowed, "let_through": history.total.let_through, **sections}


ORDERS = [
    order(TODAY - timedelta(days=6), TODAY),
    order(TODAY, TODAY),
    order(TODAY - timedelta(days=1), TODAY - timedelta(days=1), hours=(9, 13)),
    order(TODAY - timedelta(days=29), TODAY, controller="rival"),
    order(TODAY - timedelta(days=4), TODAY - timedelta(days=2), campaign="acme-mobile"),
]


def test_counts_are_those_of_the_records_before_and_after_packing_and_from_the_cache(config: Config) -> None:
    draw = random.Random(7)
    write_log(config, draw_decisions(draw, NOW - 20 * DAY, NOW, 3_000))
    write_log(config, draw_decisions(draw, NOW - 3 * DAY, NOW, 300), log=2)
    wanted = [counted(config, asked) for asked in ORDERS]
    assert all(one["allowed"] for one in wanted)
    fresh = [gather_history(config, asked) for asked in ORDERS]
    assert [shown(history) for history in fresh] == wanted
    assert [gather_history(config, asked) for asked in ORDERS] == fresh
    for log in (1, 2):
        for segment in closed_segments(chains.folder(config.data, log), 1 << 60):
            pack(segment)
    assert [gather_history(config, asked) for asked in ORDERS] == fresh
    for path in (config.data / "history").rglob("*.history"):
        path.write_bytes(b"damaged") if draw.random() < 0.5 else path.unlink()
    assert [gather_history(config, asked) for asked in ORDERS] == fresh


def test_a_day_in_progress_is_counted_on_from_where_the_last_request_ended(config: Config) -> None:
    draw, asked = random.Random(8), order(TODAY - timedelta(days=1), TODAY)
    begin, total = NOW - 30 * HOUR, []
    for step in range(5):
        until = begin + 7 * HOUR
        write_log(config, draw_decisions(draw, begin, until, 60))
        if step == 3:  # another log, as after a restore
            write_log(config, draw_decisions(draw, begin - 20 * HOUR, until, 60), log=2)
        begin, now = until, order(asked.first, asked.last, until)
        history = gather_history(config, now)
        assert shown(history) == counted(config, now)
        total.append(history.total.checked)
    assert total == sorted(set(total))


def test_a_late_log_of_another_node_is_added_to_a_finished_day(config: Config) -> None:
    yesterday = TODAY - timedelta(days=1)
    write_log(config, [SampleDecision(CLEAR, NOW - DAY)])
    assert gather_history(config, order(yesterday, yesterday)).total.allowed == 1
    write_log(config, [SampleDecision(CLEAR, NOW - DAY, allow=False)] * 3, log=2)
    again = gather_history(config, order(yesterday, yesterday)).total
    assert (again.allowed, again.denied) == (1, 3)


def test_a_local_day_begins_at_midnight_of_the_controller(config: Config) -> None:
    at = instant_in(ROME, datetime(2026, 11, 20))  # noqa: DTZ001 - the zone's clock
    write_log(config, [SampleDecision(CLEAR, at + offset) for offset in (-1, 0, 1, DAY - 1, DAY)])
    days = {day: gather_history(config, order(day, day)) for day in (date(2026, 11, 19), date(2026, 11, 20))}
    assert [history.total.allowed for history in days.values()] == [1, 3]
    assert {row.name: row.allowed for row in days[date(2026, 11, 20)].slots if row.allowed} == {
        "00": 2,
        "23": 1,
    }


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 10, 25), {"00": 4, "01": 4, "02": 8, "03": 4}), (date(2026, 10, 18), dict.fromkeys(("00", "01", "02", "03"), 4))],
)  # fmt: skip
def test_the_repeated_hour_at_the_end_of_summer_time_is_counted_twice(
    config: Config, day: date, hours: dict[str, int]
) -> None:
    begin = instant_in(ROME, datetime(day.year, day.month, day.day))  # noqa: DTZ001 - the zone's clock
    times = range(begin, begin + sum(hours.values()) * 15 * MINUTE, 15 * MINUTE)
    write_log(config, [SampleDecision(CLEAR, at) for at in times])
    slots = gather_history(config, order(day, day)).slots
    assert {row.name: row.allowed for row in slots if row.allowed} == hours


def test_no_call_falls_in_the_hour_that_summer_time_skips(config: Config) -> None:
    day = date(2027, 3, 28)
    begin = instant_in(ROME, datetime(2027, 3, 28))  # noqa: DTZ001 - the zone's clock
    write_log(config, [SampleDecision(CLEAR, begin + number * HOUR) for number in range(4)])
    slots = gather_history(config, order(day, day, begin + DAY)).slots
    assert [row.name for row in slots if row.allowed] == ["00", "01", "03", "04"]


def test_a_day_in_progress_is_compared_up_to_the_same_hour_of_the_week_before(config: Config) -> None:
    """It is 10:00 in Rome: of the week before, the calls from ten on do not count."""
    last_week = [SampleDecision(CLEAR, NOW - 7 * DAY + hours * HOUR) for hours in (-2, -1, 0, 1)]
    today = [SampleDecision(CLEAR, NOW + minutes * MINUTE, allow=False) for minutes in (-90, -30, -5, 20)]
    write_log(config, [*last_week, *today])
    history = gather_history(config, order(TODAY, TODAY, NOW + 30 * MINUTE))
    assert (history.before_first, history.before_last) == (date(2026, 11, 17), date(2026, 11, 17))
    assert history.compared_until == "2026-11-24T09:00:00.000Z"
    assert history.total == HistoryRow(name="", denied=4, compared=3, before=2)
    assert history.total.change == 0.5
    over = gather_history(config, order(TODAY, TODAY, NOW + DAY))
    assert (over.compared_until, over.total.compared, over.total.before) == ("", 4, 4)
    month = gather_history(config, order(TODAY - timedelta(days=29), TODAY, NOW + DAY))
    assert (month.before_first, month.total.checked) == (date(2026, 9, 21), 8)


def test_csv_has_a_row_for_each_name_and_no_formula(config: Config) -> None:
    write_log(
        config, [SampleDecision(CLEAR, NOW - HOUR, lists=("=rome",)), SampleDecision(CLEAR, NOW - HOUR)]
    )
    lines = history_csv(gather_history(config, order(TODAY, TODAY)), "lists").splitlines()
    assert lines[0].startswith("controller,first,last,section,name,checked,allowed,denied,let_through,")
    assert lines[1:] == [
        "acme,2026-11-24,2026-11-24,lists,,1,1,0,0,1,0,2026-11-17,2026-11-17",
        "acme,2026-11-24,2026-11-24,lists,'=rome,1,1,0,0,1,0,2026-11-17,2026-11-17",
    ]
