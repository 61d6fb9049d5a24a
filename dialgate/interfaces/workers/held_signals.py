"""Signals that arrive while a gate starts.

By default SIGHUP, SIGUSR1 and SIGUSR2 end a process, and a start takes seconds. They are blocked before the imports, which take most
of a second, so the kernel keeps them until the event loop has its handlers. Imports nothing of ours, and little else.
"""

import signal

_SIGNALS = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}


def hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def release() -> None:
    """Deliver what arrived. Every handler must be installed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
