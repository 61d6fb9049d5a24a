"""The sections of a country file that a denial may cite: found in the file's own words, not by the code that denies.

A denial carries the source and severity of a section that was in force for such a call on that day. Where the file holds
several for one reason, only a person can say which of them denied: the case names it in `cites`.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from dialgate.core.law import SECTIONS
from tests.support.casebook import BASE, Case, case_law_data, merged

Section: TypeAlias = Mapping[str, Any]

_OTHER_SEVERITY = "self_regulation"

# The reasons that no section of a country file gives: of the gate itself, or of a law above every country's.
WITHOUT_SECTION = {
    "number.invalid": "gate",
    "campaign.unknown": "gate",
    "campaign.inactive": "gate",
    "revocation.revoked": "statute GDPR art. 21(2) and (3)",
}
# The kind of section that gives a reason.
KINDS = {
    "number.not_diallable": "diallable",
    "campaign.sector_banned": "sector_bans",
    "caller_id.withheld": "caller_ids",
    "caller_id.not_assigned": "caller_ids",
    "caller_id.wrong_class": "caller_ids",
    "caller_id.not_recallable": "caller_ids",
    "caller_id.foreign_ingress": "foreign_ingress",
    "registry.listed": "registries",
    "registry.unknown": "registries",
    "registry.expired": "registries",
    "registry.uncovered": "registries",
    "consent.missing": "legal_basis",
    "hours.outside": "hours",
    "hours.holiday": "hours",
    "frequency.exceeded": "frequency",
    "frequency.rest": "rest",
}
# The findings behind a reason, for which sections are cited by name (`cited_for`).
FINDINGS = {
    "list.unknown": ["origin"],
    "list.ceded": ["cession"],
    "consent.void": ["proof", "cession", "third_party", "enrolment"],
    "consent.withdrawn": ["withdrawal"],
    "consent.expired": ["age", "end"],
    "consent.out_of_scope": ["scope", "profiling"],
    "consent.wrong_number": ["wrong_number"],
}


def citations(case: Case, code: str) -> list[str]:
    """Return what a denial of the case for this reason may cite: a severity and a source, or a severity alone."""
    if code in WITHOUT_SECTION:
        return [WITHOUT_SECTION[code]]
    facts = merged(BASE, case.facts)
    if code == "number.not_diallable" and facts["number"]["region"] != case.country:
        return ["gate"]
    if code in FINDINGS:
        found = [section for finding in FINDINGS[code] for section in _for_finding(case, code, finding)]
    else:
        found = _of_kind(case, facts, code)
    return list(dict.fromkeys(map(cited, found))) or ["statute"]


def cited(section: Section) -> str:
    return f"{section.get('severity', 'statute')} {section['source']}"


def matches(citation: str, named: str) -> bool:
    """Return whether a case that says `named` means this citation. A severity alone: one of no section."""
    return citation.startswith(named) if " " in named else citation == named


def exchange_severities(case: Case) -> Case:
    """Return the case under a law whose sections bind as before, with a severity that none of them assumes."""
    data = case_law_data(case)
    kinds = {kind: [_exchange(section) for section in data.get(kind, ())] for kind in SECTIONS}
    cites = {code: _exchange_citation(named) for code, named in case.want.cites.items()}
    return replace(case, law={**case.law, **kinds}, want=replace(case.want, cites=cites))


def _exchange(section: Section) -> Section:
    advice = section.get("severity") == "recommendation"
    return section if advice else {**section, "severity": _OTHER_SEVERITY}


def _exchange_citation(named: str) -> str:
    severity, _, source = named.partition(" ")
    return f"{_OTHER_SEVERITY} {source}" if source else severity


def _of_kind(case: Case, facts: Section, code: str) -> list[Section]:
    kind, shown = KINDS[code], facts["caller_id"]
    if code == "caller_id.not_assigned" and shown["assigned"]:
        kind = "unique_caller_ids"  # the campaign's own, so it can only be shared
    found = in_force(case, kind)
    if kind == "foreign_ingress":
        return [section for section in found if shown.get("kind", "unknown") in section["kinds"]]
    # Of several legal bases the first says what is accepted, and is the one that a call falls short of.
    return found[:1] if kind == "legal_basis" else found


def _for_finding(case: Case, code: str, finding: str) -> list[Section]:
    """Return the sections cited for a finding; where there are none, what denials cited before the key existed."""
    kinds = ["lists"] if code.startswith("list.") else ["consents", "lists"]
    found = [
        section
        for kind in kinds
        for section in in_force(case, kind)
        if finding in section.get("cited_for", ())
    ]
    return found or in_force(case, "lists" if code.startswith("list.") else "legal_basis")[:1]


def in_force(case: Case, kind: str) -> list[Section]:
    """Return the sections of one kind that deny such a call on the day of the case."""
    data, facts = case_law_data(case), merged(BASE, case.facts)
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
    code = section.get("adherents_of")
    return (
        section.get("severity") != "recommendation"
        and _day(section["from"]) <= today
        and ("until" not in section or today <= _day(section["until"]))
        and all(value in section[scope] for scope, value in scopes.items() if section.get(scope))
        and (not section.get("profiled") or campaign.get("profiling", False))
        and (not code or code in controller.get("adheres_to", ()))
    )


def _day(written: date | str) -> date:
    return date.fromisoformat(str(written))
