"""The rule about the opposition registry's answer.

D.P.R. 26/2022 art. 8 c. 2: the controller consults the registry monthly and before every campaign, and a consultation
is valid for 15 days. The registry publishes no list: it answers each controller about submitted numbers. Only the
answer *not enrolled* permits the call, until the answer expires. L. 5/2018 art. 1 c. 5 exempts contracts in force or
ended at most 30 days ago. Art. 1 c. 6: a consent given after enrolment is valid. The registry's answer does not contain
the date of enrolment. A consent is proved to be later than the enrolment only if it was collected after a consultation
with the answer *enrolled*.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from dialgate.core import legal_basis, periods
from dialgate.core.law import Binding
from dialgate.core.law_sections import Registry
from dialgate.core.model import (
    DAY,
    SECOND,
    Block,
    Consent,
    Deny,
    Facts,
    Instant,
    Outcome,
    Pass,
    Place,
    RegistryAnswer,
    Skip,
)
from dialgate.core.windows import Windows, boundaries, end_of_window, next_window, parse_days

_DAYS_A_WEEK = 7
_HORIZON = 14 * DAY  # the facts hold the day sets of two weeks


def registry_clear(facts: Facts, law: Binding) -> Outcome:
    if not law.registries:
        return Skip("no registry for this purpose")
    outcomes = [_one(registry, facts, law) for registry in law.registries]
    for outcome in outcomes:
        if isinstance(outcome, Deny):
            return outcome
    passes = (outcome for outcome in outcomes if isinstance(outcome, Pass))
    return min(passes, key=lambda passed: passed.until or math.inf, default=outcomes[0])


def turning_points(facts: Facts, law: Binding) -> Iterator[Instant]:
    rings = {
        0,
        *(section.ring_seconds * SECOND for section in law.hours),
    }  # an exemption can lift any section
    clocks = [place.shift_at for place in facts.places if place.shift_at]
    for registry in law.registries:
        answer = _answer(registry, facts)
        if answer.consulted_at:
            yield from (answer.consulted_at, _expiry(registry, answer, facts))
        if answer.blocks:
            for at in (*clocks, *_bars(registry, answer, facts, law).boundaries(facts.at)):
                yield from (at - ring for ring in rings)


def _one(registry: Registry, facts: Facts, law: Binding) -> Outcome:
    answer = _answer(registry, facts)
    if registry.about == "disconnection":
        return _connected_since(registry, answer, facts, law)
    match answer.answer:
        case "listed":
            part = _outside_blocks(registry, answer, facts, law) if answer.blocks else None
            return part or _judge_listing(registry, answer, facts, law)
        case "clear":
            return _clear(registry, answer, facts)
        case "uncovered":
            return registry.deny("registry.uncovered", f"outside the coverage subscribed with {registry.id}")
    text = f"{registry.id} was never consulted about this number for this controller"
    return registry.deny("registry.unknown", text)


def _expiry(registry: Registry, answer: RegistryAnswer, facts: Facts) -> Instant:
    """Return when an answer expires.

    With `counting: earlier`, an answer that is valid for 15 days expires after 15 times 24 hours, or at the same local
    time 15 days later, whichever is earlier.
    """
    ends = periods.end(registry.validity, answer.consulted_at)
    if registry.counting == "earlier":
        return min([ends, *(_same_time(place, answer.consulted_at, registry) for place in facts.places)])
    return ends


def _same_time(place: Place, at: Instant, registry: Registry) -> Instant:
    day, second = place.local(at)
    return place.instant(day + periods.parse(registry.validity).days, second) + at % SECOND


def _check_age(registry: Registry, answer: RegistryAnswer, facts: Facts, ends: Instant) -> Deny | None:
    """Return a denial if the answer has expired (at `ends`) or is dated after the call, else None."""
    if answer.consulted_at <= facts.at < ends:
        return None
    text = f"the answer to {registry.id} consultation {answer.consultation} no longer holds; consult again"
    return registry.deny("registry.expired", text)


def _clear(registry: Registry, answer: RegistryAnswer, facts: Facts, barred_from: Instant = 0) -> Outcome:
    """Pass until the answer expires, or until `barred_from` if that is earlier. Deny if the answer has expired."""
    expires = _expiry(registry, answer, facts)
    ends = min(expires, barred_from or expires)
    return _check_age(registry, answer, facts, expires) or Pass(f"clear:{answer.consultation}", ends)


def _connected_since(registry: Registry, answer: RegistryAnswer, facts: Facts, law: Binding) -> Outcome:
    """Pass if the registry answered that the number has not been disconnected since the consent.

    47 CFR 64.1200(m).
    """
    if legal_basis.consent(facts, law) is None:
        return Skip("no consent to confirm")
    newest = max(consent.collected_at for consent in legal_basis.consents(facts, law))
    if answer.answer != "clear" or not 0 < answer.asked_since <= newest:
        text = f"{registry.id} has not answered whether the number was disconnected since the consent"
        return registry.deny("registry.unknown", text)
    return _clear(registry, answer, facts)


_SILENT = RegistryAnswer(registry="", answer="unknown")


def _answer(registry: Registry, facts: Facts) -> RegistryAnswer:
    return next((answer for answer in facts.registries if answer.registry == registry.id), _SILENT)


def _judge_listing(registry: Registry, answer: RegistryAnswer, facts: Facts, law: Binding) -> Outcome:
    consent = legal_basis.consent(facts, law)
    if consent is not None and "consent" in registry.unless:
        return Pass(f"consent:{consent.id}", legal_basis.ends_at(consent, facts, law))
    if (
        consent is not None
        and "consent_after_listing" in registry.unless
        and _is_after_listing(consent, answer, facts)
    ):
        # The answer must still be valid: the person may have renewed the enrolment after it, which would void the consent.
        expires = _expiry(registry, answer, facts)
        ends = min(legal_basis.ends_at(consent, facts, law) or expires, expires)
        return _check_age(registry, answer, facts, expires) or Pass(f"consent:{consent.id}", ends)
    text = f"enrolled, by {registry.id} consultation {answer.consultation}"
    ends = _unbarred_from(registry, answer, facts, law) if answer.blocks else 0
    return registry.deny("registry.listed", text, ends)


def _is_after_listing(consent: Consent, answer: RegistryAnswer, facts: Facts) -> bool:
    """Return whether a consent is proved to be later than the listing.

    If the registry does not say when the person was listed, the consent must be later than the consultation, and the
    controller must have enabled this reading of the law.
    """
    if answer.since:
        return consent.collected_at > answer.since
    return facts.controller.consent_after_listing and consent.collected_at > answer.consulted_at


# ---- listings that bar a part of the calls ---------------------------------------------------------------------------


class _Bars(NamedTuple):
    """The local-time windows in which a listing bars a call, in each place where the person may be."""

    windows: tuple[Windows, ...]
    day_set: str
    places: tuple[Place, ...]
    ring: Instant

    def until(self, at: Instant) -> Instant:
        """Return the latest end of the windows that bar a call made at `at`, or 0 if none bars it.

        A window bars the call if it is open at `at` or when the telephone rings.
        """
        return max(
            end_of_window(windows, self.day_set, place, moment)
            for windows in self.windows
            for place in self.places
            for moment in (at, at + self.ring)
        )

    def next(self, at: Instant) -> Instant:
        """Return when the next window begins, minus the ringing time, or 0 if none begins within a week."""
        begins = (
            next_window(windows, self.day_set, place, at, _DAYS_A_WEEK)
            for windows in self.windows
            for place in self.places
        )
        return min((begin - self.ring for begin in begins if begin), default=0)

    def boundaries(self, at: Instant) -> Iterator[Instant]:
        """Yield the instants on the local day of `at` and the day after at which a window begins or ends."""
        for windows in self.windows:
            for place in self.places:
                today, _ = place.local(at)
                for day in (today, today + 1):
                    yield from boundaries(windows, self.day_set, place, day)


def _bars(registry: Registry, answer: RegistryAnswer, facts: Facts, law: Binding) -> _Bars:
    windows = tuple(
        _windows(block, has_holidays=bool(registry.day_set))
        for block in answer.blocks
        if (not block.categories or not law.sector or law.sector in block.categories)
        and (not block.call_types or facts.call_type in block.call_types)
    )
    ring = max((section.ring_seconds for section in law.hours), default=0)
    return _Bars(windows, registry.day_set, facts.places, ring * SECOND)


@lru_cache(1024)
def _windows(block: Block, *, has_holidays: bool) -> Windows:
    """Return the windows in which a block bars calls.

    If the registry's `day_set` is empty, the holidays are unknown. A block that includes holidays is therefore applied
    every day.
    """
    is_any_day = not block.days or ("holiday" in block.days and not has_holidays)
    days = ("mon-sun",) if is_any_day else block.days
    return parse_days(dict.fromkeys(days, block.bands or ("00:00-24:00",)))


def _outside_blocks(registry: Registry, answer: RegistryAnswer, facts: Facts, law: Binding) -> Outcome | None:
    """Return the outcome if the listing does not bar the call, or None if it does."""
    bars = _bars(registry, answer, facts, law)
    if not bars.windows:
        return _clear(registry, answer, facts)
    if not facts.places or bars.until(facts.at):
        return None
    return _clear(registry, answer, facts, bars.next(facts.at))


def _unbarred_from(registry: Registry, answer: RegistryAnswer, facts: Facts, law: Binding) -> Instant:
    """Return the earliest instant, at or after `facts.at`, when the listing does not bar the call.

    Return 0 if the listing bars the call until the answer expires or `_HORIZON` ends. Also return 0 if the number's
    time zone is unknown.
    """
    bars = _bars(registry, answer, facts, law)
    expires = _expiry(registry, answer, facts)
    at = facts.at
    while facts.places and at < min(expires, facts.at + _HORIZON):
        ends = bars.until(at)
        if not ends:
            return at
        at = ends
    return 0
