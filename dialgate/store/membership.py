"""The gates that share a store, and the leases for tasks that only one of them performs."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from dialgate.core.model import SECOND, Instant

SILENT: Final = 15 * SECOND  # a gate without a heartbeat for this long does not run


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
        """The node's name. Gates of earlier versions with several workers append the number of the worker."""
        return self.node.partition("/")[0]


class Members(Struct, frozen=True):
    """The gate processes that joined and have not left.

    `seen` maps each configuration (`config:HASH`), version (`version:V`) and gate (`node:NAME`) to the time
    at which it was first seen. `at` is the store's clock at the reading. `unsettled` has the logs of the gates that have
    not acknowledged the store's generation.
    """

    present: list[Presence]
    seen: dict[str, Instant]
    at: Instant
    unsettled: frozenset[str] = frozenset()

    @property
    def gates(self) -> set[str]:
        """The names of all gates, including those that have left. Each has its own decision log."""
        left = {name.removeprefix("node:") for name in self.seen if name.startswith("node:")}
        return left | {presence.gate for presence in self.present}


class Generation(NamedTuple):
    """A generation of a shared store, and the logs of the gates that have not acknowledged it.

    A generation begins when a gate finds that the store is an older copy, which lacks commits or results. Until every
    gate has added what its log holds, the store refuses reads and commits.
    """

    number: int
    waiting: frozenset[str]


@runtime_checkable
class Shared(Protocol):
    """Additional methods of a store that several gates share."""

    @property
    def generation(self) -> Generation:
        """The generation that was last read from the store. Each `ping` reads it."""

    async def acknowledge(self, log: str, number: int) -> None:
        """Acknowledge the generation `number`, after `settle` has added what the store lacked of `log`."""

    async def members(self, presence: Presence | None = None) -> Members:
        """Record `presence`, if given, and return all gates."""

    async def dismiss(self, node: str) -> None:
        """Record that a process stopped normally. The process can join again."""

    async def forget(self, gate: str) -> None:
        """Remove a decommissioned gate permanently, by its name or by the name of its log.

        The store's generation no longer waits for it.
        """

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

    async def begin_import(self) -> None:
        """Prevent gates from opening the store until `end_import`, and remove the claim on the empty store."""

    async def end_import(self) -> None: ...
