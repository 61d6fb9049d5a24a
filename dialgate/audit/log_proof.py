"""The result of the last verification of all logs of a data folder, and the verification each night that renews it.

The result is the file `log-proof.json`. A night's verification runs on one core, in a process of its own.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.core.local_time import hour_in, instant_of, rfc3339
from dialgate.core.model import DAY, HOUR, Instant
from dialgate.core.text_formats import Timestamp
from dialgate.crypto.log_signing import public_keys
from dialgate.decision_log import VerificationReport, verify
from dialgate.decision_log.chains import folders
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.own_process import run_apart

STALE: Final = 2 * DAY
_FILE: Final = "log-proof.json"
_MOST_FAULTS: Final = 10
_NIGHT: Final = range(2, 5)  # hours with few calls
_log = structlog.get_logger(__name__)


class LogProof(Struct, frozen=True, kw_only=True):
    """A verification of all logs of a gate. `faults` says what was changed or is missing, at most ten."""

    at: Timestamp
    ok: bool
    records: int
    faults: list[str] = []


def keep_proof(data: Path, reports: Iterable[VerificationReport], at: Instant) -> LogProof:
    """Store the result of a verification of all logs that began at `at`. Raises `OSError`."""
    found = list(reports)
    faults = [
        f"{Path(fault.file).name}, record {fault.seq}: {fault.what}"
        for report in found
        for fault in report.faults
    ]
    records = sum(report.entries for report in found)
    proof = LogProof(at=rfc3339(at), ok=not faults, records=records, faults=faults[:_MOST_FAULTS])
    write_file(data / _FILE, msgspec.json.encode(proof))
    return proof


def last_proof(data: Path) -> LogProof | None:
    """Return the result of the last verification of all logs, if any. Raises `OSError` and `msgspec.DecodeError`."""
    try:
        return msgspec.json.decode((data / _FILE).read_bytes(), type=LogProof)
    except FileNotFoundError:
        return None


def prove_logs(data: Path, at: Instant) -> LogProof:
    """Verify all logs of a data folder and store the result. Raises `OSError` and `Unavailable`.

    For a process of its own, which then runs on one core.
    """
    # Calls need the others, and no pool outlives a kill.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    keys = public_keys(data / "signing.json")
    return keep_proof(data, [verify(folder, keys=keys) for folder in folders(data).values()], at)


class NightlyProof:
    """The verification of a gate's logs each night, or after two days at any hour."""

    def __init__(self, config: Callable[[], Config], now: Instant) -> None:
        self._config, self._begun, self._checked = config, now, now
        self._task: asyncio.Task[None] | None = None

    def tick(self, now: Instant) -> asyncio.Task[None] | None:
        """Begin a verification if it is due, and return its task. Whether it is due is checked once an hour."""
        if abs(now - self._checked) < HOUR or (self._task is not None and not self._task.done()):
            return None
        self._checked = now
        self._task = asyncio.create_task(self._run(now))
        return self._task

    async def _run(self, now: Instant) -> None:
        config = self._config()
        try:
            if config.settings.verify_log_nightly and await asyncio.to_thread(self._is_due, config, now):
                proof = await run_apart(partial(prove_logs, config.data, now))
                if not proof.ok:
                    _log.error("a decision log is damaged; run `dialgate log verify`", faults=proof.faults)
        except (Unavailable, OSError, msgspec.DecodeError) as fault:
            _log.error("the decision logs cannot be verified; next attempt in an hour", problem=str(fault))

    def _is_due(self, config: Config, now: Instant) -> bool:
        last = last_proof(config.data)
        age = now - (instant_of(last.at) if last else self._begun)
        zone = next((law.zone for law in config.laws.values()), "UTC")
        _, hour = hour_in(zone, now)
        return age >= STALE or (hour in _NIGHT and (last is None or age > DAY - len(_NIGHT) * HOUR))

    async def close(self) -> None:
        """End a verification in progress."""
        if self._task is not None and self._task.cancel():
            await asyncio.wait([self._task])
