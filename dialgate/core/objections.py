"""Objections: revocations, withdrawals of a consent, which a law can count as objections (GDPR art. 21(2) and (3)), and enrolments."""

from collections.abc import Iterator

from msgspec import structs

from dialgate.core.law import Binding
from dialgate.core.model import Consent, Facts, Instant, Objection, Revocation


def revocations(facts: Facts) -> Iterator[Revocation]:
    """Yield the revocations that concern this campaign, including lifted ones.

    A revocation for a former campaign concerns every campaign, because the campaign may have a new id (GDPR art. 21(3)).
    One for every controller that a new consent lifted is in force for controllers without this consent, because a consent
    is given to named controllers (GDPR art. 4(11); L. 5/2018 art. 1 c. 6).
    """
    for revocation in facts.known.revocations:
        if (
            revocation.scope != "campaign"
            or revocation.campaign == facts.campaign.id
            or revocation.campaign in facts.former_campaigns
        ):
            is_lifted = not revocation.consents or _is_consented(revocation, facts)
            yield revocation if is_lifted else structs.replace(revocation, lifted="")


def _is_consented(revocation: Revocation, facts: Facts) -> bool:
    """Return whether this controller has one of the consents that lifted a revocation."""
    return any(
        given.id in revocation.consents and given.proved and given.collected_at > revocation.at
        for given in facts.known.consents
    )


def stops_bar(facts: Facts, law: Binding) -> bool:
    """Return whether a revocation in force bars this call.

    It always does by statute. The operator may limit to marketing what bars calls about a contract or a debt, too.
    """
    by_choice = bool(law.stops) and all(section.severity == "operator" for section in law.stops)
    return facts.campaign.stops == "all" or not by_choice


def stopped_at(facts: Facts, law: Binding) -> Instant:
    """Return when the last revocation or objection ended the consents given before it, or -1 if never.

    A revocation entered by mistake does not count. Other lifted revocations do: earlier consents stay withdrawn.
    """
    stops = (revocation.at for revocation in revocations(facts) if revocation.lifted != "error")
    return max([objected_at(facts, law), *stops])


def objected_at(facts: Facts, law: Binding) -> Instant:
    """Return when the person last objected to this call, or -1 if never. Only what was given later permits it.

    A revocation that a new consent lifted is still an objection. A revocation in force is ignored here if it bars the
    call, because the rule about revocations denies it. A withdrawn consent is an objection if the law sets `withdrawal_objects`.
    """
    known = facts.known
    if not (known.revocations or known.consents or known.objections):  # for most people nothing is recorded
        return -1
    lifted = {"new_consent"} if stops_bar(facts, law) else {"new_consent", ""}
    objected = [revocation.at for revocation in revocations(facts) if revocation.lifted in lifted]
    withdrawn = [given for given in known.consents if given.withdrawn_at]
    if (withdrawn or known.objections) and any(section.withdrawal_objects for section in law.consents):
        objected += [given.withdrawn_at for given in withdrawn if _objects(given, facts)]
        objected += [made.at for made in known.objections if not made.purposes or _objects(made, facts)]
    return max(objected, default=-1)


def has_objected(facts: Facts, law: Binding) -> bool:
    return objected_at(facts, law) >= 0


def _objects(withdrawn: Consent | Objection, facts: Facts) -> bool:
    """Return whether a withdrawn consent was for this call.

    A consent to former goods counts for all goods, because the goods may have a new name (GDPR art. 21(3)).
    """
    return facts.campaign.purpose in withdrawn.purposes and (
        covers_goods(withdrawn, facts) or not set(withdrawn.goods).isdisjoint(facts.former_goods)
    )


def covers_goods(given: Consent | Objection, facts: Facts) -> bool:
    return not given.goods or facts.campaign.goods in given.goods


def listed_at(facts: Facts) -> Instant:
    """Return when the person was last listed in a registry, or -1 if never.

    If the registry does not say when it listed the person, the time of the consultation counts.
    """
    enrolled = (answer for answer in facts.registries if answer.listed_at and not answer.asked_since)
    return max((answer.since or answer.listed_at for answer in enrolled), default=-1)
