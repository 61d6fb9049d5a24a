"""How things stand for some controllers: registry answers, caller IDs, requests of people. No number of a person."""

from collections.abc import Iterable, Iterator

from msgspec import Struct, structs

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core.law import CallerIds, Law
from dialgate.core.local_time import day_in, rfc3339
from dialgate.core.model import DAY, Campaign, Instant
from dialgate.store import CallerIdProof


class Fresh(Struct, frozen=True, kw_only=True):
    """Of one registry and one controller. `ends_at`: from then on no answer of it holds; empty where none was given."""

    registry: str
    controller: str
    numbers: int
    consulted_at: str
    ends_at: str
    days_left: float
    share_left: float


class Shown(Struct, frozen=True, kw_only=True):
    """A caller ID of a campaign. `state`: `class` (needs no proof), `proved`, `ends` (within `SOON`), `expired`, `missing`."""

    number: str
    campaign: str
    controller: str
    state: str
    kind: str = ""
    ends_at: str = ""
    days_left: float = 0


class Open(Struct, frozen=True, kw_only=True):
    id: str
    kind: str
    controller: str
    due_at: str
    days_left: int


class Standing(Struct, frozen=True, kw_only=True):
    registries: tuple[Fresh, ...] = ()
    caller_ids: tuple[Shown, ...] = ()
    requests: tuple[Open, ...] = ()


SOON = 7  # days


async def standing(app: App, controllers: tuple[str, ...]) -> Standing:
    """Raises `Unavailable`."""
    now, config = app.gate.now(), app.config
    viewer = Client(name="console", controllers=controllers, scopes=())
    return Standing(
        registries=tuple(_registries(app, controllers, now)),
        caller_ids=tuple(caller_ids(config, controllers, await app.proofs(), now)),
        requests=tuple(
            Open(
                id=each.id,
                kind=each.kind,
                controller=each.controller,
                due_at=each.due_at,
                days_left=each.days_left,
            )
            for each in await app.subjects.deadlines.open_cases(viewer)
        ),
    )


def _registries(app: App, controllers: tuple[str, ...], now: Instant) -> Iterator[Fresh]:
    """Of each controller, every registry that its country's law wants consulted; those never asked first."""
    parts = {(part.registry, part.controller): part for part in app.gate.snapshot_parts()}
    for name in controllers:
        owner = app.config.controllers.get(name)
        rules = app.config.laws[owner.country].registries if owner else ()
        for registry, days in sorted({rule.id: rule.validity_days for rule in rules}.items()):
            part = parts.get((registry, name)) or parts.get((registry, ""))
            at = part.newest_consulted_at if part else 0
            ends = at + days * DAY if at else 0
            left = (ends - now) / DAY if ends else 0.0
            yield Fresh(
                registry=registry,
                controller=name,
                numbers=part.numbers if part else 0,
                consulted_at=rfc3339(at) if at else "",
                ends_at=rfc3339(ends) if ends else "",
                days_left=round(left, 2),
                share_left=round(min(max(left / days, 0), 1), 4),
            )


def caller_ids(
    config: Config, controllers: tuple[str, ...], proofs: Iterable[CallerIdProof], now: Instant
) -> list[Shown]:
    """The worst first."""
    newest = {(proof.controller, proof.caller_id): proof for proof in proofs}
    found = [
        _shown(line, number, config.laws[line.home], newest.get((line.controller.id, number)), now)
        for line in config.lines.values()
        if line.controller.id in controllers
        for number in line.caller_ids
    ]
    ranks = ("missing", "expired", "ends", "proved", "class")
    return sorted(
        found, key=lambda each: (ranks.index(each.state), each.days_left, each.campaign, each.number)
    )


def _shown(line: Line, number: str, law: Law, proof: CallerIdProof | None, now: Instant) -> Shown:
    section = next((each for each in law.caller_ids if _binds(each, line.campaign, law, now)), None)
    names = [each.name for each in section.classes if number.startswith(each.prefix)] if section else []
    bare = Shown(number=number, campaign=line.campaign.id, controller=line.controller.id, state="missing")
    if section is None or names or line.caller_ids[number].form != "number":
        return structs.replace(bare, state="class", kind=names[0] if names else "")
    if proof is None or not proof.answered:
        return bare
    ends = proof.at + section.proof_days * DAY
    left = (ends - now) / DAY
    state = "expired" if left <= 0 else "ends" if left <= SOON else "proved"
    return structs.replace(
        bare, state=state, kind=proof.kind, ends_at=rfc3339(ends), days_left=round(left, 1)
    )


def _binds(section: CallerIds, campaign: Campaign, law: Law, now: Instant) -> bool:
    """As `Section.binds` would say of the campaign's calls of today; whom a code of conduct binds is left out."""
    today = day_in(law.zone, now)
    return (
        section.starts <= today
        and (section.ends is None or today <= section.ends)
        and (not section.purposes or campaign.purpose in section.purposes)
    )
