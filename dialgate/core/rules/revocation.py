"""The rule about revocations.

GDPR art. 21(2) and (3): a person who objects to direct marketing must no longer be called. The objection takes effect
at once. Until the objection is lifted, it outweighs every consent, contract, registry answer and earlier decision.
Leaving the opposition registry does not lift the objection. Calls about a contract or a debt are no marketing: whether
an objection bars them, the operator decides.
"""

from dialgate.core import objections
from dialgate.core.law import Binding
from dialgate.core.model import Deny, Facts, Outcome, Pass, Skip

_LAW = "GDPR art. 21(2) and (3)"
_SPARED = Skip("the person told the caller to stop, and this call is no marketing")


def not_revoked(facts: Facts, law: Binding) -> Outcome:
    for revocation in objections.revocations(facts):
        if not revocation.lifted:
            return _bar(revocation.seq, law) if objections.stops_bar(facts, law) else _SPARED
    return Pass()


def _bar(seq: int, law: Binding) -> Deny:
    """Return a denial that cites the section with the greatest force, or else GDPR art. 21."""
    code, text = "revocation.revoked", f"the person told the caller to stop (entry {seq})"
    section = min(law.stops, key=lambda section: section.severity == "operator", default=None)
    return Deny(code, text, _LAW) if section is None else section.deny(code, text)
