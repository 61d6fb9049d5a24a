"""The growth of a process: samples of its memory, descriptors and threads, and their slopes."""

import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from tests.bench import Figure

_BLOCKS: Final = 24  # of samples. Means of blocks, because neighbouring samples are not independent


class Gate(Struct):
    """A running gate, with its samples: the time, memory of its own in MB, descriptors and threads."""

    name: str
    data: Path
    port: int
    process: Popen[str]
    samples: list[tuple[float, ...]] = []

    def sample(self) -> None:
        proc = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        # Mapped files are not counted: their pages are shared, and fill with every number that is looked up.
        memory = int(status["RssAnon"].split()[0]) / 1024
        self.samples.append(
            (time.monotonic(), memory, len([*(proc / "fd").iterdir()]), float(status["Threads"]))
        )


def slopes(gate: Gate) -> Iterator[Figure]:
    """Yield the level of each measure at the end, its growth an hour after the first quarter, and the growth's standard error."""
    samples = np.array(gate.samples)
    samples = samples[len(samples) // 4 :]
    blocks = np.array([part.mean(axis=0) for part in np.array_split(samples, min(_BLOCKS, len(samples)))])
    hours = (blocks[:, 0] - blocks[0, 0]) / 3600
    for column, (name, unit) in enumerate((("memory", "MB"), ("descriptors", "1"), ("threads", "1")), 1):
        slope, error = fit(hours, blocks[:, column])
        yield Figure(f"soak.{gate.name}.{name}", round(float(blocks[-1, column]), 1), unit)
        yield Figure(f"soak.{gate.name}.{name}_slope", round(slope, 2), f"{unit}/h")
        yield Figure(f"soak.{gate.name}.{name}_slope_error", round(error, 2), f"{unit}/h")


def fit(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the slope of the least-squares line and its standard error."""
    centred = times - times.mean()
    spread = float((centred**2).sum())
    slope = float((centred * values).sum()) / spread
    rest = values - values.mean() - slope * centred
    return slope, float(np.sqrt((rest**2).sum() / (len(times) - 2) / spread))
