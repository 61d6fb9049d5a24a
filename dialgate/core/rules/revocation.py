"""The person's own stop.

GDPR art. 21(2) and (3): who objects to direct marketing is no longer called, at once and absolutely. It stands on its
own: no consent, contract, registry answer or earlier allow outweighs it, and the registry's lifting does not lift it.
"""

from dialgate.core.law import Binding
from dialgate.core.model import Deny, Facts, Outcome, Pass

_LAW = "GDPR art. 21(2) and (3)"


def not_revoked(facts: Facts, _law: Binding) -> Outcome:
    for revoked in facts.known.revocations:
        if revoked.lifted or (revoked.scope == "campaign" and revoked.campaign != facts.campaign.id):
            continue
        return Deny("revocation.revoked", f"the person told the caller to stop (entry {revoked.seq})", _LAW)
    return Pass()
