"""Shadow mode: the answer to a call that the gate would refuse, but lets through to show what it would do.

The call is decided and recorded as always, and a repeated answer is kept as decided. Only the answer that leaves differs.
"""

import re
from typing import Final

from msgspec import structs

from dialgate.core.caller_id_choice import fits
from dialgate.core.decision import NOT_JUDGED, decide
from dialgate.core.law import Law
from dialgate.core.model import AUTO, Call, Decision, Deny, Facts, Instant
from dialgate.core.objections import has_objected
from dialgate.core.responses import Answer, when

# The denials that shadow mode never lifts: the person's own word about calls by this caller, and a failed rule, which may be that
# about the person's word.
BINDING: Final = frozenset(
    {"revocation.revoked", "consent.withdrawn", "consent.wrong_number", "gate.rule_error"}
)
_DIALLABLE: Final = re.compile(r"\+?[0-9]{1,32}", re.ASCII)
_SHOWN: Final = re.compile(r"\+?[0-9]{1,32}|[a-z]{0,32}", re.ASCII | re.IGNORECASE)  # such as `anonymous`


def lets_through(decision: Decision, facts: Facts, law: Law, call: Call, to: str, from_: str) -> bool:
    """Return whether shadow mode permits the call: none of the reasons against it is in `BINDING`, and the person did not object.

    `to` and `from_` are the numbers as the gate read or chose them, or empty. Of numbers that it could not read, only digits go on: anything
    else could change the dial string of a switch. The gate gives no caller ID that does not fit the call, also in shadow mode.
    """
    if decision.allow:
        return True
    return (
        BINDING.isdisjoint([deny.code for deny in decision.reasons])
        and _DIALLABLE.fullmatch(to or call.to) is not None
        and _SHOWN.fullmatch(from_ or call.from_) is not None
        and (call.from_ != AUTO or fits(decision.outcomes))
        and not _has_objection(decision, facts, law)
    )


def _has_objection(decision: Decision, facts: Facts, law: Law) -> bool:
    """Return whether the person's own word is against a refused call, also if the reasons of the decision do not say so.

    The rules about it are not judged in a campaign that is paused, over or not yet begun. A person who objected may lack a
    later basis for another reason, such as a consent that has expired since.
    """
    if not facts.known.has_entries:
        return False
    if decision.outcomes["lawful_basis"] == NOT_JUDGED:
        active = structs.replace(facts.campaign, paused=False, paused_at=0, starts=None, ends=None)
        decision = decide(structs.replace(facts, campaign=active), law)
    basis = decision.outcomes["lawful_basis"]
    return (
        not BINDING.isdisjoint([deny.code for deny in decision.reasons])
        or basis == NOT_JUDGED
        or (type(basis) is Deny and has_objected(facts, law.binding(facts)))
    )


def mark(answer: Answer, ends: Instant) -> Answer:
    """Return an answer as kept for a call in shadow mode. `ends` is the end of a denied call's permission."""
    return structs.replace(answer, would=answer.decision, valid_until=answer.valid_until or when(ends))


def unmark(answer: Answer) -> Answer:
    """Return the answer as decided, for a request that is repeated after the end of shadow mode."""
    if not answer.would:
        return answer
    return structs.replace(
        answer, would="", valid_until=answer.valid_until if answer.decision == "allow" else ""
    )


def let_through(answer: Answer, call: Call) -> Answer:
    """Return a marked answer as the client receives it. Numbers that the gate could not read are those of the request."""
    if answer.would != "deny":
        return answer
    to, from_ = answer.to or call.to, answer.from_ or call.from_
    return structs.replace(answer, decision="allow", to=to, from_=from_, not_before="")
