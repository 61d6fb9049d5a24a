"""Packing beside a gate: begun from its upkeep, done elsewhere, waited for by nobody."""

import os
import sys
from pathlib import Path

from dialgate.core.model import MINUTE, Instant
from dialgate.decision_log.archive.reading import due

_AGAIN = MINUTE
_AFTER_FAILURE = 10 * MINUTE


class Background:
    """At most one process at a time. A failure is told in its own words, on the gate's stderr; the log is complete
    without an archive, so it closes nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = 0
        self._due: Instant = 0

    def round(self, now: Instant, keep: Instant) -> None:
        """Pack what was full `keep` milliseconds ago. Raises `OSError`."""
        if self._process:
            self._reap(now)
        elif now >= self._due:
            self._due = now + _AGAIN
            if due(self._folder, now - keep):
                words = [
                    sys.executable,
                    "-m",
                    "dialgate.decision_log.archive",
                    str(self._folder),
                    str(now - keep),
                ]
                self._process = os.posix_spawn(sys.executable, words, os.environ)

    def _reap(self, now: Instant) -> None:
        process, status = os.waitpid(self._process, os.WNOHANG)
        if process:
            self._process = 0
            self._due = now + (_AFTER_FAILURE if status else _AGAIN)
