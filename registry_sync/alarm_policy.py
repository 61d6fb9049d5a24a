"""When a person must look at a registry that answers: at one package of it, or at the whole. Pure."""

from collections.abc import Iterator

from dialgate.core.model import DAY, HOUR, Instant
from registry_sync.config import Asked
from registry_sync.import_checks import utc
from registry_sync.query_packages import OPEN, Package
from registry_sync.run_report import Kind


def rests(package: Package, asked: Asked, now: Instant) -> bool:
    """Refused a while ago: what was wrong with it may not have been mended yet."""
    return package.state == "refused" and now - package.ended_at < asked.refused_hours * HOUR


def awaited(package: Package, asked: Asked, now: Instant) -> bool:
    """Handed over, in time to be answered, and nothing is known against it."""
    overdue = now - package.submitted_at > asked.answer_hours * HOUR
    return package.state == "submitted" and not package.fault and not overdue


def faults(package: Package, asked: Asked, now: Instant) -> Iterator[tuple[Kind, str]]:
    if package.state == "refused" and rests(package, asked, now):
        yield "package_refused", f"{package.id}: the registry refused it: {package.fault}"
    if package.state == "expired" and now - package.ended_at < asked.give_up_hours * HOUR:
        yield "package_expired", f"{package.id}: no good answer came; its numbers are asked about again"
    if package.fault not in {"", "held"} and package.state in OPEN:
        yield "answer_faulty", package.fault
    if package.state == "submitted" and now - package.submitted_at > asked.answer_hours * HOUR:
        since = utc(package.submitted_at)
        yield "answer_overdue", f"{package.id} was submitted at {since} and is not answered"


def standing(newest: Instant, asked: Asked, now: Instant, *, under_way: bool) -> Iterator[tuple[Kind, str]]:
    """L. 5/2018 art. 1 c. 12: monthly; one that is `under_way` is submitted and awaited. DPR 26/2022 art. 5 c. 2:
    enrolment lapses 12 months after the last consultation, while answers that are still held look healthy."""
    since = f"the newest consultation is of {utc(newest)}" if newest else "there never was a consultation"
    if now - newest > asked.consultation_days * DAY and not under_way:
        yield "no_consultation", f"{since}: the law asks for one every {asked.consultation_days} days"
    lapses = newest + asked.enrolment_days * DAY
    if newest and now > lapses - asked.enrolment_warning_days * DAY:
        yield "enrolment_lapsing", f"{since}: the registry strikes this operator off at {utc(lapses)}"
