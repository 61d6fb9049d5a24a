"""Tests of the documentation site: it builds offline without warnings, and internal links and anchors resolve."""

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", ".", str(tmp_path)],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (build.returncode, build.stderr) == (0, "")
    index = (tmp_path / "searchindex.js").read_text("utf-8")
    assert "docs/how-to/several-nodes" in index
