"""Tests of the documentation site: it builds offline without warnings, and internal links and anchors resolve."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


# `dummy` resolves every link and writes no page, in a quarter of the time.
@pytest.mark.parametrize("builder", ["dummy", pytest.param("html", marks=pytest.mark.torture)])
def test_site_builds_without_a_warning(tmp_path: Path, builder: str) -> None:
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder, "-c", "docs", ".", str(tmp_path)],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (build.returncode, build.stderr) == (0, "")
    if builder == "html":
        assert "docs/how-to/several-nodes" in (tmp_path / "searchindex.js").read_text("utf-8")
