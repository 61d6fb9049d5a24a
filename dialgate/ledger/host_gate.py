"""What ledger operations need of the gate in whose process they run."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from dialgate.core.model import RegistryAnswer, Result
from dialgate.store.encoded_entries import AnyDraft

Append: TypeAlias = Callable[[Sequence[AnyDraft]], Awaitable[Sequence[int]]]


class OutcomeLog(Protocol):
    """The decision log's methods that outcomes need."""

    async def result(self, decision: str, result: Result, client: str) -> None:
        """Record a call's result durably. Raises `LogUnavailable`."""


class HostGate(Protocol):
    """The gate. `log` is None and the rest does nothing in a process without one (`NoGate`)."""

    @property
    def log(self) -> OutcomeLog | None: ...

    @property
    def append(self) -> Append | None:
        """The function that appends entries to the ledger, or None for the store's."""

    @property
    def steady(self) -> Callable[[], float]:
        """The clock for durations, in seconds."""

    async def find_call_elsewhere(self, decision: str) -> tuple[str, str] | None:
        """Return the controller and the E.164 number of a call, from the other gates on the store, or None."""

    async def refresh(self) -> None:
        """Load the current call lists, proofs and pauses from the store. Raises `Unavailable`."""

    def registry_answers(self, country: str, controller: str, e164: str) -> tuple[RegistryAnswer, ...]:
        """Return the answers that the registries of `country` gave to a controller about a number."""


class NoGate:
    """A process that opens the ledger without a gate, such as a job. `append` is as in `HostGate`."""

    log: OutcomeLog | None = None
    steady: Callable[[], float] = time.monotonic

    def __init__(self, append: Append | None = None) -> None:
        self.append = append

    async def find_call_elsewhere(self, _: str, /) -> None:
        return None

    async def refresh(self) -> None:
        return None

    def registry_answers(self, *_: str) -> tuple[()]:
        return ()
