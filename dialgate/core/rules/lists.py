"""The rule that a number must come from a call list or have a legal basis.

L. 5/2018 art. 1 c. 14 forbids the automatic search for numbers. A number that is on no list and has no legal basis
counts as generated. Art. 1 c. 5: enrolment with the registry bars the use of numbers that were transferred earlier.
Art. 1 c. 8: at every transfer, the data subjects must be told who receives their data. So the origin of a list must be
known (GDPR art. 14(2)(f)).
"""

from dialgate.core import business_relation, legal_basis, origins
from dialgate.core.law import Binding
from dialgate.core.law_sections import CededLists, cited
from dialgate.core.model import Deny, Facts, Outcome, Pass


def list_origin(facts: Facts, law: Binding) -> Outcome:
    breach = None
    for listing in facts.listings:
        breach = origins.void_origin(listing.origin, facts, law)
        if breach is None:
            return Pass(f"list:{listing.list}")
    if (
        legal_basis.request(facts, law)
        or any(legal_basis.related(facts, law))
        or legal_basis.consent(facts, law)
        or ("relation" in law.accepted and business_relation.relation(facts, law))
    ):
        return Pass("a basis of its own")
    if breach is not None:
        return _deny("list.ceded", breach.text, breach.section, law)
    text = "the number is on no list loaded for this campaign"
    return _deny("list.unknown", text, cited(law.lists, "origin"), law)


def _deny(code: str, text: str, authority: CededLists | None, law: Binding) -> Deny:
    """Return a denial that cites `authority` or, if that is None, the first section about lists."""
    authority = authority or next(iter(law.lists), None)
    return Deny(code, text) if authority is None else authority.deny(code, text)
