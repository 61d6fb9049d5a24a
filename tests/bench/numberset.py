"""A benchmark for number sets.

It measures bytes per number, look-up time, opening time, and memory per reading process.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dialgate.lists.number_set import NumberSet, write
from tests.bench import Figure

LOOKUPS = 200_000
# Ranges of Italian subscriber numbers: mobiles fill 3[2-9]x thinly, landlines fill some hundred area codes.
MOBILE = tuple(39_000_0000000 + 300_0000000 + prefix * 10_000_000 for prefix in range(20, 99))
LANDLINE = tuple(39_0_000_000000 + area * 1_000_000 for area in range(100, 999, 4))

# Prints in kB how much a reader's memory grew after opening the file and looking up 100,000 random numbers: first its
# private memory, then its memory with the file's pages, which readers share.
READER = """
import sys, random
from pathlib import Path
from dialgate.lists.number_set import NumberSet
def resident():
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return [int(status[name].split()[0]) for name in ("RssAnon", "VmRSS")]
before = resident()
numbers = NumberSet.open(Path(sys.argv[1]))
asked = random.Random(1)
for _ in range(100_000):
    asked.randrange(393_200_000_000, 393_990_000_000) in numbers
print(*(now - then for now, then in zip(resident(), before)))
"""


def run(numbers: int = 30_000_000) -> Iterator[Figure]:
    """Measure a number set with about `numbers` entries: two thirds mobile, one third landline. Linux only."""
    random = np.random.default_rng(1)
    present = italian(numbers, random)
    absent = np.setdiff1d(italian(LOOKUPS, random), present)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers"
        began = time.perf_counter()
        write(path, np.array_split(present, 1 + len(present) // 1_000_000), meta=b"")
        yield Figure("numberset.write", round(time.perf_counter() - began, 2), "s")
        size = path.stat().st_size
        yield Figure("numberset.numbers", len(present), "numbers")
        yield _compared("numberset.size", size / len(present), "bytes/number", 8.0)
        began = time.perf_counter()
        opened = NumberSet.open(path)
        yield Figure("numberset.open", round((time.perf_counter() - began) * 1e3, 2), "ms")
        yield Figure("numberset.lookup_hit", lookup(opened, random.choice(present, LOOKUPS)), "us")
        yield Figure("numberset.lookup_miss", lookup(opened, random.permutation(absent)), "us")
        own, resident = _reader_memory(path)
        yield _compared("numberset.reader_own_memory", own, "MB", size / 1e6)
        yield _compared("numberset.reader_resident", resident, "MB", size / 1e6)
        opened.close()


def italian(numbers: int, random: np.random.Generator) -> NDArray[np.uint64]:
    """Return at most `numbers` different Italian numbers, sorted."""
    mobile = numbers * 2 // 3
    return np.unique(
        np.concatenate(
            (
                random.choice(np.array(MOBILE), mobile) + random.integers(0, 10_000_000, mobile),
                random.choice(np.array(LANDLINE), numbers - mobile)
                + random.integers(0, 1_000_000, numbers - mobile),
            )
        )
    ).astype(np.uint64)


def _compared(name: str, value: float, unit: str, baseline: float) -> Figure:
    return Figure(name, round(value, 3), unit, round(baseline, 3), round(value / baseline, 4))


def lookup(numbers: NumberSet, wanted: NDArray[np.uint64]) -> float:
    """Return the processor time per look-up in microseconds: the best of five runs.

    The overhead of the loop is subtracted.
    """
    questions = wanted.tolist()
    best = 1e9
    for _ in range(5):
        began = time.process_time()
        for number in questions:
            number in numbers  # noqa: B015 - only its time counts
        looked_up = time.process_time()
        for _number in questions:
            pass
        best = min(best, 2 * looked_up - began - time.process_time())
    return round(best / len(questions) * 1e6, 3)


def _reader_memory(path: Path) -> tuple[float, float]:
    process = subprocess.run(
        [sys.executable, "-c", READER, str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
        text=True,
    )
    own, resident = process.stdout.split()
    return int(own) / 1e3, int(resident) / 1e3
