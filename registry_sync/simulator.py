"""A simulated registry, for tests and for trying the nightly job.

It uses a folder with an `outbox` and an `inbox`, and can simulate the faults of a real registry. Its answers
are computed from the numbers and say nothing about real people.
"""

import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

LineFault: TypeAlias = Callable[[list[str], random.Random], list[str]]
ENROLLED: Final = 3  # of ten numbers


def is_enrolled(national: str) -> bool:
    return int(national) * 2_654_435_761 % 2**32 % 10 < ENROLLED


def _invert_statuses(lines: list[str], _: random.Random) -> list[str]:
    return [line[:-1] + str(1 - int(line[-1])) for line in lines]


def _shuffle(lines: list[str], generator: random.Random) -> list[str]:
    return generator.sample(lines, len(lines))


# Faults in the lines of an answer. The first two are unusual but valid.
LINE_FAULTS: Final[dict[str, LineFault]] = {
    "mixed_up_order": _shuffle,
    "duplicated": lambda lines, _: [*lines, *lines[::2]],
    "partial": lambda lines, _: lines[: len(lines) // 2],
    "contradictory": lambda lines, _: [*lines, *_invert_statuses(lines[:1], random.Random())],  # noqa: S311 - unused there
    "wrong_controller": lambda lines, _: [f"{int(line[:-2]) + 1_000_000_000}{line[-2:]}" for line in lines],
    "other_status": lambda lines, _: [*lines[:-1], lines[-1][:-1] + "2"],
    "turned_round": _invert_statuses,
    "empty": lambda _, __: [],
}
# Faults that affect the whole reply.
FILE_FAULTS: Final = ("", "late", "wrong_encoding", "cut", "no_receipt", "refused")
FAULTS: Final = (*LINE_FAULTS, *FILE_FAULTS[1:])


class SimulatedRegistry:
    """A simulated registry.

    `submitted` counts how often each number was submitted, and `packages` how often each package arrived.
    """

    def __init__(
        self, folder: Path, fault: str = "", *, is_enrolled: Callable[[str], bool] = is_enrolled
    ) -> None:
        self.fault = fault
        self.is_enrolled = is_enrolled
        self.submitted: Counter[str] = Counter()
        self.packages: Counter[str] = Counter()
        self._folder, self._random = folder, random.Random(1)  # noqa: S311 - simulated faults
        self._waiting = folder / "waiting"
        for name in ("outbox", "inbox", "waiting"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def work(self) -> int:
        """Take all packages from the outbox and answer them. Return how many were answered.

        With the fault `late`, no package is answered.
        """
        for path in (self._folder / "outbox").glob("*.zip"):
            for number in _numbers(path):
                self.submitted[number] += 1
            self.packages[path.stem] += 1
            path.replace(self._waiting / path.name)
        answered = 0
        for path in [] if self.fault == "late" else sorted(self._waiting.glob("*.zip")):
            self._answer(path.stem, _numbers(path))
            path.unlink()
            answered += 1
        return answered

    def _answer(self, package: str, numbers: list[str]) -> None:
        inbox = self._folder / "inbox"
        if self.fault == "refused":
            (inbox / f"{package}.refused.txt").write_text("credit exhausted\n")
            return
        if self.fault != "no_receipt":
            (inbox / f"{package}.receipt.txt").write_text(f"SIMULATED-{package[-8:]}\n")
        lines = [f"{number},{int(self.is_enrolled(number))}" for number in numbers]
        if apply_fault := LINE_FAULTS.get(self.fault):
            lines = apply_fault(lines, self._random)
        text = "".join(f"{line}\r\n" for line in lines)
        encoding = "utf-16" if self.fault == "wrong_encoding" else "ascii"
        answer = inbox / f"{package}.answer.zip"
        with zipfile.ZipFile(answer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("answer.txt", text.encode(encoding))
        if self.fault == "cut":
            answer.write_bytes(answer.read_bytes()[:-20])


def _numbers(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.read("numbers.txt").decode("ascii").split()
