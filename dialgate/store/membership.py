"""The gates that share a store, and the leases for tasks that only one of them performs."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from dialgate.core.model import Instant


class Presence(Struct, frozen=True, kw_only=True):
    """The state that a gate process reported to the shared store at time `at`.

    `config` is a hash of the settings that all gates must have in common. `log` is the name of the process's
    decision log, which is stored in the folder `place`.
    """

    node: str
    config: str
    version: str
    at: Instant
    laws: dict[str, str] = {}
    log: str = ""
    place: str = ""

    @property
    def gate(self) -> str:
        """The node name without the worker number."""
        return self.node.partition("/")[0]


class Members(Struct, frozen=True):
    """The gate processes that joined and have not left.

    `seen` maps each configuration (`config:HASH`), version (`version:V`) and gate (`node:NAME`) to the time
    at which it was first seen. `at` is the store's clock at the reading.
    """

    present: list[Presence]
    seen: dict[str, Instant]
    at: Instant

    @property
    def gates(self) -> set[str]:
        """The names of all gates, including those that have left. Each has its own decision log."""
        left = {name.removeprefix("node:") for name in self.seen if name.startswith("node:")}
        return left | {presence.gate for presence in self.present}


@runtime_checkable
class Shared(Protocol):
    """Additional methods of a store that several gates share.

    If a store lacks commits or results that it had before, it was restored from an older copy. `ping` then sets
    `is_older`, and the store refuses reads and commits until `accept_restored` is called. Until then, each `ping`
    also sets `lacking` to the logs whose attempts are still missing from the store.
    """

    is_older: bool
    lacking: frozenset[str]

    def accept_restored(self) -> None:
        """Accept the store again, after `settle` has added the missing data."""

    async def members(self, presence: Presence | None = None) -> Members:
        """Record `presence`, if given, and return all gates."""

    async def dismiss(self, node: str) -> None:
        """Record that a process stopped normally. The process can join again."""

    async def forget(self, gate: str) -> None:
        """Remove a decommissioned gate permanently."""

    async def claim(self, mark: str) -> bool:
        """Claim the store for the keys with fingerprint `mark`. Return False if other keys have already claimed it."""

    async def lead(self, task: str, node: str, span: Instant) -> bool:
        """Acquire or extend the lease on `task` for `span` ms. Return whether `node` holds the lease."""

    async def share_second(self, second: Instant, node: str, figures: bytes) -> None:
        """Store what a process did in a second, for the boards of all gates. It is deleted after some minutes."""

    async def shared_seconds(self, seconds: Sequence[Instant]) -> list[dict[str, bytes]]:
        """Return what the processes stored for each second, by node."""

    async def surplus_replicas(self) -> int:
        """Return the number of replicas in excess of the setting `replicas`.

        Only replicas that can become master count. After this call, each write also waits for the surplus replicas.
        """
