"""Packs what is due, for a gate: `python -m dialgate.archive FOLDER BEFORE`, with BEFORE in milliseconds since 1970.

A process of its own, for packing is work for the interpreter, and the gate's is deciding calls.
"""

import os
import sys
from pathlib import Path

import structlog

from dialgate.decision_log import LogDamaged
from dialgate.decision_log.archive import due
from dialgate.decision_log.archive.packing import ArchiveFailed, alone, pack
from dialgate.observability import service_log

_LOWEST = 19
_log = structlog.get_logger("dialgate.archive")


def main(folder: Path, before: int) -> int:
    os.umask(0o077)
    os.nice(_LOWEST)
    service_log.configure()
    try:
        with alone(folder):
            for segment in due(folder, before):
                packed = pack(segment)
                _log.info(
                    "segment archived", file=str(packed.segment), entries=packed.entries, bytes=packed.after
                )
    except (ArchiveFailed, LogDamaged, OSError) as error:
        _log.error("segment not archived", problem=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
