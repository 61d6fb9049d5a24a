"""The entry point of `dialgate`. Ctrl-C ends it without a traceback, even while modules are being imported."""

import sys

from dialgate.interfaces.workers import held_signals

INTERRUPTED = 130  # a shell's exit status for SIGINT


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        held_signals.hold()
    try:
        from dialgate.interfaces.cli.main import main as run  # noqa: PLC0415 - the import takes most of a second

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
