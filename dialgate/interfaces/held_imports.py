"""Imports of registry answers that change so much that two people must release them (`dialgate.lists.release_holds`).

The gate shows the holds of a nightly job that publishes into its data folder. The next run of that job publishes what was released.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.core.text_formats import Timestamp
from dialgate.lists import release_holds
from dialgate.lists.release_holds import REQUIRED_APPROVALS, ReleaseHold

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class ReleaseApproval(Struct, frozen=True):
    actor: str
    at: Timestamp


class HeldImport(Struct, frozen=True, kw_only=True):
    """An import that two people must release. `released` is true once they did: the nightly job's next run publishes it.

    `controller` is empty for a full list, which all controllers use; `area` is then the part that it concerns.
    """

    id: str
    registry: str
    controller: str
    area: str
    why: str
    held_at: Timestamp
    approvals: tuple[ReleaseApproval, ...]
    released: bool


async def held_imports(app: App, controllers: tuple[str, ...]) -> list[HeldImport]:
    """Return the held imports that concern these controllers alone, oldest first. Raises `Refused`."""
    holds = await _in_thread(lambda: release_holds.list_holds(_folder(app)))
    every = {*app.config.controllers}
    found = [hold for hold in holds if ({hold.controller} if hold.controller else every) <= {*controllers}]
    return [_shown(hold) for hold in sorted(found, key=lambda hold: hold.held_at)]


async def release_import(app: App, client: Client, name: str) -> HeldImport:
    """Record a client's approval of a held import. Raises `Refused` and `StoreUnavailable`.

    A key can be shared, so only people with a confirmed account count, and commands on the gate's machine.
    """
    if not await app.people.is_person(client):
        text = "This needs a person with a confirmed account, which another operator or `dialgate account confirm` confirms. Keys do not count."
        raise Refused("release.people_only", text, status=403)
    if name not in {held.id for held in await held_imports(app, client.controllers)}:
        text = "No import with this id is held for your controllers. `GET /v1/registries/holds` lists them."
        raise Refused("release.unknown", text, "id", 404)
    actor, now = client.actor(), app.gate.now()
    hold = await _in_thread(lambda: release_holds.approve(_folder(app), name, actor, now))
    _log.warning("import released", hold=name, registry=hold.registry, by=client.name)
    return _shown(hold)


def _folder(app: App) -> Path:
    return app.config.data / "snapshots"


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}. Let the gate's user read and write this folder."
        raise Refused("release.unreadable", text, status=500) from error


def _shown(hold: ReleaseHold) -> HeldImport:
    return HeldImport(
        id=hold.id,
        registry=hold.registry,
        controller=hold.controller,
        area=hold.area,
        why=hold.why,
        held_at=when(hold.held_at),
        approvals=tuple(ReleaseApproval(approval.actor, when(approval.at)) for approval in hold.approvals),
        released=len(hold.approvals) >= REQUIRED_APPROVALS,
    )
