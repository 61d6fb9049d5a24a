"""One of several gates of a node: what its parent (workers.py) tells it, and the pipe on which it answers.

    argv[1]   a `Post`, in JSON; descriptors are those of sockets and pipes that were passed on

It says that it is ready with one line of JSON on `ready`, and ends when `parent` does, which it sees by the end of that pipe.
SIGTERM ends it at once, after the answers that are awaited. SIGUSR1 relieves it: it takes no new connection, ends each
after its next answer, and then ends itself.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from dialgate import settings
from dialgate.settings import Config


class Post(Struct, frozen=True, kw_only=True):
    """`doors`: the sockets that are inherited, by the setting that names where they listen."""

    config: str
    host: str = ""
    port: int | None = None
    worker: int = 1
    workers: int = 1
    doors: dict[str, tuple[int, ...]] = {}
    ready: int = -1
    parent: int = -1

    def load(self) -> Config:
        """The configuration as it holds for this worker. Raises `ConfigError`."""
        config = settings.load(Path(self.config))
        told = config.settings
        listen = told.listen
        listen = structs.replace(
            listen, host=self.host or listen.host, port=listen.port if self.port is None else self.port
        )
        node = f"{told.node}/{self.worker}" if self.workers > 1 else told.node
        told = structs.replace(told, listen=listen, node=node, workers=self.workers)
        return structs.replace(config, settings=told)

    def say_ready(self, event: dict[str, str]) -> None:
        if self.ready >= 0:
            with suppress(BrokenPipeError):  # the parent is gone: `parent` says so too
                os.write(self.ready, msgspec.json.encode(event) + b"\n")
            os.close(self.ready)


def _let_others_finish() -> None:
    """Does not take the processor from another worker when something comes in: where there are more of them than processors each
    change costs the one that comes the caches of the one that goes. Measured with four on two: a third of the changes, and a tenth less
    processor time for each decision. Its threads do the same."""
    if sys.platform == "linux":
        with suppress(OSError):  # where that is forbidden it works as well
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main() -> None:
    """Run by the parent only."""
    _let_others_finish()
    from dialgate.interfaces.cli_serve import work  # noqa: PLC0415 - that module imports this one

    os.umask(0o077)
    sys.exit(work(msgspec.json.decode(sys.argv[1], type=Post)))


if __name__ == "__main__":
    main()
