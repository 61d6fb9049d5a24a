"""Tests of the settings that all nodes of one store must share."""

from pathlib import Path
from shutil import copytree

import pytest

from dialgate.cluster.membership import shared_hash
from dialgate.config import loader
from tests.support.paths import ROOT


def hash_with(folder: Path, line: str) -> str:
    copytree(ROOT / "config", folder / "config")
    (folder / ".data").mkdir()
    (folder / ".data/sample.key.sha256").write_text("0" * 64)
    file = folder / "config/dialgate.yaml"
    file.write_text(f"{file.read_text('utf-8')}\n{line}\n", "utf-8")
    return shared_hash(loader.load(file))


@pytest.mark.parametrize(
    ("line", "is_own"),
    [
        ("node: milan", True),
        ("operations: {host: 10.0.0.6}", True),
        ("uploads: {folder: /srv/spool}", True),
        ("snapshot_behind_minutes: 30", True),  # a publisher does not pull
        ("answer_seconds: 60", False),
    ],
)
def test_a_setting_of_one_machine_does_not_count_as_an_old_configuration(
    line: str, is_own: bool, tmp_path: Path
) -> None:
    assert (hash_with(tmp_path / "one", "") == hash_with(tmp_path / "other", line)) == is_own
