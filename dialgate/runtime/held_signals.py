"""Blocking of signals while a gate starts.

By default SIGHUP ends a process, and a gate takes seconds to start. The signals are blocked before the slow imports. The
kernel delivers them once the event loop has its handlers. This module imports almost nothing, so that it can run before the
slow imports.
"""

import signal

_SIGNALS = {signal.SIGHUP, signal.SIGTERM}


def hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def release() -> None:
    """Deliver the blocked signals. Call this after all signal handlers are installed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
