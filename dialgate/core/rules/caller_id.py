"""The rules about the caller ID, which the called person sees.

L. 5/2018 art. 2 c. 1 and D.P.R. 26/2022 art. 9: the caller ID must be presented. It must have a prefix reserved for
the purpose (0844 commercial, 0843 statistics), or be a line on which the caller can be reached. AGCOM 156/18/CIR:
"reached" means that calls to the line are answered. AGCOM 21/26/CIR (2026-04-14): short customer-care codes are
permitted. AGCOM 106/25/CONS: calls that enter Italy from abroad with an Italian caller ID are blocked, since 2025-08-19
for fixed numbers and since 2025-11-19 for mobile numbers. D.Lgs. 206/2005 art. 51 c. 8-ter: an energy seller must call
from a number that identifies only that seller.
"""

from collections.abc import Iterator

from dialgate.core import periods
from dialgate.core.law import Binding
from dialgate.core.law_sections import CallerIdClass, CallerIds
from dialgate.core.model import Deny, Facts, Instant, Outcome, Pass, Skip


def caller_id_shown(facts: Facts, law: Binding) -> Outcome:
    form = facts.caller_id.form
    if form in {"withheld", "invalid"}:
        problem = "is withheld" if form == "withheld" else "is no telephone number"
        return _deny("caller_id.withheld", f"the caller ID {problem}", law)
    return Pass(form)


def caller_id_assigned(facts: Facts, law: Binding) -> Outcome:
    if not facts.caller_id.assigned:
        return _deny("caller_id.not_assigned", "the caller ID is not assigned to this campaign", law)
    for section in law.caller_ids:
        if section.exclusive and facts.caller_id.shared:
            return section.deny("caller_id.not_assigned", "the caller ID is shared with another controller")
    return Pass()


def _deny(code: str, text: str, law: Binding) -> Deny:
    """Return a denial that cites the first section about caller IDs, if any.

    Sections with `exclusive` are not cited, because they are about shared numbers.
    """
    section = next((section for section in law.caller_ids if not section.exclusive), None)
    return section.deny(code, text) if section else Deny(code, text)


def caller_id_class(facts: Facts, law: Binding) -> Outcome:
    for section in law.caller_ids:
        if _is_forbidden(section, facts):
            text = f"a {facts.caller_id.kind.replace('_', ' ')} number must not be shown"
            return section.deny("caller_id.wrong_class", text)
        class_ = section.class_of(facts.caller_id.number)
        if class_ is not None and facts.campaign.purpose not in class_.serves:
            text = f"a {class_.name} number must not be used for {facts.campaign.purpose.replace('_', ' ')}"
            return section.deny("caller_id.wrong_class", text)
        is_short = facts.caller_id.form == "short"
        if is_short and section.proof_validity and facts.caller_id.number not in section.short_codes:
            return section.deny("caller_id.wrong_class", "this short code is not among those permitted")
        problem = _unmet(section, class_, facts, law)
        if problem is not None:
            return problem
    return Pass()


def _unmet(section: CallerIds, class_: CallerIdClass | None, facts: Facts, law: Binding) -> Deny | None:
    """Return a denial if the caller ID does not meet the section's requirements.

    Withheld and invalid caller IDs are skipped, because the rule `caller_id_shown` denies them.
    """
    shown = facts.caller_id
    if shown.form not in {"number", "short"}:
        return None
    if section.required and (class_ is None or class_.name not in section.required):
        names = " or ".join(section.required)
        problem = "caller_id.wrong_class", f"a number of the class {names} must be shown"
    elif section.country == "own" and shown.region not in law.regions:
        problem = "caller_id.wrong_country", f"the caller ID is no number of {law.country}"
    elif section.holder == "caller" and not shown.held:
        problem = "caller_id.not_callers", "the caller ID is not allotted to whoever makes the calls"
    elif section.in_directory and not shown.in_directory:
        problem = "caller_id.wrong_class", "the caller ID is not in the public directory"
    else:
        return None
    return section.deny(*problem)


def _is_forbidden(section: CallerIds, facts: Facts) -> bool:
    shown, forbidden = facts.caller_id, section.forbidden
    return shown.form == "number" and (
        shown.kind in forbidden.kinds or shown.number.startswith(forbidden.prefixes)
    )


def caller_id_recallable(facts: Facts, law: Binding) -> Outcome:
    """Deny a call whose caller ID has no valid call-back proof.

    Numbers with a reserved prefix and permitted short codes need no proof.
    """
    shown = facts.caller_id
    expiries = []
    for section in law.caller_ids:
        if (
            section.answers_for
            and shown.ends
            and shown.ends < periods.last_day(section.answers_for, facts.today)
        ):
            term = periods.in_words(section.answers_for)
            text = (
                f"calls back to the caller ID are answered until {shown.ends}, not for {term} after the call"
            )
            return section.deny("caller_id.not_recallable", text)
        validity = section.proof_for(shown.number) if shown.form == "number" else None
        if validity is None:
            continue
        ends = periods.end(validity, shown.proved_at)
        if not shown.proved_at <= facts.at < ends:
            text = "no proof, or none recent enough, that a call back to the caller ID is answered"
            return section.deny("caller_id.not_recallable", text)
        expiries.append(ends)
    return Pass(shown.proof, min(expiries)) if expiries else Skip("needs no call-back proof")


def turning_points(facts: Facts, law: Binding) -> Iterator[Instant]:
    shown = facts.caller_id
    for section in law.caller_ids:
        validity = section.proof_for(shown.number)
        if validity is not None and shown.proved_at:
            yield from (shown.proved_at, periods.end(validity, shown.proved_at))


def caller_id_ingress(facts: Facts, law: Binding) -> Outcome:
    shown = facts.caller_id
    if shown.region not in law.regions or facts.campaign.trunk_country in law.regions:
        return Skip("the call does not bring a caller ID of this country in from abroad")
    for section in law.foreign_ingress:
        if shown.kind in section.bars:
            text = f"a caller ID of {law.country} must not enter through a trunk in {facts.campaign.trunk_country or 'an undeclared country'}"
            return section.deny("caller_id.foreign_ingress", text)
    return Pass()
