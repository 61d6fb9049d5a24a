"""The answers that clients receive, and their stored form."""

from typing import Literal

import msgspec
from msgspec import Struct, field, structs

from dialgate.core import local_time
from dialgate.core.model import SECOND, Decision, Deny, Facts, Instant, Outcome, Pass, Skip
from dialgate.core.number_format import PROBLEMS_OF_WRITING
from dialgate.core.reasons import ReasonClass, classify
from dialgate.core.text_formats import (
    OptionalReasonCode,
    OptionalTimestamp,
    ReasonCode,
    SeverityText,
    Timestamp,
)


class Reason(Struct, frozen=True):
    code: ReasonCode
    severity: SeverityText
    law: str
    text: str


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The answer to a dialer.

    If there is no `decision_id`, the gate made no decision. Retry in a few seconds.

    Dial `to` and present `from`, because the gate checked exactly these numbers. `valid_until` and `not_before` are
    RFC 3339 timestamps. After a denial, `reason_class` says what to do. `would` is the decision on a call in shadow mode,
    whose `decision` is `allow` also if the reasons speak against the call. If the request left the caller ID to the gate,
    `caller_id_chosen` says how many of the campaign's fit the call, and why others do not.
    """

    decision: Literal["allow", "deny"]
    decision_id: str = ""
    to: str = field(default="")
    from_: str = field(name="from", default="")
    reasons: list[Reason] = field(default_factory=list)
    valid_until: Timestamp = ""
    not_before: Timestamp = ""
    reason_class: ReasonClass | Literal[""] = ""
    would: Literal["allow", "deny", ""] = ""
    caller_id_chosen: str = ""


class RuleOutcome(Struct, frozen=True):
    rule: str
    result: Literal["pass", "skip", "deny"]
    text: str
    code: OptionalReasonCode = ""
    law: str = ""
    severity: str = ""


class Simulation(Struct, frozen=True, kw_only=True):
    """The decision on a hypothetical call, with every rule's outcome. Nothing is reserved or recorded.

    `zones` and `places` are the time zones and subdivisions in which the called person may be, if known. If the gate chose the
    caller ID, `caller_id_chosen` says how many of the campaign's fit the call, and why others did not.
    """

    decision: Literal["allow", "deny"]
    at: Timestamp
    to: str
    from_: str = field(name="from")
    basis: str
    reasons: list[Reason]
    outcomes: list[RuleOutcome]
    valid_until: OptionalTimestamp
    not_before: OptionalTimestamp
    reason_class: ReasonClass | Literal[""] = ""
    zones: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    caller_id_chosen: str = ""


def refusal(code: str, text: str = "") -> Answer:
    """Return a denial for a call on which the gate made no decision."""
    return Answer(decision="deny", reasons=[Reason(code, "gate", "", text)], reason_class=classify([code]))


def reasons(decision: Decision) -> list[Reason]:
    return [Reason(deny.code, deny.severity, deny.law, deny.text) for deny in decision.reasons]


def when(at: Instant) -> str:
    return local_time.rfc3339(at) if at else ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answer).decode


def encode_answer(answer: Answer) -> bytes:
    """Encode an answer for the store, without its decision id and called number.

    So equal answers have equal encodings, and the store does not hold the called number.
    """
    return _encode(structs.replace(answer, to="", decision_id=""))


def decode_answer(encoded: bytes, decision: str, to: str, from_: str) -> Answer:
    return structs.replace(_decode(encoded), decision_id=decision, to=to, from_=from_)


def make_answer(decision: Decision, facts: Facts, ends: Instant = 0) -> Answer:
    """Return the answer for a decision, without the decision id and the called number. `ends` is the end of an allow."""
    if decision.allow:
        return Answer(
            decision="allow",
            from_=facts.caller_id.number,
            valid_until=when(ends),
            caller_id_chosen=facts.caller_id.chosen,
        )
    return Answer(
        decision="deny",
        from_=facts.caller_id.number,
        reasons=reasons(decision),
        not_before=when(decision.not_before),
        reason_class=_class(decision, facts),
        caller_id_chosen=facts.caller_id.chosen,
    )


def end_of(decision: Decision, most: Instant) -> Instant:
    """Return the end of a permitted call's answer, at most `most`, or 0 for a denial."""
    return min(decision.valid_until or most, most) if decision.allow else 0


def _class(decision: Decision, facts: Facts) -> ReasonClass | Literal[""]:
    number_read = facts.number.problem not in PROBLEMS_OF_WRITING
    return classify((deny.code for deny in decision.reasons), number_read=number_read)


def make_simulation(decision: Decision, facts: Facts, to: str, from_: str, seconds: float) -> Simulation:
    """Return the result of a simulation. For a permitted call, `valid_until` is at most `seconds` after `facts.at`."""
    return Simulation(
        decision="allow" if decision.allow else "deny",
        at=when(facts.at),
        to=to,
        from_=from_,
        basis=decision.basis,
        reasons=reasons(decision),
        outcomes=[rule_outcome(rule, outcome) for rule, outcome in decision.outcomes.items()],
        valid_until=when(end_of(decision, facts.at + int(seconds * SECOND))),
        not_before=when(decision.not_before),
        reason_class=_class(decision, facts),
        zones=tuple(place.zone for place in facts.places),
        places=facts.number.places,
        caller_id_chosen=facts.caller_id.chosen,
    )


def rule_outcome(rule: str, outcome: Outcome) -> RuleOutcome:
    match outcome:
        case Pass(why=why):
            return RuleOutcome(rule, "pass", why)
        case Skip(why=why):
            return RuleOutcome(rule, "skip", why)
        case Deny(code=code, text=text, law=law, severity=severity):
            return RuleOutcome(rule, "deny", text, code, law, severity)
