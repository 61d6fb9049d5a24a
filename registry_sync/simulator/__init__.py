"""A registry that is none: for tests and to try the nightly job with. It works on a folder with `outbox` and `inbox`,
and shows every fault that a real one may show. Its numbers are made up by arithmetic; it knows nobody."""

import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

Spoil: TypeAlias = Callable[[list[str], random.Random], list[str]]
ENROLLED: Final = 3  # of ten


def enrolled(national: str) -> bool:
    return int(national) * 2_654_435_761 % 2**32 % 10 < ENROLLED


def _turned(lines: list[str], _: random.Random) -> list[str]:
    return [line[:-1] + str(1 - int(line[-1])) for line in lines]


def _shuffled(lines: list[str], lot: random.Random) -> list[str]:
    return lot.sample(lines, len(lines))


# What may be wrong with the lines of an answer; the first two are nothing wrong, but look odd.
LINES: Final[dict[str, Spoil]] = {
    "mixed_up_order": _shuffled,
    "duplicated": lambda lines, _: [*lines, *lines[::2]],
    "partial": lambda lines, _: lines[: len(lines) // 2],
    "contradictory": lambda lines, _: [*lines, *_turned(lines[:1], random.Random())],  # noqa: S311 - unused there
    "wrong_controller": lambda lines, _: [f"{int(line[:-2]) + 1_000_000_000}{line[-2:]}" for line in lines],
    "other_status": lambda lines, _: [*lines[:-1], lines[-1][:-1] + "2"],
    "turned_round": _turned,
    "empty": lambda _, __: [],
}
# What may be wrong with the whole of it.
WHOLE: Final = ("", "late", "wrong_encoding", "cut", "no_receipt", "refused")
FAULTS: Final = (*LINES, *WHOLE[1:])


class Registry:
    """`submitted` counts how often each number was asked about, `packages` how often each package came."""

    def __init__(
        self, folder: Path, fault: str = "", *, is_enrolled: Callable[[str], bool] = enrolled
    ) -> None:
        self.fault = fault
        self.is_enrolled = is_enrolled
        self.submitted: Counter[str] = Counter()
        self.packages: Counter[str] = Counter()
        self._folder, self._lot = folder, random.Random(1)  # noqa: S311 - made-up faults
        self._waiting = folder / "waiting"
        for name in ("outbox", "inbox", "waiting"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def work(self) -> int:
        """Takes every package that was handed over away, and answers all it has, as far as the fault lets it. Returns
        how many were answered."""
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

    def answer_again(self, package: Path) -> None:
        """A package of which `numbers.zip` is at hand, as if it had just come."""
        self._answer(package.name, _numbers(package / "numbers.zip"))

    def _answer(self, package: str, numbers: list[str]) -> None:
        inbox = self._folder / "inbox"
        if self.fault == "refused":
            (inbox / f"{package}.refused.txt").write_text("credit exhausted\n")
            return
        if self.fault != "no_receipt":
            (inbox / f"{package}.receipt.txt").write_text(f"SIMULATED-{package[-8:]}\n")
        lines = [f"{number},{int(self.is_enrolled(number))}" for number in numbers]
        if spoil := LINES.get(self.fault):
            lines = spoil(lines, self._lot)
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
