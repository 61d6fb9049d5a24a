"""One run that queries a registry about one controller's numbers (Italy: DPR 26/2022 art. 8).

Each step is durable before the next one starts:

1. finish submissions that an earlier run started;
2. collect and verify replies, publish the answers, and record the result in the packages;
3. pack and submit the numbers that are due.

After a crash at any point, the next run continues from there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from dialgate.core.model import DAY, HOUR, Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.lists import release_holds
from dialgate.lists.number_set import distinct
from dialgate.lists.snapshot import Consultation
from dialgate.store import Ledger
from registry_sync import (
    alarm_policy,
    answer_merge,
    disconnection,
    import_checks,
    ledger_consents,
    publication,
    query_budget,
    query_schedule,
)
from registry_sync.answer_merge import ChangeCounts, PublishedAnswers
from registry_sync.config import Plan, QueriedRegistry
from registry_sync.formats.text import Numbers, Progress
from registry_sync.gate_requests import BatchRefused, Enrolment, gate_address, void_consents
from registry_sync.import_checks import ImportRefused, utc
from registry_sync.publication import PublishTarget
from registry_sync.query_candidates import Planned
from registry_sync.query_packages import OPEN, REQUEST, Package, PackageStore
from registry_sync.query_replies import QueryReply, ReplyCollector
from registry_sync.query_schedule import Terms
from registry_sync.run_report import Alarm, Kind, Summary
from registry_sync.sources import Source, SourceFailed


class QueryContext(NamedTuple):
    """Everything that a cycle needs.

    - `wanted` contains the numbers on call lists that may be called soon, sorted.
    - `planned` contains the numbers on all call lists that may be called, with when each list is due.
    - `consents` contains the time of the newest consent of each number in `wanted`. It is None if the registry does not
      report disconnections.
    - `retention_at` is the time at which retention periods are evaluated.
    """

    plan: Plan
    settings: QueriedRegistry
    packages: PackageStore
    target: PublishTarget
    store: Ledger
    keys: Keys
    wanted: Numbers
    planned: tuple[Planned, ...]
    consents: disconnection.Instants | None
    retention_at: Instant
    clock: Callable[[], Instant]
    progress: Progress


class QueryCycle:
    def __init__(self, context: QueryContext) -> None:
        self._context, self._settings, self._packages = context, context.settings, context.packages
        self._replies = ReplyCollector(context.settings, context.packages, context.clock, self._alarm)
        self._alarms: list[Alarm] = []
        self._current: PublishedAnswers | None = None
        self._soon_submitted = np.empty(0, np.uint64)  # due, and submitted by the next run at the latest
        self._dry = False
        self._summary = Summary(registry=context.settings.registry, controller=context.settings.controller)
        look_ahead = int(context.settings.look_ahead_hours * HOUR)
        listed_again = context.settings.listed_again_days * DAY
        plan, validity = context.plan, context.plan.validity[context.settings.registry]
        if plan.gate.controllers[context.settings.controller].consent_after_listing:
            listed_again = validity - look_ahead  # such a consent opens a call, so answers must be fresh
        self._terms = Terms(validity, look_ahead, listed_again)
        self._zone = plan.zones[context.settings.registry]  # in whose calendar year the tariff counts
        self._next_run = int(plan.registries.next_run_hours * HOUR)

    async def run(self, source: Source, *, dry: bool = False) -> Summary:
        """Run all steps. With `dry`, only fetch and verify replies, and count what would be done.

        Raises Refused, FaultyFile, DamagedFile, OSError and StoreUnavailable. Completed steps remain in
        effect.
        """
        self._dry = dry
        if not dry:
            settings = self._settings
            self._packages.tidy(self._context.retention_at, settings.files_days, settings.receipts_days)
            await self._attempt(self._finish_submissions, source)
        await self._attempt(self._collect, source)
        if not dry:
            self._expire_packages()
        chosen = self._choose_due()
        if dry:
            self._add(submitted=len(chosen))
        elif len(chosen):
            await self._attempt(lambda source: self._submit_new(chosen, source), source)
        self._evaluate()
        return msgspec.structs.replace(self._summary, alarms=tuple(self._alarms))

    async def _attempt(self, step: Callable[[Source], Awaitable[None]], source: Source) -> None:
        """Run one step. If the source fails, raise an alarm and let the next step run."""
        try:
            await step(source)
        except SourceFailed as failed:
            self._alarm("source_failed", str(failed))

    def _alarm(self, kind: Kind, text: str) -> None:
        alarm = self._summary.alarm(kind, text)
        if alarm not in self._alarms:
            self._alarms.append(alarm)

    def _read_old(self) -> PublishedAnswers:
        if self._current is None:
            registry, controller = self._settings.registry, self._settings.controller
            self._current = publication.read_current(self._context.target.folder, registry, controller)
        return self._current

    def _add(self, **counts: int) -> None:
        sums = {name: getattr(self._summary, name) + count for name, count in counts.items()}
        self._summary = msgspec.structs.replace(self._summary, **sums)

    # ---- submitting --------------------------------------------------------------------------------------------------

    async def _finish_submissions(self, source: Source) -> None:
        for package in self._packages.all():
            if package.state in {"prepared", "uploaded"}:
                await self._submit(package, source)

    async def _submit(self, package: Package, source: Source) -> None:
        """Submit a package exactly once.

        In state `uploaded`, ask the source whether the registry already has the package.
        """
        file = self._packages.folder(package) / REQUEST
        if package.state == "prepared":
            await source.stage(package.file_name, file)
            package = self._packages.record(package, "uploaded", submitted_at=self._context.clock())
        if await source.is_staged(package.file_name):
            await source.hand_over(package.file_name, file)
        self._packages.record(package, "submitted")
        self._add(submitted=package.numbers)

    def _choose_due(self) -> Numbers:
        """Return the due numbers that the spending limits allow in this run, most urgent first."""
        packages = self._packages.all()
        now = self._context.clock()
        pending = [
            package
            for package in packages
            if package.state in OPEN
            or (alarm_policy.is_resting(package, self._settings, now) and self._packages.has_numbers(package))
        ]
        resting = np.append(self._packages.numbers(pending), self._without_data())
        due = query_schedule.select_due(self._context.wanted, resting, self._read_old(), self._terms, now)
        if self._context.consents is not None:
            due = self._with_consents(due, self._context.consents)
            due = due[~np.isin(due, resting)]
        self._add(due=len(due))
        begins = query_budget.year_begins(now, self._zone)
        budget = query_budget.read_budget(self._packages, self._read_old(), begins)
        affordable = query_budget.select_affordable(due, budget, self._settings)
        if len(due) > len(affordable):
            self._alarm(
                "spending_limit",
                f"{len(due):,} numbers are due and {len(affordable):,} may be submitted. Raise numbers_a_run,"
                " numbers_a_year or consultations_a_year, or call fewer numbers",
            )
        forecast = query_budget.forecast(self._context.planned, budget, self._settings.numbers_a_year)
        self._summary = msgspec.structs.replace(self._summary, **forecast._asdict())
        for kind, text in alarm_policy.band_alarms(forecast, self._zone):
            self._alarm(kind, text)
        newest = max((package.prepared_at for package in packages), default=0)
        next_submission = int(newest + self._settings.submit_every_hours * HOUR)
        if self._dry or now < next_submission <= now + self._next_run:
            self._soon_submitted = affordable
        return affordable if now >= next_submission else due[:0]

    def _with_consents(self, due: Numbers, consents: disconnection.Instants) -> Numbers:
        """Add numbers with an uncovered consent to `due`, and remove numbers that need no query.

        A number's newest consent is uncovered if the number's answer does not rule out a disconnection since that
        consent. A number that was disconnected after its newest consent needs no query.
        """
        wanted, known = self._context.wanted, self._read_old()
        unneeded = wanted[disconnection.find_unneeded(wanted, consents, known)]
        uncovered = wanted[disconnection.find_uncovered(wanted, consents, known)]
        changed: Numbers = np.setdiff1d(uncovered, due)
        due = np.append(due, changed)
        return due[~np.isin(due, unneeded)]

    def _without_data(self) -> Numbers:
        """Return the numbers about which the registry recently had no data.

        These numbers are queried again only after `listed_again_days`, like listed numbers.
        """
        layout, rest = self._settings.used_layout, self._settings.listed_again_days * DAY
        if not layout.unknown:
            return np.empty(0, np.uint64)
        answered = [
            package
            for package in self._packages.all()
            if package.state == "answered"
            and self._context.clock() - package.ended_at < rest
            and self._packages.has_numbers(package)
        ]
        return np.setdiff1d(self._packages.numbers(answered), self._read_old().numbers)

    async def _submit_new(self, chosen: Numbers, source: Source) -> None:
        size = self._settings.package_numbers
        advance = self._context.progress(f"submitting to {self._settings.registry}", len(chosen))
        for since, part in self._by_since(chosen):
            for begin in range(0, len(part), size):
                numbers = np.sort(part[begin : begin + size])
                await self._submit(self._packages.prepare(numbers, self._context.clock(), since), source)
                advance(len(numbers))

    def _by_since(self, chosen: Numbers) -> Iterator[tuple[Instant, Numbers]]:
        """Yield the numbers to submit, grouped by the day since which a disconnection counts.

        The day is given as an instant. If the registry does not report disconnections, yield one group with
        instant 0.
        """
        if self._context.consents is None:
            yield 0, chosen
            return
        consents = self._context.consents[np.searchsorted(self._context.wanted, chosen)]
        days = np.array([disconnection.last_day_before(at) for at in consents.tolist()], np.int64)
        for day in np.unique(days).tolist():
            yield day, chosen[days == day]

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def _collect(self, source: Source) -> None:
        if replies := await self._replies.collect(source):
            await self._publish(replies)

    async def _publish(self, replies: list[QueryReply]) -> None:
        with publication.lock_folder(self._context.target.folder):
            self._current = None
            registry, controller = self._settings.registry, self._settings.controller
            replied = np.concatenate([reply.answered.numbers for reply in replies])
            old = publication.read_current(
                self._context.target.folder, registry, controller, above=distinct(replied)
            )
            accepted = self._accept(replies, old)
            known = {consultation.id for consultation in old.contents.consultations}
            news = [reply.answered for reply in accepted if reply.answered.consultation.id not in known]
            merged, counts = answer_merge.merge(old, news)
            self._add(newly_listed=counts.newly_listed, newly_clear=counts.newly_clear)
            if self._dry:
                self._add(answered=sum(len(answered.numbers) for answered in news))
                return
            if news:
                version = publication.publish_answers(
                    self._context.target, merged, self._context.clock()
                ).version
                self._summary = msgspec.structs.replace(self._summary, published=version)
        if not accepted:
            return
        listed_numbers = [reply.answered.numbers[reply.answered.listed] for reply in accepted]
        holders = np.empty(0, np.uint64)
        if self._settings.registry in self._context.plan.voiding:
            all_listed = distinct(np.concatenate(listed_numbers))
            holders = await ledger_consents.find_consent_holders(
                self._context.store, self._context.keys, self._settings.controller, all_listed
            )
        refused = None
        for reply, listed in zip(accepted, listed_numbers, strict=True):
            try:
                await self._finish(reply, np.intersect1d(listed, holders))
            except BatchRefused as error:  # the next run repeats this package
                refused = refused or error
        if refused is not None:
            raise refused

    def _accept(self, replies: list[QueryReply], old: PublishedAnswers) -> list[QueryReply]:
        """Return the replies that can be published or were already published.

        Two people must release a reply if it changes more than `max_change` % of the earlier answers for its numbers.
        A reply with fewer than `import_checks.FEW` earlier answers is exempt. If all replies together exceed the
        limit, no reply is exempt.
        """
        counts = [answer_merge.count_changes(old, reply.answered) for reply in replies]
        known = sum(count.known for count in counts)
        changed = sum(count.newly_listed + count.newly_clear for count in counts)
        is_excessive = bool(import_checks.answer_change_problem(changed, known, self._settings.max_change))
        minimum = 1 if is_excessive else import_checks.FEW
        return [
            reply
            for reply, count in zip(replies, counts, strict=True)
            if self._is_accepted(reply, old, count, minimum)
        ]

    def _is_accepted(self, reply: QueryReply, old: PublishedAnswers, count: ChangeCounts, least: int) -> bool:
        package, new = reply.package, reply.answered.consultation
        try:
            # Each query has its own receipt, so an answer with the same text as an earlier one is not that old answer.
            if import_checks.already_imported(new, old.contents.consultations, same_answer=True):
                return True
            others = publication.other_consultations(
                self._context.target.folder, self._settings.registry, self._settings.controller
            )
            import_checks.refuse_foreign(new, others, same_answer=True)
            changed = count.newly_listed + count.newly_clear
            why = import_checks.answer_change_problem(changed, count.known, self._settings.max_change, least)
            if why and not self._dry:
                why = f"{package.id}: {why}"
                release_holds.require_release(
                    self._context.target.folder, self._subject(new), why, self._context.clock()
                )
        except release_holds.ReleaseRequired as held:
            self._alarm("held", str(held))
            self._packages.record(package, package.state, "held")
        except (ImportRefused, Refused) as refused:
            # Without `receipt` the next run reads the receipt file again, which may have been corrected.
            self._packages.record(package, package.state, str(refused), receipt="")
        else:
            return True
        return False

    def _subject(self, consultation: Consultation) -> tuple[str, ...]:
        return self._settings.registry, self._settings.controller, consultation.id

    async def _finish(self, reply: QueryReply, holders: Numbers) -> None:
        """After publication, void consents and close the package.

        This step is idempotent, because it is repeated after a crash. `holders` contains the listed numbers whose
        consents are voided.
        """
        consultation = reply.answered.consultation
        enrolment = Enrolment(
            controller=self._settings.controller,
            registry=self._settings.registry,
            listed_by=consultation.listed_by,
            receipt=consultation.receipt,
            numbers=holders.tolist(),
        )
        context, now = self._context, self._context.clock()
        voided = await asyncio.to_thread(void_consents, gate_address(context.plan.gate.data), enrolment)
        self._packages.record(reply.package, "answered", ended_at=now, consultation=consultation.id)
        release_holds.remove_hold(context.target.folder, self._subject(consultation))
        self._add(voided=voided, answered=len(reply.answered.numbers))

    # ---- alarms ------------------------------------------------------------------------------------------------------

    def _expire_packages(self) -> None:
        now, settings = self._context.clock(), self._settings
        for package in self._packages.all():
            age = now - package.submitted_at
            if package.state == "submitted" and age > settings.give_up_hours * HOUR:
                self._packages.record(package, "expired", ended_at=now, fault=package.fault)

    def _evaluate(self) -> None:
        """Complete the summary and raise alarms."""
        now = self._context.clock()
        packages = self._packages.all()
        for package in packages:
            for kind, text in alarm_policy.package_alarms(package, self._settings, now):
                self._alarm(kind, text)
        published = self._read_old()
        consultations = published.contents.consultations
        newest = max((consultation.submitted_at for consultation in consultations), default=0)
        self._summary = msgspec.structs.replace(
            self._summary,
            consulted_at=newest,
            numbers=len(published.numbers),
            waiting=sum(package.state in OPEN for package in packages),
        )
        awaited = [package for package in packages if alarm_policy.is_awaited(package, self._settings, now)]
        self._check_expiring(awaited, now + self._next_run)
        under_way = bool(awaited) or (self._dry and len(self._soon_submitted) > 0)
        for kind, text in alarm_policy.consultation_alarms(newest, self._settings, now, under_way=under_way):
            self._alarm(kind, text)

    def _check_expiring(self, awaited: list[Package], before: Instant) -> None:
        """Raise an alarm if answers expire before `before` and no new query for them is under way."""
        expiring = query_schedule.select_expiring(self._context.wanted, self._read_old(), self._terms, before)
        if len(expiring):
            under_way = [self._packages.numbers(awaited), self._soon_submitted, self._without_data()]
            expiring = np.setdiff1d(expiring, np.concatenate(under_way))
        if len(expiring):
            text = f"{len(expiring):,} numbers on call lists have no answer valid until {utc(before)}"
            self._alarm("expiring", f"{text}, and no query for them is under way")
