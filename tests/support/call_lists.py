"""Call lists that are built in this process, as a gate builds small ones."""

import asyncio
from collections.abc import Callable
from typing import IO

from dialgate.ledger.call_lists import Build, build_list
from dialgate.lists.call_list import BuildOrder, BuildResult, RowProblem


def built_from(file: IO[bytes], note: Callable[[RowProblem], None] = lambda _: None) -> Build:
    """Return what `CallListWriter.load_from` needs to load a file. `note` is called with each row that is left out."""

    async def build(order: BuildOrder) -> BuildResult:
        return await asyncio.to_thread(build_list, file, order, note)

    return build
