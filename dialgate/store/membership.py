"""The gates that share a store, and the tasks that only one of them performs."""

from typing import Protocol, runtime_checkable

from msgspec import Struct

from dialgate.core.model import Instant


class Presence(Struct, frozen=True, kw_only=True):
    """A gate that shares the store, as of `at`. `config`: hash of the settings that all gates must have in common. `log`: the
    name of its decision log, in the folder `place`."""

    node: str
    config: str
    version: str
    at: Instant
    laws: dict[str, str] = {}
    log: str = ""
    place: str = ""

    @property
    def gate(self) -> str:
        """Its node, without the worker's number."""
        return self.node.partition("/")[0]


class Muster(Struct, frozen=True):
    """Every process of a gate that joined and has not left, by name. `seen`: when a configuration, a version or a gate
    (`config:HASH`, `version:V`, `node:NAME`) was first seen."""

    present: list[Presence]
    seen: dict[str, Instant]

    @property
    def gates(self) -> set[str]:
        """Every gate by its `node`, including those that left: each has a log that no other gate has."""
        left = {name.removeprefix("node:") for name in self.seen if name.startswith("node:")}
        return left | {each.gate for each in self.present}


@runtime_checkable
class Shared(Protocol):
    """The further methods of a store that several gates share."""

    async def muster(self, presence: Presence | None = None) -> Muster:
        """Record `presence`, if given, and return every gate."""

    async def note_durable(self, log: str, seq: int) -> None:
        """Store that `log` is on its disk up to `seq`, so that other gates may repeat its answers up to there."""

    async def dismiss(self, node: str) -> None:
        """Record that a process ended as it should. It may return."""

    async def forget(self, gate: str) -> None:
        """Remove a decommissioned gate permanently."""

    async def claim(self, mark: str) -> bool:
        """Return whether the store belongs to the keys with this mark. An unclaimed store belongs to them from now on."""

    async def lead(self, task: str, node: str, span: Instant) -> bool:
        """Return whether `node` holds the lease of `task`, which is then extended to `span` milliseconds from now."""

    async def unasked(self) -> int:
        """Return how many replicas could replace the master beyond those that the settings require. Writes wait for these
        as well from now on."""
