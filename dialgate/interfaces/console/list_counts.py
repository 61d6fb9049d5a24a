"""The counts of callable numbers on the pages of call lists, as counted by this gate since its start."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, NamedTuple

import structlog
from aiohttp import web

from dialgate.core.faults import Unavailable
from dialgate.core.model import MINUTE, Instant
from dialgate.core.refusal import Refused
from dialgate.ledger.list_exports import Preview

_MOST: Final = 200
_STALE: Final = 15 * MINUTE
_log = structlog.get_logger(__name__)


class CountKey(NamedTuple):
    controller: str
    list: str
    campaign: str


class ListCounts:
    """The newest count of each list that somebody has counted, renewed while somebody looks at it. At most 200 are kept."""

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._kept: OrderedDict[CountKey, tuple[Instant, Preview]] = OrderedDict()
        self._renewing: asyncio.Task[None] | None = None

    def find(self, key: CountKey) -> Preview | None:
        counted = self._kept.get(key)
        return counted[1] if counted else None

    def keep(self, key: CountKey, counted: Preview) -> None:
        self._kept.pop(key, None)
        self._kept[key] = self._clock(), counted
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    def renew(self, keys: Iterable[CountKey], count: Callable[[CountKey], Awaitable[Preview]]) -> None:
        """Count those of the lists again, one after the other, whose count is older than 15 minutes."""
        old = [key for key in keys if key in self._kept and self._clock() - self._kept[key][0] >= _STALE]
        if old and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew(old, count))

    async def _renew(self, keys: list[CountKey], count: Callable[[CountKey], Awaitable[Preview]]) -> None:
        for key in keys:
            try:
                self.keep(key, await count(key))
            except (Refused, Unavailable) as fault:  # the page shows the older count with its time
                _log.info("a list could not be counted again", list=key.list, problem=str(fault))

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])


LIST_COUNTS: Final = web.AppKey("list_counts", ListCounts)


async def run_counts(site: web.Application) -> AsyncIterator[None]:
    yield
    await site[LIST_COUNTS].close()
