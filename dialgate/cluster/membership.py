"""Which gates share a store, and on what configuration and version; and which one does what only one of them should do.

A node is outdated while another that lives has a configuration or a version that was first seen later. What belongs to the
node alone (its name, its folders and ports, its own log) is no part of what is compared.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import structs

from dialgate import __version__
from dialgate.config.configuration import Config
from dialgate.core.model import SECOND, Instant
from dialgate.observability.metrics import Metrics
from dialgate.store import Muster, Presence, Shared, Store, StoreUnavailable

SILENT: Final = 15 * SECOND
_BEAT: Final = 2 * SECOND
_LEASE: Final = 10 * SECOND
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_OWN: Final = frozenset(
    {"data", "countries", "controllers", "webhooks", "listen", "fastagi", "node", "workers", "store", "store_patience"}
    | {"batch_calls", "log_segment_mb", "log_segment_hours", "log_archive_hours", "checkpoint_seconds"}
)  # fmt: skip
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_log = structlog.get_logger(__name__)


def shared_hash(config: Config) -> str:
    """Of what every node must have alike, wherever its files lie."""
    told = config.settings
    settings = {name: getattr(told, name) for name in told.__struct_fields__ if name not in _OWN}
    return hashlib.sha256(_encode([settings, config.law_hash, config.controllers])).hexdigest()


def problems(muster: Muster, now: Instant) -> dict[str, str]:
    """In words, by node, what a person must look at."""
    living = [each for each in muster.present if now - each.at < SILENT]
    newest = {name: max((_seen(muster, each, name) for each in living), default=0) for name in _COMPARED}
    found = {}
    for each in muster.present:
        old = [name for name in _COMPARED if _seen(muster, each, name) < newest[name]]
        if now - each.at >= SILENT:
            found[each.node] = "silent"
        elif old:
            found[each.node] = f"on an old {' and '.join(old)}"
    return found


_COMPARED: Final = ("config", "version")


def _seen(muster: Muster, presence: Presence, name: str) -> Instant:
    return muster.seen.get(f"{name}:{getattr(presence, name)}", 0)


def place(data: Path) -> str:
    """Of a folder that no other machine has, nor another folder."""
    found = data.stat()
    told = f"{_BOOT.read_text('ascii')} {found.st_dev} {found.st_ino}"
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def presence(config: Config, log: str) -> Presence:
    """This process in the muster, at no instant yet; `log` is the name of its log."""
    return Presence(
        node=config.settings.node,
        config=config.hash,
        version=__version__,
        at=0,
        laws=config.law_hash,
        log=log,
        place=place(config.data),
    )


async def refuse_twins(store: Store, own: Presence, now: Instant) -> None:
    """Of two gates whose logs have one name each takes the other's decisions for its own, and undoes the attempts they counted. One
    that was killed is still on the list: whether it lives shows within two beats. Raises `StoreUnavailable`."""
    if not isinstance(store, Shared):
        return
    before = _twins(await store.muster(), own, now)
    if not before:
        return
    await asyncio.sleep(2 * _BEAT / SECOND)
    for node, twin in _twins(await store.muster(), own, now).items():
        if node in before and before[node].at != twin.at:
            raise StoreUnavailable(_told(own, twin))


def _twins(muster: Muster, own: Presence, now: Instant) -> dict[str, Presence]:
    """Who lives, or did just now, in another folder, and has this gate's name or its log's."""
    return {
        each.node: each
        for each in muster.present
        if each.place not in {"", own.place}
        and now - each.at < SILENT
        and (each.log == own.log or each.gate == own.gate)
    }


def _told(own: Presence, twin: Presence) -> str:
    if twin.log != own.log:
        return f"another gate at work has the name `{twin.node}`: give each a `node` of its own"
    return (
        f"the gate `{twin.node}` is at work on a log of this name, {own.log}: one data folder was copied from the other. Begin"
        " with an empty one, and in it a copy of `keys.json` without `log` and `months`"
    )


class Roster:
    """Of one gate. Where the store is its own there is nobody else, and it does everything."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store if isinstance(store, Shared) else None
        self._metrics = metrics
        self._due: Instant = 0
        self._told = 0
        self._own: Presence | None = None
        self.problems: dict[str, str] = {}

    async def tick(self, own: Presence, config: Config) -> None:
        """Raises nothing: that the store is away is told elsewhere."""
        now = own.at
        if self._store is None or now < self._due:
            return
        self._due = now + _BEAT
        own = self._own = structs.replace(own, config=shared_hash(config))
        try:
            muster = await self._store.muster(own)
            self._unasked(await self._store.unasked())
        except StoreUnavailable:
            return
        self.problems = problems(muster, now)
        self._metrics.nodes.set(sum(now - each.at < SILENT for each in muster.present))
        self._metrics.nodes_outdated.set(sum(each.startswith("on ") for each in self.problems.values()))

    def _unasked(self, replicas: int) -> None:
        self._metrics.replicas_unasked.set(replicas)
        if replicas > self._told:
            _log.warning(
                "the store has more replicas than `replicas` says; all are waited for", more=replicas
            )
        self._told = replicas

    async def leads(self, task: str) -> bool:
        """Whether `task` is this gate's for the next seconds. Raises `StoreUnavailable`."""
        if self._store is None:
            return True
        return self._own is not None and await self._store.lead(task, self._own.node, _LEASE)

    async def leave(self) -> None:
        """It ends as it should, and is missed by nobody."""
        if self._store is not None and self._own is not None:
            try:
                await self._store.dismiss(self._own.node)
            except StoreUnavailable:
                return
