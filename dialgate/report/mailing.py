"""The reports that a gate sends by mail after each day, week or month.

A report is sent at least once: an attempt that failed, or that ended with the gate, is repeated. The mail server can then have got it
twice if the gate or the connection ended before the gate had stored the server's answer; both mails have the same Message-ID.
The exception is a report that fails while a later one of its schedule is sent: it is given up.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import takewhile
from secrets import token_hex
from typing import Annotated, Final

import structlog
from msgspec import Struct, structs

from dialgate.config.configuration import Config
from dialgate.config.report_mail import ReportMail, ReportSchedule
from dialgate.core.faults import Unavailable
from dialgate.core.local_time import hour_in, rfc3339
from dialgate.core.model import HOUR, MINUTE, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import OptionalTimestamp
from dialgate.ledger.schemas import described
from dialgate.observability.metrics import Metrics
from dialgate.report import PERIODS, Period
from dialgate.report.mail import MailOrder, send_report, summary
from dialgate.runtime.own_process import run_apart
from dialgate.store import OfficerDocuments
from dialgate.store.report_mails import ReportDelivery

_RETRY: Final = 15 * MINUTE
_LONGEST: Final = 50 * MINUTE  # for one report, shorter than the hour for which no other gate sends it
_MOST_PERIODS: Final = 7  # that are sent later, after the mail server or the gate was away
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


def due_periods(schedule: ReportSchedule, zone: str, now: Instant, sent: ReportDelivery) -> list[Period]:
    """Return the complete periods of which no report was sent, the oldest first.

    They are among the last seven, and end after the last period that was sent. If none was sent yet, it is the last one.
    """
    ended = _ended(schedule, zone, now)
    if not sent.until:
        return [next(ended)]
    # The end of a period that was sent is later in another time zone, so its name is compared, too.
    missed = takewhile(lambda period: period.until > sent.until and period.name != sent.period, ended)
    return list(missed)[::-1]


def _ended(schedule: ReportSchedule, zone: str, now: Instant) -> Iterator[Period]:
    """Yield the last periods that are to be sent by `now`, the newest first."""
    date, hour = hour_in(zone, now)
    if hour < schedule.hour:
        date -= timedelta(days=1)
    read, form = PERIODS[schedule.period]
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
        self._unstored: tuple[ReportDelivery, ReportDelivery] | None = None  # a claim, and what replaces it

    async def scheduled(self, controllers: Collection[str]) -> list[ScheduledReport]:
        """Return the reports about these controllers. Raises `StoreUnavailable`."""
        mail = self._config().settings.mail
        sent = await self._store.report_deliveries() if mail else {}
        return [
            _describe(schedule, _delivery(sent, schedule))
            for schedule in (mail.reports if mail else ())
            if schedule.controller in controllers
        ]

    def tick(self, now: Instant) -> asyncio.Task[None] | None:
        """Begin to send what is due, and return the task. Whether something is due is checked once a minute."""
        config, is_busy = self._config(), self._task is not None and not self._task.done()
        if config.settings.mail is None or is_busy or abs(now - self._checked) < MINUTE:
            return None
        self._checked = now
        self._task = asyncio.create_task(self._send_due(config, config.settings.mail, now))
        return self._task

    async def _send_due(self, config: Config, mail: ReportMail, now: Instant) -> None:
        try:
            await self._store_result()
            sent = await self._store.report_deliveries()
            for schedule in mail.reports:
                delivery = _delivery(sent, schedule)
                if now >= delivery.retry_at:
                    zone = config.laws[config.controllers[schedule.controller].country].zone
                    await self._send_missed(
                        config, schedule, delivery, due_periods(schedule, zone, now, delivery)
                    )
        except Unavailable as fault:
            _log.warning("reports wait for the store", problem=str(fault))

    async def _send_missed(
        self, config: Config, schedule: ReportSchedule, delivery: ReportDelivery, periods: list[Period]
    ) -> None:
        """Send the report of each period, unless another gate does, and store the results. Raises `StoreUnavailable`.

        After a failure the next one is tried. If that is sent, the one that failed is given up, and its problem is shown.
        """
        failure = ""  # of the oldest that was not sent
        for period in periods:
            token = delivery.token or token_hex(16)
            claim = structs.replace(delivery, token=token, retry_at=self._clock() + HOUR)
            self._unstored = claim, structs.replace(claim, retry_at=0)
            if not await self._store.change_report_delivery(delivery, claim):
                self._unstored = None
                return
            result = await self._send(config, schedule, claim, period)
            if result.period == period.name:
                problem, failure = "; ".join(filter(None, (failure, result.problem))), ""
            else:
                problem = failure = failure or f"{period.name}: {result.problem}"
            delivery = structs.replace(result, problem=problem)
            self._unstored = claim, delivery
            await self._store_result()

    async def _send(
        self, config: Config, schedule: ReportSchedule, claim: ReportDelivery, period: Period
    ) -> ReportDelivery:
        """Try to send a report, and return the result."""
        mail, name, began = config.settings.mail, schedule.name, self._clock()
        assert mail is not None
        message = f"<{period.name}.{claim.token}@{mail.sender.partition('@')[2]}>"
        order = MailOrder(schedule=schedule, period=period, made_at=began, message=message)
        log = _log.bind(report=name, period=period.name)
        try:
            async with asyncio.timeout(_LONGEST / SECOND):
                refused = await run_apart(partial(send_report, config, order))
        except (Refused, Unavailable, TimeoutError) as error:
            problem = str(error) or f"it took longer than {_LONGEST // MINUTE} minutes"
            # Without the problem, because a server's answer can contain addresses.
            log.warning(
                "report by mail failed: see `dialgate report --scheduled`", error=type(error).__name__
            )
        except Exception as error:  # no process can start, for example; the other reports are still tried
            problem = f"{type(error).__name__}: {error}; see the gate's service log for the details"
            log.exception("report by mail failed")
        else:
            log.info("report sent by mail", refused=len(refused))
            self._metrics.report_mails.labels(name, "sent").inc()
            return structs.replace(
                claim, period=period.name, until=period.until, sent_at=self._clock(), retry_at=0, problem=summary(refused)
            )  # fmt: skip
        self._metrics.report_mails.labels(name, "failed").inc()
        return structs.replace(claim, retry_at=self._clock() + _RETRY, problem=problem)

    async def _store_result(self) -> None:
        """Store the result of the last attempt, unless another gate has claimed the report since. Raises `StoreUnavailable`."""
        if self._unstored is not None:
            await self._store.change_report_delivery(*self._unstored)
            self._unstored = None

    async def close(self) -> None:
        """Break off a report that is being sent. The next gate sends it again at once."""
        if self._task is not None and self._task.cancel():
            await asyncio.wait([self._task])
        with suppress(Unavailable):
            await self._store_result()


def _delivery(sent: Mapping[str, ReportDelivery], schedule: ReportSchedule) -> ReportDelivery:
    key = f"{schedule.controller}/{schedule.name}"  # so another controller never sees it, even under the same name
    return sent.get(key, ReportDelivery(schedule=key))


def _describe(schedule: ReportSchedule, sent: ReportDelivery) -> ScheduledReport:
    return copy_fields(
        schedule,
        ScheduledReport,
        last=sent.period,
        sent_at=rfc3339(sent.sent_at) if sent.sent_at else "",
        problem=sent.problem,
    )
