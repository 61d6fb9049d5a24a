"""Pages of decisions: those of the records, read one by one, whatever is packed, and one after the other without gaps."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from dialgate.audit.decision_pages import DecisionPageOrder, DecisionRow, find_page
from dialgate.audit.number_history import Visibility
from dialgate.audit.search import DecisionQuery
from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core.model import DAY, HOUR, OutcomeRecord
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import mask_number
from dialgate.decision_log import chains
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record, position
from dialgate.decision_log.span import LogSpan
from tests.report.test_history import draw_decisions
from tests.support import sample_log
from tests.support.sample_log import NOW
from tests.support.world import CLEAR, write_folder


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Write two logs, the second as after a restore, each with several segments."""
    loaded = loader.load(write_folder(tmp_path))
    loaded.data.mkdir()
    draw = random.Random(5)
    for log, number, days in ((1, 900, 20), (2, 300, 4)):
        keys = Keys.open(loaded.data / "keys.json", log)
        decisions = draw_decisions(draw, NOW - days * DAY, NOW, number)
        sample_log.write(chains.folder(loaded.data, log), keys, decisions)
    return loaded


def pack_all(config: Config) -> None:
    for log in (1, 2):
        for segment in closed_segments(chains.folder(config.data, log), 1 << 60):
            pack(segment)


def pages(config: Config, order: DecisionPageOrder) -> Iterator[list[DecisionRow]]:
    """Yield all pages, each from the end of the one before."""
    while True:
        page = find_page(config, order)
        assert len(page.decisions) == order.limit or not page.more
        yield page.decisions
        if not page.more:
            return
        order = replace(order, before=page.decisions[-1].decision_id)


ACME = Visibility(controllers=("acme",))
WANTED: list[tuple[DecisionPageOrder, Callable[[Record], bool]]] = [
    (DecisionPageOrder(query=DecisionQuery(), limit=170), lambda _: True),
    (
        DecisionPageOrder(query=DecisionQuery(sees=ACME, verdict="deny"), limit=90),
        lambda record: record.facts.controller.id == "acme" and not record.decision.allow,
    ),
    (
        DecisionPageOrder(
            query=DecisionQuery(campaign="acme-mobile", list="milan", verdict="allow"), limit=40
        ),
        lambda record: (
            record.facts.campaign.id == "acme-mobile"
            and record.decision.allow
            and "milan" in {listing.list for listing in record.facts.listings}
        ),
    ),
    (
        DecisionPageOrder(query=DecisionQuery(code="registry", shadow=True), limit=9),
        lambda record: not record.decision.allow and record.shadow,
    ),
    (
        DecisionPageOrder(
            query=DecisionQuery(caller_id="+390844123456", client="dialer"),
            within=LogSpan(since=NOW - 6 * DAY, until=NOW - 2 * DAY),
            zone="Europe/Rome",
            hours=(9, 13),
            limit=15,
        ),
        lambda record: (
            NOW - 6 * DAY <= record.at < NOW - 2 * DAY and 8 <= record.at // HOUR % 24 < 12  # Rome is UTC+1
        ),
    ),
    (DecisionPageOrder(query=DecisionQuery(campaign="none")), lambda _: False),
    (DecisionPageOrder(query=DecisionQuery(sees=Visibility(controllers=()))), lambda _: False),
]


@pytest.mark.parametrize("is_packed", [False, True])
def test_pages_hold_every_match_once_newest_first(config: Config, is_packed: bool) -> None:
    if is_packed:
        pack_all(config)
    records = [entry for _, entry in Chains(config.data).entries() if isinstance(entry, Record)]
    for order, is_wanted in WANTED:
        wanted = sorted(filter(is_wanted, records), key=position, reverse=True)
        assert bool(wanted) == (order.limit != DecisionPageOrder(query=DecisionQuery()).limit)
        found = [row for page in pages(config, order) for row in page]
        assert [row.decision_id for row in found] == [record.id for record in wanted]
        assert {row.number for row in found} <= {mask_number(CLEAR)}
        assert [row.reasons for row in found] == [
            [reason.code for reason in record.decision.reasons] for record in wanted
        ]


def test_rows_do_not_change_when_the_log_is_packed(config: Config) -> None:
    order = DecisionPageOrder(query=DecisionQuery(), limit=10_000)
    before = find_page(config, order)
    pack_all(config)
    assert find_page(config, order) == before


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_search_by_outcome_finds_the_calls_that_have_it(config: Config, is_packed: bool) -> None:
    if is_packed:
        pack_all(config)
    answered = {
        entry.decision for _, entry in Chains(config.data).entries() if isinstance(entry, OutcomeRecord)
    }
    order = DecisionPageOrder(query=DecisionQuery(controller="rival"), outcome="answered", limit=10_000)
    found = find_page(config, order).decisions
    assert found
    assert {row.decision_id for row in found} <= answered
    everything = find_page(config, replace(order, outcome=None))
    assert {row.decision_id for row in everything.decisions} & answered == {row.decision_id for row in found}
    assert not find_page(config, replace(order, outcome="abandoned")).decisions


def test_decisions_written_meanwhile_do_not_move_the_next_page(config: Config) -> None:
    order = DecisionPageOrder(query=DecisionQuery(verdict="deny"), limit=30)
    first = find_page(config, order)
    following = replace(order, before=first.decisions[-1].decision_id)
    second = find_page(config, following)
    keys = Keys.open(config.data / "keys.json", 2)
    newer = draw_decisions(random.Random(6), NOW, NOW + HOUR, 40)
    sample_log.write(chains.folder(config.data, 2), keys, newer)
    pack_all(config)
    assert find_page(config, following) == second
    assert find_page(config, order).decisions[0].at > first.decisions[0].at


def test_an_id_that_does_not_match_is_no_place_to_start(config: Config) -> None:
    """Otherwise the answer would show when another controller's decision was made."""
    rival = find_page(config, DecisionPageOrder(query=DecisionQuery(controller="rival"))).decisions[0]
    for before in (rival.decision_id, rival.decision_id + "0000"):
        with pytest.raises(Refused, match="before"):
            find_page(config, DecisionPageOrder(query=DecisionQuery(sees=ACME), before=before))


def test_a_number_stays_hidden_when_its_month_is_retired(config: Config) -> None:
    order = DecisionPageOrder(query=DecisionQuery(), limit=10_000)
    keys = Keys.open(config.data / "keys.json")
    keys.month(NOW + 31 * DAY)
    keys.retire("2026-11")
    assert {row.number for row in find_page(config, order).decisions} == {"•••"}


def test_a_long_segment_is_read_backwards_with_grounds_from_its_beginning(tmp_path: Path) -> None:
    config = loader.load(write_folder(tmp_path))
    config.data.mkdir()
    decisions = draw_decisions(random.Random(7), NOW - HOUR, NOW, 2_800)
    keys = Keys.open(config.data / "keys.json")
    sample_log.write(config.data / "log", keys, decisions, segment_bytes=1 << 30)
    order = DecisionPageOrder(query=DecisionQuery(campaign="rival-loans"), limit=500)
    found = [row for page in pages(config, order) for row in page]
    assert len([*Chains(config.data).entries()]) > 4_096  # more than one batch of the reader
    assert [row.decision == "allow" for row in reversed(found)] == [
        decision.allow for decision in decisions if decision.campaign == "rival-loans"
    ]
