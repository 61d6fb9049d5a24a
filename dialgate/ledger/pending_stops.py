"""Stops that were entered while no gate ran, in `pending/` in the data folder.

A stop must never be lost because the gate is down. So `dialgate revoke` writes it there, synced, and the gate enters it in
the ledger before it is ready. This is the only way in beside the gate's endpoints.
"""

import asyncio
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.config.controllers import ControllerFile
from dialgate.core import phone
from dialgate.core.faults import Unavailable
from dialgate.core.name_suggestions import choose
from dialgate.core.refusal import Refused
from dialgate.ledger import stop_requests
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.revocations import Revocations
from dialgate.ledger.schemas import RevocationsRequest
from dialgate.lists.tabular import Hints, read
from dialgate.runtime.atomic_write import sync_folder, write_file
from dialgate.runtime.clock import wall_clock

FOLDER: Final = "pending"
_SUFFIX: Final = ".stop"
_log = structlog.get_logger(__name__)


class PendingStops(Struct, frozen=True, kw_only=True):
    """One command's stops: the fields of a single one (`stop`), or the rows of a file (`rows`)."""

    actor: str
    stop: dict[str, Any] = {}
    request: RevocationsRequest | None = None
    hints: Hints = Hints()
    rows: bytes = b""


decode: Final = msgspec.msgpack.Decoder(PendingStops).decode


def refuse_unreadable(config: Config, controller: str, number: str) -> None:
    """Raise `Refused` if a gate with this configuration could not enter a revocation."""
    owner = refuse_unknown(config, controller)
    try:
        stop_requests.numbers(number, owner.dial_regions())
    except phone.NotANumber as problem:
        raise Refused("number.invalid", f"The number {problem}; write it in E.164.", "number") from problem


def refuse_unreadable_file(config: Config, controller: str, rows: bytes, hints: Hints) -> None:
    """Raise `Refused` if a gate with this configuration could not read a file of revocations."""
    owner = refuse_unknown(config, controller)
    read(BytesIO(rows), owner.dial_regions(), hints, lenient=True)


def refuse_unknown(config: Config, controller: str) -> ControllerFile:
    """Return the controller that a revocation names. Raises `Refused`."""
    owner = config.controllers.get(controller or next(iter(config.controllers), ""))
    if owner is None or (not controller and config.shared):
        raise Refused(
            "controller.unknown", choose("Use one of your controllers", config.controllers), "controller", 404
        )
    return owner


def keep(data: Path, stops: PendingStops) -> Path:
    """Write stops durably for the next gate, and return the file. Raises `OSError`."""
    folder = data / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync_folder(data)
    path = folder / f"{wall_clock():013}-{token_hex(4)}{_SUFFIX}"
    write_file(path, msgspec.msgpack.encode(stops))
    return path


class PendingFolder:
    """The stops that commands kept for a gate.

    `problem` says why not all of them are in the ledger. Then no call is safe.
    """

    def __init__(self, access: LedgerAccess, revocations: Revocations) -> None:
        self._access, self._revocations = access, revocations
        self._folder = access.config.data / FOLDER
        self.problem = f"the stops in {self._folder} are not in the ledger yet"

    async def enter(self) -> None:
        """Enter every stop in the ledger, oldest first, and delete its file once it is in force.

        A stop that cannot be entered does not delay the others. If the gate is killed in between, the stop is entered
        again, which does no harm.
        """
        path, problem = self._folder, ""
        try:
            for path in self._files():
                problem = await self._enter_file(path) or problem
        except OSError as error:
            problem = _not_in_force(path, error)
        self.problem = problem

    async def _enter_file(self, path: Path) -> str:
        """Enter the stops of a file and delete it. Return why they are not in force, or an empty string."""
        try:
            content = await asyncio.to_thread(path.read_bytes)
            await self._enter(decode(content))
        except (Refused, Unavailable, ValueError) as error:  # msgspec's errors are ValueErrors
            return _not_in_force(path, error)
        else:
            await asyncio.to_thread(path.unlink)
            _log.info("a stop that was entered while no gate ran is in force", file=path.name)
            return ""

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix == _SUFFIX)
        except FileNotFoundError:
            return []

    async def _enter(self, stops: PendingStops) -> None:
        client = self._access.config.operator(stops.actor)
        if stops.request is None:
            await self._revocations.stop(client, stops.stop)
        else:
            await self._revocations.revoke_all(client, stops.request, BytesIO(stops.rows), stops.hints)


def _not_in_force(path: Path, error: Exception) -> str:
    return (
        f"a stop that was entered while no gate ran, {path}, is not in force: {str(error).rstrip('.')}. Correct the cause, or"
        " enter the stop with `dialgate revoke`, a file with `dialgate revoke import`, and delete the kept file"
    )
