"""A worker process of a node.

    argv[1]   a `Post` in JSON, with the descriptors of inherited sockets and pipes

The process starts in worker_process.py. When it listens, it writes one line of JSON to the pipe `ready`. When the parent
ends, the pipe `parent` closes and the worker ends. On SIGTERM it sends the pending responses, and then ends. On SIGUSR1
it accepts no new connections, closes each open one after its next response, and then ends.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct, structs

from dialgate.config import loader
from dialgate.config.configuration import Config

_log = structlog.get_logger(__name__)


def log_start(event: Mapping[str, Any], problems: Mapping[str, str]) -> None:
    """Log the event "ready", or "listening" with the problems if `/readyz` reports the gate as not ready."""
    if problems:
        _log.warning("listening", **event, problems=problems)
    else:
        _log.info("ready", **event)


class Post(Struct, frozen=True, kw_only=True):
    """The parameters for a worker.

    `doors` maps the name of each listener (`listen`, `fastagi`, `operations`) to the descriptors of its inherited
    sockets.
    """

    config: str
    host: str = ""
    port: int | None = None
    worker: int = 1
    workers: int = 1
    doors: dict[str, tuple[int, ...]] = {}
    ready: int = -1
    parent: int = -1

    def load(self) -> Config:
        """Return this worker's configuration. Raises `ConfigError`."""
        return self.adapt(loader.load(Path(self.config)))

    def adapt(self, config: Config) -> Config:
        """Return the configuration with this worker's address, port, node name and number of workers."""
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

    def say_ready(self, event: dict[str, Any]) -> None:
        if self.ready >= 0:
            with suppress(BrokenPipeError):  # the parent has ended, which the pipe `parent` also reports
                os.write(self.ready, msgspec.json.encode(event) + b"\n")
            os.close(self.ready)
