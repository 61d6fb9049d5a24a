"""Benchmarks for developers: `python -m tests.bench NAME --json`. Benchmarks for users are in `dialgate.tools.bench`.

A benchmark is a module with a generator `run` that yields figures. The parameters of `run` are the options of the
benchmark.
"""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
COUNTRIES: Final = ROOT / "config" / "countries"
