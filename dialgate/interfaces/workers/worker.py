"""One of several gates of a node: what its parent (parent.py) tells it, and the pipe on which it answers. It begins in
worker_process.py.

    argv[1]   a `Post`, in JSON; descriptors are those of sockets and pipes that were passed on

It says that it is ready with one line of JSON on `ready`, and ends when `parent` does, which it sees by the end of that pipe.
SIGTERM ends it at once, after the answers that are awaited. SIGUSR1 relieves it: it takes no new connection, ends each
after its next answer, and then ends itself.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from dialgate.config import loader
from dialgate.config.configuration import Config


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
        config = loader.load(Path(self.config))
        settings = config.settings
        listen = settings.listen
        listen = structs.replace(
            listen, host=self.host or listen.host, port=listen.port if self.port is None else self.port
        )
        node = f"{settings.node}/{self.worker}" if self.workers > 1 else settings.node
        settings = structs.replace(settings, listen=listen, node=node, workers=self.workers)
        return structs.replace(config, settings=settings)

    @classmethod
    def from_argument(cls, text: str) -> "Post":
        return msgspec.json.decode(text, type=cls)

    def say_ready(self, event: dict[str, str]) -> None:
        if self.ready >= 0:
            with suppress(BrokenPipeError):  # the parent is gone: `parent` says so too
                os.write(self.ready, msgspec.json.encode(event) + b"\n")
            os.close(self.ready)
