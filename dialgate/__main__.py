"""The entry point of the `dialgate` command. Ctrl-C ends the command without a traceback, even during imports."""

import sys

from dialgate.runtime import held_signals

INTERRUPTED = 130  # a shell's exit status for SIGINT


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        held_signals.hold()
    try:
        from dialgate.runtime.garbage_collection import collect_less  # noqa: PLC0415 - an import may be interrupted

        collect_less()
        from dialgate.interfaces.cli.main import main as run  # noqa: PLC0415 - the import takes most of a second

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
