"""The rule about revocations.

GDPR art. 21(2) and (3): a person who objects to direct marketing must no longer be called. The objection takes effect
at once. Until the objection is lifted, it outweighs every consent, contract, registry answer and earlier decision.
Leaving the opposition registry does not lift the objection.
"""

from dialgate.core import objections
from dialgate.core.law import Binding
from dialgate.core.model import Deny, Facts, Outcome, Pass

_LAW = "GDPR art. 21(2) and (3)"


def not_revoked(facts: Facts, _law: Binding) -> Outcome:
    for revocation in objections.revocations(facts):
        if not revocation.lifted:
            return Deny(
                "revocation.revoked", f"the person told the caller to stop (entry {revocation.seq})", _LAW
            )
    return Pass()
