"""The process in which a gate packs its closed segments.

    python -m dialgate.decision_log.archive FOLDER BEFORE      BEFORE in ms since 1970

It is a separate process because packing is CPU-bound and would slow down decisions.
"""

import os
import sys
from pathlib import Path

import structlog

from dialgate.decision_log.archive import segments_to_pack
from dialgate.decision_log.archive.packing import ArchiveFailed, archive_lock, pack
from dialgate.decision_log.segment import LogDamaged
from dialgate.observability import service_log

_LOWEST_PRIORITY = 19
_log = structlog.get_logger("dialgate.archive")


def main(folder: Path, before: int) -> int:
    os.umask(0o077)
    os.nice(_LOWEST_PRIORITY)
    service_log.configure()
    try:
        with archive_lock(folder):
            for segment in segments_to_pack(folder, before):
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
