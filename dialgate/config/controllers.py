"""The schema of controllers/*.yaml, and the checks of campaigns and their caller IDs."""

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from typing import Final, Literal, Protocol

from msgspec import Struct, field, structs

from dialgate.config.countries import explain_country
from dialgate.config.fields import Name, Strict
from dialgate.config.processing_texts import ProcessingTexts
from dialgate.core import phone
from dialgate.core.former_names import CurrentNames
from dialgate.core.law import Law
from dialgate.core.model import (
    Callee,
    CallerId,
    CallType,
    Campaign,
    Controller,
    DialMode,
    Phrase,
    Purpose,
    StopScope,
)
from dialgate.core.origins import fold_company

# Purposes that need a sector. Bans apply to sectors, so no ban would apply to a campaign without a sector.
_OFFERS: Final = frozenset({"sale", "advertising"})


class CampaignFile(Strict, frozen=True, kw_only=True):
    """A set of calls that a controller makes for one purpose and from the listed caller IDs."""

    id: Name
    """Id that the dialer sends with each call. It must be unique among the campaigns of all controllers. A revocation for an id that the controller no longer has applies to all of the controller's campaigns."""
    purpose: Purpose
    """Purpose of the campaign's calls."""
    trunk_country: str
    """Country in which the trunk enters the telephone network, for example `IT`. An Italian caller ID through a foreign trunk is denied."""
    caller_ids: tuple[str, ...]
    """Caller IDs that the campaign's calls may present: one or more numbers."""
    sector: str = ""
    """One of the `sectors` of a country file. In a country whose file does not list it, the rules for every sector apply. Required for sale and advertising, because calls of some sectors are banned. A contract permits only calls by campaigns in the contract's sector."""
    goods: str = ""
    """What the campaign offers. Consents, contracts and call requests must use the same word. The withdrawal of a consent to goods that no campaign has any more applies to all goods."""
    call_type: CallType = "automated"
    """Type of the campaign's calls. A dialer may declare a stricter type for a single call, but not a less strict one."""
    callee: Callee = "consumer"
    """Who is called."""
    starts: date | None = None
    """First day."""
    ends: date | None = None
    """Last day."""
    paused: bool = False
    """Whether the gate denies all calls of the campaign for now."""
    dial_region: str = ""
    """Country assumed for numbers without a country code, for example `IT`. If it is not set, calls to such numbers are denied."""
    profiling: bool = False
    """Whether people are selected by their habits or tastes. If so, a consent must cover profiling."""
    dial_mode: DialMode | Literal[""] = ""
    """How calls are dialled. If it is not set, the rules for all modes apply."""
    balancing: str = ""
    """Reference to the balancing test for a legitimate interest in these calls. Without it, a legitimate interest is not a legal basis for them."""
    ai_disclosure: Phrase = ""
    """For calls by an AI voice, a reference to the proof that it says at the beginning of each call that it is an AI: the script and its version, a recording. Without it, they are denied where the law demands that people are told (Regulation (EU) 2024/1689 art. 50(1))."""
    held_caller_ids: tuple[str, ...] = ()
    """Those of `caller_ids` that are allotted to the company that makes the calls, such as a call centre, and not to the controller."""
    directory_caller_ids: tuple[str, ...] = ()
    """Those of `caller_ids` that the public directory lists."""
    caller_id_ends: dict[str, date] = field(default_factory=dict)
    """For caller IDs that will be given up, the last day on which calls back to them are answered. Some laws require that they are answered for a period after each call."""
    ingress_proofs: dict[str, Phrase] = field(default_factory=dict)
    """For caller IDs that may enter their country through a trunk abroad, a reference to the proof, for example that the mobile roams. Only for countries whose law has this exception."""
    stops: StopScope | None = None
    """Which calls a revocation bars, if not as the controller's `stops` says."""
    shadow_until: date | None = None
    """Last day of shadow mode for the campaign, in the time zone of the controller's country: see `shadow_until` of a client."""


class ControllerFile(Strict, frozen=True, kw_only=True):
    """A controller (*titolare*), on whose behalf calls are made."""

    id: Name
    """Stable id. Revocations, consents, registry answers and lists are stored under it, so never change it: under a new id, people who told the caller to stop would be called again."""
    name: str
    """Name by which the public knows the controller."""
    country: str
    """Country whose law applies to the controller, for example `IT`. The country needs a country file."""
    campaigns: tuple[CampaignFile, ...]
    """Its campaigns."""
    contract_proofs: Phrase = ""
    """Where the controller keeps the proofs of the consents to marketing within its contracts, such as an archive. With it, a contract without a `proof` of its own counts as proved. Set it only if there is a proof of each, which the controller must be able to show (GDPR art. 7(1))."""
    processors: tuple[Phrase, ...] = ()
    """Names of the processors that collect numbers for the controller (GDPR art. 28), as in `collected_by` of its lists and consents. What they collect counts as the controller's own. Never name a company that sells data: its lists need their transfers."""
    adheres_to: tuple[str, ...] = ()
    """Codes of conduct to which the controller adheres, from the country's `traits`."""
    sistan: bool = False
    """Whether the controller belongs to the national statistical system (D.Lgs. 322/1989)."""
    consent_after_listing: bool = False
    """Whether a consent permits calls if it was collected after the registry answered *listed* (L. 5/2018 art. 1 c. 6). Enable this only if you hold the proof."""
    contact: str = ""
    """How data subjects can contact the controller: an address, an e-mail. Access reports show it (GDPR art. 13(1)(a))."""
    officer: str = ""
    """The data protection officer and how to reach them. Access reports show it (GDPR art. 13(1)(b))."""
    traits: tuple[str, ...] = ()
    """Other properties of the controller, from the country's `traits`. For example, it is a publisher, or a firm above a legal threshold."""
    stops: StopScope = "all"
    """Which calls a revocation bars. `all`: every call. `marketing`: what the law bars, such as offers, research and appeals (GDPR art. 21(2) and (3)), but not calls about a contract or a debt under it. These then need a contract, or a consent or request given after the revocation."""

    record_agents: bool = False
    """Whether decisions record the `agent` of a check, so that they can be searched by agent. This can be monitoring of staff: in Italy it needs an agreement with the unions or an authorisation (L. 300/1970 art. 4), and everywhere the agents must know of it (GDPR art. 13). If it is off, the gate ignores the field."""
    processing: ProcessingTexts = ProcessingTexts()
    """Texts for the record of processing activities and the impact assessment."""

    def as_fact(self) -> Controller:
        """Return what the rules may know of the controller."""
        fields = (name for name in Controller.__struct_fields__ if hasattr(self, name))
        own = dict.fromkeys(fold_company(name) for name in (self.id, self.name, *self.processors))
        return Controller(**{name: getattr(self, name) for name in fields}, collectors=tuple(own))

    def dial_regions(self, campaigns: Collection[str] = ()) -> str:
        """Return the countries to which a number without a country code may belong, separated by spaces.

        These are the regions of `campaigns` or, if it is empty, of the controller and all its campaigns.
        """
        named = [campaign.dial_region for campaign in self.campaigns if campaign.id in campaigns]
        regions = named or [self.country, *(campaign.dial_region for campaign in self.campaigns)]
        return " ".join(dict.fromkeys(region or self.country for region in regions))


_SHARED_FIELDS: Final = tuple({*Campaign.__struct_fields__} & {*CampaignFile.__struct_fields__})


class Line(Struct, frozen=True, kw_only=True):
    """A campaign with its controller, and its caller IDs by E.164 number."""

    campaign: Campaign
    controller: Controller
    controller_name: str
    home: str
    dial_region: str
    caller_ids: dict[str, CallerId]
    names: CurrentNames = CurrentNames()  # of all the controller's campaigns
    records_agents: bool = False


class _Built(Protocol):
    @property
    def controllers(self) -> Mapping[str, ControllerFile]: ...
    @property
    def laws(self) -> Mapping[str, Law]: ...
    @property
    def lines(self) -> Mapping[str, Line]: ...


def build_lines(
    controllers: Mapping[str, ControllerFile], laws: Mapping[str, Law], earlier: _Built | None = None
) -> tuple[dict[str, Line], list[str]]:
    """Return every campaign by its id, and a message for each problem.

    Those of a controller that is the same object in `earlier` are taken from there, unless sectors have changed.
    """
    lines: dict[str, Line] = {}
    faults: list[str] = []
    sectors = _sectors(laws)
    known = earlier.controllers if earlier and _sectors(earlier.laws) == sectors else {}
    known_lines = earlier.lines if earlier else {}
    for controller in controllers.values():
        names, fact = CurrentNames.from_campaigns(controller.campaigns), controller.as_fact()
        is_known = known.get(controller.id) is controller
        for campaign in controller.campaigns:
            if campaign.id in lines:
                faults.append(f"campaign {campaign.id}: is defined twice; give each campaign a unique id")
            if is_known:
                lines[campaign.id] = known_lines[campaign.id]
                continue
            parsed = _parse_caller_ids(controller, campaign)
            found = [*_campaign_faults(campaign, sectors), *_caller_id_faults(campaign, parsed)]
            faults.extend(f"campaign {campaign.id}: {fault}" for fault in found)
            lines[campaign.id] = _line(controller, campaign, fact, names, parsed)
    return _mark_shared_caller_ids(lines), faults


def _sectors(laws: Mapping[str, Law]) -> dict[str, tuple[str, ...]]:
    """Return the sectors of each country that lists any."""
    return {country: law.sectors for country, law in laws.items() if law.sectors}


def _mark_shared_caller_ids(lines: Mapping[str, Line]) -> dict[str, Line]:
    """Return the lines with `CallerId.shared` set. Lines in use are replaced, not modified."""
    owners: dict[str, str] = {}
    shared = {
        number
        for line in lines.values()
        for number in line.caller_ids
        if owners.setdefault(number, line.controller.id) != line.controller.id
    }
    return {
        name: _mark_shared(line, shared)
        if any(shown.shared != (number in shared) for number, shown in line.caller_ids.items())
        else line
        for name, line in lines.items()
    }


def _mark_shared(line: Line, shared: Collection[str]) -> Line:
    marked = {
        number: structs.replace(shown, shared=number in shared) for number, shown in line.caller_ids.items()
    }
    return structs.replace(line, caller_ids=marked)


def _line(
    controller: ControllerFile,
    campaign: CampaignFile,
    fact: Controller,
    names: CurrentNames,
    parsed: Mapping[str, CallerId],
) -> Line:
    fields = {name: getattr(campaign, name) for name in _SHARED_FIELDS}
    return Line(
        campaign=Campaign(**{**fields, "stops": campaign.stops or controller.stops}),
        controller=fact,
        controller_name=controller.name,
        home=controller.country,
        dial_region=campaign.dial_region,
        caller_ids={caller_id.number: caller_id for caller_id in _caller_ids(campaign, parsed)},
        names=names,
        records_agents=controller.record_agents,
    )


def _caller_ids(campaign: CampaignFile, parsed: Mapping[str, CallerId]) -> Iterator[CallerId]:
    held, listed = (
        {parsed[raw].number for raw in several if raw in parsed}
        for several in (campaign.held_caller_ids, campaign.directory_caller_ids)
    )
    ends, proofs = (
        {parsed[raw].number: value for raw, value in values.items() if raw in parsed}
        for values in (campaign.caller_id_ends, campaign.ingress_proofs)
    )
    for shown in parsed.values():
        yield structs.replace(
            shown,
            assigned=True,
            held=shown.number in held,
            in_directory=shown.number in listed,
            ends=ends.get(shown.number),
            ingress_proof=proofs.get(shown.number, ""),
        )


def _parse_caller_ids(controller: ControllerFile, campaign: CampaignFile) -> dict[str, CallerId]:
    """Return the campaign's caller IDs by their text in the file."""
    region = campaign.dial_region or controller.country
    return {raw: phone.parse_caller_id(raw, region) for raw in campaign.caller_ids}


def _caller_id_faults(campaign: CampaignFile, parsed: Mapping[str, CallerId]) -> Iterator[str]:
    for raw in campaign.caller_ids:
        if parsed[raw].form not in {"number", "short"}:
            yield f"caller ID {raw!r} is not a telephone number; write it with its country code, for example +390844654321"
    for key in ("held_caller_ids", "directory_caller_ids", "caller_id_ends", "ingress_proofs"):
        for raw in getattr(campaign, key):
            if raw not in parsed:
                yield f"{key}: {raw!r} is not in `caller_ids`; write it exactly as in that list"


def _campaign_faults(campaign: CampaignFile, known: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield a message for each problem with a campaign. `known` has the sectors of each country that lists any.

    A sector is valid if the law of any country lists it, because a campaign can call several countries.
    """
    for key in ("trunk_country", "dial_region"):
        value = getattr(campaign, key)
        if value not in phone.COUNTRIES and (value or key == "trunk_country"):
            yield f"{key} {explain_country(value)}"
    if not campaign.caller_ids:
        yield "caller_ids is empty; add the numbers that its calls may present"
    if campaign.starts is not None and campaign.ends is not None and campaign.ends < campaign.starts:
        yield f"ends on {campaign.ends}, before it starts"
    if known and campaign.sector and not any(campaign.sector in sectors for sectors in known.values()):
        yield f"sector {campaign.sector!r} is not one of the sectors of {_named(known)}"
    elif known and not campaign.sector and campaign.purpose in _OFFERS:
        yield f"a campaign with the purpose {campaign.purpose} needs a `sector`, one of {_named(known)}"


def _named(known: Mapping[str, tuple[str, ...]]) -> str:
    return "; ".join(f"{country}: {', '.join(sectors)}" for country, sectors in known.items())
