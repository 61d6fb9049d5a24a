"""Other programs read packed segments: DuckDB, polars and pyarrow."""

import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from dialgate.core.model import HOUR
from dialgate.crypto.keys import Keys
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.columns import SCHEMA
from dialgate.decision_log.archive.packing import pack
from tests.project.test_docs import PAGES, blocks
from tests.support.sample_log import NOW, SampleDecision, write

PAGE = PAGES["docs/how-to/query-the-log.md"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a log of 80 allowed calls, each with an outcome, and 40 denied ones. A last call is in a segment that is not packed."""
    folder, keys = tmp_path / ".data/log", Keys.open(tmp_path / "keys.json")
    decisions = [
        SampleDecision(f"+3906123{at:05}", NOW + at, allow=at % 3 > 0, call_id=f"{at}.7") for at in range(120)
    ]
    write(folder, keys, decisions, segment_bytes=200_000)
    write(folder, keys, [SampleDecision("+390612345678", NOW + HOUR)], segment_bytes=1)
    for segment in closed_segments(folder, NOW + HOUR):
        pack(segment)
    return tmp_path


def test_each_engine_reads_every_column(data: Path) -> None:
    files = f"{data}/.data/log/*.parquet"
    by_duckdb = duckdb.execute(f'select * replace (epoch_ms("at") as "at") from "{files}"')
    by_polars = pl.read_parquet(files).with_columns(pl.col("at").dt.epoch("ms"))
    rows = [
        row for path in sorted(data.glob(".data/log/*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    expected = [
        tuple({**row, "at": row["at"] and round(row["at"].timestamp() * 1000)}.values()) for row in rows
    ]
    assert [name for name, *_ in by_duckdb.description or ()] == by_polars.columns == SCHEMA.names
    assert by_duckdb.fetchall() == by_polars.rows() == expected
    assert {row["type"] for row in rows} == {"grounds", "decision", "outcome"}


def test_queries_on_the_page_count_the_calls(data: Path) -> None:
    queries = [query.replace("'.data/", f"'{data}/.data/") for query in blocks(PAGE, "sql")]
    by_campaign, by_basis, by_code = [duckdb.execute(query).fetchall() for query in queries]
    assert by_campaign == [("acme-fibre", False, "registry.listed", 40), ("acme-fibre", True, "", 80)]
    assert by_basis == [("", "answered", 80)]
    assert by_code == [("registry.listed", "IT", "a" * 64, 40)]
    (program,) = blocks(PAGE, "python")
    command = [sys.executable, "-c", program]
    assert (
        "registry.listed"
        in subprocess.run(command, cwd=data, capture_output=True, text=True, check=True).stdout
    )
