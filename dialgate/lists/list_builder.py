"""The call-list builder, which runs in a thread for commands and in a separate process for gates.

A build in a separate process does not delay calls. `python -m dialgate.lists.list_builder ORDER` reads the file
from standard input and writes the result to standard output.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.core.model import Basis, Kind
from dialgate.lists import call_list, tabular
from dialgate.lists.call_list import RowProblem, Tally
from dialgate.runtime.resource_limits import confine

_POLL: Final = 0.5  # seconds between checks whether the client has disconnected


class BuildResult(Struct, frozen=True, tag=True):
    layout: tabular.Layout
    tally: Tally
    sha256: str


class _BuildFailure(Struct, frozen=True, tag=True):
    text: str


class BuildOrder(Struct, frozen=True):
    """The arguments that a build passes to `call_list.build`.

    `skipped` is the file for the rows that are left out, as lines of JSON. If it is empty, they are only counted.
    """

    path: str
    home: str
    basis: Basis
    stated_kinds: frozenset[Kind] = frozenset()
    hints: tabular.Hints = tabular.NO_HINTS
    skipped: str = ""


class BuildLimits(Struct, frozen=True):
    """The limits for a build.

    `memory` is in bytes. `seconds` limits both processor time and elapsed time.
    """

    memory: int
    seconds: int


class BuildEnded(Exception):
    """Raised if a build process ends without a result."""


class ListSource(Protocol):
    async def build(self, order: BuildOrder) -> BuildResult:
        """Write the list to the order's path. Raises `tabular.Unreadable` and `BuildEnded`."""


class InProcess:
    """A source whose list is built in a thread of this process. Calls `note` with each rejected row."""

    def __init__(self, file: IO[bytes], note: Callable[[RowProblem], None] = lambda _: None) -> None:
        self._file, self._note = file, note

    async def build(self, order: BuildOrder) -> BuildResult:
        return await asyncio.to_thread(self.build_now, order)

    def build_now(self, order: BuildOrder) -> BuildResult:
        table = tabular.read(self._file, order.home, order.hints)
        path = Path(order.path)
        with written_to(order.skipped) as write:

            def note(problem: RowProblem) -> None:
                self._note(problem)
                write(problem)

            tally = call_list.build(
                table,
                path,
                home=order.home,
                basis=order.basis,
                stated_kinds=order.stated_kinds,
                note=note,
            )
        return BuildResult(table.layout, tally, call_list.sha256_of(path))


@contextmanager
def written_to(path: str) -> Iterator[Callable[[RowProblem], None]]:
    """Yield a function that writes a skipped row to a file as a line of JSON, or does nothing without a file."""
    if not path:
        yield lambda _: None
        return
    with Path(path).open("wb") as file:

        def write(problem: RowProblem) -> None:
            file.write(msgspec.json.encode(problem) + b"\n")

        yield write


_Result: TypeAlias = BuildResult | _BuildFailure
_decode: Final[Callable[[bytes], _Result]] = msgspec.json.Decoder(_Result).decode


async def build_apart(
    file: IO[bytes], order: BuildOrder, limits: BuildLimits, is_cancelled: Callable[[], bool]
) -> BuildResult:
    """Build a list in a separate process. Raises the same errors as `Source.build`.

    The process is killed if `is_cancelled()` returns True, if it exceeds its time limit, or if this coroutine
    is cancelled.
    """
    words = (msgspec.json.encode((order, limits)).decode(),)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *words, stdin=file, stdout=asyncio.subprocess.PIPE
    )
    reading = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(limits.seconds):
            while not reading.done():
                await asyncio.wait([reading], timeout=_POLL)
                if is_cancelled():
                    raise BuildEnded("The client has disconnected.")
    except TimeoutError:
        raise tabular.Unreadable(_too_much(limits)) from None
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait([reading])
    out, _ = reading.result()
    if process.returncode == -signal.SIGXCPU:
        raise tabular.Unreadable(_too_much(limits))
    if process.returncode:
        raise BuildEnded(
            f"The process that read the file ended unexpectedly ({process.returncode}). Try again; if it fails again, split the"
            " file."
        )
    result = _decode(out)
    if isinstance(result, _BuildFailure):
        raise tabular.Unreadable(result.text)
    return result


def _too_much(limits: BuildLimits) -> str:
    return f"The file takes more than {limits.memory >> 20} MB of memory or {limits.seconds} seconds to read; split it."


def _main() -> None:
    order, limits = msgspec.json.decode(sys.argv[1], type=tuple[BuildOrder, BuildLimits])
    confine(limits.memory, limits.seconds)
    result: _Result
    try:
        result = InProcess(sys.stdin.buffer).build_now(order)
    except tabular.Unreadable as error:
        result = _BuildFailure(str(error))
    except MemoryError:
        result = _BuildFailure(_too_much(limits))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    _main()
