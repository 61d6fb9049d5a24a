"""The grounds of a decision on a known number: those that it shares with other decisions, and its own."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from msgspec import structs

from dialgate.core.model import Attempt, AttemptValues, Decided, Decision, Facts, Grounds, Known, OwnGrounds


def own_grounds(shared: Grounds, facts: Facts, decision: Decision) -> OwnGrounds | None:
    """Return what a decision has beside the shared grounds, or None if nothing is stored about its number.

    The facts may differ from the shared ones only in what is stored about the number and in what follows from that.
    """
    known = facts.known
    if known.is_empty:
        return None
    own = OwnGrounds(
        attempts=tuple(_pack(known.attempts, _occasion(shared))),
        entries=structs.replace(known, seq=0, attempts=()) if known.has_entries else None,
        former_campaigns=facts.former_campaigns,
        former_goods=facts.former_goods,
    )
    if decision == shared.decision:  # the usual case
        return own
    common = shared.decision.outcomes
    outcomes = {name: outcome for name, outcome in decision.outcomes.items() if outcome != common.get(name)}
    return structs.replace(
        own,
        outcomes=outcomes
        or decision.outcomes,  # with equal outcomes, a lifted section can change `not_before`
        basis=decision.basis,
        valid_until=decision.valid_until,
        not_before=decision.not_before,
    )


def whole_grounds(decided: Decided, shared: Grounds) -> tuple[Facts, Decision]:
    """Return the facts and the decision of a record. This is the inverse of `own_grounds`."""
    own = decided.own
    if own is None:
        return structs.replace(shared.facts, at=decided.at), shared.decision
    facts = shared.facts
    attempts = tuple(_unpack(own.attempts, _occasion(shared)))
    known = structs.replace(own.entries or Known(), seq=facts.known.seq, attempts=attempts)
    facts = structs.replace(
        facts,
        at=decided.at,
        known=known,
        former_campaigns=own.former_campaigns,
        former_goods=own.former_goods,
    )
    if not own.outcomes:
        return facts, shared.decision
    decision = Decision(
        allow=decided.allow,
        outcomes=shared.decision.outcomes | own.outcomes,
        basis=own.basis,
        valid_until=own.valid_until,
        not_before=own.not_before,
    )
    return facts, decision


_Occasion: TypeAlias = tuple[str, str, str]  # basis, campaign and goods of a call


def _occasion(shared: Grounds) -> _Occasion:
    campaign = shared.facts.campaign
    return shared.decision.basis, campaign.id, campaign.goods


def _pack(attempts: Iterable[Attempt], before: _Occasion) -> Iterator[AttemptValues]:
    """Yield each attempt, without its occasion if it is that of the attempt before, or for the first one that of the call."""
    for attempt in attempts:
        occasion = attempt.basis, attempt.campaign, attempt.goods
        values = attempt.decision, attempt.at, attempt.result
        yield values if occasion == before else values + occasion
        before = occasion


def _unpack(packed: Iterable[tuple[Any, ...]], occasion: _Occasion) -> Iterator[Attempt]:
    for decision, at, result, *changed in packed:
        if changed:
            occasion = changed[0], changed[1], changed[2]
        basis, campaign, goods = occasion
        yield Attempt(decision=decision, at=at, campaign=campaign, basis=basis, result=result, goods=goods)
