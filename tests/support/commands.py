"""Commands of dialgate and registry-sync, run in processes that have already imported their modules.

Importing the modules for a command takes half a second of processor time, most of what a typical command needs. The
fork server of the standard library therefore imports the modules once. Each command runs in a process forked from that
server, with its own environment and folder.
"""

import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from tests.support.paths import ROOT

PATIENCE = 120  # seconds until a process counts as hanging: several start at once on a busy machine
_MODULES = {"dialgate": "dialgate.interfaces.cli.main", "registry-sync": "registry_sync.cli"}
_COMMANDS = [
    f"dialgate.interfaces.cli.{path.stem}"
    for path in (ROOT / "dialgate/interfaces/cli").glob("*.py")
    if path.stem != "mcp_server"  # its dependencies take a second
]
_SERVER = multiprocessing.get_context("forkserver")
# Reading any configuration imports the holidays of all countries: half of the cost of a short command. The server also forks the
# heavy work of the gates that run in the process of a test.
_HEAVY = ("dialgate.ledger.file_jobs", "dialgate.report.rendering")
_SERVER.set_forkserver_preload([*_MODULES.values(), *_COMMANDS, *_HEAVY, "holidays.countries", __name__])


class Done(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_command(
    program: str,
    *words: object,
    folder: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
    message: bytes = b"",
    prepare: Callable[[], object] = bool,
) -> Done:
    """Run `dialgate` or `registry-sync` with `words` as its command-line arguments and `message` as its standard input.

    `prepare` runs first in the process of the command.
    """
    with TemporaryFile() as read, TemporaryFile() as out, TemporaryFile() as err:
        read.write(message)
        read.seek(0)
        process = _SERVER.Process(
            target=_main,
            args=(
                [program, *map(str, words)], folder, dict(environment), [DupFd(file.fileno()) for file in (read, out, err)], prepare,
            ),
        )  # fmt: skip
        process.start()
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    assert process.exitcode is not None, f"{words} did not end: {texts}"
    return Done(process.exitcode, *texts)


def _main(
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    streams: list[Any],
    prepare: Callable[[], object],
) -> None:
    for stream, descriptor in enumerate(streams):
        os.dup2(own := descriptor.detach(), stream)
        os.close(own)
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing has replaced it
    gc.freeze()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    prepare()
    import_module(_MODULES[Path(words[0]).name]).main()  # sys.argv has a path, where a shell runs one
