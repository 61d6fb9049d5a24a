"""The rule about revocations.

GDPR art. 21(2) and (3): a person who objects to direct marketing is no longer called. The objection takes effect at
once and outweighs every consent, contract, registry answer and earlier allow. Leaving the registry does not lift it.
"""

from dialgate.core.law import Binding
from dialgate.core.model import Deny, Facts, Outcome, Pass

_LAW = "GDPR art. 21(2) and (3)"


def not_revoked(facts: Facts, _law: Binding) -> Outcome:
    for revocation in facts.known.revocations:
        if revocation.lifted or (revocation.scope == "campaign" and revocation.campaign != facts.campaign.id):
            continue
        return Deny(
            "revocation.revoked", f"the person told the caller to stop (entry {revocation.seq})", _LAW
        )
    return Pass()
