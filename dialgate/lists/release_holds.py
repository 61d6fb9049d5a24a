"""Holds on publications that change too many numbers. Two different people must release a hold.

A hold is a JSON file `held/<id>.json` in the snapshot folder with the fields of `ReleaseHold`. Append new fields
with a default. The id is a hash of the planned publication, so a release applies only to that publication.
"""

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.file_lock import hold_lock

REQUIRED_APPROVALS: Final = 2


class Approval(Struct, frozen=True):
    actor: str
    at: Instant


class ReleaseHold(Struct, frozen=True, kw_only=True):
    id: str
    registry: str
    controller: str
    why: str
    held_at: Instant
    approvals: tuple[Approval, ...] = ()
    area: str = ""  # of a full list that is published by area


class ReleaseRequired(Exception):
    """Raised for a publication that two people must release first."""

    def __init__(self, hold: ReleaseHold) -> None:
        missing = REQUIRED_APPROVALS - len(hold.approvals)
        who = "two people" if missing == REQUIRED_APPROVALS else "one more person"
        super().__init__(
            f"{hold.why}. Held as {hold.id}. If it is correct, {who} must release it, on the page Registries of the console or with"
            f" `registry-sync release {hold.id} --actor NAME`; then run this command again"
        )


def require_release(folder: Path, subject: tuple[str, ...], why: str, now: Instant, area: str = "") -> None:
    """Raise ReleaseRequired unless two people have released the change. Create a hold for the change if needed.

    `subject` is the registry, the controller, and further parts that identify the change. `area` is the area of a full
    list that the change concerns.
    """
    name = _hold_id(subject)
    hold = _read(folder, name) or ReleaseHold(
        id=name, registry=subject[0], controller=subject[1], why=why, held_at=now, area=area
    )
    if len(hold.approvals) < REQUIRED_APPROVALS:
        _write(folder, hold)
        raise ReleaseRequired(hold)


def approve(folder: Path, name: str, actor: str, now: Instant) -> ReleaseHold:
    """Record one person's approval to release a hold.

    Raises Refused if the hold does not exist, or if `actor` has already approved its release.
    """
    if _read(folder, name) is None:
        text = f"No hold has the id {name}. `registry-sync status` lists the holds."
        raise Refused("release.unknown", text, "id", 404)
    with hold_lock(folder / ".held.lock"):  # two people at once
        hold = _read(folder, name)
        if hold is None:
            raise Refused("release.unknown", "The import was published meanwhile.", "id", 404)
        if actor in {approval.actor for approval in hold.approvals}:
            text = f"{actor} has already released {name}. A second person must release it, too."
            raise Refused("release.repeated", text, "id", 409)
        hold = msgspec.structs.replace(hold, approvals=(*hold.approvals, Approval(actor, now)))
        _write(folder, hold)
    return hold


def list_holds(folder: Path) -> list[ReleaseHold]:
    holds = (_read(folder, path.stem) for path in sorted((folder / "held").glob("*.json")))
    return [hold for hold in holds if hold is not None]


def remove_hold(folder: Path, subject: tuple[str, ...]) -> None:
    _path(folder, _hold_id(subject)).unlink(missing_ok=True)


def remove_holds(folder: Path, registry: str, areas: Collection[str]) -> None:
    """Delete the holds for these areas of a full list, after a publication has superseded them."""
    for hold in list_holds(folder):
        if (hold.registry, hold.controller) == (registry, "") and hold.area in {*areas, ""}:
            _path(folder, hold.id).unlink()


def _hold_id(subject: tuple[str, ...]) -> str:
    return sha256(msgspec.json.encode(subject)).hexdigest()[:12]


def _path(folder: Path, name: str) -> Path:
    return folder / "held" / f"{name}.json"


def _read(folder: Path, name: str) -> ReleaseHold | None:
    if not name.isalnum():
        return None
    try:
        return msgspec.json.decode(_path(folder, name).read_bytes(), type=ReleaseHold)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"{_path(folder, name)} is unreadable ({error}). Delete this file, and release the hold again."
        raise Refused("release.unreadable", text, status=500) from error


def _write(folder: Path, hold: ReleaseHold) -> None:
    (folder / "held").mkdir(mode=0o700, exist_ok=True)
    write_file(_path(folder, hold.id), msgspec.json.encode(hold))
