"""The reports that a gate sends by mail after each day, week or month.

A report is sent at least once: an attempt that failed, or that ended with the gate, is repeated. The mail server has then got it
twice only if the gate ended between the server's answer and the write to the store; both mails have the same Message-ID.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from email.utils import make_msgid
from functools import partial
from itertools import takewhile
from typing import Annotated, Final

import structlog
from msgspec import Struct, structs

from dialgate.config.configuration import Config
from dialgate.config.report_mail import ReportMail, ReportSchedule
from dialgate.core.faults import Unavailable
from dialgate.core.local_time import hour_in, rfc3339
from dialgate.core.model import HOUR, MINUTE, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.text_formats import OptionalTimestamp
from dialgate.ledger.schemas import described
from dialgate.observability.metrics import Metrics
from dialgate.report import Period, day, month, week
from dialgate.report.mail import MailOrder, send_report
from dialgate.runtime.own_process import run_apart
from dialgate.store import OfficerDocuments
from dialgate.store.report_mails import ReportDelivery

_RETRY: Final = 15 * MINUTE
_LONGEST: Final = 50 * MINUTE  # for one report, shorter than the hour for which no other gate sends it
_MOST_PERIODS: Final = 7  # that are sent later, after the mail server or the gate was away
_FORMS: Final = {"day": (day, "%Y-%m-%d"), "week": (week, "%G-W%V"), "month": (month, "%Y-%m")}
_log = structlog.get_logger(__name__)


class ScheduledReport(Struct, frozen=True, kw_only=True):
    """A report that the gate sends by mail, and the last one that it sent."""

    name: str
    controller: str
    report: str
    period: str
    language: str
    recipients: tuple[str, ...]
    last: Annotated[str, described("Day, week or month of the last report that was sent.")] = ""
    sent_at: OptionalTimestamp = ""
    problem: Annotated[str, described("Why the next one, or a recipient of the last, did not get it.")] = ""


def due_period(schedule: ReportSchedule, zone: str, now: Instant, until: Instant) -> Period | None:
    """Return the oldest complete period that ends after `until`, the end of the last one that was sent, or None.

    It is one of the last seven. If none was sent yet, it is the last one.
    """
    periods = list(takewhile(lambda period: period.until > until, _ended(schedule, zone, now)))
    return periods[-1 if until else 0] if periods else None


def _ended(schedule: ReportSchedule, zone: str, now: Instant) -> Iterator[Period]:
    """Yield the last periods that are to be sent by `now`, the newest first."""
    date, hour = hour_in(zone, now)
    if hour < schedule.hour:
        date -= timedelta(days=1)
    read, form = _FORMS[schedule.period]
    for _ in range(_MOST_PERIODS):
        first = date.replace(day=1) if schedule.period == "month" else date
        date = first - timedelta(days=7 if schedule.period == "week" else 1)
        yield read(date.strftime(form), zone)


class ReportMailing:
    def __init__(
        self,
        store: OfficerDocuments,
        config: Callable[[], Config],
        clock: Callable[[], Instant],
        metrics: Metrics,
    ) -> None:
        self._store, self._config, self._clock, self._metrics = store, config, clock, metrics
        self._checked: Instant = 0
        self._task: asyncio.Task[None] | None = None

    async def scheduled(self, controllers: Collection[str]) -> list[ScheduledReport]:
        """Return the reports about these controllers. Raises `StoreUnavailable`."""
        mail = self._config().settings.mail
        sent = await self._store.report_deliveries() if mail else {}
        return [
            _describe(schedule, sent.get(schedule.name, ReportDelivery(schedule=schedule.name)))
            for schedule in (mail.reports if mail else ())
            if schedule.controller in controllers
        ]

    def tick(self, now: Instant) -> asyncio.Task[None] | None:
        """Begin to send what is due, and return the task. Whether something is due is checked once a minute."""
        mail, is_busy = self._config().settings.mail, self._task is not None and not self._task.done()
        if mail is None or is_busy or abs(now - self._checked) < MINUTE:
            return None
        self._checked = now
        self._task = asyncio.create_task(self._send_due(mail, now))
        return self._task

    async def _send_due(self, mail: ReportMail, now: Instant) -> None:
        config = self._config()
        try:
            sent = await self._store.report_deliveries()
            for schedule in mail.reports:
                before = sent.get(schedule.name, ReportDelivery(schedule=schedule.name))
                zone = config.laws[config.controllers[schedule.controller].country].zone
                period = due_period(schedule, zone, now, before.until)
                if period is not None and now >= before.retry_at:
                    await self._send(config, schedule, before, period)
        except Unavailable as fault:
            _log.warning("reports wait for the store", problem=str(fault))

    async def _send(
        self, config: Config, schedule: ReportSchedule, before: ReportDelivery, period: Period
    ) -> None:
        """Send a report, unless another gate does, and store the result. Raises `StoreUnavailable`."""
        mail, now = config.settings.mail, self._clock()
        assert mail is not None
        message = before.message
        if f".{period.name}@" not in message:
            message = make_msgid(period.name, mail.sender.partition("@")[2])
        claim = structs.replace(before, message=message, retry_at=now + HOUR)
        if not await self._store.change_report_delivery(before, claim):
            return
        order = MailOrder(schedule=schedule, period=period, made_at=now, message=message)
        try:
            async with asyncio.timeout(_LONGEST / SECOND):
                problem = await run_apart(partial(send_report, config, order))
        except (Refused, Unavailable, TimeoutError) as error:
            problem = str(error) or f"it took longer than {_LONGEST // MINUTE} minutes"
            after = structs.replace(claim, retry_at=self._clock() + _RETRY, problem=problem)
        else:
            after = ReportDelivery(
                schedule=schedule.name, period=period.name, until=period.until, sent_at=self._clock(), problem=problem
            )  # fmt: skip
        log = _log.warning if problem else _log.info
        log("report by mail", report=schedule.name, period=period.name, problem=problem)
        self._metrics.report_mails.labels(schedule.name, "sent" if after.sent_at >= now else "failed").inc()
        await self._store.change_report_delivery(claim, after)

    async def close(self) -> None:
        """Break off a report that is being sent. It is sent again."""
        if self._task is not None and self._task.cancel():
            await asyncio.wait([self._task])


def _describe(schedule: ReportSchedule, sent: ReportDelivery) -> ScheduledReport:
    return ScheduledReport(
        name=schedule.name,
        controller=schedule.controller,
        report=schedule.report,
        period=schedule.period,
        language=schedule.language,
        recipients=schedule.recipients,
        last=sent.period,
        sent_at=rfc3339(sent.sent_at) if sent.sent_at else "",
        problem=sent.problem,
    )
