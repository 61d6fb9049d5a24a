"""What makes a call lawful: which call request, contract, consent or directory entry opens it.

Not a rule: several rules ask, and must get the same answer. A basis that the law does not accept for this call opens
nothing, and so exempts from nothing either. Of most people nothing is recorded, so that is asked first. Pure.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Literal

from dialgate.core.law import Binding, Consents, Finding
from dialgate.core.model import (
    DAY,
    HOUR,
    Basis,
    CallRequest,
    Consent,
    Contract,
    Facts,
    Instant,
    Listing,
    Origin,
)

# A call request is used up by a call that reached somebody, or by one of which we do not know that it did not.
UNREACHED = frozenset({"not_dialled", "no_answer", "busy"})

# D.P.R. 26/2022 art. 1 c. 1 d) and L. 5/2018 speak of offers: a call about a contract, or about what is owed under it,
# is none and needs no consent within it.
ABOUT_THE_CONTRACT = frozenset({"service", "debt"})

_EPOCH = date(1970, 1, 1).toordinal()


def _accepts(law: Binding, basis: Basis) -> bool:
    return basis in law.legal_basis[0].accepts


def request(facts: Facts, law: Binding) -> CallRequest | None:
    """The request that asks for this very call: its object, its window, one use."""
    if not facts.known.requests or not _accepts(law, "request"):
        return None
    wrong = _wrong_at(facts)
    for asked in facts.known.requests:
        if (
            asked.requested_at <= facts.at < request_ends(asked, law)
            and (wrong < 0 or (asked.proved and asked.requested_at > wrong))
            and asked.goods == facts.campaign.goods
            and not _used(facts, f"request:{asked.id}")
        ):
            return asked
    return None


def request_ends(asked: CallRequest, law: Binding) -> Instant:
    return min([asked.expires_at, *(asked.requested_at + section.lasts for section in law.requests)])


def _used(facts: Facts, basis: str) -> bool:
    return any(attempt.basis == basis and attempt.result not in UNREACHED for attempt in facts.known.attempts)


def contract(facts: Facts, law: Binding) -> Contract | None:
    """A contract that opens this call: of this relation, and about it or with a consent given within it."""
    if not facts.known.contracts or not _accepts(law, "contract"):
        return None
    about = facts.campaign.purpose in ABOUT_THE_CONTRACT
    return next((held for held in related(facts, law) if about or marketing(held, facts)), None)


def related(facts: Facts, law: Binding) -> Iterator[Contract]:
    """The contracts of this relation (sector and goods) that are in force, or ended a short while ago.

    L. 5/2018 art. 1 c. 5; the contract for one product does not open another.
    """
    tail = timedelta(days=law.contracts[0].tail_days if law.contracts else 0)
    for held in contracts(facts):
        if (
            held.starts <= facts.today
            and (held.ends is None or facts.today - tail <= held.ends)
            and held.sector == facts.campaign.sector
            and (not held.goods or facts.campaign.goods in held.goods)
        ):
            yield held


def contracts(facts: Facts) -> Iterator[Contract]:
    """Yield the recorded contracts of which no report says that the number is another person's."""
    wrong = _wrong_at(facts)
    for held in facts.known.contracts:
        if wrong < 0 or (held.proved and _is_concluded_after(held, wrong, facts)):
            yield held


def _is_concluded_after(held: Contract, at: Instant, facts: Facts) -> bool:
    """Return whether a contract both begins after the day of `at` and was recorded after it. One that was recorded before may
    begin months later, as for energy and telephony, and rests on what was known before.
    """
    begins_later = held.starts.toordinal() - _EPOCH > _day(at, facts)
    return begins_later and (not held.entered_at or held.entered_at > at)


def _wrong_at(facts: Facts) -> Instant:
    """Return when the number was last reported to be another person's, or -1. Earlier bases open nothing since."""
    return max((wrong.at for wrong in facts.known.wrong_numbers if not wrong.lifted), default=-1)


def closed_by_wrong_number(facts: Facts) -> bool:
    """Return whether a contract or call request is recorded, and the number was reported wrong since."""
    known = facts.known
    return _wrong_at(facts) >= 0 and (
        len(list(contracts(facts))) < len(known.contracts)
        or any(not asked.proved or asked.requested_at <= _wrong_at(facts) for asked in known.requests)
    )


def marketing(held: Contract, facts: Facts) -> bool:
    """Whether the consent given within the contract stands: a stop withdraws it, and lifting the stop on a new consent
    does not bring it back; only a contract recorded and begun after the day of the stop carries one of its own.
    """
    stopped = _stopped_at(facts)
    return held.marketing and (stopped < 0 or _is_concluded_after(held, stopped, facts))


def _day(at: Instant, facts: Facts) -> int:
    """The latest day that `at` may have been where the person is: the offset of then may have been an hour more."""
    return max((place.local(at + HOUR)[0] for place in facts.places), default=at // DAY + 1)


def consent(facts: Facts, law: Binding) -> Consent | None:
    if not facts.known.consents or not _accepts(law, "consent"):
        return None
    return next((given for given in facts.known.consents if not objection(given, facts, law)), None)


def objection(given: Consent, facts: Facts, law: Binding) -> Finding | None:
    """Return what keeps this consent from opening this call, or None."""
    if not given.proved or not _was_given(given, facts):
        return "proof"
    if missing := _lacks_cession(given, facts, law):
        return missing
    if given.withdrawn_at or given.collected_at <= _stopped_at(facts):
        return "withdrawal"
    if given.collected_at <= _wrong_at(facts):
        return "wrong_number"
    if _voids(law) and (given.voided_at or given.collected_at <= listed_at(facts)):
        return "enrolment"
    if 0 < ends_at(given, law) <= facts.at:
        limit = age_limit(law)
        aged = limit is not None and _too_old_at(given, limit) == ends_at(given, law)
        return "age" if aged else "end"
    if not _covers(given, facts):
        return "scope"
    if facts.campaign.profiling and not given.profiling and _separate(law, "profiling"):
        return "profiling"
    return None


def _was_given(given: Consent, facts: Facts) -> bool:
    """A double opt-in that was never confirmed may be another person's address, or number."""
    return given.collected_at <= facts.at and (not given.double_opt_in or 0 < given.confirmed_at <= facts.at)


def _lacks_cession(given: Consent, facts: Facts, law: Binding) -> Finding | None:
    """L. 5/2018 art. 1 c. 5 to 8: a consent that somebody else collected opens nothing without its whole chain of
    cessions to this controller.
    """
    origin = given.origin
    if origin is None:
        return None
    if not origin.transfers:
        return None if origin.collected_by == facts.controller.id else "cession"
    if not given.third_party and _separate(law, "third_party"):
        return "third_party"
    return "cession" if broken_chain(origin, facts, law) else None


def _stopped_at(facts: Facts) -> Instant:
    """When the person last said stop to this campaign, or -1. What was consented to before stays withdrawn, also where
    the stop was lifted later, unless it had been entered by mistake.
    """
    return max(
        (
            revoked.at
            for revoked in facts.known.revocations
            if revoked.lifted != "error"
            and (revoked.scope != "campaign" or revoked.campaign == facts.campaign.id)
        ),
        default=-1,
    )


def _reconsented(facts: Facts) -> bool:
    """A stop was lifted because the person consented anew: then it is that consent that opens, not the directory."""
    return any(
        revoked.lifted == "new_consent"
        and (revoked.scope != "campaign" or revoked.campaign == facts.campaign.id)
        for revoked in facts.known.revocations
    )


def _voids(law: Binding) -> bool:
    return any(section.void_by_enrolment for section in law.consents)


def listed_at(facts: Facts) -> Instant:
    """The newest consultation known to have said *listed*, or -1."""
    return max((answer.listed_at for answer in facts.registries if answer.listed_at), default=-1)


def ends_at(given: Consent, law: Binding) -> Instant:
    """0: no end."""
    limit = age_limit(law)
    ends = [_too_old_at(given, limit)] if limit is not None else []
    if given.expires_at:
        ends.append(given.expires_at)
    return min(ends, default=0)


def age_limit(law: Binding) -> Consents | None:
    """Return the section that lets a consent grow the least old."""
    limits = (section for section in law.consents if section.max_age_days is not None)
    return min(limits, key=lambda section: section.max_age_days or 0, default=None)


def _too_old_at(given: Consent, limit: Consents) -> Instant:
    return given.collected_at + (limit.max_age_days or 0) * DAY


def _covers(given: Consent, facts: Facts) -> bool:
    return (
        facts.campaign.purpose in given.purposes
        and facts.call_type in given.call_types
        and (not given.goods or facts.campaign.goods in given.goods)
    )


def _separate(law: Binding, what: Literal["profiling", "third_party"]) -> bool:
    return any(what in section.separate for section in law.consents)


def directory(facts: Facts, law: Binding) -> Listing | None:
    """An entry of the public directory, on a list that carries it."""
    if not _accepts(law, "directory") or _reconsented(facts):
        return None
    unstated = any(facts.number.kind in section.stated_kinds for section in law.directories)
    entries = (on for on in facts.listings if on.basis == "directory" and (on.stated or not unstated))
    return next((on for on in entries if not broken_chain(on.origin, facts, law)), None)


def broken_chain(origin: Origin, facts: Facts, law: Binding) -> str:
    """Why what came this way carries no call, or nothing. What was never ceded has nothing to prove.

    L. 5/2018 art. 1 c. 5: enrolment bars the use of numbers ceded before; c. 8: the people are told at every cession.
    """
    if not origin.transfers:
        return ""
    holder, day = origin.collected_by, origin.collected_on
    for transfer in origin.transfers:
        if transfer.by != holder or not day <= transfer.on <= facts.today or not transfer.subjects_told:
            return f"the chain of origin breaks at the cession to {transfer.to} on {transfer.on}"
        holder, day = transfer.to, transfer.on
    if holder != facts.controller.id:
        return f"the last cession was to {holder}, not to this controller"
    if listed_at(facts) >= 0 and any(section.ceded_void_by_enrolment for section in law.lists):
        return "the number was ceded, and has been enrolled with the registry"
    return ""
