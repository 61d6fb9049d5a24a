"""Tests of the number set: it holds what was written, rejects damage, and allows concurrent readers."""

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dialgate.lists.number_set import DENSE, FORMAT, HEADER, LIMIT, DamagedFile, NumberSet, distinct, write
from dialgate.runtime.chunked_write import CHUNK

BLOCK = 10_000
MOBILE = 393_330_000_000
RUNS = st.builds(
    lambda start, step, count: range(start, min(start + step * count, LIMIT), step),
    start=st.one_of(st.integers(0, LIMIT - 1), st.integers(MOBILE, MOBILE + 50_000)),
    step=st.integers(1, 20),
    count=st.integers(1, 2_000),
)


def array(numbers: set[int] | range) -> NDArray[np.uint64]:
    return np.array(sorted(numbers), np.uint64)


def tags_of(numbers: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return a tag for each number; neighbouring numbers have different tags."""
    return (numbers * np.uint64(7) % np.uint64(65_521)).astype(np.uint16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "set"
    numbers = array(range(MOBILE, MOBILE + 3_000, 2))
    write(path, [numbers], meta=b'{"registry":"rpo"}', tags=tags_of(numbers))
    return path


def test_a_set_that_is_synced_in_several_parts_is_complete(tmp_path: Path) -> None:
    count = CHUNK // ((DENSE - 1) * 2) + 2
    blocks = np.arange(count, dtype=np.uint64)[:, None] * np.uint64(BLOCK)
    numbers = (np.uint64(MOBILE) + blocks + np.arange(DENSE - 1, dtype=np.uint64)).ravel()
    write(tmp_path / "set", np.array_split(numbers, 3), meta=b"m")
    opened = NumberSet.open(tmp_path / "set")
    opened.verify()
    assert np.array_equal(opened.arrays()[0], numbers)
    opened.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(RUNS, max_size=6), chunk=st.sampled_from([1, 700, 10_000]), tagged=st.booleans())
def test_holds_exactly_what_was_written_with_its_tags(
    tmp_path: Path,
    runs: list[range],
    chunk: int,
    tagged: bool,
) -> None:
    """Invariant: a number is in the set, with its tag, if and only if it was written."""
    wanted = {number for run in runs for number in run}
    numbers = array(wanted)
    tags = tags_of(numbers) if tagged else None
    chunks = [numbers[at : at + chunk * 50] for at in range(0, len(numbers), chunk * 50)]
    write(tmp_path / "set", chunks, meta=b"m", tags=tags)
    opened = NumberSet.open(tmp_path / "set")
    opened.verify()
    found, found_tags = opened.arrays()
    assert np.array_equal(found, numbers)
    assert (found_tags is None) == (tags is None)
    assert len(opened) == len(wanted)
    expected = dict(
        zip(numbers.tolist(), tags.tolist() if tags is not None else [0] * len(numbers), strict=True)
    )
    near = {number + step for number in list(wanted)[:300] for step in (-1, 0, 1, BLOCK)}
    for number in near:
        assert (number in opened) == (number in wanted)
        assert opened.tag(number) == expected.get(number, -1)
    opened.close()


@pytest.mark.parametrize("count", [1, DENSE - 1, DENSE, DENSE + 1, BLOCK])
@pytest.mark.parametrize("from_the_end", [False, True])
def test_both_kinds_of_block_contain_all_their_numbers(
    tmp_path: Path, count: int, from_the_end: bool
) -> None:
    """A block becomes dense at 645 numbers. All 10,000 numbers are looked up, including edges of the 512-bit groups."""
    lows = range(BLOCK - count, BLOCK) if from_the_end else range(count)
    numbers = array({MOBILE + low for low in lows})
    write(tmp_path / "set", [numbers], meta=b"", tags=tags_of(numbers))
    opened = NumberSet.open(tmp_path / "set")
    expected = dict(zip(numbers.tolist(), tags_of(numbers).tolist(), strict=True))
    asked = range(MOBILE - 1, MOBILE + BLOCK + 1)
    tags = [expected.get(number, -1) for number in asked]
    assert [opened.tag(number) for number in asked] == tags
    assert [number in opened for number in asked] == [number in expected for number in asked]
    assert opened.tags_of(array(asked)).tolist() == tags
    assert opened.tags_of(array({0})).tolist() == [-1]


def test_the_smallest_and_the_largest_number_can_be_stored_and_a_set_can_be_empty(tmp_path: Path) -> None:
    write(tmp_path / "set", [np.array([0, LIMIT - 1], np.uint64)], meta=b"")
    opened = NumberSet.open(tmp_path / "set")
    assert [number in opened for number in (0, 1, LIMIT - 2, LIMIT - 1, LIMIT, -1)] == [
        True, False, False, True, False, False,
    ]  # fmt: skip
    write(tmp_path / "empty", [], meta=b"")
    empty = NumberSet.open(tmp_path / "empty")
    assert len(empty) == 0
    assert 0 not in empty
    assert empty.tag(0) == -1
    assert empty.arrays()[0].tolist() == []


@given(numbers=st.lists(st.integers(0, 50)))
def test_distinct_returns_what_write_accepts(numbers: list[int]) -> None:
    """Every number of the list occurs exactly once, in ascending order."""
    assert distinct(np.array(numbers, np.uint64)).tolist() == sorted(set(numbers))


def test_the_header_states_the_order_of_bytes_the_format_and_the_size_of_a_tag(tmp_path: Path) -> None:
    numbers = [np.array([1, 2], np.uint64)]
    for tags, size in ((None, 0), (np.array([5, 6], np.uint16), 2)):
        write(tmp_path / "set", numbers, meta=b"m", tags=tags)
        _, order, form, tag_bytes, zero, *_ = HEADER.unpack((tmp_path / "set").read_bytes()[: HEADER.size])
        assert (order, form, tag_bytes, zero) == (1, FORMAT, size, 0)


def test_the_error_for_a_damaged_file_names_the_file_and_the_fault() -> None:
    assert str(DamagedFile("list.numbers", "not a number set")) == "list.numbers: not a number set"


def test_chunks_may_be_empty(tmp_path: Path) -> None:
    chunks = [[], [1], [], [20_000], []]
    write(tmp_path / "set", [np.array(chunk, np.uint64) for chunk in chunks], meta=b"")
    assert NumberSet.open(tmp_path / "set").arrays()[0].tolist() == [1, 20_000]


@pytest.mark.parametrize(
    ("chunks", "tags", "fault"),
    [
        ([[2, 1]], None, "the numbers must be strictly ascending"),
        ([[1, 1]], None, "the numbers must be strictly ascending"),
        ([[1, 3, 2]], None, "the numbers must be strictly ascending"),
        ([[1, 20_000], [20_000]], None, "the numbers must be strictly ascending"),
        ([[1, 20_000], [3]], None, "the numbers must be strictly ascending"),
        ([[1, 20_000], [10_000]], None, "the numbers must be strictly ascending"),
        ([[LIMIT]], None, "and below 10"),
        ([[1, 2]], [0], "1 tags for 2 numbers"),
    ],
)
def test_an_invalid_set_is_not_written(
    tmp_path: Path, chunks: list[list[int]], tags: list[int] | None, fault: str
) -> None:
    arrays = [np.array(chunk, np.uint64) for chunk in chunks]
    with pytest.raises(ValueError, match=fault):
        write(tmp_path / "set", arrays, meta=b"", tags=None if tags is None else np.array(tags, np.uint16))


def resealed(data: bytes, at: int, field: bytes) -> bytes:
    """Return the file with a changed header field and a corrected checksum of the header."""
    header = bytearray(data[: HEADER.size - 32])
    header[at : at + len(field)] = field
    return bytes(header) + sha256(header).digest() + data[HEADER.size :]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


SIZE = 6_520
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: data[:0], "not a number set"),
    "half a magic": (lambda data: data[:4], "not a number set"),
    "another file": (lambda data: b"PK\x03\x04" + data[4:], "not a number set"),
    "sent as text": (lambda data: data.replace(b"\n", b"\r\n"), "not a number set"),
    "header cut": (lambda data: data[:100], "truncated: 100 bytes; the header alone has 136"),
    "other byte order": (
        lambda data: resealed(data, 8, struct.pack(">H", 1)),
        "the file is little-endian, but this machine is not: use another machine",
    ),
    "newer format": (
        lambda data: resealed(data, 10, struct.pack("<H", 9)),
        f"format 9 is newer than this version supports ({FORMAT}): update dialgate",
    ),
    "length field": (lambda data: flipped(data, 16), "header checksum differs"),
    "last byte of header": (lambda data: flipped(data, HEADER.size - 1), "header checksum differs"),
    "meta": (lambda data: flipped(data, HEADER.size), "metadata checksum differs"),
    "meta cut": (lambda data: data[: HEADER.size + 1], f"truncated: 137 of {SIZE:,} bytes"),
    "body cut": (lambda data: data[:1_234], f"truncated: 1,234 of {SIZE:,} bytes"),
    "last byte cut": (lambda data: data[:-1], f"truncated: {SIZE - 1:,} of {SIZE:,} bytes"),
    "grown": (lambda data: data + b"\0", "1 bytes too long"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_not_opened_and_the_error_names_the_damage(path: Path, damage: str) -> None:
    spoil, fault = DAMAGE[damage]
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DamagedFile) as raised:
        NumberSet.open(path)
    assert raised.value.fault == fault
    assert str(raised.value) == f"{path}: {fault}"


@pytest.mark.parametrize("at", [160, 1_500, 3_000, SIZE - 1])
def test_verify_finds_one_flipped_bit_anywhere_in_the_body(path: Path, at: int) -> None:
    path.write_bytes(flipped(path.read_bytes(), at))
    opened = NumberSet.open(path)
    with pytest.raises(DamagedFile, match="body checksum differs"):
        opened.verify()


def test_the_checksum_covers_numbers_tags_and_metadata(tmp_path: Path) -> None:
    numbers = array(range(10))
    sums = set()
    for name, meta, shift in (("a", b"1", 0), ("b", b"2", 0), ("c", b"1", 1)):
        write(tmp_path / name, [numbers], meta=meta, tags=tags_of(numbers) + np.uint16(shift))
        sums.add(NumberSet.open(tmp_path / name).sha256)
    assert len(sums) == 3
    write(tmp_path / "again", [numbers], meta=b"1", tags=tags_of(numbers))
    assert NumberSet.open(tmp_path / "again").sha256 in sums


READER = """
import sys
from pathlib import Path
from dialgate.lists.number_set import NumberSet
numbers = NumberSet.open(Path(sys.argv[1]))
start = int(sys.argv[2])
assert [number - start for number in range(start, start + 3_000) if number in numbers] == list(range(0, 3_000, 2))
print(sum(numbers.tag(number) for number in range(start, start + 3_000, 2)))
"""


def test_many_processes_read_one_file(path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(MOBILE)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    total = int(tags_of(array(range(MOBILE, MOBILE + 3_000, 2))).sum(dtype=np.int64))
    assert {process.communicate()[0] for process in running} == {f"{total}\n"}


def test_a_set_stays_readable_when_its_file_is_replaced_but_not_when_it_is_closed(path: Path) -> None:
    opened = NumberSet.open(path)
    path.unlink()
    assert MOBILE in opened
    opened.close()
    with pytest.raises(ValueError, match=r"closed|released"):
        opened.tag(MOBILE)


@pytest.mark.parametrize(("begin", "end"), [(0, LIMIT), (0, 0), (20_000, 2_580_000), (2_560_000, 5_120_000)])
def test_a_range_of_a_set_can_be_read(tmp_path: Path, begin: int, end: int) -> None:
    """The number set has sparse and dense blocks. Some of the ranges extend over several super-blocks."""
    draw = np.random.default_rng(7)
    everybody = np.unique(
        np.concatenate(
            [
                draw.integers(0, 6_000_000, 3_000),
                draw.integers(30_000, 40_000, 5_000),
                np.arange(2_570_000, 2_580_000),
            ]
        )
    ).astype(np.uint64)
    write(tmp_path / "set", [everybody], meta=b"")
    opened = NumberSet.open(tmp_path / "set")
    wanted = [number for number in everybody.tolist() if begin <= number < end]
    assert [number for run in opened.spans(begin, end) for number in run.tolist()] == wanted
    opened.close()


def test_the_last_block_of_a_super_block_is_searched(tmp_path: Path) -> None:
    number = 255 * BLOCK + 7
    write(tmp_path / "set", [np.array([number], np.uint64)], meta=b"")
    opened = NumberSet.open(tmp_path / "set")
    assert (opened.tag(number), opened.tag(number + 1)) == (0, -1)
    opened.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_look_up_in_a_damaged_body_gives_a_tag_or_index_error(tmp_path: Path, seed: int) -> None:
    """A file may be damaged after it was verified. Then a look-up may be wrong, but it must not fail in another way."""
    draw, path = random.Random(seed), tmp_path / "set"
    numbers = set(range(MOBILE, MOBILE + draw.choice([1, 644, 645, 646, BLOCK])))
    for block in range(1, 8):
        count = draw.choice([1, 3, 644, 645, 3_000, 9_999])
        numbers.update(MOBILE + block * BLOCK + low for low in draw.sample(range(BLOCK), count))
    write(path, [array(numbers)], meta=b"m", tags=tags_of(array(numbers)) if seed % 2 else None)
    whole, refused = path.read_bytes(), 0
    directory = len(whole) - 4 * 257 * (1 + seed % 2) - seed % 2 * 2 * len(numbers)
    for _ in range(300):
        at = draw.choice([draw.randrange(directory, directory + 4 * 257), draw.randrange(256, len(whole))])
        path.write_bytes(whole[:at] + bytes([draw.randrange(256)]) + whole[at + 1 :])
        opened = NumberSet.open(path)
        for number in draw.sample(sorted(numbers), 5):
            try:
                assert -1 <= opened.tag(number) <= 65_535
            except IndexError:
                refused += 1
        opened.close()
    assert refused
