"""Objects that are exempt from garbage collection, and garbage that must not become so."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from dialgate.runtime.garbage_collection import loading_for_long


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
