"""Call lists made of files: in a thread for a command, in a process of its own for a gate, whose calls must not wait for it.

Started as `python -m dialgate.lists.list_builder ORDER`, it reads the file on standard input and writes the result to standard output.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.core.model import Basis, Kind
from dialgate.lists import call_list, tabular
from dialgate.lists.call_list import RowProblem, Tally
from dialgate.runtime.resource_limits import confine

_SOON: Final = 0.5  # seconds after which it is seen that a client has gone


class BuildResult(Struct, frozen=True, tag=True):
    layout: tabular.Layout
    tally: Tally
    sha256: str


class _BuildFailure(Struct, frozen=True, tag=True):
    text: str


class Order(Struct, frozen=True):
    """Where the list is written, the country of bare numbers, and what rows rest on that do not say. `stated_kinds`: see
    `calllist.build`.
    """

    path: str
    home: str
    basis: Basis
    stated_kinds: frozenset[Kind] = frozenset()


class Limits(Struct, frozen=True):
    """Bytes of memory, and seconds, of processor time and by the clock."""

    memory: int
    seconds: int


class BuildEnded(Exception):
    """The process that built the list ended without a result."""


class Source(Protocol):
    async def build(self, order: Order) -> BuildResult:
        """Write the list to the order's path. Raises `tabular.Unreadable`, `BuildEnded`."""


class Here:
    """A file that is read in a thread of this process. `note` is called with each row that is left out."""

    def __init__(
        self,
        file: IO[bytes],
        hints: tabular.Hints = tabular.NO_HINTS,
        note: Callable[[RowProblem], None] = lambda _: None,
    ) -> None:
        self._file, self._hints, self._note = file, hints, note

    async def build(self, order: Order) -> BuildResult:
        return await asyncio.to_thread(self.built, order)

    def built(self, order: Order) -> BuildResult:
        table = tabular.read(self._file, order.home, self._hints)
        path = Path(order.path)
        tally = call_list.build(
            table,
            path,
            home=order.home,
            basis=order.basis,
            stated_kinds=order.stated_kinds,
            note=self._note,
        )
        return BuildResult(table.layout, tally, call_list.sha256_of(path))


_Result: TypeAlias = BuildResult | _BuildFailure
_decode: Final[Callable[[bytes], _Result]] = msgspec.json.Decoder(_Result).decode


async def build_apart(
    file: IO[bytes], order: Order, limits: Limits, is_cancelled: Callable[[], bool]
) -> BuildResult:
    """Build a list in a process of its own, which is killed when `is_cancelled` returns true, when its time is over, or when this is
    cancelled. Raises as `Source.build`.
    """
    words = (msgspec.json.encode((order, limits)).decode(),)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *words, stdin=file, stdout=asyncio.subprocess.PIPE
    )
    reading = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(limits.seconds):
            while not reading.done():
                await asyncio.wait([reading], timeout=_SOON)
                if is_cancelled():
                    raise BuildEnded("The client has gone.")
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
            f"The process that read the file ended unexpectedly ({process.returncode}). Try again; if it ends again, split the"
            " file."
        )
    result = _decode(out)
    if isinstance(result, _BuildFailure):
        raise tabular.Unreadable(result.text)
    return result


def _too_much(limits: Limits) -> str:
    return f"The file takes more than {limits.memory >> 20} MB of memory or {limits.seconds} seconds to read; split it."


def _main() -> None:
    order, limits = msgspec.json.decode(sys.argv[1], type=tuple[Order, Limits])
    confine(limits.memory, limits.seconds)
    result: _Result
    try:
        result = Here(sys.stdin.buffer).built(order)
    except tabular.Unreadable as error:
        result = _BuildFailure(str(error))
    except MemoryError:
        result = _BuildFailure(_too_much(limits))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    _main()
