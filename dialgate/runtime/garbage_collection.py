"""Garbage-collector and memory settings for a process with many long-lived objects."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def collect_less() -> None:
    """Collect garbage less often. By default the imports of `dialgate serve` cause 280 collections, a twelfth of its start."""
    gc.set_threshold(50_000, 20, 20)


def spare_collector() -> None:
    """Exempt all current objects from garbage collection, garbage included, and collect less often.

    Call this once a gate or a long command has started. Otherwise each full collection visits all loaded objects and delays
    calls by 40 ms. Calls create no reference cycles, so there is little to collect.
    """
    gc.freeze()
    collect_less()


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect no garbage in the block, which makes many long-lived objects.

    Collections would visit these again and again: they took three quarters of the time to load a large configuration.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def loading_for_long() -> Iterator[None]:
    """Exempt what the block loads from garbage collection. If the block raises, exempt nothing.

    First collects the garbage so far, because what is exempt is never freed: connections to the store, stops and removals
    leave reference cycles. Objects that are exempt already are not visited, so this takes a few milliseconds.
    """
    gc.collect()
    with without_collector():
        yield
        spare_collector()


def return_free_memory() -> None:
    """Return memory that is free between kept memory to the system. Call this in a thread, once something large was replaced.

    The C library returns only free memory at the end. What a reload keeps lies behind what it freed, so a gate grew by 8 MB an
    hour with a reload every 20 seconds and new registry answers every 30. Takes up to a few milliseconds. Does nothing with
    another C library than glibc.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
