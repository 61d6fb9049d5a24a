"""A publication that changes too much is held until two different people have looked at it and released it.

A hold is one JSON file `held/<id>.json` beside the publications, of the fields of `Hold`; a new field goes last with a
default. Its id is a hash of what would be published, so that a release is good for just
that, and for nothing that comes later.
"""

from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.runtime.atomic_write import write_file
from registry_sync.import_checks import Refused

NEEDED: Final = 2


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


class Held(Refused):
    """Not published before two people have released it."""

    def __init__(self, hold: Hold) -> None:
        missing = NEEDED - len(hold.approvals)
        who = "two people" if missing == NEEDED else "one more person"
        super().__init__(
            f"{hold.why}; held as {hold.id}. If it is right, {who} must say so:"
            f" registry-sync release {hold.id} --actor NAME; then run this again"
        )
        self.hold = hold


def demand(folder: Path, subject: tuple[str, ...], why: str, now: Instant) -> None:
    """`subject`: the registry, the controller, and all that names the change. Raises Held unless it was released."""
    name = _name(subject)
    hold = _read(folder, name) or Hold(
        id=name, registry=subject[0], controller=subject[1], why=why, held_at=now
    )
    if len(hold.approvals) < NEEDED:
        _write(folder, hold)
        raise Held(hold)


def approve(folder: Path, name: str, actor: str, now: Instant) -> Hold:
    """Raises Refused where nothing is held under this name, or this actor has released it before."""
    hold = _read(folder, name)
    if hold is None:
        raise Refused(f"nothing is held as {name}: see `registry-sync status`")
    if actor in {each.actor for each in hold.approvals}:
        raise Refused(f"{actor} has released {name} before: it takes two different people")
    hold = msgspec.structs.replace(hold, approvals=(*hold.approvals, Approval(actor, now)))
    _write(folder, hold)
    return hold


def holds(folder: Path) -> list[Hold]:
    found = (_read(folder, path.stem) for path in sorted((folder / "held").glob("*.json")))
    return [hold for hold in found if hold is not None]


def forget(folder: Path, subject: tuple[str, ...]) -> None:
    """What was held is published."""
    _path(folder, _name(subject)).unlink(missing_ok=True)


def forget_all(folder: Path, registry: str, controller: str) -> None:
    """What is held of this registry and controller is overtaken by what was published."""
    for hold in holds(folder):
        if (hold.registry, hold.controller) == (registry, controller):
            _path(folder, hold.id).unlink()


def _name(subject: tuple[str, ...]) -> str:
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
        raise Refused(f"{_path(folder, name)}: unreadable ({error}): remove it, and release anew") from error


def _write(folder: Path, hold: Hold) -> None:
    (folder / "held").mkdir(mode=0o700, exist_ok=True)
    write_file(_path(folder, hold.id), msgspec.json.encode(hold))
