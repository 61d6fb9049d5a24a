"""Tables on a pseudo-terminal of 80 columns."""

import re
import sys
from pathlib import Path

from tests.support.terminal import on_a_terminal

DIGEST = "0123456789abcdef" * 4
SHOW = "import sys; from dialgate.runtime.terminal import show_table; show_table('Title', {columns}, {rows})"


async def shown(folder: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    words = [sys.executable, "-c", SHOW.format(columns=columns, rows=rows)]
    async with on_a_terminal(words, folder) as terminal:
        assert await terminal.wait_for_end() == 0
        return re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown).splitlines()


async def test_a_table_that_fits_by_wrapping_between_words_stays_a_table(tmp_path: Path) -> None:
    lines = await shown(tmp_path, ("campaign", "why"), [("acme-fibre", "no registry answer " * 9)])
    assert max(map(len, lines)) <= 80
    assert any("┃ campaign" in line for line in lines)


async def test_a_table_too_wide_for_its_words_becomes_a_block_for_each_row(tmp_path: Path) -> None:
    at = "2026-12-02T10:00:00+01:00"
    lines = await shown(
        tmp_path, ("at", "rows", "note", "sha256"), [(at, 1200, "", DIGEST), (at, 7, "x", DIGEST)]
    )
    assert lines == [
        "Title", "", f"at: {at}", "rows: 1,200", f"sha256: {DIGEST}", "",
        f"at: {at}", "rows: 7", "note: x", f"sha256: {DIGEST}",
    ]  # fmt: skip
