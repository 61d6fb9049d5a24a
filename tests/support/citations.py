"""The sections in a country file that a denial may cite, derived from the file and not from the code under test.

A denial cites the source and severity of one section, which must apply to the call and be in force on its day. If several
sections could give the same reason, the case names the right one in `cites`.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from dialgate.core.law import SECTIONS
from dialgate.core.law_migration import modernise
from dialgate.tools.policy.case_facts import merge_values
from dialgate.tools.policy.case_file import PolicyCase
from tests.support.casebook import BASE, case_law_data

Section: TypeAlias = Mapping[str, Any]

_OTHER_SEVERITY = "self_regulation"

# The reasons that do not come from a country file: they come from the gate itself or from EU law. A section of `stops` precedes it.
WITHOUT_SECTION = {
    "number.invalid": "gate",
    "law.draft": "gate",
    "campaign.unknown": "gate",
    "campaign.inactive": "gate",
    "revocation.revoked": "statute GDPR art. 21(2) and (3)",
}
# Reason code to the kind of section that gives it.
KINDS = {
    "number.not_diallable": "diallable",
    "campaign.sector_banned": "sector_bans",
    "campaign.ai_undisclosed": "ai_disclosures",
    "caller_id.withheld": "caller_ids",
    "caller_id.not_assigned": "caller_ids",
    "caller_id.wrong_class": "caller_ids",
    "caller_id.not_recallable": "caller_ids",
    "caller_id.wrong_country": "caller_ids",
    "caller_id.not_callers": "caller_ids",
    "caller_id.foreign_ingress": "foreign_ingress",
    "registry.listed": "registries",
    "registry.unknown": "registries",
    "registry.expired": "registries",
    "registry.uncovered": "registries",
    "consent.missing": "legal_basis",
    "consent.incomplete": "consents",
    "hours.outside": "hours",
    "hours.holiday": "hours",
    "frequency.exceeded": "limits",
    "frequency.rest": "limits",
    "pacing.abandoned": "ratios",
}
# Reason code to the findings that sections name in `cited_for`.
EVENTS = {"frequency.exceeded": {"attempts", "answered"}, "frequency.rest": {"abandoned", "refused"}}
FINDINGS = {
    "list.unknown": ["origin"],
    "list.ceded": ["cession"],
    "consent.void": ["proof", "cession", "third_party", "enrolment"],
    "consent.withdrawn": ["withdrawal"],
    "consent.expired": ["age", "end"],
    "consent.out_of_scope": ["scope", "profiling"],
    "consent.wrong_number": ["wrong_number"],
}


def citations(case: PolicyCase, code: str) -> list[str]:
    """Return the valid citations for a denial with this reason code: severity and source, or a severity alone."""
    if code == "revocation.revoked" and (stops := in_force(case, "stops")):
        return [cited(section) for section in stops]
    if code in WITHOUT_SECTION:
        return [WITHOUT_SECTION[code]]
    facts = merge_values(BASE, case.facts)
    if code == "number.not_diallable" and facts["number"]["region"] != case.country:
        return ["gate"]
    if code in FINDINGS:
        sections = [section for finding in FINDINGS[code] for section in _for_finding(case, code, finding)]
    else:
        sections = _of_kind(case, facts, code)
    return list(dict.fromkeys(map(cited, sections))) or ["statute"]


def cited(section: Section) -> str:
    return f"{section.get('severity', 'statute')} {section['source']}"


def exchange_severities(case: PolicyCase) -> PolicyCase:
    """Give every section of a case, except recommendations, a severity that is no section's default."""
    data = modernise(case_law_data(case))
    kinds = {kind: [_exchange(section) for section in data.get(kind, ())] for kind in SECTIONS}
    cites = {code: _exchange_citation(named) for code, named in case.want.cites.items()}
    return replace(case, law={**case.law, **kinds}, want=replace(case.want, cites=cites))


def _exchange(section: Section) -> Section:
    advice = section.get("severity") == "recommendation"
    return section if advice else {**section, "severity": _OTHER_SEVERITY}


def _exchange_citation(named: str) -> str:
    severity, _, source = named.partition(" ")
    return f"{_OTHER_SEVERITY} {source}" if source else severity


def _of_kind(case: PolicyCase, facts: Section, code: str) -> list[Section]:
    kind, shown = KINDS[code], facts["caller_id"]
    found = in_force(case, kind)
    if kind == "caller_ids":
        # If the number is the campaign's own, the denial can only be about sharing.
        sharing = code == "caller_id.not_assigned" and shown["assigned"]
        return [section for section in found if section.get("exclusive", False) == sharing]
    if kind == "foreign_ingress":
        return [section for section in found if shown.get("kind", "unknown") in section["bars"]]
    if kind == "limits":
        return [section for section in found if section["events"] in EVENTS[code]]
    # If several legal bases apply, the first one decides and is the one cited.
    return found[:1] if kind == "legal_basis" else found


def _for_finding(case: PolicyCase, code: str, finding: str) -> list[Section]:
    """Return the sections whose `cited_for` names a finding. If there are none, return the section cited by default."""
    kinds = ["lists"] if code.startswith("list.") else ["consents", "lists"]
    found = [
        section
        for kind in kinds
        for section in in_force(case, kind)
        if finding in section.get("cited_for", ())
    ]
    return found or in_force(case, "lists" if code.startswith("list.") else "legal_basis")[:1]


def in_force(case: PolicyCase, kind: str) -> list[Section]:
    """Return the sections of one kind, except recommendations, that apply to a case's call on the day of the call."""
    data, facts = modernise(case_law_data(case)), merge_values(BASE, case.facts)
    today = datetime.fromisoformat(case.at).astimezone(ZoneInfo(data["zone"])).date()
    sections: Iterable[Section] = data.get(kind, ())
    return [section for section in sections if _denies(section, facts, today)]


def _denies(section: Section, facts: Section, today: date) -> bool:
    campaign, controller = facts["campaign"], facts["controller"]
    scopes = {
        "purposes": campaign["purpose"],
        "call_types": facts["call_type"],
        "sectors": campaign.get("sector", ""),
        "callees": campaign.get("callee", "consumer"),
    }
    traits = {*controller.get("adheres_to", ()), *controller.get("traits", ())}
    return (
        section.get("severity") != "recommendation"
        and _day(section["from"]) <= today
        and ("until" not in section or today <= _day(section["until"]))
        and all(value in section[scope] for scope, value in scopes.items() if section.get(scope))
        and (not section.get("profiled") or campaign.get("profiling", False))
        and not (
            section.get("not_sistan") and controller.get("sistan") and campaign["purpose"] == "statistics"
        )
        and (not section.get("traits") or not traits.isdisjoint(section["traits"]))
    )


def _day(written: date | str) -> date:
    return date.fromisoformat(str(written))
