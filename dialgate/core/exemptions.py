"""The exemptions that a section of a law lists under `unless`.

They are evaluated once per call, before the rules. A section to which an exemption applies does not bind the call. The
outcome of an exemption contains the time when the exemption ends, so that no decision stays valid after the exemption.
For registries, `rules/registry.py` evaluates `consent` and `consent_after_listing`, because both depend on the
registry's answer.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import structs

from dialgate.core import business_relation, legal_basis
from dialgate.core.law import Binding
from dialgate.core.law_scope import is_sistan
from dialgate.core.law_sections import Exemption, Limit, Registry, Restriction
from dialgate.core.model import HOUR, CallRequest, Contract, Facts, Outcome, Pass, Skip

# The rule that reports the exemption of a section, by the kind of section. A limit names its own.
_RULE_OF = {
    "diallable": "number_valid",
    "registries": "registry_clear",
    "sector_bans": "sector_allowed",
    "caller_ids": "caller_id_class",
    "foreign_ingress": "caller_id_ingress",
    "hours": "hours_open",
    "ratios": "ratio_kept",
}
_GUARANTEED = frozenset({"manual", "preview"})
# The laws speak of a date and time. A longer span would open every night in it.
_LONGEST_APPOINTMENT = 4 * HOUR
# In a registry, a consent lifts a listing, but not the duty to consult the registry.
_OF_LISTINGS: frozenset[Exemption] = frozenset({"consent", "consent_after_listing"})

_Condition: TypeAlias = Callable[[Restriction, Facts, Binding], Pass | Skip | None]


def lift(facts: Facts, law: Binding) -> Binding:
    """Return `law` without the sections that an exemption lifts for this call."""
    if not _has_ground(facts):
        return law
    lifted: dict[str, tuple[Pass | Skip, ...]] = {}
    kept: dict[str, Any] = {}
    for name in law.conditional:
        found = [(section, _exempt(section, facts, law)) for section in getattr(law, name)]
        kept[name] = tuple(section for section, reason in found if reason is None)
        for section, reason in found:
            if reason is not None:
                rule = section.rule if isinstance(section, Limit) else _RULE_OF[name]
                lifted[rule] = (*lifted.get(rule, ()), reason)
    return structs.replace(law, lifted=lifted, **kept) if lifted else law


def _has_ground(facts: Facts) -> bool:
    """Return whether any exemption can apply to the call. For most calls, this quick check returns False."""
    known = facts.known
    return bool(
        known.requests
        or known.consents
        or known.contracts
        or facts.controller.sistan
        or facts.campaign.dial_mode in _GUARANTEED
        or facts.caller_id.ingress_proof
    )


def combine(outcome: Outcome, lifted: tuple[Pass | Skip, ...]) -> Outcome:
    """Combine a rule's outcome with the exemptions that lifted some of its sections.

    Return the `Pass` that ends first. If there is no `Pass`, return `lifted[0]`.
    """
    passes = [passed for passed in (*lifted, outcome) if type(passed) is Pass]
    return min(passes, key=lambda passed: passed.until or math.inf, default=lifted[0])


def _exempt(section: Restriction, facts: Facts, law: Binding) -> Pass | Skip | None:
    for name in section.unless:
        if type(section) is Registry and name in _OF_LISTINGS:
            continue
        reason = _EXEMPTIONS[name](section, facts, law)
        if reason is not None:
            return reason
    return None


def _consent(_section: Restriction, facts: Facts, law: Binding) -> Pass | None:
    consent = legal_basis.consent(facts, law)
    return (
        None if consent is None else Pass(f"consent:{consent.id}", legal_basis.ends_at(consent, facts, law))
    )


def _contract(_section: Restriction, facts: Facts, law: Binding) -> Pass | None:
    is_about = facts.campaign.purpose in legal_basis.ABOUT_THE_CONTRACT
    for contract in legal_basis.accepted_contracts(facts, law):
        if is_about or _is_marketing_proved(contract, facts, law):
            return Pass(f"contract:{contract.id}")
    return None


def _is_marketing_proved(contract: Contract, facts: Facts, law: Binding) -> bool:
    """Return whether the consent to marketing within a contract is proved, or the law asks for no proof."""
    return (
        contract.proved
        or bool(facts.controller.contract_proofs)
        or not any(section.marketing_proof for section in law.contracts)
    )


def _running_contract(_section: Restriction, facts: Facts, _law: Binding) -> Pass | None:
    contract = next(legal_basis.running(facts), None)
    return None if contract is None else Pass(f"contract:{contract.id}")


def _own_customer_consent(section: Restriction, facts: Facts, law: Binding) -> Pass | None:
    """Return a pass if the person consented and has a contract in force in one of the section's sectors."""
    contracts = [
        contract
        for contract in legal_basis.contracts(facts)
        if contract.sector in section.sectors and legal_basis.is_in_force(contract, facts)
    ]
    if any(
        legal_basis.has_marketing_consent(contract, facts, law) and _is_marketing_proved(contract, facts, law)
        for contract in contracts
    ):
        return Pass("an own customer who consented")
    consent = legal_basis.consent(facts, law) if contracts else None
    if consent is None:
        return None
    return Pass("an own customer who consented", legal_basis.ends_at(consent, facts, law))


def _request(_section: Restriction, facts: Facts, law: Binding) -> Pass | None:
    request = legal_basis.request(facts, law)
    return None if request is None else _until_its_end(request, facts, law)


def _own_request(_section: Restriction, facts: Facts, law: Binding) -> Pass | None:
    """Return a pass if the person requested the call from the controller itself, whatever its legal basis is."""
    for request in legal_basis.requests(facts, law):
        if legal_basis.is_own_request(request) and not _is_spent(request, facts, law):
            return _until_its_end(request, facts, law)
    return None


def _is_spent(request: CallRequest, facts: Facts, law: Binding) -> bool:
    """Return whether a call on another basis used up a request that is no basis for such calls.

    A request is for one call. Where it is the basis of the call, the attempt names it.
    """
    return "request" not in law.accepted and any(
        attempt.at >= request.requested_at
        and attempt.goods in {"", request.goods}
        and attempt.result not in legal_basis.UNREACHED
        for attempt in facts.known.attempts
    )


def _until_its_end(request: CallRequest, facts: Facts, law: Binding) -> Pass:
    return Pass(f"request:{request.id}", legal_basis.request_ends(request, facts, law))


def _relation(_section: Restriction, facts: Facts, law: Binding) -> Pass | None:
    relation = business_relation.relation(facts, law)
    return None if relation is None else Pass(f"relation:{relation.id}")


def _appointment(_section: Restriction, facts: Facts, law: Binding) -> Pass | None:
    """Return a pass if a proof shows that the person agreed to be called at this time."""
    for request in legal_basis.requests(facts, law):
        is_brief = request.expires_at - request.begins <= _LONGEST_APPOINTMENT
        if request.appointment and request.begins and is_brief and request.proved:
            return Pass(f"appointment:{request.id}", legal_basis.request_ends(request, facts, law))
    return None


def _guaranteed_agent(_section: Restriction, facts: Facts, _law: Binding) -> Pass | None:
    return Pass("an agent is guaranteed") if has_guaranteed_agent(facts) else None


def has_guaranteed_agent(facts: Facts) -> bool:
    """Return whether an agent is on the line before the number is dialled."""
    return facts.call_type == "agent" and facts.campaign.dial_mode in _GUARANTEED


def _sistan(_section: Restriction, facts: Facts, _law: Binding) -> Skip | None:
    if is_sistan(facts):
        return Skip("statistics of the national system are exempt")
    return None


def _ingress_proof(_section: Restriction, facts: Facts, _law: Binding) -> Pass | None:
    proof = facts.caller_id.ingress_proof
    return Pass(f"ingress_proof:{proof}") if proof else None


_EXEMPTIONS: Mapping[Exemption, _Condition] = {
    "consent": _consent,
    "contract": _contract,
    "running_contract": _running_contract,
    "own_customer_consent": _own_customer_consent,
    "request": _request,
    "own_request": _own_request,
    "relation": _relation,
    "appointment": _appointment,
    "guaranteed_agent": _guaranteed_agent,
    "sistan": _sistan,
    "ingress_proof": _ingress_proof,
}
