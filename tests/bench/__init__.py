"""Benchmarks for developers: `python -m tests.bench NAME --json`. Those that users run are in `dialgate.tools.bench`.

A benchmark is a module with `run`, whose parameters are its options and which yields figures.
"""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
COUNTRIES: Final = ROOT / "config" / "countries"
