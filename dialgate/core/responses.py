"""What those who ask are told."""

from typing import Literal

import msgspec
from msgspec import Struct, field, structs

from dialgate.core import local_time
from dialgate.core.model import SECOND, Decision, Deny, Facts, Instant, Outcome, Pass, Skip
from dialgate.core.number_format import PROBLEMS_OF_WRITING
from dialgate.core.reasons import ReasonClass, classify


class Reason(Struct, frozen=True):
    code: str
    severity: str
    law: str
    text: str


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a dialer is told. Without a `decision_id` nothing was decided: not now, ask again. `valid_until` and
    `not_before` are RFC 3339; `to` and `from` are what was checked, and what must be dialled and shown. `permit`: see
    permit.py. `reason_class` of a denial says what to do next: see reasons.py; empty in an allow.
    """

    decision: Literal["allow", "deny"]
    decision_id: str = ""
    to: str = field(default="")
    from_: str = field(name="from", default="")
    reasons: list[Reason] = field(default_factory=list)
    valid_until: str = ""
    not_before: str = ""
    permit: str = ""
    reason_class: ReasonClass | Literal[""] = ""


class RuleOutcome(Struct, frozen=True):
    rule: str
    result: Literal["pass", "skip", "deny"]
    text: str
    code: str = ""
    law: str = ""
    severity: str = ""


class Simulation(Struct, frozen=True, kw_only=True):
    """What would be decided, with every rule's outcome. Nothing was reserved and nothing was recorded."""

    decision: Literal["allow", "deny"]
    at: str
    to: str
    from_: str = field(name="from")
    basis: str
    reasons: list[Reason]
    outcomes: list[RuleOutcome]
    valid_until: str
    not_before: str
    reason_class: ReasonClass | Literal[""] = ""


def unavailable(text: str) -> Answer:
    return refusal("gate.unavailable", text)


def refusal(code: str, text: str = "") -> Answer:
    """Return a denial without a decision."""
    return Answer(decision="deny", reasons=[Reason(code, "gate", "", text)], reason_class=classify([code]))


def reasons(decision: Decision) -> list[Reason]:
    return [Reason(deny.code, deny.severity, deny.law, deny.text) for deny in decision.reasons]


def when(at: Instant) -> str:
    return local_time.rfc3339(at) if at else ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answer).decode


def stored(answer: Answer) -> bytes:
    """Encode an answer for the store, without what differs between calls that are answered alike: the decision's id and
    the called number, which the store never holds in clear.
    """
    return _encode(structs.replace(answer, to="", decision_id=""))


def recalled(remembered: bytes, decision: str, to: str, from_: str) -> Answer:
    answer = _decode(remembered)
    # An answer that an earlier version stored has no class.
    known = answer.reason_class or classify(reason.code for reason in answer.reasons)
    return structs.replace(answer, decision_id=decision, to=to, from_=from_, reason_class=known)


def told(decision: Decision, facts: Facts, most: Instant) -> Answer:
    """Word a decision, without its id and the two numbers in full. `most`: the instant after which an allow must be asked
    for again, whatever the law says.
    """
    if decision.allow:
        return Answer(
            decision="allow",
            from_=facts.caller_id.number,
            valid_until=_valid_until(decision, most),
        )
    return Answer(
        decision="deny",
        from_=facts.caller_id.number,
        reasons=reasons(decision),
        not_before=when(decision.not_before),
        reason_class=_class(decision, facts),
    )


def _valid_until(decision: Decision, most: Instant) -> str:
    """Return when an allow ends: by law, or at `most`, after which it must be asked for again."""
    return local_time.rfc3339(min(decision.valid_until or most, most)) if decision.allow else ""


def _class(decision: Decision, facts: Facts) -> ReasonClass | Literal[""]:
    number_read = facts.number.problem not in PROBLEMS_OF_WRITING
    return classify((deny.code for deny in decision.reasons), number_read=number_read)


def simulated(decision: Decision, facts: Facts, to: str, from_: str, seconds: float) -> Simulation:
    """`seconds`: for how long an allow holds at most."""
    return Simulation(
        decision="allow" if decision.allow else "deny",
        at=when(facts.at),
        to=to,
        from_=from_,
        basis=decision.basis,
        reasons=reasons(decision),
        outcomes=[_outcome(rule, outcome) for rule, outcome in decision.outcomes.items()],
        valid_until=_valid_until(decision, facts.at + int(seconds * SECOND)),
        not_before=when(decision.not_before),
        reason_class=_class(decision, facts),
    )


def _outcome(rule: str, outcome: Outcome) -> RuleOutcome:
    match outcome:
        case Pass(why=why):
            return RuleOutcome(rule, "pass", why)
        case Skip(why=why):
            return RuleOutcome(rule, "skip", why)
        case Deny(code=code, text=text, law=law, severity=severity):
            return RuleOutcome(rule, "deny", text, code, law, severity)
