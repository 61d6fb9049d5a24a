"""The rule that a call needs a legal basis, because a clear registry answer is not enough.

D.Lgs. 196/2003 art. 130 c. 1: calls without an operator need prior consent. Art. 130 c. 3 and 3-bis: an operator may
call numbers in the public directory whose holder has not objected; any other number needs consent. GDPR art. 7(1): the
controller must be able to demonstrate consent. GDPR art. 6(1)(b): calls about a contract, or requested by the person.
"""

from collections.abc import Iterator

from dialgate.core import business_relation, legal_basis, origins
from dialgate.core.law import Binding
from dialgate.core.law_sections import Finding, LegalBasis, Section, cited
from dialgate.core.model import Consent, Deny, Facts, Instant, Outcome, Pass

_TEXTS = {
    "consent.missing": "this call needs the person's consent, and none is recorded",
    "consent.void": "the recorded consent is void: no artefact proves it, its double opt-in was not confirmed, the person "
    "enrolled with the registry after it, or it came here without its whole chain of cessions or a consent to them",
    "consent.withdrawn": "the consent was withdrawn",
    "consent.expired": "the consent has expired",
    "consent.wrong_number": "the number was reported to be another person's after this was given; record a newer consent, "
    "contract or request with its proof, or lift the report",
    "consent.reassigned": "the number was disconnected after this was given, so another person may have it now; record a newer "
    "consent, contract or request with its proof",
    "consent.incomplete": "the consent does not state what the law requires, or is not in the form that it requires",
    "consent.out_of_scope": "the consent covers other purposes, goods or types of call, or no profiling",
}
CODES: dict[Finding, str] = {
    "proof": "consent.void",
    "cession": "consent.void",
    "third_party": "consent.void",
    "withdrawal": "consent.withdrawn",
    "enrolment": "consent.void",
    "age": "consent.expired",
    "end": "consent.expired",
    "scope": "consent.out_of_scope",
    "incomplete": "consent.incomplete",
    "profiling": "consent.out_of_scope",
    "wrong_number": "consent.wrong_number",
    "disconnection": "consent.reassigned",
}


def lawful_basis(facts: Facts, law: Binding) -> Outcome:
    """Pass if the call has a legal basis. `Pass.why` names the basis and becomes the decision's `basis`."""
    return _find_basis(facts, law) or _explain_deny(law.legal_basis[0], facts, law)


def turning_points(facts: Facts, law: Binding) -> Iterator[Instant]:
    """Yield the instants at which a consent or call request begins or ends. Several rules and exemptions depend on them."""
    for given in facts.known.consents:
        yield from (given.collected_at, given.confirmed_at, legal_basis.ends_at(given, facts, law))
    for asked in facts.known.requests:
        yield from (asked.requested_at, asked.begins, legal_basis.request_ends(asked, facts, law))


def _find_basis(facts: Facts, law: Binding) -> Pass | None:
    request = legal_basis.request(facts, law)
    if request is not None:
        return Pass(f"request:{request.id}", legal_basis.request_ends(request, facts, law))
    contract = legal_basis.contract(facts, law)
    if contract is not None:
        return Pass(f"contract:{contract.id}")
    consent = legal_basis.consent(facts, law)
    if consent is not None:
        return Pass(f"consent:{consent.id}", legal_basis.ends_at(consent, facts, law))
    relation = business_relation.relation(facts, law) if "relation" in law.accepted else None
    if relation is not None:
        return Pass(f"relation:{relation.id}")
    listing = legal_basis.directory(facts, law)
    if listing is not None:
        return Pass(f"directory:{listing.list}")
    basis = legal_basis.opposition_only(facts, law)
    return Pass(basis) if basis else None


def _explain_deny(section: LegalBasis, facts: Facts, law: Binding) -> Deny:
    """Return a denial that names the defect in the newest consent. The client most likely relies on that consent."""
    newest = max(facts.known.consents, key=lambda consent: consent.collected_at, default=None)
    finding = legal_basis.find_defect(newest, facts, law) if newest is not None else None
    if finding is None:
        finding = legal_basis.find_change_of_holder(facts)
    if finding is None:  # no consent, or the law does not accept one here
        return section.deny("consent.missing", _TEXTS["consent.missing"])
    code, authority = CODES[finding], _authority(finding, newest, facts, law) or section
    return authority.deny(code, _TEXTS[code])


def _authority(finding: Finding, consent: Consent | None, facts: Facts, law: Binding) -> Section | None:
    """Return the section that a denial for `finding` cites."""
    if finding == "incomplete" and consent is not None:
        return legal_basis.lacking(consent, law)
    if finding == "age" and consent is not None:
        limit = legal_basis.age_limit(consent, facts, law)
        return limit if limit is not None and finding in limit.cited_for else None
    if finding == "cession" and consent is not None and consent.origin is not None:
        breach = origins.broken_chain(consent.origin, facts, law)
        return cited(law.consents, finding) or (breach.section if breach else cited(law.lists, finding))
    return cited(law.consents, finding) or cited(law.lists, finding)
