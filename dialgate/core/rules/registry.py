"""The rule about the opposition registry's answer.

D.P.R. 26/2022 art. 8 c. 2: the controller consults the registry monthly and before every campaign; a consultation is valid
for 15 days. The registry does not publish a list: it answers each controller about submitted numbers, and only an
unexpired *not enrolled* permits the call. L. 5/2018 art. 1 c. 5: contracts in force or ended not more than 30 days ago are
exempt. Art. 1 c. 6: a consent given after enrolment is valid. The answer has no date of enrolment, so only a consent
collected after a consultation that answered *enrolled* is proved to be later.
"""

import math

from dialgate.core import legal_basis, periods
from dialgate.core.law import Binding
from dialgate.core.law_sections import Registry
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
    answer = _answer(registry, facts)
    match answer.answer:
        case "listed":
            return _listed(registry, answer, facts, law)
        case "clear":
            ends = _expiry(registry, answer, facts)
            return _check_age(registry, answer, facts, ends) or Pass(f"clear:{answer.consultation}", ends)
        case "uncovered":
            text = f"outside the coverage subscribed with {registry.id}"
            return Deny("registry.uncovered", text, registry.source, registry.severity)
    text = f"{registry.id} was never consulted about this number for this controller"
    return Deny("registry.unknown", text, registry.source, registry.severity)


def _expiry(registry: Registry, answer: RegistryAnswer, facts: Facts) -> Instant:
    """Return when an answer expires. With `counting: earlier`, a change of the clocks can shorten it, never prolong it."""
    ends = periods.end(registry.validity, answer.consulted_at)
    if registry.counting == "earlier":
        return min([ends, *(_same_time(place, answer.consulted_at, registry) for place in facts.places)])
    return ends


def _same_time(place: Place, at: Instant, registry: Registry) -> Instant:
    day, second = place.local(at)
    return place.instant(day + periods.parse(registry.validity).length // DAY, second) + at % SECOND


def _check_age(registry: Registry, answer: RegistryAnswer, facts: Facts, ends: Instant) -> Deny | None:
    """Return a deny if the answer, which expires at `ends`, is expired or dated after the call, else None."""
    if answer.consulted_at <= facts.at < ends:
        return None
    text = f"the answer to {registry.id} consultation {answer.consultation} no longer holds; consult again"
    return Deny("registry.expired", text, registry.source, registry.severity)


_SILENT = RegistryAnswer(registry="", answer="unknown")


def _answer(registry: Registry, facts: Facts) -> RegistryAnswer:
    return next((answer for answer in facts.registries if answer.registry == registry.id), _SILENT)


def _listed(registry: Registry, answer: RegistryAnswer, facts: Facts, law: Binding) -> Outcome:
    consent = legal_basis.consent(facts, law)
    if consent is not None and "consent" in registry.unless:
        return Pass(f"consent:{consent.id}", legal_basis.ends_at(consent, law))
    if (
        consent is not None
        and "consent_after_listing" in registry.unless
        and facts.controller.consent_after_listing
        and consent.collected_at > answer.consulted_at
    ):
        # The answer must still be valid: the person may have renewed the enrolment since, which would void the consent.
        expires = _expiry(registry, answer, facts)
        ends = min(legal_basis.ends_at(consent, law) or expires, expires)
        return _check_age(registry, answer, facts, expires) or Pass(f"consent:{consent.id}", ends)
    text = f"enrolled, by {registry.id} consultation {answer.consultation}"
    return Deny("registry.listed", text, registry.source, registry.severity)
