"""Objects that are exempt from garbage collection, garbage that must not become so, and memory that is free between objects."""

import gc
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dialgate.runtime.garbage_collection import loading_for_long, return_free_memory
from dialgate.runtime.own_process import run_apart


class _Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_garbage_from_before_a_load_is_freed_and_not_kept_by_it() -> None:
    nodes = []
    for _ in range(3):  # a load, and two reloads
        nodes.append(weakref.ref(_Node()))
        with loading_for_long():
            pass
    assert [node() for node in nodes] == [None, None, None]


def test_what_a_block_loads_is_exempt_unless_it_raises() -> None:
    before = gc.get_freeze_count()
    with pytest.raises(ValueError, match="an invalid file"), loading_for_long():
        raise ValueError("an invalid file")
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
    with loading_for_long():
        loaded = [_Node() for _ in range(1000)]
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(loaded)


def memory() -> int:
    """Return the memory of this process without mapped files, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def grow_and_free(size: int) -> tuple[int, int]:
    """Return how much this process grew by objects of `size` bytes, and by the hundredth of them that is left."""
    before = memory()
    loaded = [bytes(1000) for _ in range(size // 1000)]
    grown = memory() - before
    kept = loaded[::100]
    del loaded
    return_free_memory()
    assert len(kept) == size // 100_000
    return grown, memory() - before


async def test_memory_that_is_free_between_objects_returns_to_the_system() -> None:
    size = 20_000_000
    # In a process of its own, because one with free memory uses that first.
    grown, left = await run_apart(partial(grow_and_free, size))
    assert grown > 0.9 * size
    assert left < 0.4 * size
