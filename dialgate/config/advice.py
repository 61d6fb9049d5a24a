"""The warnings of `dialgate config check` about gaps in a valid configuration.

A gate starts despite these gaps.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import structs

from dialgate.config import decision_retention, storage, yaml_file
from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.config.storage import Storage
from dialgate.core import local_time, periods
from dialgate.core.law import SECTIONS, Binding, Law
from dialgate.core.law_scope import known_sector
from dialgate.core.law_sections import Hours
from dialgate.core.model import SECONDS_A_DAY, CallerId, Facts, Instant, Number

# Pairs of registry and controller; the controller is empty for a full list.
Consulted: TypeAlias = frozenset[tuple[str, str]]
_WHOLE_DAY: Final = ((0, SECONDS_A_DAY),)


def warnings(config: Config, registries: Path, now: Instant) -> list[str]:
    """Return a warning for each gap in the configuration.

    Most gaps make the gate deny every call of a campaign, or leave a legal limit unenforced. `registries` is the
    configuration file of the nightly job (`registry-sync`).
    """
    consulted, faults = _read_consulted(registries)
    found = [
        *faults,
        *_draft_warnings(config),
        *_extended_terms(config, now),
        *config.shadow.warnings(now),
    ]
    for controller in config.controllers.values():
        lines = [config.lines[campaign.id] for campaign in controller.campaigns]
        found += (
            f"controller {controller.id}: {text}"
            for text in _lacks(config, controller.id, controller.contact)
        )
        if not faults:
            missing = {name for line in lines for name in _not_consulted(config, line, consulted, now)}
            found += (
                f"controller {controller.id}: {registries.name} has no entry for the registry {name}, so every call is denied "
                f"with registry.unknown; add an entry, or import answers with `registry-sync import`"
                for name in sorted(missing)
            )
        found += (
            f"campaign {line.campaign.id}: no hours apply to it, so it may call by night; add a code of conduct to `adheres_to`, or set "
            f"the operator's hours in the country file of {line.home}"
            for line in lines
            if not binding(config.laws[line.home], line, now).hours
        )
        found += (
            f"campaign {line.campaign.id}: {text}"
            for line in lines
            for text in _given_up(line, config.laws[line.home], now)
        )
        found += (
            f"campaign {line.campaign.id}: {text}" for line in lines for text in _unknown_sector(line, config)
        )
        found += (
            f"campaign {line.campaign.id}: an AI voice makes its calls, but `ai_disclosure` names no proof that it says so, so calls are denied with "
            f"campaign.ai_undisclosed; set it to the script or recording that shows it"
            for line in lines
            if line.campaign.call_type == "ai_voice"
            and not line.campaign.ai_disclosure
            and binding(config.laws[line.home], line, now).ai_disclosures
        )
        scopes = _scopes(config, controller.id)
        if scopes and "outcome" not in scopes:
            found += (
                f"campaign {line.campaign.id}: the law limits its abandoned calls, but no client of {controller.id} may report outcomes, so the "
                f"gate never pauses it; add the scope `outcome` to the client of the program that connects the agents"
                for line in lines
                if binding(config.laws[line.home], line, now).ratios
            )
    return found


def _scopes(config: Config, controller: str) -> set[str]:
    """Return all scopes that the controller's clients have."""
    clients = (client for client in config.settings.clients if controller in client.controllers)
    return {scope for client in clients for scope in client.scopes}


def _unknown_sector(line: Line, config: Config) -> Iterator[str]:
    """Yield a warning for each country whose law has rules for sectors, but does not list the campaign's sector.

    All sector rules of that country apply to the campaign.
    """
    sector = line.campaign.sector
    for country, law in config.laws.items():
        if known_sector(sector, law.sectors) is None and any(
            section.sectors for name in SECTIONS for section in getattr(law, name)
        ):
            yield (
                f"the country file of {country} does not list the sector {sector!r}, so all sector rules of"
                f" {country} apply to these calls; if none of these rules concerns this sector, add the"
                " sector to `sectors` in that file"
            )


def _given_up(line: Line, law: Law, now: Instant) -> Iterator[str]:
    """Yield a warning for each caller ID whose day in `caller_id_ends` is too early.

    That day is the last on which calls back to the caller ID are answered. The law requires answers for a period after
    each call.
    """
    today = local_time.day_in(law.zone, now)
    terms = [section.answers_for for section in binding(law, line, now).caller_ids if section.answers_for]
    for caller_id in line.caller_ids.values():
        if caller_id.ends and any(caller_id.ends < periods.last_day(term, today) for term in terms):
            yield (
                f"return calls to the caller ID {caller_id.number} are answered only until {caller_id.ends}, but the law requires a longer "
                f"time, so every call from it is denied with caller_id.not_recallable; set a later day in `caller_id_ends`, or use another caller ID"
            )


def open_always(config: Config, now: Instant) -> list[str]:
    """Return the campaigns whose hours permit calls around the clock."""
    return [
        name
        for name, line in config.lines.items()
        if (hours := binding(config.laws[line.home], line, now).hours) and all(map(_never_closes, hours))
    ]


def _draft_warnings(config: Config) -> Iterator[str]:
    for country, law in config.laws.items():
        if law.draft:
            missing = f". It does not express: {'; '.join(law.missing)}" if law.missing else ""
            yield (
                f"{law.name} ({country}): calls are decided under a draft country file, because"
                f" `accept_drafts` lists it{missing}"
            )
    for name, line in config.lines.items():
        if line.dial_region in config.drafts:
            yield (
                f"campaign {name}: its dial_region is {line.dial_region}, whose country file is a draft, so every such call "
                f"is denied with law.draft; add {line.dial_region} to `accept_drafts` to use the file as it is"
            )


def _extended_terms(config: Config, now: Instant) -> Iterator[str]:
    """Yield a warning for each storage or retention period in the settings that is shorter than a law requires.

    A storage period with the default value is not reported.
    """
    settings, defaults = config.settings, structs.asdict(Storage())
    for country, law in config.laws.items():
        required = structs.asdict(storage.terms(settings.storage, [law], now))
        for name, days in structs.asdict(settings.storage).items():
            if days not in {required[name], defaults[name]}:
                yield (
                    f"storage: {name} is {days}, but the law of {country} requires {required[name]}, which applies instead; set it to "
                    f"{required[name]}"
                )
    for term in settings.retention:
        if term not in decision_retention.terms([term], config.laws, now):
            yield (
                f"retention: the law of {term.country} requires a longer period for its decisions than configured. The "
                f"longer period applies; raise `allowed_months` and `refused_months`"
            )


def _lacks(config: Config, controller: str, contact: str) -> Iterator[str]:
    if not _scopes(config, controller):
        yield f"no client may check calls for it; add it to the `controllers` of a client in {config.path.name}"
    if not contact:
        yield "it has no `contact`; access reports must say how to reach the controller (GDPR art. 13(1)(a))"


def closes(law: Law, line: Line, now: Instant) -> bool:
    """Return whether the campaign's hours ever forbid calls."""
    return not all(map(_never_closes, binding(law, line, now).hours))


def binding(law: Law, line: Line, now: Instant) -> Binding:
    """Return the sections of `law` that apply to the campaign on the local day of `now`."""
    return law.binding(
        Facts(
            at=now,
            today=local_time.day_in(law.zone, now),
            number=Number(kind="unknown", region=law.country),
            controller=line.controller,
            campaign=line.campaign,
            call_type=line.campaign.call_type,
            caller_id=CallerId(number="", form="withheld"),
        )
    )


def _not_consulted(config: Config, line: Line, consulted: Consulted, now: Instant) -> Iterator[str]:
    for rule in binding(config.laws[line.home], line, now).registries:
        if (rule.id, line.controller.id if rule.mode == "answers" else "") not in consulted:
            yield rule.id


def _never_closes(hours: Hours) -> bool:
    return all(windows == _WHOLE_DAY for windows in hours.windows.values())


def _read_consulted(path: Path) -> tuple[Consulted, list[str]]:
    data, raw, problems = yaml_file.read(path)
    if raw is None or not isinstance(data, dict):
        why = f" ({problems[0]})" if problems else ""
        return frozenset(), [
            f"{path.name} cannot be read{why}; specify the nightly job's file with --registries"
        ]
    pairs = [
        (name, entry)
        for name in ("asked", "listed")
        for entry in data.get(name) or ()
        if isinstance(entry, dict)
    ]
    return frozenset(
        (str(entry.get("registry", "")), str(entry.get("controller", "")) if name == "asked" else "")
        for name, entry in pairs
    ), problems
