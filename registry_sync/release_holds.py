"""Holds on publications that change too much, until two different people release them.

A hold is a JSON file `held/<id>.json` in the snapshot folder with the fields of `Hold`; append new fields with a default.
Its id is a hash of what would be published, so a release applies to that publication only.
"""

from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.runtime.atomic_write import write_file
from registry_sync.import_checks import Refused

REQUIRED_APPROVALS: Final = 2


class Approval(Struct, frozen=True):
    actor: str
    at: Instant


class Hold(Struct, frozen=True, kw_only=True):
    id: str
    registry: str
    controller: str
    why: str
    held_at: Instant
    approvals: tuple[Approval, ...] = ()


class ReleaseRequired(Refused):
    """Two people must release this publication first."""

    def __init__(self, hold: Hold) -> None:
        missing = REQUIRED_APPROVALS - len(hold.approvals)
        who = "two people" if missing == REQUIRED_APPROVALS else "one more person"
        super().__init__(
            f"{hold.why}. Held as {hold.id}. If it is correct, {who} must release it"
            f" (registry-sync release {hold.id} --actor NAME); then run this command again"
        )
        self.hold = hold


def require_release(folder: Path, subject: tuple[str, ...], why: str, now: Instant) -> None:
    """Create a hold, and raise ReleaseRequired until it is released.

    `subject` is the registry, the controller, and whatever else identifies the change.
    """
    name = _hold_id(subject)
    hold = _read(folder, name) or Hold(
        id=name, registry=subject[0], controller=subject[1], why=why, held_at=now
    )
    if len(hold.approvals) < REQUIRED_APPROVALS:
        _write(folder, hold)
        raise ReleaseRequired(hold)


def approve(folder: Path, name: str, actor: str, now: Instant) -> Hold:
    """Record an approval. Raises Refused if the hold does not exist, or this actor has already approved it."""
    hold = _read(folder, name)
    if hold is None:
        raise Refused(f"no hold {name}. `registry-sync status` lists the holds")
    if actor in {approval.actor for approval in hold.approvals}:
        raise Refused(f"{actor} has already released {name}; a second person must release it")
    hold = msgspec.structs.replace(hold, approvals=(*hold.approvals, Approval(actor, now)))
    _write(folder, hold)
    return hold


def list_holds(folder: Path) -> list[Hold]:
    holds = (_read(folder, path.stem) for path in sorted((folder / "held").glob("*.json")))
    return [hold for hold in holds if hold is not None]


def remove_hold(folder: Path, subject: tuple[str, ...]) -> None:
    """Delete a hold whose publication is done."""
    _path(folder, _hold_id(subject)).unlink(missing_ok=True)


def remove_holds(folder: Path, registry: str, controller: str) -> None:
    """Delete the holds of this registry and controller, which a newer publication supersedes."""
    for hold in list_holds(folder):
        if (hold.registry, hold.controller) == (registry, controller):
            _path(folder, hold.id).unlink()


def _hold_id(subject: tuple[str, ...]) -> str:
    return sha256(msgspec.json.encode(subject)).hexdigest()[:12]


def _path(folder: Path, name: str) -> Path:
    return folder / "held" / f"{name}.json"


def _read(folder: Path, name: str) -> Hold | None:
    if not name.isalnum():
        return None
    try:
        return msgspec.json.decode(_path(folder, name).read_bytes(), type=Hold)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(
            f"{_path(folder, name)} is unreadable ({error}). Delete it and release again"
        ) from error


def _write(folder: Path, hold: Hold) -> None:
    (folder / "held").mkdir(mode=0o700, exist_ok=True)
    write_file(_path(folder, hold.id), msgspec.json.encode(hold))
