"""The legal basis for a call: a call request, a contract, a consent or a directory entry.

Several rules and exemptions share these functions, so that their results agree. A basis counts only if the law accepts
it for the call.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Literal

from dialgate.core import change_of_holder, objections, origins, periods
from dialgate.core.law import Binding
from dialgate.core.law_sections import Consents, Finding
from dialgate.core.model import (
    DAY,
    EPOCH,
    HOUR,
    CallRequest,
    Consent,
    Contract,
    Facts,
    Instant,
    Listing,
)

# Call results that do not use up a call request. An unknown result does.
UNREACHED = frozenset({"not_dialled", "no_answer", "busy"})

# D.P.R. 26/2022 art. 1 c. 1 d) and L. 5/2018 are about offers. A call about a contract, or about a debt under it, is not
# an offer and needs no consent.
ABOUT_THE_CONTRACT = frozenset({"service", "debt"})


def request(facts: Facts, law: Binding) -> CallRequest | None:
    """Return a call request that is a legal basis for this call.

    A request that can also lift a ban on the sector comes first.
    """
    if not facts.known.requests or "request" not in law.accepted:
        return None
    return min(requests(facts, law), key=lambda asked: not is_own_request(asked), default=None)


def is_own_request(asked: CallRequest) -> bool:
    """Return whether the request was made to the controller itself, and a proof shows it."""
    return asked.own_interface and asked.proved


def requests(facts: Facts, law: Binding) -> Iterator[CallRequest]:
    """Yield the call requests for the campaign's goods that are valid at the time of the call and not yet used.

    A request does not outlive a later objection.
    """
    objected = objections.objected_at(facts, law)
    for call_request in holder_requests(facts):
        if (
            objected < call_request.requested_at
            and max(call_request.requested_at, call_request.begins)
            <= facts.at
            < request_ends(call_request, facts, law)
            and call_request.goods == facts.campaign.goods
            and not _is_used(facts, f"request:{call_request.id}")
        ):
            yield call_request


def holder_requests(facts: Facts) -> Iterator[CallRequest]:
    """Yield the recorded call requests, except those made ineffective by a wrong-number report or disconnection."""
    wrong = change_of_holder.changed_at(facts)
    for call_request in _usable_requests(facts):
        if wrong < 0 or (call_request.proved and call_request.requested_at > wrong):
            yield call_request


def _usable_requests(facts: Facts) -> list[CallRequest]:
    return [call_request for call_request in facts.known.requests if not call_request.contradicted]


def request_ends(call_request: CallRequest, facts: Facts, law: Binding) -> Instant:
    asked_at = call_request.requested_at
    limits = (
        periods.end_of_working_days(section.max_age, asked_at, facts.places, law.weekdays, section.day_set)
        if section.max_age.endswith("wd")
        else periods.end(section.max_age, asked_at)
        for section in law.requests
    )
    return min([call_request.expires_at, *limits])


def _is_used(facts: Facts, basis: str) -> bool:
    return any(attempt.basis == basis and attempt.result not in UNREACHED for attempt in facts.known.attempts)


def contract(facts: Facts, law: Binding) -> Contract | None:
    """Return a contract that is a legal basis for this call.

    The call must be about the contract, or the contract must include a consent to marketing.
    """
    return next(accepted_contracts(facts, law), None)


def accepted_contracts(facts: Facts, law: Binding) -> Iterator[Contract]:
    if facts.known.contracts and "contract" in law.accepted:
        is_about = facts.campaign.purpose in ABOUT_THE_CONTRACT
        yield from (
            deal for deal in related(facts, law) if is_about or has_marketing_consent(deal, facts, law)
        )


def related(facts: Facts, law: Binding) -> Iterator[Contract]:
    """Yield the contracts for the campaign's sector and goods that are in force or ended recently.

    An ended contract still counts for the law's `tail` period (L. 5/2018 art. 1 c. 5). A contract for one product is
    not a basis for calls about another product.
    """
    return _concerned(facts, [section.tail for section in law.contracts])


def running(facts: Facts) -> Iterator[Contract]:
    """Yield the contracts in force for the campaign's sector and goods."""
    return _concerned(facts, [])


def _concerned(facts: Facts, tails: Sequence[str | None]) -> Iterator[Contract]:
    for deal in contracts(facts):
        if (
            is_in_force(deal, facts, tails)
            and deal.sector == facts.campaign.sector
            and (not deal.goods or facts.campaign.goods in deal.goods)
        ):
            yield deal


def is_in_force(deal: Contract, facts: Facts, tails: Sequence[str | None] = ()) -> bool:
    """Return whether a contract is in force, or has ended but every period in `tails` is still running.

    Each period begins at the end of the contract. Without `tails`, or with a None in `tails`, only a contract in
    force counts.
    """
    if deal.starts > facts.today:
        return False
    if deal.ends is None or facts.today <= deal.ends:
        return True
    ended = deal.ends
    return bool(tails) and all(
        tail is not None and facts.today <= periods.last_day(tail, ended) for tail in tails
    )


def contracts(facts: Facts) -> Iterator[Contract]:
    """Yield the recorded contracts, except those made ineffective by a wrong-number report or disconnection.

    A contract that was cancelled before its first day was never a contract.
    """
    wrong = change_of_holder.changed_at(facts)
    for deal in _usable_contracts(facts):
        if wrong < 0 or (deal.proved and _is_concluded_after(deal, wrong, facts)):
            yield deal


def _usable_contracts(facts: Facts) -> list[Contract]:
    return [
        deal
        for deal in facts.known.contracts
        if not (deal.contradicted or is_cancelled(deal.starts, deal.ends))
    ]


def is_cancelled(starts: date, ends: date | None) -> bool:
    """Return whether a contract ended before its first day."""
    return ends is not None and ends < starts


def _is_concluded_after(deal: Contract, at: Instant, facts: Facts) -> bool:
    """Return whether a contract begins after the day of `at` and was recorded after `at`."""
    # The first day alone is not enough: an energy contract may begin months after it is recorded.
    begins_later = deal.starts.toordinal() - EPOCH > _day(at, facts)
    return begins_later and (not deal.entered_at or deal.entered_at > at)


def find_change_of_holder(facts: Facts) -> Finding | None:
    """Return the event that made a contract or call request ineffective, or None.

    The event is a wrong-number report or a disconnection: another person might hold the number now. If both occurred,
    return the later event.
    """
    changed = change_of_holder.changed_at(facts)
    effective = [*contracts(facts), *holder_requests(facts)]
    if len(effective) == len(_usable_contracts(facts)) + len(_usable_requests(facts)):
        return None
    return "wrong_number" if change_of_holder.reported_wrong_at(facts) >= changed else "disconnection"


def has_marketing_consent(deal: Contract, facts: Facts, law: Binding) -> bool:
    """Return whether the contract includes a consent to marketing, and no later revocation or objection ended it.

    If the law requires a separate consent to profiling, the contract's does not cover it. A separate consent that lifts
    the revocation does not restore the contract's consent. The revocation does not affect a contract that begins on a
    later day, unless the contract was recorded before the revocation.
    """
    if not deal.marketing or (facts.campaign.profiling and _separate(law, "profiling")):
        return False
    stopped = objections.stopped_at(facts, law)
    return stopped < 0 or _is_concluded_after(deal, stopped, facts)


def _day(at: Instant, facts: Facts) -> int:
    """Return the latest local day on which `at` can fall.

    Because of daylight saving time, the UTC offset at `at` may be an hour larger than the offset during the call.
    """
    return max((place.local(at + HOUR)[0] for place in facts.places), default=at // DAY + 1)


def consent(facts: Facts, law: Binding) -> Consent | None:
    if not facts.known.consents or "consent" not in law.accepted:
        return None
    return next(consents(facts, law), None)


def consents(facts: Facts, law: Binding) -> Iterator[Consent]:
    """Yield the consents that this call can rely on, even if the law does not accept consent as a basis."""
    stopped = objections.stopped_at(facts, law)  # reads every entry, so once for all consents
    return (given for given in facts.known.consents if not _find_defect(given, stopped, facts, law))


def find_defect(given: Consent, facts: Facts, law: Binding) -> Finding | None:
    """Return why this call cannot rely on a consent, or None if it can."""
    return _find_defect(given, objections.stopped_at(facts, law), facts, law)


def _find_defect(given: Consent, stopped: Instant, facts: Facts, law: Binding) -> Finding | None:
    if not is_proved(given, law.consents) or not _was_given(given, facts):
        return "proof"
    if missing := _lacks_cession(given, facts, law):
        return missing
    if given.withdrawn_at or given.collected_at <= stopped:
        return "withdrawal"
    if given.collected_at <= change_of_holder.changed_at(facts):
        return (
            "wrong_number"
            if given.collected_at <= change_of_holder.reported_wrong_at(facts)
            else "disconnection"
        )
    if _voids(law) and (given.voided_at or given.collected_at <= objections.listed_at(facts)):
        return "enrolment"
    ends = ends_at(given, facts, law)
    if 0 < ends <= facts.at:
        limit = age_limit(given, facts, law)
        aged = limit is not None and _too_old_at(given, limit, facts) == ends
        return "age" if aged else "end"
    if lacking(given, law) is not None:
        return "incomplete"
    if (
        given.contradicted
        or facts.call_type not in given.call_types
        or facts.campaign.purpose not in given.purposes
        or not objections.covers_goods(given, facts)
    ):
        return "scope"
    if facts.campaign.profiling and not given.profiling and _separate(law, "profiling"):
        return "profiling"
    return None


def is_proved(given: Consent, sections: Sequence[Consents]) -> bool:
    """Return whether a consent has a proof that the law's sections accept (GDPR art. 7(1)).

    A hash always counts. An operator's own section can only accept less than the statutes.
    """
    if given.proved or not given.other_proofs:
        return given.proved
    limits = [section for section in sections if section.other_proofs is not None]
    accepted = set(given.other_proofs).intersection(*(section.other_proofs or () for section in limits))
    return bool(accepted) and any(section.severity == "statute" for section in limits)


def _was_given(given: Consent, facts: Facts) -> bool:
    """Return whether a consent was given before the call and, with double opt-in, confirmed."""
    return given.collected_at <= facts.at and (not given.double_opt_in or 0 < given.confirmed_at <= facts.at)


def _lacks_cession(given: Consent, facts: Facts, law: Binding) -> Finding | None:
    """Return the defect in the transfer of a consent to this controller, or None (L. 5/2018 art. 1 c. 5 to 8)."""
    origin = given.origin
    if origin is None:
        return None
    if not origin.transfers:
        return None if origins.is_own(origin, facts.controller) else "cession"
    if not given.third_party and _separate(law, "third_party"):
        return "third_party"
    return "cession" if origins.broken_chain(origin, facts, law) else None


def _voids(law: Binding) -> bool:
    return any(section.void_by_enrolment for section in law.consents)


def ends_at(given: Consent, facts: Facts, law: Binding) -> Instant:
    """Return when a consent ends, or 0 if it has no end."""
    limit = age_limit(given, facts, law)
    ends = [_too_old_at(given, limit, facts)] if limit is not None else []
    if given.expires_at:
        ends.append(given.expires_at)
    return min(ends, default=0)


def age_limit(given: Consent, facts: Facts, law: Binding) -> Consents | None:
    """Return the section whose maximum age the consent reaches first, if any."""
    limits = (section for section in law.consents if _max_ages(given, section))
    return min(limits, key=lambda section: _too_old_at(given, section, facts), default=None)


def _max_ages(given: Consent, limit: Consents) -> list[str]:
    states_end = given.expires_at and "expires_at" not in given.supplied
    ages = (limit.max_age, None if states_end else limit.max_age_unstated)
    return [age for age in ages if age is not None]


def _too_old_at(given: Consent, limit: Consents, facts: Facts) -> Instant:
    renewed_at = given.renewed_at if limit.renewal == "explicit" else 0
    since = max(given.collected_at, renewed_at)
    if limit.counting == "calendar":
        return min(periods.end_of_days(age, since, facts.places) for age in _max_ages(given, limit))
    return min(periods.end(age, since) for age in _max_ages(given, limit))


def lacking(given: Consent, law: Binding) -> Consents | None:
    """Return the first section whose requirements the consent does not meet, if any."""
    return next((section for section in law.consents if not _meets(given, section)), None)


def _meets(given: Consent, section: Consents) -> bool:
    stated: set[str] = {*given.states, given.form}
    is_ceded = given.origin is not None and given.origin.transfers
    if "caller" in stated or not is_ceded:
        stated.add("recipient")
    if given.expires_at and "expires_at" not in given.supplied:
        stated.add("period")
    if given.goods and "goods" not in given.supplied:
        stated.add("goods")
    return stated.issuperset(section.requires)


def _separate(law: Binding, use: Literal["profiling", "third_party"]) -> bool:
    return any(use in section.separate for section in law.consents)


def opposition_only(facts: Facts, law: Binding) -> str:
    """Return the basis for a call that is lawful unless the person has objected, or ""."""
    if not law.accepted & {"interest", "not_opposed"} or objections.has_objected(facts, law):
        return ""
    if "interest" in law.accepted and facts.campaign.balancing:
        return f"interest:{facts.campaign.balancing}"
    return "not_opposed" if "not_opposed" in law.accepted else ""


def directory(facts: Facts, law: Binding) -> Listing | None:
    """Return a call-list entry that makes the public directory the legal basis, if any."""
    if "directory" not in law.accepted or objections.has_objected(facts, law):
        return None
    unstated = any(facts.number.kind in section.stated_kinds for section in law.directories)
    entries = (on for on in facts.listings if on.basis == "directory" and (on.stated or not unstated))
    return next((on for on in entries if not origins.void_origin(on.origin, facts, law)), None)
