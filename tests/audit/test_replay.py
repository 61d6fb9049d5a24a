"""A replay gives the same decision for the records of any day, and reports differences by rule."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from msgspec import structs

from dialgate.audit import replay
from dialgate.audit.replay import Change, Replay, ReplayRow
from dialgate.config import content_store
from dialgate.core.law import parse_law
from dialgate.core.model import DAY, HOUR, Grounds, Pass
from dialgate.decision_log import DecisionLog, archive, span
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.span import LogSpan
from tests.support import world, yaml_files
from tests.support.paths import ROOT
from tests.support.world import CALL, CLEAR, LISTED, NOW, World


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[Path]:
    """Return a data folder with two allowed calls, an outcome for the first, and two denied calls a day later."""
    async with world.running(tmp_path) as gate:
        await world.load_list(gate)
        allowed = [await _ask(gate, CLEAR) for _ in range(2)]
        body = {"decision_id": allowed[0], "outcome": "answered"}
        assert (await gate.client.post("/v1/outcomes", json=body)).status == 200
        gate.hand.at = NOW + DAY
        for _ in range(2):
            await _ask(gate, LISTED)
        yield gate.app.config.data


async def _ask(gate: World, to: str) -> str:
    async with gate.client.post("/v1/check", json={**CALL, "to": to}) as answer:
        return str((await answer.json())["decision_id"])


def again(data: Path, chosen: LogSpan | None = None, draft: dict[str, object] | None = None) -> Replay:
    within = span.within(Reader(data / "log"), chosen or LogSpan())
    law_of = replay.draft(parse_law(draft)) if draft else replay.as_recorded(data / "kept")
    compare = replay.in_effect if draft else replay.exact
    return replay.replay((entry for _, entry in within), law_of, compare)


def law() -> dict[str, object]:
    loaded: dict[str, object] = yaml_files.read(world.CONFIG / "countries/it.yaml")
    return loaded


def test_every_record_is_decided_the_same_again(data: Path) -> None:
    report = again(data)
    assert (report.records, report.different, report.beside) == (4, 0, 0)


RANGES = [
    (LogSpan(since=NOW + HOUR), 2),
    (LogSpan(first=2, last=2), 1),
    (LogSpan(first=1, last=1), 0),  # grounds are not a decision
    (LogSpan(first=1 << 20), 0),
]


def test_range_includes_its_start_and_excludes_its_end(data: Path) -> None:
    for chosen, records in RANGES:
        assert again(data, chosen).records == records, chosen


def test_draft_shows_changes_by_campaign_and_rule(data: Path) -> None:
    draft = law()
    draft["registries"] = []
    report = again(data, draft=draft)
    assert report.different == 4
    assert report.verdicts == {("deny", "allow"): 2, ("allow", "allow"): 2}
    assert report.rows[ReplayRow("acme-fibre", "registry_clear", "registry.listed", "skip")] == 2
    assert report.rows[ReplayRow("acme-fibre", "registry_clear", "pass", "skip")] == 2
    assert report.examples[-1].changes == (Change("registry_clear", "registry.listed", "skip"),)


def test_draft_with_other_wording_changes_nothing(data: Path) -> None:
    draft = law()
    for section in draft["registries"]:  # type: ignore[attr-defined] # plain YAML
        section["source"] = "as it was, renumbered"
    report = again(data, draft=draft)
    assert (report.records, report.different) == (again(data).records, 0)
    assert report.records > 0


def test_draft_of_another_country_skips_the_records(data: Path) -> None:
    report = again(data, draft={**law(), "country": "FR"})
    assert (report.records, report.beside, report.different) == (4, 4, 0)


def test_changed_or_missing_law_is_reported(data: Path) -> None:
    record = next(entry for _, entry in Reader(data / "log").entries() if isinstance(entry, Record))
    path = data / "kept" / record.law
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"validity: 15d", b"validity: 16d"))
    with pytest.raises(content_store.NotKept, match="was modified"):
        again(data)
    path.unlink()
    with pytest.raises(content_store.NotKept, match="is missing"):
        again(data)
    path.write_bytes(sound)  # the replay at the end of the suite reads it too


def test_equal_sequence_numbers_of_two_logs_are_replayed_separately(data: Path) -> None:
    record = next(entry for _, entry in Reader(data / "log").entries() if isinstance(entry, Record))
    outcomes = {**record.decision.outcomes, "not_revoked": Pass("indeed")}
    forged = structs.replace(
        record, id=f"00000000-{record.seq}", decision=structs.replace(record.decision, outcomes=outcomes)
    )
    for entries_of_logs in ([record, forged], [forged, record]):
        report = replay.replay(entries_of_logs, replay.as_recorded(data / "kept"), replay.exact)
        assert [example.decision for example in report.examples] == [forged.id]


@pytest.mark.parametrize("shared", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "by two workers"])
def test_suite_with_a_forged_decision_fails(shared: tuple[str, ...], data: Path) -> None:
    with TemporaryDirectory() as beside:
        base = Path(beside)
        shutil.copytree(data, base / "data", ignore=shutil.ignore_patterns("*.sock"))
        (base / "test_it.py").write_text(
            "import shutil\n"
            f"def test_it(tmp_path): shutil.copytree({str(base / 'data')!r}, tmp_path / 'data')\n"
        )
        words = (
            *shared,
            "-q",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            f"--rootdir={base}",
            str(base),
        )
        command = [sys.executable, "-m", "pytest", *words, f"--basetemp={base / 'run'}"]
        _forge(base / "data/log")
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        failed = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
        assert failed.returncode == pytest.ExitCode.TESTS_FAILED
        assert "1 passed" in failed.stdout
        assert "not_revoked" in failed.stdout


def _forge(log: Path) -> None:
    """Rewrite the log with a valid chain, but with a different outcome for one rule in the first `Grounds` entry."""
    bodies = [line.body for line in archive.Segments(log).lines()]
    grounds = msgspec.json.decode(bodies[0], type=Grounds)
    outcomes = {**grounds.decision.outcomes, "not_revoked": Pass("indeed")}
    decision = structs.replace(grounds.decision, outcomes=outcomes)
    bodies[0] = msgspec.json.encode(structs.replace(grounds, decision=decision))
    name = next(log.glob("*.ndjson")).read_bytes().partition(b'"log":"')[2][:8].decode()
    shutil.rmtree(log)
    with closing(DecisionLog.open(log, log=name, now=NOW, gate={})) as forged:
        forged.write(bodies)


def test_months_have_the_bounds_of_the_keys_months() -> None:
    names = span.months(NOW)
    assert [next(names) for _ in range(3)] == ["2026-11", "2026-12", "2027-01"]
    assert span.month("2026-12").until == span.month("2027-01").since == 1_798_761_600_000
