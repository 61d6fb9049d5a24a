"""Packing of closed segments in a background process."""

import os
import sys
from pathlib import Path

from dialgate.core.model import MINUTE, Instant
from dialgate.decision_log.archive.reading import segments_to_pack
from dialgate.runtime.extras import is_installed

_INTERVAL = MINUTE
_INTERVAL_AFTER_FAILURE = 10 * MINUTE


class Background:
    """A launcher for packing processes. At most one runs at a time.

    The process logs its own failures to the gate's stderr. A failure does not stop the gate, because the log is complete even
    if its segments are not packed. If the `archive` extra is not installed, no segment is packed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = 0
        self._due: Instant = 0

    def round(self, now: Instant, keep: Instant) -> None:
        """Start packing the segments that have been full for `keep` ms, unless a packing process is running.

        Raises `OSError`.
        """
        if self._process:
            self._reap(now)
        elif now >= self._due:
            self._due = now + _INTERVAL
            if is_installed("archive") and segments_to_pack(self._folder, now - keep):
                command = [
                    sys.executable,
                    "-m",
                    "dialgate.decision_log.archive",
                    str(self._folder),
                    str(now - keep),
                ]
                self._process = os.posix_spawn(sys.executable, command, os.environ)

    def _reap(self, now: Instant) -> None:
        process, status = os.waitpid(self._process, os.WNOHANG)
        if process:
            self._process = 0
            self._due = now + (_INTERVAL_AFTER_FAILURE if status else _INTERVAL)
