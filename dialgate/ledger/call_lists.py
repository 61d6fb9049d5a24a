"""Loading and retirement of call lists, and access to their numbers."""

import secrets
import string
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from msgspec import structs

from dialgate.config.clients import Client
from dialgate.config.controllers import ControllerFile
from dialgate.core import local_time, origins
from dialgate.core.law import Law
from dialgate.core.model import Origin
from dialgate.core.name_suggestions import choose
from dialgate.core.refusal import Refused
from dialgate.core.struct_copies import copy_fields
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.activation import Activation
from dialgate.ledger.judge import numbers_of
from dialgate.ledger.schemas import ListInfo, ListReport, ListRequest, RetiredList
from dialgate.lists import call_list, lost_zeros, tabular
from dialgate.lists.call_list import BuildOrder, BuildResult, RowProblem
from dialgate.lists.number_set import Numbers
from dialgate.runtime.atomic_write import publish_file
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store import CallList

Build: TypeAlias = Callable[[BuildOrder], Awaitable[BuildResult]]
_ID_LENGTH = 64
_ID_LETTERS = frozenset(string.ascii_letters + string.digits + "._-")


def build_list(file: IO[bytes], order: BuildOrder, note: Callable[[RowProblem], None]) -> BuildResult:
    """Write the numbers of a file as a call list. Raises `Refused`."""
    try:
        return call_list.build_file(file, order, note)
    except tabular.Unreadable as error:
        raise Refused("list.unreadable", str(error), "numbers") from error


class CallListWriter:
    def __init__(self, access: LedgerAccess, activation: Activation, threads: ThreadPool) -> None:
        self._access, self._activation, self._threads = access, activation, threads

    async def load_from(
        self, client: Client, ask: ListRequest, build: Build, hints: tabular.Hints = tabular.NO_HINTS
    ) -> ListReport:
        """Load a call list completely or not at all. On return, this node's gates use the list.

        `build` writes the list, as `build_list` does. Rows without a valid number are counted and left out. Raises
        `Refused` and `Unavailable`.
        """
        controller = self._access.controller(client, ask.controller)
        self._check_list(ask, controller)
        if refusal := await self._refusal(ask, controller):
            raise refusal
        folder = self._access.config.data / "lists"
        folder.mkdir(mode=0o700, exist_ok=True)
        temporary = folder / f"{secrets.token_hex(8)}.new"
        try:
            kinds = self._access.config.laws[controller.country].stated_kinds
            home = controller.dial_regions(ask.campaigns)
            built = await build(BuildOrder(str(temporary), home, ask.basis, kinds, hints))
            record = await self._publish(client, ask, controller, temporary, built)
        finally:
            temporary.unlink(missing_ok=True)
        tally = built.tally
        return copy_fields(
            tally,
            ListReport,
            info=_info(record),
            in_force=await self._activation.put_in_force(),
            layout=built.layout,
            reasons=dict(Counter(tally.reasons).most_common()),
            note=lost_zeros.summary(tally.doubtful),
            replaced=ask.replaces,
        )

    def _check_list(self, ask: ListRequest, controller: ControllerFile) -> None:
        if not ask.id or len(ask.id) > _ID_LENGTH or not set(ask.id) <= _ID_LETTERS:
            raise Refused(
                "request.invalid",
                "The id must have 1 to 64 letters, digits, dots, dashes or underscores.",
                "id",
            )
        if ask.id in {".", ".."}:
            raise Refused(
                "request.invalid",
                "The id cannot be `.` or `..`, which have a special meaning in URLs. Choose another id.",
                "id",
            )
        own = {campaign.id for campaign in controller.campaigns}
        if not ask.campaigns or not set(ask.campaigns) <= own:
            raise Refused(
                "campaign.unknown", choose("Use campaigns of this controller", own), "campaigns", 404
            )
        if not ask.collected_by.strip():
            raise Refused("request.invalid", "Say who collected the numbers.", "collected_by")
        _check_origin(ask, controller, self._access.config.laws[controller.country])

    async def _refusal(self, ask: ListRequest, controller: ControllerFile) -> Refused | None:
        """Return why the controller cannot have the list, or None."""
        own = [known for known in await self._access.store.lists() if known.controller == controller.id]
        if any(known.id == ask.id for known in own):
            text = "A list with this id was loaded before. Ids of retired lists cannot be used again; choose another."
            return Refused("list.exists", text, "id", 409)
        in_force = {known.id for known in own if not known.retired_at}
        if ask.replaces and ask.replaces not in in_force:
            return _unknown_list("replaces")
        most = self._access.config.settings.limits.lists
        if len(in_force - {ask.replaces}) >= most:
            text = f"The controller has {most} call lists in force, which is the maximum. Retire one, or raise the setting `limits.lists`."
            return Refused("list.too_many", text, "id", 409)
        return None

    async def _publish(
        self,
        client: Client,
        ask: ListRequest,
        controller: ControllerFile,
        temporary: Path,
        built: BuildResult,
    ) -> CallList:
        """Move the new file to its final name, and add the list to the store instead of the one that it replaces.

        Raises `Refused` and `StoreUnavailable`.
        """
        await self._threads.run(_refuse_numbers, ask, temporary, controller.dial_regions())
        digest, tally = built.sha256, built.tally
        file = temporary.with_name(call_list.file_name(controller.id, ask.id, digest))
        await self._threads.run(publish_file, temporary, file)
        record = CallList(
            id=ask.id,
            controller=controller.id,
            campaigns=ask.campaigns,
            bases=tally.bases,
            stated=tally.stated,
            places=tally.places,
            origin=_origin(ask),
            file=file.name,
            sha256=digest,
            numbers=tally.accepted,
            loaded_at=self._access.clock(),
            actor=client.actor(ask.actor),
        )
        # One step: a list that replaces another is never in force beside it, whatever fails.
        while not await self._access.store.add_list(record, ask.replaces):
            if refusal := await self._refusal(ask, controller):  # because of a concurrent load or retirement
                raise refusal
        return record

    async def lists(self, client: Client) -> list[ListInfo]:
        """Return the call lists of the client's controllers."""
        return [
            _info(record)
            for record in await self._access.store.lists()
            if record.controller in client.controllers
        ]

    async def retire_list(self, client: Client, name: str, controller: str = "") -> RetiredList:
        """Retire a call list. On return, no gate on this node allows a call from it.

        `controller` may be empty if only one of the client's controllers has a list with this name. Raises
        `Refused` and `Unavailable`.
        """
        owners = [
            record.controller
            for record in await self._access.store.lists()
            if record.id == name
            and record.controller in client.controllers
            and controller in {"", record.controller}
        ]
        if len(owners) > 1:
            raise Refused(
                "controller.unknown",
                choose(
                    "More than one controller has a list with this id. Set `controller` to one of them",
                    owners,
                ),
                "controller",
                404,
            )
        retired = (
            await self._access.store.retire_list(owners[0], name, self._access.clock()) if owners else None
        )
        if retired is None:
            raise _unknown_list()
        return RetiredList(**structs.asdict(_info(retired)), in_force=await self._activation.put_in_force())

    async def numbers_of(self, client: Client, name: str, campaign: str) -> Numbers:
        """Return the numbers of a list.

        The list must belong to the campaign's controller. Raises `Refused`.
        """
        owner = self._access.line(client, campaign).controller.id
        for record in await self._access.store.lists():
            if (record.id, record.controller) == (name, owner):
                return numbers_of(record, self._access.config.data / "lists")
        raise _unknown_list()

    async def overlaps(
        self, client: Client, name: str, campaign: str, numbers: Numbers
    ) -> list[tuple[str, int]]:
        """Return the controller's other lists in force that share numbers with a list, and how many, the most first."""
        owner, folder = self._access.line(client, campaign).controller.id, self._access.config.data / "lists"
        others = [
            record
            for record in await self._access.store.lists()
            if record.controller == owner and record.id != name and not record.retired_at
        ]
        shared = [(record.id, _count_common(numbers, numbers_of(record, folder))) for record in others]
        return sorted((pair for pair in shared if pair[1]), key=lambda pair: (-pair[1], pair[0]))

    async def campaigns_of(self, client: Client, name: str) -> list[str]:
        """Return the list's campaigns that still exist. Raises `Refused` if there are none."""
        lists = [info for info in await self.lists(client) if info.id == name]
        if not lists:
            raise _unknown_list()
        names = (campaign for info in lists for campaign in info.campaigns)
        campaigns = [campaign for campaign in names if self._access.config.line_of(campaign, client)]
        if not campaigns:
            raise Refused(
                "campaign.unknown",
                choose(
                    "The campaigns of this list no longer exist. Use one of your campaigns",
                    self._access.config.campaigns_of(client),
                ),
                "campaign",
                404,
            )
        return campaigns


def _count_common(some: Numbers, others: Numbers) -> int:
    """Count the numbers that are in both, which are sorted and have no duplicates."""
    if not len(others):
        return 0
    places = np.minimum(np.searchsorted(others, some), len(others) - 1)
    return int(np.count_nonzero(others[places] == some))


def _check_origin(ask: ListRequest, controller: ControllerFile, law: Law) -> None:
    """Raise `Refused` if the stated origin contradicts itself, or if the law permits no call without one."""
    origin = _origin(ask)
    is_own = origins.is_own(origin, controller.as_fact())
    if ask.origin == "own" and not is_own:
        text = "The origin `own` needs a `collected_by` that is the controller, or one of the `processors` in its file. Correct it, or send the origin `acquired` with every transfer."
    elif ask.origin == "acquired" and not ask.transfers:
        text = "The origin `acquired` needs `transfers`: every cession of the list down to the controller."
    elif not (ask.origin or ask.transfers or is_own) and any(section.origin_stated for section in law.lists):
        text = "State `origin`, because another company collected the list: `public_directory`, or `acquired` with every transfer. If it collects for the controller, name it in the setting `processors` of the controller's file."
    else:
        return
    raise Refused("request.invalid", text, "transfers" if ask.origin == "acquired" else "origin")


def _origin(ask: ListRequest) -> Origin:
    return copy_fields(ask, Origin, kind=ask.origin)


def _refuse_numbers(ask: ListRequest, path: Path, home: str) -> None:
    """Raise `Refused` if a text field in the request contains a number from the list.

    Otherwise decisions would record the number unencrypted.
    """
    texts = {
        "id": ask.id,
        "collected_by": ask.collected_by,
        "source": ask.source,
        "actor": ask.actor,
        "transfers": " | ".join(name for transfer in ask.transfers for name in (transfer.by, transfer.to)),
    }
    for name, text in texts.items():
        if call_list.names_one_of(path, text, home):
            raise Refused(
                "request.invalid",
                "This text contains a telephone number from the list. Remove the number.",
                name,
            )


def _unknown_list(field: str = "id") -> Refused:
    return Refused("list.unknown", f"List not found for your controllers. Check `{field}`.", field, 404)


def _info(record: CallList) -> ListInfo:
    return copy_fields(
        record,
        ListInfo,
        loaded_at=local_time.rfc3339(record.loaded_at),
        retired_at=local_time.rfc3339(record.retired_at) if record.retired_at else "",
    )
