"""Replay of records from before `cited_for` existed, under the law archived with them.

Each decision must be identical, including its texts and cited sources.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from dialgate.core.decision import decide
from dialgate.core.law import parse_law
from dialgate.core.model import Decision, Facts
from tests.support import yaml_files

FOLDER = Path(__file__).parent / "archived"
LAW = parse_law(yaml_files.read(FOLDER / "it.yaml"))


class Archived(NamedTuple):
    about: str
    facts: Facts
    decision: Decision


RECORDS = msgspec.json.Decoder(Archived).decode_lines((FOLDER / "decisions.jsonl").read_text("utf-8"))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.about)
def test_an_archived_record_replays_to_the_same_decision(record: Archived) -> None:
    assert decide(record.facts, LAW) == record.decision
