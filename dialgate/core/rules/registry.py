"""The opposition registry's answer.

D.P.R. 26/2022 art. 8 c. 2: the controller consults the registry monthly and before every campaign; a consultation holds
for 15 days. The registry is not a list one can hold: what is known is what it answered to this controller about this
number, and anything but an unexpired *not enrolled* forbids the call. L. 5/2018 art. 1 c. 5: contracts in force or ended
not more than 30 days ago are saved. Art. 1 c. 6: a consent given after enrolment is good; the answer carries no date of
enrolment, so *after* is proved only by a consent collected after a consultation that already said *enrolled*.
"""

import math

from dialgate.core import legal_basis
from dialgate.core.law import Binding, Registry
from dialgate.core.model import DAY, SECOND, Deny, Facts, Instant, Outcome, Pass, Place, RegistryAnswer, Skip


def registry_clear(facts: Facts, law: Binding) -> Outcome:
    if not law.registries:
        return Skip("no registry for this purpose")
    outcomes = [_one(registry, facts, law) for registry in law.registries]
    for outcome in outcomes:
        if isinstance(outcome, Deny):
            return outcome
    passes = (outcome for outcome in outcomes if isinstance(outcome, Pass))
    return min(passes, key=lambda passed: passed.until or math.inf, default=outcomes[0])


def _one(registry: Registry, facts: Facts, law: Binding) -> Outcome:
    exempt = _exemption(registry, facts, law)
    if exempt is not None:
        return exempt
    answer = _answer(registry, facts)
    match answer.answer:
        case "listed":
            return _listed(registry, answer, facts, law)
        case "clear":
            return _fresh(registry, answer, facts) or Pass(
                f"clear:{answer.consultation}", _expiry(registry, answer, facts)
            )
        case "uncovered":
            text = f"outside the coverage subscribed with {registry.id}"
            return Deny("registry.uncovered", text, registry.source, registry.severity)
    text = f"{registry.id} was never consulted about this number for this controller"
    return Deny("registry.unknown", text, registry.source, registry.severity)


def _expiry(registry: Registry, answer: RegistryAnswer, facts: Facts) -> Instant:
    """Clocks that go forward in between end the days an hour early; clocks that go back do not prolong them."""
    ends = answer.consulted_at + registry.validity_days * DAY
    if registry.counting == "earlier":
        return min([ends, *(_same_time(place, answer.consulted_at, registry) for place in facts.places)])
    return ends


def _same_time(place: Place, at: Instant, registry: Registry) -> Instant:
    day, second = place.local(at)
    return place.instant(day + registry.validity_days, second) + at % SECOND


def _fresh(registry: Registry, answer: RegistryAnswer, facts: Facts) -> Deny | None:
    """A deny where the answer is too old to rest a call on, or is dated after the call."""
    if answer.consulted_at <= facts.at < _expiry(registry, answer, facts):
        return None
    text = f"the answer to {registry.id} consultation {answer.consultation} no longer holds; consult again"
    return Deny("registry.expired", text, registry.source, registry.severity)


def _exemption(registry: Registry, facts: Facts, law: Binding) -> Outcome | None:
    if registry.sistan_exempts and facts.controller.sistan and facts.campaign.purpose == "statistics":
        return Skip("statistics of the national system are exempt")
    asked = legal_basis.request(facts, law)
    if registry.request_exempts and asked is not None:
        return Pass(f"request:{asked.id}", legal_basis.request_ends(asked, law))
    held = legal_basis.contract(facts, law)
    if registry.contract_exempts and held is not None:
        return Pass(f"contract:{held.id}")
    return None


_SILENT = RegistryAnswer(registry="", answer="unknown")


def _answer(registry: Registry, facts: Facts) -> RegistryAnswer:
    return next((answer for answer in facts.registries if answer.registry == registry.id), _SILENT)


def _listed(registry: Registry, answer: RegistryAnswer, facts: Facts, law: Binding) -> Outcome:
    given = legal_basis.consent(facts, law)
    if given is not None and registry.consent == "always":
        return Pass(f"consent:{given.id}", legal_basis.ends_at(given, law))
    if (
        given is not None
        and registry.consent == "after_listing"
        and facts.controller.consent_after_listing
        and given.collected_at > answer.consulted_at
    ):
        # The duty to consult stays: an old answer knows nothing of a renewal since, which would void the consent.
        ends = min(legal_basis.ends_at(given, law) or math.inf, _expiry(registry, answer, facts))
        return _fresh(registry, answer, facts) or Pass(f"consent:{given.id}", int(ends))
    text = f"enrolled, by {registry.id} consultation {answer.consultation}"
    return Deny("registry.listed", text, registry.source, registry.severity)
