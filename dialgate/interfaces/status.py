"""The status of controllers: their registry consultations, caller IDs, open requests and paused campaigns, and what they must do.

The status contains no called numbers.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import date
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct, structs

from dialgate.app import App
from dialgate.audit.log_proof import STALE, LogProof, last_proof
from dialgate.config.clients import Client, Scope
from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core import periods
from dialgate.core.law import Law
from dialgate.core.law_sections import CallerIds
from dialgate.core.local_time import day_in, instant_of, rfc3339
from dialgate.core.model import DAY, Campaign, Instant
from dialgate.core.refusal import Refused
from dialgate.interfaces.held_imports import HeldImport, held_imports
from dialgate.ledger.campaigns import CampaignInfo
from dialgate.people.client_keys import ClientInfo
from dialgate.store import CallerIdProof
from dialgate.subjects.breach_schemas import BreachFile
from dialgate.tools.backup import last_backup, signing_key_at


class RegistryStatus(Struct, frozen=True, kw_only=True):
    """The latest registry consultation for a controller.

    `ends_at` is the time at which the registry's answers expire, or empty if there was no consultation.
    """

    registry: str
    controller: str
    numbers: int
    consulted_at: str
    ends_at: str
    days_left: float
    share_left: float


class CallerIdStatus(Struct, frozen=True, kw_only=True):
    """A caller ID used by a campaign.

    `state` is `class` (no proof needed), `proved`, `ends` (expires within `SOON`), `expired` or `missing`.
    """

    number: str
    campaign: str
    controller: str
    state: str
    kind: str = ""
    ends_at: str = ""
    days_left: float = 0


class OpenRequest(Struct, frozen=True, kw_only=True):
    id: str
    kind: str
    controller: str
    due_at: str
    days_left: int


class ShadowStatus(Struct, frozen=True, kw_only=True):
    """A scope of shadow mode: the gate, a client or a campaign, with the day after which it refuses calls."""

    kind: str
    name: str
    last_day: date


TaskKind: TypeAlias = Literal[
    "registry_ends", "silent_limit", "campaign_ends", "proof_ends", "caller_id_ends", "request_due", "shadow_ends",
    "backup_due", "key_ends", "log_damaged", "log_unproved",
    "breach_due", "breach_people", "import_held", "law_changed", "report_unsent",
]  # fmt: skip


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a supervisor or officer must do soon.

    `name` is the registry, campaign, caller ID, request, breach, country, scope of shadow mode, client, report by mail or held import's registry that the task is about. `share` is the part of a limit
    that a campaign has used. `days_left` is negative if the day has passed, and missing if the task has no day.
    """

    kind: TaskKind
    name: str
    controller: str = ""
    campaign: str = ""
    share: Annotated[float, Meta(description="Part of the limit that is used, if the task is about one.")] = (
        0.0
    )
    days_left: float | None = None
    page: Annotated[str, Meta(description="Page of the console where it is done.")] = ""


class ControllerStatus(Struct, frozen=True, kw_only=True):
    registries: tuple[RegistryStatus, ...] = ()
    caller_ids: tuple[CallerIdStatus, ...] = ()
    requests: tuple[OpenRequest, ...] = ()
    paused: tuple[CampaignInfo, ...] = ()
    shadow: tuple[ShadowStatus, ...] = ()
    let_through: int = 0  # calls of today that only shadow mode permitted, at this gate since its start
    tasks: tuple[Task, ...] = ()  # the most urgent first
    proof: LogProof | None = None  # the last verification of the logs, for who may see the whole gate


SOON: Final = 7  # days
_REGISTRY_SOON: Final = 3  # days: time to consult a registry again, which takes one or two
_KEY_SOON: Final = 14  # days: time to give another key to a program
_CALLER_ID_SOON: Final = 60  # days: time to get and prove another number
_PAGES: Final[dict[TaskKind, tuple[str, Scope]]] = {
    "registry_ends": ("/console/lists", "lists"),
    "silent_limit": ("/console/campaigns", "watch"),
    "campaign_ends": ("/console/campaigns", "watch"),
    "proof_ends": ("/console/caller-ids", "watch"),
    "caller_id_ends": ("/console/caller-ids", "watch"),
    "request_due": ("/console/requests", "subjects"),
    "shadow_ends": ("/console/shadow", "watch"),
    "backup_due": ("", "watch"),
    "key_ends": ("/console/keys", "admin"),
    "log_damaged": ("/console/evidence", "officer"),
    "log_unproved": ("/console/evidence", "officer"),
    "breach_due": ("/console/breaches", "subjects"),
    "breach_people": ("/console/breaches", "subjects"),
    "import_held": ("/console/registries", "watch"),
    "law_changed": ("/console/law", "watch"),
    "report_unsent": ("/console/reports", "watch"),
}  # with the scope that a client needs for the page
_BY_COMMAND: Final = frozenset(
    {"log_damaged", "log_unproved"}
)  # operators verify logs with `dialgate log verify`


async def read_status(app: App, controllers: tuple[str, ...]) -> ControllerStatus:
    """Return these controllers' registry consultations, caller IDs, open requests and paused campaigns.

    Large configurations are searched in a thread, so that calls do not wait. Raises `Unavailable`.
    """
    now, config = app.gate.now(), app.config
    viewer = Client(name="console", controllers=controllers, scopes=())
    noteworthy = await asyncio.to_thread(app.registrar.campaigns.noteworthy, viewer, app.gate.counted)
    status = ControllerStatus(
        registries=tuple(_registries(app, controllers, now)),
        caller_ids=tuple(await asyncio.to_thread(caller_ids, config, controllers, await app.proofs(), now)),
        requests=tuple(
            OpenRequest(
                id=case.id,
                kind=case.kind,
                controller=case.controller,
                due_at=case.due_at,
                days_left=case.days_left,
            )
            for case in await app.subjects.deadlines.open_cases(viewer)
        ),
        paused=tuple(campaign for campaign in noteworthy if campaign.paused),
        shadow=tuple(_shadow(config, controllers, now)),
        let_through=await asyncio.to_thread(_let_through, app, controllers, now),
    )
    found = [*_tasks(status), *_close_to_limits(noteworthy)]
    found += [
        _task("shadow_ends", scope.name or scope.kind, days_left=left)
        for scope in status.shadow
        if (left := _days_until(scope.last_day, now)) <= SOON
    ]
    found += await asyncio.to_thread(
        lambda: [*_ends(config, controllers, now), *_backup(config, controllers, now)]
    )
    with suppress(Refused):  # the nightly job reports holds, too
        found += _held(await held_imports(app, controllers))
    if config.controllers.keys() <= set(controllers):
        found += _key_ends(app.client_keys.infos(), now)
        proof = await asyncio.to_thread(last_proof, config.data)
        status = structs.replace(status, proof=proof)
        found += _unproved(config, proof, now)
    found += [task for file in await app.breaches.list_breaches(controllers) for task in _about_breach(file)]
    found += [
        _task("law_changed", country, controller=owner)
        for country, owner in await app.law_reading.pending(controllers)
    ]
    found += [
        _task("report_unsent", report.name, controller=report.controller)
        for report in await app.report_mailing.scheduled(controllers)
        if report.problem
    ]
    found.sort(key=lambda task: (task.days_left is not None, task.days_left, task.kind, task.name))
    return structs.replace(status, tasks=tuple(found))


def tasks_for(tasks: Iterable[Task], scopes: Collection[Scope]) -> Iterator[Task]:
    """Yield the tasks whose page a client with these scopes may open, and what an operator does by command, without its page."""
    for task in tasks:
        if _PAGES[task.kind][1] in scopes or "audit" in scopes:
            yield task
        elif task.kind in _BY_COMMAND and "admin" in scopes:
            yield structs.replace(task, page="")


def _task(kind: TaskKind, name: str, **more: Any) -> Task:
    return Task(kind=kind, name=name, page=_PAGES[kind][0], **more)


def _tasks(status: ControllerStatus) -> Iterator[Task]:
    for registry in status.registries:
        if registry.days_left <= _REGISTRY_SOON:
            left = registry.days_left if registry.ends_at else None
            yield _task("registry_ends", registry.registry, controller=registry.controller, days_left=left)
    for shown in status.caller_ids:
        if shown.state in {"missing", "expired", "ends"}:
            left, owner = shown.days_left if shown.ends_at else None, shown.controller
            yield _task("proof_ends", shown.number, controller=owner, campaign=shown.campaign, days_left=left)
    for request in status.requests:
        if (left := request.days_left) <= SOON:
            yield _task("request_due", request.id, controller=request.controller, days_left=left)


def _about_breach(file: BreachFile) -> Iterator[Task]:
    """Yield what is not decided about a breach: the notification to the authority, then that to the people (GDPR 33 and 34)."""
    if not file.authority:
        yield _task(
            "breach_due", file.id, controller=file.controller, days_left=round(file.hours_left / 24, 2)
        )
    elif not file.people:
        yield _task("breach_people", file.id, controller=file.controller)


def _close_to_limits(campaigns: Iterable[CampaignInfo]) -> Iterator[Task]:
    for campaign in campaigns:
        used = [limit.used for limit in campaign.limits if limit.is_near]
        if used and not campaign.paused:
            yield _task("silent_limit", campaign.id, controller=campaign.controller, share=max(used))


def _ends(config: Config, controllers: tuple[str, ...], now: Instant) -> Iterator[Task]:
    """Yield the campaigns, and the numbers that they show, whose last day in the configuration is near."""
    for name, line in config.lines.items():
        if line.controller.id not in controllers:
            continue
        owner, ends = line.controller.id, line.campaign.ends
        if ends and 0 <= (left := _days_until(ends, now)) <= SOON:
            yield _task("campaign_ends", name, controller=owner, days_left=left)
        for shown in line.caller_ids.values():
            if shown.ends and (left := _days_until(shown.ends, now)) <= _CALLER_ID_SOON:
                yield _task("caller_id_ends", shown.number, controller=owner, campaign=name, days_left=left)


def _backup(config: Config, controllers: tuple[str, ...], now: Instant) -> Iterator[Task]:
    """Yield the backup that is due, for who may see the whole gate."""
    days, last = config.settings.backup_days, last_backup(config.data)
    left = days - (now - last) / DAY
    if days and last and left < 0 and config.controllers.keys() <= set(controllers):
        yield _task("backup_due", config.settings.node, days_left=round(left, 1))


def _held(holds: Iterable[HeldImport]) -> Iterator[Task]:
    for hold in holds:
        if not hold.released:
            yield _task("import_held", hold.registry, controller=hold.controller)


def _key_ends(clients: Iterable[ClientInfo], now: Instant) -> Iterator[Task]:
    """Yield the keys that soon expire, for who may see the whole gate."""
    for client in clients:
        for key in client.keys:
            left = _days_until(key.last_day, now) if key.last_day and key.state == "valid" else _KEY_SOON + 1
            if left <= _KEY_SOON:
                yield _task("key_ends", client.name, days_left=left)


def _unproved(config: Config, proof: LogProof | None, now: Instant) -> Iterator[Task]:
    """Yield a task if the last verification of the logs found a fault, or is more than two days ago.

    A gate that was never verified counts from its signing key.
    """
    begun = instant_of(proof.at) if proof else signing_key_at(config.data)
    if proof and not proof.ok:
        yield _task("log_damaged", config.settings.node)
    elif begun and now - begun > STALE:
        left = round((STALE - (now - begun)) / DAY, 1)
        yield _task("log_unproved", config.settings.node, days_left=left)


def _days_until(day: date, now: Instant) -> int:
    return (day - day_in("UTC", now)).days


def _shadow(config: Config, controllers: tuple[str, ...], now: Instant) -> Iterator[ShadowStatus]:
    """Yield the scopes in shadow mode that these controllers may see: the gate, and what belongs to them alone."""
    for scope in config.shadow.scopes:
        if scope.ends > now and (scope.kind == "gate" or set(scope.controllers) <= set(controllers)):
            yield ShadowStatus(kind=scope.kind, name=scope.name, last_day=scope.last_day)


def _let_through(app: App, controllers: tuple[str, ...], now: Instant) -> int:
    config, count = app.config, app.metrics.shadow.on
    days = {country: day_in(law.zone, now) for country, law in config.laws.items()}
    return sum(
        count(name, days[line.home])
        for name, line in config.lines.items()
        if line.controller.id in controllers
    )


def _registries(app: App, controllers: tuple[str, ...], now: Instant) -> Iterator[RegistryStatus]:
    parts = {(part.registry, part.controller): part for part in app.gate.snapshot_parts()}
    for name in controllers:
        owner = app.config.controllers.get(name)
        rules = app.config.laws[owner.country].registries if owner else ()
        for registry, validity in sorted({rule.id: rule.validity for rule in rules}.items()):
            part = parts.get((registry, name)) or parts.get((registry, ""))
            at = part.newest_consulted_at if part else 0
            ends = periods.end(validity, at) if at else 0
            left = (ends - now) / DAY if ends else 0.0
            yield RegistryStatus(
                registry=registry,
                controller=name,
                numbers=part.numbers if part else 0,
                consulted_at=rfc3339(at) if at else "",
                ends_at=rfc3339(ends) if ends else "",
                days_left=round(left, 2),
                share_left=round(min(max((ends - now) / (ends - at), 0), 1), 4) if ends else 0.0,
            )


def caller_ids(
    config: Config, controllers: tuple[str, ...], proofs: Iterable[CallerIdProof], now: Instant
) -> list[CallerIdStatus]:
    """Return the caller IDs of the controllers' campaigns, the most urgent first."""
    newest = {(proof.controller, proof.caller_id): proof for proof in proofs}
    statuses = [
        _caller_id(line, number, config.laws[line.home], newest.get((line.controller.id, number)), now)
        for line in config.lines.values()
        if line.controller.id in controllers
        for number in line.caller_ids
    ]
    ranks = ("missing", "expired", "ends", "proved", "class")
    return sorted(
        statuses,
        key=lambda status: (ranks.index(status.state), status.days_left, status.campaign, status.number),
    )


def _caller_id(
    line: Line, number: str, law: Law, proof: CallerIdProof | None, now: Instant
) -> CallerIdStatus:
    sections = [section for section in law.caller_ids if _binds(section, line.campaign, law, now)]
    names = [class_.name for section in sections if (class_ := section.class_of(number))]
    terms = [term for section in sections if (term := section.proof_for(number))]
    unproved = CallerIdStatus(
        number=number, campaign=line.campaign.id, controller=line.controller.id, state="missing"
    )
    if not terms or line.caller_ids[number].form != "number":
        return structs.replace(unproved, state="class", kind=names[0] if names else "")
    if proof is None or not proof.answered:
        return unproved
    ends = min(periods.end(term, proof.at) for term in terms)
    left = (ends - now) / DAY
    state = "expired" if left <= 0 else "ends" if left <= SOON else "proved"
    return structs.replace(
        unproved, state=state, kind=proof.kind, ends_at=rfc3339(ends), days_left=round(left, 1)
    )


def _binds(section: CallerIds, campaign: Campaign, law: Law, now: Instant) -> bool:
    """Return whether the section applies to the campaign's calls today.

    Unlike `Section.binds`, this ignores codes of conduct.
    """
    today = day_in(law.zone, now)
    return section.is_in_force(today) and (not section.purposes or campaign.purpose in section.purposes)
