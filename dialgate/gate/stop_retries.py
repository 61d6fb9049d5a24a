"""Retries for opt-outs and wrong-number reports that recovery could not add to the ledger.

Gate A can allow a call, and gate B can record the opt-out. If their shared store loses its data, only the log of gate A
contains the called number. Gate B then denies all calls until gate A sends the number, or restarts and restores the
attempt in the store. Each upkeep round starts a retry.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant, OutcomeRecord
from dialgate.crypto.keys import Keys
from dialgate.gate import stop_recovery

_log = structlog.get_logger(__name__)


class StopsUnentered(Unavailable):
    component = "ledger"


class StopRetries:
    def __init__(
        self,
        data: Path,
        keys: Keys,
        store: stop_recovery.RecoveryStore,
        find_call: Callable[[str], Awaitable[tuple[str, str] | None]],
    ) -> None:
        """Start with no stops to retry.

        `find_call` asks the other gates for a decision's controller and called number.
        """
        self._data, self._keys, self._store, self._find_call = data, keys, store, find_call
        self._unentered: list[OutcomeRecord] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, unentered: list[OutcomeRecord]) -> None:
        for outcome in unentered:
            _log.error(
                "an opt-out or wrong-number report in the log is not in the ledger yet",
                decision=outcome.decision,
            )
        self._unentered += unentered

    @property
    def problem(self) -> str:
        if not self._unentered:
            return ""
        return (
            f"{len(self._unentered)} stops (opt-outs or wrong-number reports) in the log are missing from the ledger,"
            " and no running gate has the decisions on their calls. The first stop is about decision"
            f" {self._unentered[0].decision}. Start the gate that made this decision, or enter the stops with"
            " `dialgate revoke` and restart this gate"
        )

    def refuse_if_unentered(self) -> None:
        """Raise `StopsUnentered` while an opt-out or wrong-number report is missing from the ledger.

        The called number is unknown, so any call could be to that number.
        """
        if self._unentered:
            raise StopsUnentered(self.problem)

    def look(self, now: Instant) -> None:
        """Start a round of retries in the background, unless one is running."""
        if self._unentered and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._round(now))

    async def _round(self, now: Instant) -> None:
        for outcome in list(self._unentered):
            with suppress(Unavailable):
                if await self._enter(outcome, now):
                    self._unentered.remove(outcome)

    async def _enter(self, outcome: OutcomeRecord, now: Instant) -> bool:
        _, unentered = await stop_recovery.enter_opt_outs(self._data, self._store, self._keys, [outcome], now)
        if unentered:
            call = await self._find_call(outcome.decision)
            if call is None:
                return False
            stop = stop_recovery.opt_out(self._keys, outcome, *call)
            await stop_recovery.enter(self._store, self._keys, [stop], now)
        return True

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
