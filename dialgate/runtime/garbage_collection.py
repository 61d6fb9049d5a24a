"""Settings of the garbage collector for a process with many long-lived objects."""

import gc


def spare_collector() -> None:
    """Exempt what is loaded now from collection, and collect less often.

    Call it once a gate, or a long command, is open. Otherwise each full collection walks everything that was loaded, and delays
    calls by 40 ms. A call leaves no cycles behind, so there is little to collect.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
