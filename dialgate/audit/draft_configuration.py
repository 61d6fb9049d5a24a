"""Recorded calls, as a draft of the configuration would decide them.

What was looked up at the time stays: the number's class and places, its stored state, call lists, registry answers, counts and
proofs. What the configuration says of the call comes from the draft. Records contain no digits of the called number, so a draft
can ask what they do not answer. Nothing is guessed then: the call counts as one that cannot be judged.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import structs

from dialgate.audit.replay import Doubt, LawOf, Retrial
from dialgate.config import content_store
from dialgate.config.clients import LOCAL, Client
from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core import local_time, periods, phone
from dialgate.core.law import Law
from dialgate.core.law_sections import Limit, Ratio
from dialgate.core.location import Addresses
from dialgate.core.model import (
    DAY,
    STRICTNESS,
    CallerId,
    CallType,
    Campaign,
    Facts,
    Number,
    Place,
    RegistryAnswer,
)
from dialgate.decision_log.records import Record
from dialgate.gate.binding_law import BindingLaws
from dialgate.gate.facts import stricter, unknown_campaign

_ATTEMPTS_KEPT: Final = 60 * DAY  # by every gate: the least `attempts_days`


class _EarlierCampaign(NamedTuple):
    """What records need of a campaign whose controller's file was changed: `region` is that of caller IDs."""

    dial_region: str
    region: str
    caller_ids: frozenset[str]


class DraftConfiguration:
    """A function that returns a record's facts as the configuration `config` makes them.

    `law_of` returns the law of a record. `folders` are the archives with the configurations of the records. Raises `NotKept`.
    """

    def __init__(self, config: Config, law_of: LawOf, *folders: Path) -> None:
        self._config, self._law_of, self._folders = config, law_of, folders
        self._laws = BindingLaws(config)
        self._clients = {client.name: client for client in config.settings.clients}
        self._days = lru_cache(1024)(self._days_around)
        self._earlier = lru_cache(64)(self._read_earlier)

    def __call__(self, record: Record) -> Retrial:
        facts, client = record.facts, self._client(record.client)
        own = self._config.line_of(facts.campaign.id, client)
        line = own or unknown_campaign(facts.campaign.id, client, self._config)
        law = self._config.laws[self._laws.country_of(facts.number.region, line.home)]
        before = self._law_of(record)
        numbers = self._numbers(facts.number, before)
        call_types = _call_types(facts, line.campaign.call_type)
        caller_ids = [*self._caller_ids(record, line)]
        is_same = (law.caller_ids, law.foreign_ingress) == (before.caller_ids, before.foreign_ingress)
        if facts.caller_id.chosen and not (is_same and self._has_same_pool(record, line)):
            # The gate might choose another one, whose proof the record does not have.
            caller_ids += [
                shown for number, shown in line.caller_ids.items() if number != facts.caller_id.number
            ]
        redrafted = structs.replace(
            facts,
            today=facts.today if law.zone == before.zone else local_time.day_in(law.zone, facts.at),
            number=numbers[0],
            controller=line.controller,
            campaign=_with_counts(line.campaign, facts.campaign),
            call_type=call_types[0],
            caller_id=caller_ids[0],
            places=facts.places if law.day_sets == before.day_sets else self._places(facts, law),
            former_campaigns=line.names.former_campaigns(facts.known),
            former_goods=line.names.former_goods(facts.known),
        )
        others: list[tuple[Doubt, Facts]] = [
            *(("prefix", structs.replace(redrafted, number=number)) for number in numbers[1:]),
            *(("call_type", structs.replace(redrafted, call_type=kind)) for kind in call_types[1:]),
            *(("caller_id", structs.replace(redrafted, caller_id=shown)) for shown in caller_ids[1:]),
            *_consulted(redrafted, law, before),
        ]
        return Retrial(
            facts=redrafted,
            law=law,
            doubt=self._doubt(record, own, law, before) if own else "",
            unless_denied=_too_short(law, before),
            others=tuple(others),
        )

    def _client(self, name: str) -> Client:
        """Return the client as the draft has it, with no controllers if it may not check calls."""
        if name.startswith(LOCAL):
            return self._config.operator(name)
        client = self._clients.get(name)
        return client if client and "check" in client.scopes else Client(name=name, controllers=(), scopes=())

    def _doubt(self, record: Record, line: Line, law: Law, before: Law) -> Doubt:
        """Return why nothing can be said of a call in a campaign of the draft, or ""."""
        facts = record.facts
        if facts.controller != line.controller and facts.controller.id != line.controller.id:
            return "campaign"
        earlier = self._earlier(record.config).get(facts.campaign.id)
        if earlier is not None:
            is_read = earlier.dial_region == line.dial_region
            was_read = not earlier.dial_region and facts.number.kind != "invalid"
            if not (is_read or was_read) or earlier.region != (line.dial_region or line.home):
                return "dial_region"
        is_same = (law.covered, law.zone) == (before.covered, before.zone)
        if not is_same and Addresses.from_listings(facts.listings, facts.known).places:
            return "address"
        return ""

    def _numbers(self, number: Number, before: Law) -> list[Number]:
        """Return what the number's facts may be: first those without a new prefix."""
        if number.kind == "invalid":
            return [number]
        earlier = before.barred_prefixes if number.region in before.covered else ()
        prefixes = reversed(self._laws.possible_prefixes(number, earlier))
        problem = self._laws.problem_of(number.region)
        return [structs.replace(number, problem=problem, prefix=prefix) for prefix in prefixes]

    def _caller_ids(self, record: Record, line: Line) -> Iterator[CallerId]:
        """Yield what the caller ID may be in the draft. It is unknown if most of its digits are sealed."""
        shown = record.facts.caller_id
        if shown.assigned or shown.form == "short":
            found = line.caller_ids.get(shown.number)
            unassigned = CallerId(number=shown.number, form=shown.form, kind=shown.kind, region=shown.region)
            yield _with_proof(found or unassigned, shown)
            return
        yield shown
        earlier = self._earlier(record.config).get(line.campaign.id)
        if earlier is None or shown.form != "number":
            return
        for number, found in line.caller_ids.items():
            is_alike = (found.kind, found.region) == (shown.kind, shown.region)
            if is_alike and number not in earlier.caller_ids and number.startswith(shown.number):
                yield _with_proof(found, shown)

    def _has_same_pool(self, record: Record, line: Line) -> bool:
        earlier = self._earlier(record.config).get(line.campaign.id)
        return earlier is None or earlier.caller_ids == line.caller_ids.keys()

    def _read_earlier(self, digest: str) -> dict[str, _EarlierCampaign]:
        """Return the campaigns of a record's configuration whose controllers' files the draft changes."""
        folder = next((folder for folder in self._folders if (folder / digest).exists()), self._folders[0])
        found = {}
        for owner in content_store.controllers_in(folder, digest, self._config.contents):
            for campaign in owner.campaigns:
                region = campaign.dial_region or owner.country
                numbers = (phone.parse_caller_id(raw, region).number for raw in campaign.caller_ids)
                found[campaign.id] = _EarlierCampaign(campaign.dial_region, region, frozenset(numbers))
        return found

    def _places(self, facts: Facts, law: Law) -> tuple[Place, ...]:
        return tuple(
            structs.replace(place, holidays=(), day_sets=self._days(place.zone, facts.at // DAY, law.country))
            for place in facts.places
        )

    def _days_around(self, zone: str, day: int, country: str) -> dict[str, tuple[date, ...]]:
        return local_time.place(zone, self._config.laws[country].day_sets, day * DAY).day_sets


def _with_proof(caller_id: CallerId, shown: CallerId) -> CallerId:
    return structs.replace(caller_id, proved_at=shown.proved_at, proof=shown.proof)


def _with_counts(campaign: Campaign, counted: Campaign) -> Campaign:
    if not campaign.known:
        return campaign
    return structs.replace(
        campaign, counts=counted.counts, lifted_at=counted.lifted_at, paused_at=counted.paused_at
    )


def _call_types(facts: Facts, declared: CallType) -> list[CallType]:
    """Return what the call's type may be in a campaign of the type `declared`: first that without one of the call's own."""
    before, recorded = facts.campaign.call_type, facts.call_type
    if recorded != before:
        return [stricter(recorded, declared)]
    ranks = range(STRICTNESS[declared] + 1, STRICTNESS[recorded] + 1)
    return [declared, *(kind for kind, rank in STRICTNESS.items() if rank in ranks)]


def _consulted(facts: Facts, law: Law, before: Law) -> Iterator[tuple[Doubt, Facts]]:
    """Yield the facts with a good answer of each registry that the draft asks and the law of the record did not."""
    asked = {registry.id for registry in before.registries} | {answer.registry for answer in facts.registries}
    new = dict.fromkeys(registry.id for registry in law.binding(facts).registries if registry.id not in asked)
    if new:
        answers = (
            RegistryAnswer(registry=name, answer="clear", consulted_at=facts.at, asked_since=1)
            for name in new
        )
        yield "registry", structs.replace(facts, registries=(*facts.registries, *answers))


def _too_short(law: Law, before: Law) -> Doubt:
    """Return which counts of the record may cover a shorter period than the draft needs, or ""."""
    if _longest(law.ratios) > _longest(before.ratios):
        return "counts"
    return "attempts" if _longest(law.limits) > max(_ATTEMPTS_KEPT, _longest(before.limits)) else ""


def _longest(sections: Sequence[Limit | Ratio]) -> int:
    return max((periods.parse(section.per).length for section in sections), default=0)
