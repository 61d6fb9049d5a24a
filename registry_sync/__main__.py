"""The `registry-sync` entry point.

Ctrl-C ends it without a traceback, even while its modules are being imported.
"""

import sys

INTERRUPTED = 130  # as a shell reports SIGINT


def main() -> None:
    try:
        from dialgate.runtime.garbage_collection import collect_less  # noqa: PLC0415 - an import may be interrupted

        collect_less()
        from registry_sync.cli import main as run  # noqa: PLC0415 - the import takes most of a second

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
