"""The logs of the other gates on a store, as far as they were shipped, and the keys to read them.

Each gate publishes the keys of its months in the store, with the public keys that sign its log, encrypted with the key that
the gates have in common. It keeps a copy of all that are published in `data/peers/`. Decisions are shipped only once their keys
are published. So the decisions of a node whose disk is lost can still be found, proved and replayed.
A month that its node retires is retired in the store and in all copies within seconds.
"""

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.core.text_formats import Timestamp
from dialgate.crypto.keys import Keys, KeysUnusable, PeerKeys
from dialgate.crypto.log_signing import Signer
from dialgate.crypto.nonces import nonces
from dialgate.decision_log import LogDamaged
from dialgate.decision_log.chains import Home, homes, shipped_until
from dialgate.decision_log.records import month_of
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store import Documents, Shared, Store, StoreUnavailable

_INTERVAL: Final = 5 * SECOND
_log = structlog.get_logger(__name__)


class Coverage(Struct, frozen=True):
    """How far the logs of the other gates can be read here.

    `shipped` has the time up to which each node shipped its log. `missing` gives the reason for each node whose log cannot be
    read.
    """

    shipped: dict[str, Timestamp] = {}
    missing: dict[str, str] = {}


class ShippedLogs:
    def __init__(self, keys: Keys, store: Store, data: Path) -> None:
        self._keys, self._store = keys, store
        self._folder, self._signing = data / "peers", data / "signing.json"
        self._nonces = nonces()
        self._threads = ThreadPool("shipped-logs", 1)  # upkeep must not wait for other work
        self._due: Instant = 0
        self._problem = ""

    async def tick(self, now: Instant) -> None:
        """Publish this node's month keys, and copy those of the other nodes. Does not raise."""
        if not isinstance(self._store, Shared) or abs(now - self._due) < _INTERVAL:
            return
        self._due = now
        try:
            problem = await self._exchange(self._store, now)
        except (Unavailable, OSError) as error:
            problem = str(error)
        if problem and problem != self._problem:
            _log.error("month keys not exchanged with the other gates", problem=problem)
        self._problem = problem

    async def _exchange(self, store: Documents, now: Instant) -> str:
        """Return which keys of other nodes cannot be read, or "". They do not delay the exchange of the others."""
        published = await store.sealed_months()
        unreadable = await self._threads.run(self._copy, published)
        if self._keys.first_log in unreadable:
            del published[self._keys.first_log]  # published again
        for log, sealed in await self._threads.run(lambda: list(self._changed(published, now))):
            await store.put_sealed_months(log, sealed)
            await self._threads.run(self._keep, log, sealed)
        return "; ".join(f"log {log}: {problem}" for log, problem in unreadable.items())

    def _copy(self, published: dict[str, bytes]) -> dict[str, str]:
        """Copy the published keys. Return the problem of each log whose keys cannot be read."""
        unreadable = {}
        for log, sealed in published.items():
            try:
                self._keep(log, sealed)
            except KeysUnusable as error:
                unreadable[log] = str(error)
        return unreadable

    def _keep(self, log: str, sealed: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._keys.keep(self._folder / f"{log}.json", log, sealed)

    def _changed(self, published: dict[str, bytes], now: Instant) -> Iterator[tuple[str, bytes]]:
        """Yield the keys to publish: this node's, and copies that the store has lost."""
        self._keys.month(now)  # publishes the keys of a new month at once
        own, public = self._keys.first_log, Signer.open(self._signing, now).public
        if own not in published or not self._keys.has_published(public, published[own]):
            yield own, self._keys.publish(public, next(self._nonces))
        for path in self._folder.glob("*.json"):
            if path.stem not in {own, *published}:
                yield path.stem, self._published(PeerKeys.open(path))

    def _published(self, peer: PeerKeys) -> bytes:
        return peer.publish(peer.public, next(self._nonces))

    async def retire(self, months: Collection[str]) -> None:
        """Destroy the other nodes' keys of these months, because a lost node cannot.

        A running node publishes its own again until it retires the month. Raises `StoreUnavailable` and `KeysUnusable`.
        """
        others = (path for path in self._folder.glob("*.json") if path.stem != self._keys.first_log)
        for path in others if months else ():
            keys = PeerKeys.open(path)
            for month in months:
                await asyncio.to_thread(keys.retire, month)
            await self._store.put_sealed_months(path.stem, self._published(keys))

    def close(self) -> None:
        self._threads.close()

    async def coverage(self, config: Config) -> Coverage:
        """Return how far the logs of the other gates can be read here. Does not raise."""
        shipped, missing = await asyncio.to_thread(_read_ends, config)
        if isinstance(self._store, Shared):
            try:
                gates = (await self._store.members()).gates
            except StoreUnavailable:
                return Coverage(shipped, {**missing, "store": "not available, so there may be more gates"})
            for node in sorted(gates - shipped.keys() - missing.keys() - {config.settings.node}):
                missing[node] = _reason_without_log(config)
        return Coverage(shipped, missing)


def _reason_without_log(config: Config) -> str:
    if config.shipped is None:
        return "`shipping.to` is not set"
    if not config.shipped.is_dir():
        return f"{config.shipped} does not exist. Mount it, or run `dialgate ship`"
    return "nothing that it shipped can be read here. Run `dialgate ship` there"


def _read_ends(config: Config) -> tuple[dict[str, Timestamp], dict[str, str]]:
    try:
        own, *others = homes(config.data, config.shipped)
        months = own.keys().live().keys()
    except (KeysUnusable, OSError) as error:
        return {}, {"shipping.to": str(error)}
    problems = {home.node: problem for home in others if (problem := _problem_of(home, months))}
    return shipped_until(home for home in others if home.node not in problems), problems


def _problem_of(home: Home, months: Collection[str]) -> str:
    """Return why a log cannot be searched, or "". `months` are those for which this node has keys, so they are not retired."""
    try:
        newest = month_of(home.shipped_until())
        if newest in months and newest not in home.keys().live():
            return "this node has not received its newest keys yet"
    except (LogDamaged, KeysUnusable, OSError) as error:
        return str(error)
    return ""
