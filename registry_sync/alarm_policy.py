"""Alarms about the packages and consultations of a registry that answers queries.

All functions are pure.
"""

from collections.abc import Iterator

from dialgate.core import local_time
from dialgate.core.model import DAY, HOUR, Instant
from registry_sync.config import QueriedRegistry
from registry_sync.import_checks import utc
from registry_sync.query_budget import Forecast
from registry_sync.query_packages import OPEN, Package
from registry_sync.run_report import Kind


def is_resting(package: Package, settings: QueriedRegistry, now: Instant) -> bool:
    """Return whether it is too early to resubmit the numbers from a refused package."""
    return package.state == "refused" and now - package.ended_at < settings.refused_hours * HOUR


def is_awaited(package: Package, settings: QueriedRegistry, now: Instant) -> bool:
    """Return whether an answer is still expected: the package is submitted, is not overdue and has no fault."""
    overdue = now - package.submitted_at > settings.answer_hours * HOUR
    return package.state == "submitted" and not package.fault and not overdue


def package_alarms(package: Package, settings: QueriedRegistry, now: Instant) -> Iterator[tuple[Kind, str]]:
    if package.state == "refused" and is_resting(package, settings, now):
        yield "package_refused", f"{package.id}: the registry refused it: {package.fault}"
    if package.state == "expired" and now - package.ended_at < settings.give_up_hours * HOUR:
        yield "package_expired", f"{package.id}: no valid answer arrived; its numbers will be submitted again"
    if package.fault not in {"", "held"} and package.state in OPEN:
        yield "answer_faulty", package.fault
    if package.state == "submitted" and now - package.submitted_at > settings.answer_hours * HOUR:
        since = utc(package.submitted_at)
        yield "answer_overdue", f"{package.id} was submitted at {since} and has no answer yet"


def consultation_alarms(
    newest: Instant, settings: QueriedRegistry, now: Instant, *, under_way: bool
) -> Iterator[tuple[Kind, str]]:
    """Yield an alarm if the last consultation is too old, and another if the enrolment will lapse soon.

    `newest` is the time of the last consultation, or 0. L. 5/2018 art. 1 c. 12 requires a consultation every month.
    While a consultation is `under_way`, the first alarm is not raised. Under DPR 26/2022 art. 5 c. 2 the operator's
    enrolment lapses 12 months after the last consultation, even if the stored answers are still valid.
    """
    since = (
        f"the newest consultation is from {utc(newest)}" if newest else "there has been no consultation yet"
    )
    if now - newest > settings.consultation_days * DAY and not under_way:
        yield "no_consultation", f"{since}: the law requires one every {settings.consultation_days} days"
    lapses = newest + settings.enrolment_days * DAY
    if newest and now > lapses - settings.enrolment_warning_days * DAY:
        yield "enrolment_lapsing", f"{since}: the registry cancels this operator's enrolment at {utc(lapses)}"


def band_alarms(forecast: Forecast, zone: str) -> Iterator[tuple[Kind, str]]:
    """Yield an alarm if the tariff's band does not suffice for the call lists of the year."""
    if forecast.limit_reached_at:
        day = local_time.day_in(zone, forecast.limit_reached_at)
        need = f"your call lists need {forecast.year_needed:,} numbers this year"
        band = f"numbers_a_year is {forecast.year_limit:,} and ends on {day}"
        yield (
            "band_short",
            f"{need}; {band}. Choose a larger band, or retire call lists that you no longer use",
        )
