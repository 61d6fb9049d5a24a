"""Tests that the compiled primitives return the same results as the Python fallback, which can be used instead."""

import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from dialgate import native
from dialgate.lists import number_set
from dialgate.native import fallback

BLOCK = 10_000
START = 393_330_000_000


class Ways(Protocol):
    Tagger: type[fallback.Tagger]


BOTH = pytest.mark.parametrize("ways", [native, fallback])


# ---- look-ups --------------------------------------------------------------------------------------------------------


def random_set(seed: int) -> list[int]:
    """Return isolated numbers, and blocks that are sparse, full, or close to the dense limit of 645 numbers."""
    draw = random.Random(seed)
    numbers = set(range(START, START + draw.choice([1, 644, 645, 646, BLOCK])))
    for block in range(1, 8):
        count = draw.choice([1, 3, 644, 645, 3_000, 9_999])
        numbers.update(START + block * BLOCK + low for low in draw.sample(range(BLOCK), count))
    numbers.update(draw.randrange(number_set.LIMIT) for _ in range(200))
    return sorted(numbers)


class Parts:
    """The parts of a number set's file, as `NumberSet` passes them to a tagger."""

    def __init__(self, path: Path) -> None:
        opened_set = number_set.NumberSet.open(path)
        self.places = opened_set.places
        opened_set.close()
        with path.open("rb") as file:
            self.file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def taggers(self) -> tuple[native.Tagger, fallback.Tagger]:
        return native.Tagger(self.file, *self.places), fallback.Tagger(self.file, *self.places)


@pytest.fixture(params=[(seed, tagged) for seed in range(4) for tagged in (False, True)])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Parts, list[int]]:
    seed, tagged = request.param
    numbers = random_set(seed)
    tags = (np.arange(len(numbers)) % 65_521).astype(np.uint16) if tagged else None
    number_set.write(tmp_path / "set", [np.array(numbers, np.uint64)], meta=b"m", tags=tags)
    return Parts(tmp_path / "set"), numbers


def test_both_find_the_same_tag_for_every_number_and_its_neighbours(parts: tuple[Parts, list[int]]) -> None:
    opened_set, numbers = parts
    compiled, plain = opened_set.taggers()
    searched = {number + step for number in numbers for step in (-BLOCK, -1, 0, 1)}
    for number in [*searched, -1, -(1 << 70), 1 << 62, 1 << 63, 1 << 64, 1 << 70]:
        assert compiled(number) == plain(number), number
    assert sum(plain(number) >= 0 for number in searched) == len(numbers)


def test_no_look_up_in_a_damaged_file_reads_outside_it(parts: tuple[Parts, list[int]]) -> None:
    """If a byte is damaged, a look-up must return a tag or raise IndexError, with the same result in both versions."""
    opened_set, numbers = parts
    draw = random.Random(len(numbers))
    _, _, directory, *_ = opened_set.places
    pointing = 0
    for _ in range(1_000):
        at = draw.choice(
            [draw.randrange(directory, directory + 4 * 257), draw.randrange(256, len(opened_set.file))]
        )
        before, opened_set.file[at] = opened_set.file[at], draw.randrange(256)
        compiled, plain = opened_set.taggers()
        for number in draw.sample(numbers, 5):
            tag = answer(compiled, number)
            assert tag == answer(plain, number)
            pointing += tag == "nowhere"
        opened_set.file[at] = before
        for tagger in (compiled, plain):
            tagger.close()
    assert pointing


def answer(tagger: Callable[[int], int], number: int) -> int | str:
    try:
        return tagger(number)
    except IndexError:
        return "nowhere"


@BOTH
def test_the_last_block_of_a_super_block_is_searched(ways: Ways, tmp_path: Path) -> None:
    number = 255 * BLOCK + 7
    number_set.write(tmp_path / "set", [np.array([number], np.uint64)], meta=b"")
    parts = Parts(tmp_path / "set")
    tagger = ways.Tagger(parts.file, *parts.places)
    assert (tagger(number), tagger(number + 1)) == (0, -1)


@BOTH
def test_a_block_that_ends_outside_the_words_is_damaged(ways: Ways, tmp_path: Path) -> None:
    number_set.write(tmp_path / "set", [np.array([255 * BLOCK], np.uint64)], meta=b"")
    parts = Parts(tmp_path / "set")
    _, _, directory, *_ = parts.places
    parts.file[directory + 4 * 256] += 1  # the end of the last block
    with pytest.raises(IndexError):
        ways.Tagger(parts.file, *parts.places)(255 * BLOCK)


@BOTH
def test_a_part_outside_its_file_is_refused(ways: Ways) -> None:
    file = mmap.mmap(-1, 4096)
    for places in (
        (8, 16, 24, 0, 0, 1 << 20, 1, 1),
        (8, 1 << 40, 24, 0, 0, 1, 1, 1),
        (8, 16, 4_000, 0, 0, 1, 1, 1),
        (8, 16, 24, 4_000, 4_000, 1, 1, 1),
        (8, 16, 24, 32, 4_000, 1, 0, 1 << 20),
    ):
        with pytest.raises(IndexError):
            ways.Tagger(file, *places)


@BOTH
def test_a_closed_tagger_finds_nothing_and_releases_the_file(ways: Ways, tmp_path: Path) -> None:
    number_set.write(tmp_path / "set", [np.array([START], np.uint64)], meta=b"")
    parts = Parts(tmp_path / "set")
    tagger = ways.Tagger(parts.file, *parts.places)
    assert tagger(START) == 0
    for _ in range(2):
        tagger.close()
    with pytest.raises(ValueError, match=r"."):
        tagger(START)
    parts.file.close()


# ---- without a compiler ---------------------------------------------------------------------------------------------------


def test_the_compiled_version_is_used_unless_disabled() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", "from dialgate import native as p; print(p.COMPILED, p.Tagger.__module__)"],
            env={**os.environ, "DIALGATE_INTERPRETED": value},
            check=True, capture_output=True, text=True,
        ).stdout.split()
        for value in ("", "1")
    ]  # fmt: skip
    assert outputs == [["yes", "dialgate.native._primitives"], ["no", "dialgate.native.fallback"]]
