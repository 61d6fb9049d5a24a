"""The gates that share a store, their configurations and versions, and the leader of each exclusive task.

A node is outdated if another live node has a different configuration or version that was first seen later.
The comparison of configurations leaves out settings that differ between nodes (name, folders, ports, log).
"""

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import structs

from dialgate import __version__
from dialgate.config.configuration import Config
from dialgate.core.model import SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.observability.metrics import Metrics
from dialgate.runtime.clock import Clock
from dialgate.store import Members, Presence, Shared, Store, StoreUnavailable
from dialgate.store.membership import SILENT

_BEAT: Final = 2 * SECOND
_LEASE: Final = 10 * SECOND
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_OWN: Final = frozenset(
    {"data", "countries", "controllers", "webhooks", "node", "store"}
    | {"listen", "operations", "fastagi", "uploads", "snapshot_behind_minutes"}
    | {"batch_calls", "log_segment_mb", "log_segment_hours", "log_archive_hours", "checkpoint_seconds"}
)  # fmt: skip
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_log = structlog.get_logger(__name__)


def shared_hash(config: Config) -> str:
    """Return a hash of the settings that must be the same on every node."""
    settings = {name: value for name, value in structs.asdict(config.settings).items() if name not in _OWN}
    return hashlib.sha256(_encode([settings, config.law_hash, config.controllers])).hexdigest()


def problems(members: Members, now: Instant) -> dict[str, str]:
    """Return the nodes that have a problem, each with its description."""
    live = [gate for gate in members.present if now - gate.at < SILENT]
    newest = {
        name: max((_read_first_seen(members, gate, name) for gate in live), default=0) for name in _COMPARED
    }
    found = {}
    for gate in members.present:
        old = [name for name in _COMPARED if _read_first_seen(members, gate, name) < newest[name]]
        if now - gate.at >= SILENT:
            found[gate.node] = "silent"
        elif old:
            found[gate.node] = f"on an old {' and '.join(old)}"
    return found


_COMPARED: Final = ("config", "version")


def _read_first_seen(members: Members, presence: Presence, name: str) -> Instant:
    return members.seen.get(f"{name}:{getattr(presence, name)}", 0)


def place(data: Path) -> str:
    """Return an id for the data folder. Folders on different machines have different ids."""
    stat = data.stat()
    text = f"{_BOOT.read_text('ascii')} {stat.st_dev} {stat.st_ino}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def presence(config: Config, log: str) -> Presence:
    """Return this gate's membership entry, with no time set. `log` is the name of its log."""
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
    """Raise `StoreUnavailable` if another running gate has the same node or log name.

    Two such gates would mistake each other's decisions for their own, and delete each other's attempts from the
    store. The other gate may have been killed but still be recorded as a member. So this function waits for two
    heartbeats before it raises the error.
    """
    if not isinstance(store, Shared):
        return
    before = _twins(await store.members(), own, now)
    if not before:
        return
    await asyncio.sleep(2 * _BEAT / SECOND)
    for node, twin in _twins(await store.members(), own, now).items():
        if node in before and before[node].at != twin.at:
            raise StoreUnavailable(_describe(own, twin))


def _twins(members: Members, own: Presence, now: Instant) -> dict[str, Presence]:
    """Return the recently seen gates that have this gate's name or log name, but a different data folder."""
    return {
        gate.node: gate
        for gate in members.present
        if gate.place not in {"", own.place}
        and now - gate.at < SILENT
        and (gate.log == own.log or gate.gate == own.gate)
    }


def _describe(own: Presence, twin: Presence) -> str:
    if twin.log != own.log:
        return f"a running gate already has the name `{twin.node}`. Give each gate its own `node`"
    return (
        f"the running gate `{twin.node}` has a log with the same name, {own.log}: one data folder is a copy of the other. Give"
        " this gate a new data folder that contains only a copy of `keys.json`, without its fields `log` and `months`"
    )


class Roster:
    """One gate's view of the gates that share its store. A gate with its own store leads every task.

    Each heartbeat also compares `clock` with the store's clock.
    """

    def __init__(self, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._store = store if isinstance(store, Shared) else None
        self._metrics, self._clock = metrics, clock
        self._beat_at: Instant = 0
        self._reported = 0  # replicas in excess of the `replicas` setting
        self._own: Presence | None = None
        self.problems: dict[str, str] = {}

    async def tick(self, own: Presence, config: Config) -> None:
        """Record this gate as a member and check the others.

        Does not raise, because the readiness check reports an unavailable store.
        """
        now = own.at
        if self._store is None or abs(now - self._beat_at) < _BEAT:  # a corrected clock may step back
            return
        self._beat_at = now
        own = self._own = structs.replace(own, config=shared_hash(config))
        asked = self._clock.at_least()
        try:
            members = await self._store.members(own)
            self._clock.compare(asked, members.at)
            self._report_replicas(await self._store.surplus_replicas())
        except StoreUnavailable:
            return
        self.problems = problems(members, now)
        self._metrics.nodes.set(sum(now - gate.at < SILENT for gate in members.present))
        self._metrics.nodes_outdated.set(sum(text.startswith("on ") for text in self.problems.values()))

    def _report_replicas(self, unasked: int) -> None:
        self._metrics.replicas_unasked.set(unasked)
        if unasked > self._reported:
            _log.warning(
                "the store has more replicas than the `replicas` setting; commits wait for all of them",
                more=unasked,
            )
        self._reported = unasked

    async def members(self) -> Members:
        """Return the gates that share the store. Raises `Refused` if it is embedded, and `StoreUnavailable`."""
        return await self._shared().members()

    async def forget(self, name: str, now: Instant) -> None:
        """Remove a decommissioned gate. Raises `Refused` if it is unknown or runs, and `StoreUnavailable`."""
        members = await self.members()
        if name not in members.gates | members.unsettled:
            text = "The store has no node with this name. `dialgate nodes` lists them."
            raise Refused("node.unknown", text, "node", 404)
        if any(now - node.at < SILENT for node in members.present if node.gate == name):
            raise Refused("node.at_work", "The node is running. Stop it first.", "node", 409)
        await self._shared().forget(name)

    def _shared(self) -> Shared:
        if self._store is None:
            text = "The store is embedded, so there are no other nodes. To use a shared store, set `store`."
            raise Refused("store.embedded", text, status=409)
        return self._store

    async def leads(self, task: str) -> bool:
        """Return whether this gate leads `task` for the next few seconds. Raises `StoreUnavailable`."""
        if self._store is None:
            return True
        return self._own is not None and await self._store.lead(task, self._own.node, _LEASE)

    async def leave(self) -> None:
        """End this gate's membership when it shuts down."""
        if self._store is not None and self._own is not None:
            with suppress(StoreUnavailable):
                await self._store.dismiss(self._own.node)
