"""Key retirement: expired months become anonymous, the chain stays valid, and decisions under legal hold are kept."""

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from dialgate.audit.key_retirement import Month, months, retire
from dialgate.audit.legal_holds import HoldRefused, Holds
from dialgate.audit.number_history import Inquiry, Visibility
from dialgate.config import decision_retention, loader
from dialgate.config.configuration import Config, ConfigError
from dialgate.config.decision_retention import Retention
from dialgate.core.law import parse_law
from dialgate.core.model import DAY, Instant
from dialgate.crypto.keys import KeyRetired, Keys, KeysUnusable
from dialgate.crypto.log_signing import Signer
from dialgate.crypto.masking import mask_number
from dialgate.decision_log import LogDamaged, make_checkpoint, verify
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.records import Position, Reader, Record, position
from dialgate.interfaces.cli.main import app
from tests.decision_log.test_archive import chain_holds
from tests.support.casebook import law_data, law_of
from tests.support.sample_log import NOW, SampleDecision, write
from tests.support.world import running, write_folder

HELD, OTHER = "+390612345678", "+390687654321"
JANUARY: Instant = 1_578_000_000_000  # 2020-01-02
FEBRUARY = JANUARY + 31 * DAY
TERM = {"country": "IT", "allowed_months": 60, "refused_months": 24}
SAID = [
    SampleDecision(HELD, JANUARY),
    SampleDecision(OTHER, JANUARY),
    SampleDecision(HELD, JANUARY, allow=False),
    SampleDecision(HELD, FEBRUARY, allow=False),
    SampleDecision(OTHER, FEBRUARY, country="FR", allow=False),
    SampleDecision(HELD, NOW),
]


@pytest.fixture(params=["plain", "packed"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Return a configuration with a log from January 2020 to November 2026, packed or not.

    A checkpoint covers the whole log.
    """
    loaded = loader.load(write_folder(tmp_path, retention=[TERM]))
    fill(loaded.data)
    if request.param == "packed":
        for segment in closed_segments(loaded.data / "log", NOW):
            pack(segment)
    return loaded


def fill(data: Path) -> None:
    data.mkdir(exist_ok=True)
    folder, keys = data / "log", Keys.open(data / "keys.json")
    write(folder, keys, SAID, segment_bytes=1)
    make_checkpoint(folder, log=keys.log, signer=Signer.open(data / "signing.json", NOW), now=NOW)


@pytest.fixture
def keys(config: Config) -> Keys:
    return Keys.open(config.data / "keys.json")


def about(config: Config, keys: Keys, number: str) -> list[Record]:
    return [record for _, record in Reader(config.data / "log").find_decisions(keys.hashes(number).values())]


# ---- retention terms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("month", "count", "over_from"),
    [
        ("2026-11", 1, "2027-01"),
        ("2026-10", 1, "2026-12"),
        ("2026-12", 12, "2028-01"),
        ("2020-01", 120, "2030-02"),
    ],
)
def test_month_is_kept_for_whole_months(month: str, count: int, over_from: str) -> None:
    assert decision_retention.over_from(month, count) == over_from


def test_country_without_a_term_is_kept_longest() -> None:
    named = [Retention(country="IT", allowed_months=60, refused_months=24)]
    assert decision_retention.months(named, "IT", allowed=True) == 60
    assert decision_retention.months(named, "IT", allowed=False) == 24
    assert (
        decision_retention.months(named, "FR", allowed=False)
        == decision_retention.months(named, "", allowed=True)
        == 120
    )


def test_law_extends_a_shorter_term_of_its_country() -> None:
    rule = {
        "source": "s",
        "from": date(2024, 10, 15),
        "what": ["decisions"],
        "keep": "P11Y",
        "since": ["last_used"],
    }
    law = parse_law({**law_data("US"), "records": [rule, rule | {"what": ["consents"], "keep": "P99Y"}]})
    named = [
        Retention(country="US", allowed_months=12, refused_months=200),
        Retention(country="IT", allowed_months=1),
    ]
    terms = decision_retention.terms(named, {"US": law, "IT": law_of("IT")}, NOW)
    assert terms == [
        Retention(country="US", allowed_months=132, refused_months=200),
        Retention(country="IT", allowed_months=1),
    ]
    assert decision_retention.terms([], {"US": law}, NOW) == [
        Retention(country="US", allowed_months=132, refused_months=132)
    ]
    before = 1_728_900_000_000  # 2024-10-14, the day before the section
    assert decision_retention.terms(named, {"US": law}, before) == named


@pytest.mark.parametrize(
    ("retention", "problem"),
    [
        ([TERM, TERM], "retention: IT is defined twice"),
        ([{"country": "XX"}], "retention: country XX has no country file"),
        ([{"country": "IT", "allowed_months": 0}], "allowed_months"),
        ([{"country": "Italy"}], "country"),
    ],
)
def test_invalid_term_is_refused(tmp_path: Path, retention: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        loader.load(write_folder(tmp_path, retention=retention))


def test_month_is_kept_for_the_longest_term_of_its_decisions(config: Config) -> None:
    """The longest term is 60 months in January and 120 months in February.

    January has allowed calls, which are kept for 60 months. February has a denied call (24 months) and a call to a
    country without a retention term (120 months).
    """
    found = months(config, NOW)
    assert found == [
        Month(month="2020-01", allowed=2, refused=1, over_from="2025-02", over=True),
        Month(month="2020-02", allowed=0, refused=2, over_from="2030-03", over=False),
        Month(month="2026-11", allowed=1, refused=0, over_from="2031-12", over=False),
    ]


@pytest.mark.parametrize(
    ("configured", "over_from"),
    [
        ({}, ["2030-02", "2036-12"]),
        ({"allowed_months": 240}, ["2040-02", "2046-12"]),
        ({"refused_months": 240}, ["2040-02", "2046-12"]),
    ],
)
def test_month_without_local_segments_gets_the_longest_term(
    tmp_path: Path, configured: dict[str, int], over_from: list[str]
) -> None:
    """The month's keys are in the data folder, but its segments might be on another disk."""
    config = loader.load(write_folder(tmp_path, retention=[{**TERM, "allowed_months": 1, **configured}]))
    (config.data / "log").mkdir(parents=True)
    keys = Keys.open(config.data / "keys.json")
    keys.month(JANUARY)
    keys.month(NOW)
    assert [month.over_from for month in months(config, NOW)] == over_from


def test_month_without_all_local_segments_gets_the_longest_term(config: Config) -> None:
    """The first segment is on another disk. It could hold decisions of any country."""
    for path in (config.data / "log").glob("0000000000000001.*"):
        path.unlink()
    assert [month.over_from for month in months(config, NOW)] == ["2030-02", "2030-03", "2031-12"]


def test_log_without_decisions_lacks_no_segment(config: Config) -> None:
    """A worker, or a node restored from its backup, may not have decided a call yet."""
    write(config.data / "log/worker-2", Keys.open(config.data / "keys.json", 2), [])
    assert not any(month.partial for month in months(config, NOW))


@pytest.mark.parametrize("missing", ["first", "middle", "all"])
def test_month_without_all_local_segments_is_kept_while_a_hold_is_in_force(
    config: Config, keys: Keys, missing: str
) -> None:
    """The missing segments could hold decisions about the number. Without its keys they could never be found again."""
    folder, late = config.data / "log", NOW + 9999 * DAY
    assert not any(month.partial for month in months(config, late))
    stems = sorted({path.name[:16] for path in folder.glob("0*") if path.suffix in {".parquet", ".ndjson"}})
    for stem in {"first": stems[:1], "middle": stems[1:2], "all": stems}[missing]:
        for path in folder.glob(f"{stem}.*"):
            path.unlink()
    assert [month.over for month in months(config, late)] == [True, True, False]
    holds = Holds(config.data, keys)
    holds.add(HELD, at=NOW, by="dpo", reason="case 4711")
    january = months(config, late)[0]
    assert (january.over, january.partial) == (False, True)
    with pytest.raises(HoldRefused, match="Bring the segments back"):
        retire(config, keys, "2020-01")
    assert "2020-01" in keys.hashes(HELD)
    holds.lift(HELD, at=NOW, by="dpo", reason="closed")
    assert retire(config, keys, "2020-01") == 0


def test_newest_month_is_never_over(config: Config, keys: Keys) -> None:
    assert not months(config, NOW + 9999 * DAY)[-1].over
    with pytest.raises(KeysUnusable):
        retire(config, keys, "2026-11")


# ---- retirement ------------------------------------------------------------------------------------------------------


def test_retired_month_is_anonymous_and_the_chain_is_valid(config: Config, keys: Keys) -> None:
    assert len(about(config, keys, OTHER)) == 2
    assert retire(config, keys, "2020-01") == 0
    assert [record.at for record in about(config, keys, OTHER)] == [FEBRUARY]
    with pytest.raises(KeyRetired):
        Keys.open(config.data / "keys.json").month(JANUARY)
    folder = config.data / "log"
    assert chain_holds(folder)
    assert list(folder.glob("*.parquet")) or verify(folder).ok
    assert len([1 for _, record in Reader(folder).entries() if isinstance(record, Record)]) == len(SAID)


def test_only_held_numbers_stay_linked(config: Config, keys: Keys) -> None:
    holds = Holds(config.data, keys)
    holds.add(HELD, at=NOW, by="dpo", reason="case 4711")
    january = [record.id for record in about(config, keys, HELD) if record.at == JANUARY]
    assert [month.held for month in months(config, NOW)] == [2, 1, 1]
    assert retire(config, keys, "2020-01") == len(january) == 2
    hold = Holds(config.data, Keys.open(config.data / "keys.json")).find(HELD)
    assert hold is not None
    assert hold.records == tuple(january)
    assert Holds(config.data, keys).find(OTHER) is None
    assert retire(config, keys, "2020-02") == 1
    hold = holds.find(HELD)
    assert hold is not None
    assert len(hold.records) == 3


def test_decisions_of_a_held_number_are_in_order(config: Config, keys: Keys) -> None:
    Holds(config.data, keys).add(HELD, at=NOW, by="dpo", reason="case 4711")
    retire(config, keys, "2020-02")  # the month before still has its keys
    inquiry = Inquiry(config.data, Keys.open(config.data / "keys.json"))
    every = [position(item.record) for item in inquiry.find(HELD, Visibility())]
    assert (len(every), every) == (4, sorted(every, reverse=True))
    seen: list[Position] = []
    while page := inquiry.find(HELD, Visibility(), before=seen[-1] if seen else None, most=1):
        seen += [position(item.record) for item in page]
    assert seen == every


def test_damaged_log_is_not_retired(config: Config, keys: Keys) -> None:
    Holds(config.data, keys).add(HELD, at=NOW, by="dpo", reason="case 4711")
    first = min(path for path in (config.data / "log").iterdir() if path.suffix in {".parquet", ".ndjson"})
    first.write_bytes(first.read_bytes()[:-20])
    with pytest.raises(LogDamaged):
        months(config, NOW)
    assert "2020-01" in keys.hashes(HELD)


# ---- legal holds -----------------------------------------------------------------------------------------------------


def test_no_file_of_a_hold_contains_the_number(config: Config, keys: Keys) -> None:
    holds = Holds(config.data, keys)
    holds.add(HELD, at=NOW, by="dpo", reason="case 4711")
    retire(config, keys, "2020-01")
    digits = HELD.removeprefix("+39").encode()
    for path in config.data.rglob("*"):
        assert not path.is_file() or digits not in path.read_bytes(), path
    assert (config.data / "holds.json").stat().st_mode & 0o777 == 0o600


def test_lifted_hold_keeps_neither_number_nor_decisions(config: Config, keys: Keys) -> None:
    holds = Holds(config.data, keys)
    holds.add(HELD, at=NOW, by="dpo", reason="case 4711")
    retire(config, keys, "2020-01")
    holds.lift(HELD, at=NOW + 1, by="judge", reason="closed")
    assert holds.find(HELD) is None
    (hold,) = holds.all()
    assert (hold.id, hold.reason, hold.lifted_at, hold.lifted_by) == (1, "case 4711", NOW + 1, "judge")
    assert (hold.number, hold.records) == (b"", ())
    assert holds.add(HELD, at=NOW + 2, by="dpo", reason="case 4712").id == 2


@pytest.mark.parametrize(
    "attempt",
    [
        lambda holds: holds.add(HELD, at=NOW, by="dpo", reason="again"),
        lambda holds: holds.add(OTHER, at=NOW, by="dpo", reason="call 06 8765 4321"),
        lambda holds: holds.add(OTHER, at=NOW, by=OTHER, reason="case"),
        lambda holds: holds.lift(HELD, at=NOW, by="dpo", reason=f"{HELD} called"),
        lambda holds: holds.lift(OTHER, at=NOW, by="dpo", reason="case"),
    ],
    ids=["already held", "number in the reason", "number as the name", "number in the lift", "not held"],
)
def test_invalid_hold_is_refused(config: Config, keys: Keys, attempt: Callable[[Holds], object]) -> None:
    holds = Holds(config.data, keys)
    held = holds.add(HELD, at=NOW, by="dpo", reason="case 4711")
    with pytest.raises(HoldRefused):
        attempt(holds)
    assert holds.all() == (held,)


def test_file_of_another_format_is_refused_and_unchanged(config: Config, keys: Keys) -> None:
    path = config.data / "holds.json"
    raw = msgspec.json.encode({"format": 2, "holds": []})
    path.write_bytes(raw)
    with pytest.raises(HoldRefused, match="backup"):
        Holds(config.data, keys).add(HELD, at=NOW, by="dpo", reason="case 4711")
    assert path.read_bytes() == raw


# ---- commands --------------------------------------------------------------------------------------------------------


def run(config: Config, *words: str, status: int = 0) -> Any:
    done = CliRunner().invoke(
        app, ["log", *words, "--json", "--config", str(config.folder / "dialgate.yaml")]
    )
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


async def test_commands_hold_retire_and_lift(tmp_path: Path) -> None:
    async with running(tmp_path, retention=[TERM], prepare=lambda folder: fill(folder / "data")) as gate:
        keys = Keys.open(tmp_path / "data/keys.json")

        async def result(*words: str) -> Any:
            return json.loads(await gate.output("log", *words, "--json"))

        assert (await result("hold", "add", HELD, "--reason", "case 4711", "--by", "dpo"))["id"] == 1
        preview = await result("retire")
        assert [month["month"] for month in preview["months"]] == ["2020-01"]
        assert not preview["retired"]
        assert "2020-01" in keys.hashes(HELD)
        assert (await result("retire", "--yes"))["retired"]
        assert "2020-01" not in keys.hashes(HELD)
        (hold,) = await result("hold", "list", HELD)
        assert len(hold["records"]) == 2
        assert hold["number"] == mask_number(HELD)
        assert await result("hold", "list", OTHER) == []
        lifted = await result("hold", "lift", HELD, "--reason", "closed", "--by", "dpo")
        assert lifted["lifted_because"] == "closed"
        refused = await gate.output("log", "hold", "add", "12", "--reason", "case", "--by", "dpo", code=1)
        assert "number.invalid" in refused
        refused = await gate.output("log", "hold", "lift", HELD, "--reason", "case", "--by", "dpo", code=1)
        assert "hold.refused" in refused
        assert HELD not in refused
    # It lacks the configuration that the sample's decisions name, so they cannot be replayed.
    shutil.rmtree(tmp_path / "data/kept")


def test_command_archives_full_segments(config: Config) -> None:
    folder = config.data / "log"
    waiting = len(closed_segments(folder, NOW))
    done = run(config, "archive")
    assert done["segments"] == waiting
    assert closed_segments(folder, NOW) == []
    assert chain_holds(folder)
    assert run(config, "archive")["segments"] == 0
