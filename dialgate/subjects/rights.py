"""Data subjects' rights: access, portability, rectification, erasure (GDPR 15 to 20).

Each request has a deadline (GDPR 12(3)) and applies to one controller. Each look-up is recorded before any
data is shown.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import msgspec
import structlog
from msgspec import structs

from dialgate.audit.legal_holds import Holds
from dialgate.audit.lookups import LookupFilter, LookupLine, Lookups, lookup_order
from dialgate.audit.response_slots import whole_slots
from dialgate.cluster.peer_questions import FindLookups, FindPersonalData
from dialgate.cluster.peers import Peers
from dialgate.cluster.personal_data import CaseInfo, DecisionLine, Share, merge_shares
from dialgate.cluster.shared_holds import SharedHolds
from dialgate.config import decision_retention
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import Entry
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, HOUR, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Executed
from dialgate.core.struct_copies import copy_fields
from dialgate.decision_log.chains import Chains
from dialgate.ledger import bulk_import
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import LedgerRequest
from dialgate.runtime.instants import KeptInstants
from dialgate.runtime.own_process import run_apart
from dialgate.store.proof_files import ProofFiles
from dialgate.store.subjects import SubjectStore
from dialgate.subjects import breach, erasure, inventory
from dialgate.subjects.attachments import Attachments
from dialgate.subjects.cluster_erasure import ClusterErasure
from dialgate.subjects.consent_proofs import ConsentProofs
from dialgate.subjects.deadlines import Deadlines
from dialgate.subjects.expiry import Removal, RetentionRun
from dialgate.subjects.inventory import Person
from dialgate.subjects.removal_records import RemovalRecord, RemovalRecords
from dialgate.subjects.schemas import CaseRequest, Portable, RectificationRequest, Rectified, Report

_REMOVED = "retention done"
_log = structlog.get_logger(__name__)


class Subjects:
    def __init__(self, registrar: Registrar, peers: Peers) -> None:
        access = registrar.access
        self._registrar, self._keys, self._store = registrar, access.keys, access.store
        self._clock, self._metrics = access.clock, access.metrics
        self._file = SubjectStore.open(registrar.config.data / "subjects.db")
        self._removing: asyncio.Task[None] | None = None
        self._problem = ""
        self.peers = peers
        self.holds = SharedHolds(Holds(registrar.config.data, self._keys), self._keys, self._store)
        self.lookups = Lookups(self._file, self._keys, self._clock, self._metrics)
        self.deadlines = Deadlines(self._file, self._keys, self._clock)
        self.removals = RemovalRecords(registrar.config.data)
        self.attachments = Attachments(self._file, self._keys, self.deadlines)
        files = ProofFiles(registrar.config.data, self._keys)
        self.proofs = ConsentProofs(files, self._keys, self._store, self._file, peers)
        self.erasing = ClusterErasure(
            registrar=registrar,
            keys=self._keys,
            store=self._store,
            clock=self._clock,
            file=self._file,
            deadlines=self.deadlines,
            holds=self.holds,
            peers=self.peers,
            share=self.share,
        )

    @property
    def config(self) -> Config:
        return self._registrar.config

    async def close(self) -> None:
        if self._removing is not None:
            await self._removing
        await self.peers.close()
        await self._file.close()

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def look_up(
        self, client: Client, controller: str, number: str, what: str, purpose: str
    ) -> tuple[str, str]:
        """Record a look-up. This is required before reading a number's data.

        Return the controller's id and the number in E.164. Raises `Refused`, `TooManyLookups` and
        `StoreUnavailable`.
        """
        owner, e164 = self._registrar.access.person(client, controller, number)
        await self.lookups.record(client, self.config.settings, owner.id, e164, what, purpose)
        return owner.id, e164

    async def record_lookup(
        self, client: Client, controller: str, e164: str, what: str, purpose: str
    ) -> None:
        """Record a look-up without the checks in `look_up`.

        An empty `controller` means all of the client's controllers.
        """
        for owner in client.controllers:
            if controller in {"", owner}:
                await self.lookups.record(client, self.config.settings, owner, e164, what, purpose)

    async def record_disclosure(self, client: Client, numbers: Iterable[str], purpose: str) -> None:
        """Record that evidence about these numbers is being disclosed.

        The per-client look-up limit does not apply.
        """
        asked = list(numbers)
        for owner in client.controllers:
            await self.lookups.record_disclosure(client, self.config.settings.node, owner, asked, purpose)

    async def find_lookups(self, wanted: LookupFilter) -> tuple[list[LookupLine], dict[str, str]]:
        """Return the look-ups on all gates that match, newest first, and why gates did not answer."""
        peers, own = await asyncio.gather(self.peers.ask(FindLookups(wanted)), self.lookups.search(wanted))
        lines = chain(own, *peers.answers.values())
        found = sorted(lines, key=lambda line: lookup_order(line.id), reverse=True)
        return found[: wanted.most], peers.missing

    async def record_simulation(self, client: Client, campaign: str, number: str) -> None:
        """Record a simulation as a look-up.

        A simulation shows data about a number, but is not in the decision log. A simulation with an invalid number or
        another client's campaign shows no data and is not recorded.
        """
        line = self.config.line_of(campaign, client)
        if line is not None:
            with suppress(phone.NotANumber):
                e164 = phone.parse(number, line.dial_region).e164
                settings, owner = self.config.settings, line.controller.id
                await self.lookups.record(client, settings, owner, e164, "simulation", f"campaign {campaign}")

    async def report(self, client: Client, controller: str, number: str, purpose: str) -> Report:
        """Return the access report (GDPR 15) with the data from all gates that share the store.

        The report includes the decisions that can still be linked to the number. Data from before a wrong-number report
        may be about an earlier holder of the number, and is left out (GDPR 15(4)), except the call that led to the report.
        """
        owner, e164 = await self.look_up(client, controller, number, "everything", purpose)
        peers, own = await asyncio.gather(
            self.peers.ask(FindPersonalData(owner, e164)), self.share(owner, e164)
        )
        history = await self._registrar.views.history(client, owner, e164)
        start, calls = inventory.new_holder(history)
        share = inventory.from_time(merge_shares([own, *peers.answers.values()]), start)
        decisions = await asyncio.to_thread(self._with_results, share.decisions)
        shown = [
            structs.replace(
                decision,
                id=self._registrar.ids.outside(decision.id, owner),
                reasons=self._registrar.ids.worded(decision.reasons),
            )
            for decision in decisions
        ]
        current = [decision for decision in shown if decision.at > start or decision.id in calls]
        file = self.config.controllers[owner]
        return copy_fields(
            share,
            Report,
            number=e164,
            controller=owner,
            controller_name=file.name,
            made_at=rfc3339(self._clock()),
            ledger=[entry for entry in history if entry.at >= start],
            restricted=[self._registrar.ids.with_entry_ids(entry) for entry in share.restricted],
            decisions=current,
            processors=file.processors,
            country=file.country,
            days_of_storage=_days(self.config, file.country, self._clock()),
            missing=peers.missing,
            holder_changed_at=start,
            profiling_campaigns=inventory.profiling_campaigns(
                self.config, owner, structs.replace(share, decisions=current)
            ),
            controller_contact=file.contact,
            officer=file.officer,
            zone=self.config.laws[file.country].zone,
        )

    def _with_results(self, decisions: list[DecisionLine]) -> list[DecisionLine]:
        """Add the results in this gate's logs and those that other gates shipped."""
        names = [decision.id for decision in decisions if decision.decision == "allow" or decision.shadow]
        chains = Chains(self.config.data, self.config.shipped)
        return inventory.add_results(decisions, chains.reports(names))

    async def share(self, controller: str, number: str) -> Share:
        """Return the data about a number (E.164) that only this gate has. Raises `StoreUnavailable`."""
        person = Person(self.config, controller, number, self._keys)
        subject = self._keys.subject(controller, number)
        known = (await self._store.read([subject])).known[0]
        lists = await self._store.lists()
        async with whole_slots(shared=self.config.shared):
            records = await asyncio.to_thread(inventory.records, person)
        return Share(
            restricted=[self._registrar.views.show(entry) for entry in await self._restricted(subject)],
            lists=await asyncio.to_thread(inventory.on_lists, person, lists),
            registries=await asyncio.to_thread(inventory.from_registries, person),
            decisions=inventory.decisions(records, known.attempts),
            lookups=await self.lookups.find(controller, number),
            requests=await self.deadlines.cases_of(subject),
            attachments=await self.attachments.find_of_subject(controller, subject),
            used=erasure.last_used(records, known.attempts),
            letters=await asyncio.to_thread(inventory.letters, person, self._registrar.dead_letters),
            retired_months=await asyncio.to_thread(person.inquiry.retired),
        )

    async def export_portable(self, client: Client, controller: str, number: str, purpose: str) -> Portable:
        """Return the data that the data subject provided (GDPR 20), from the last wrong-number report on."""
        owner, e164 = await self.look_up(client, controller, number, "portability", purpose)
        entries = await self._registrar.views.history(client, owner, e164)
        start, _ = inventory.new_holder(entries)
        details: dict[str, list[dict[str, Any]]] = {kind: [] for kind in bulk_import.KINDS}
        for entry in entries:
            if entry.kind in details and entry.at > start:
                details[entry.kind].append({"recorded_at": entry.at, **entry.details})
        return Portable(
            number=e164,
            controller=owner,
            controller_name=self.config.controllers[owner].name,
            made_at=rfc3339(self._clock()),
            consents=details["consent"],
            contracts=details["contract"],
            call_requests=details["call_request"],
        )

    async def was_erased(self, client: Client, request: LedgerRequest, since: Instant) -> bool:
        """Return whether a person's data were erased at or after a time. Raises `Refused` and `StoreUnavailable`."""
        owner, e164 = self._registrar.access.person(client, request.controller, request.number)
        history = await self._store.history(self._keys.subject(owner.id, e164))
        return any(entry.channel == "erasure" and entry.at >= since for entry in history)

    async def _restricted(self, subject: bytes) -> list[Entry]:
        return [row.unseal(self._keys.ledger) for row in await self._file.restricted(subject)]

    # ---- requests ----------------------------------------------------------------------------------------------------

    async def record_request(self, client: Client, number: str, ask: CaseRequest) -> CaseInfo:
        owner, e164 = self._registrar.access.person(client, ask.controller, number)
        return await self.deadlines.record_request(client, owner.id, e164, ask)

    # ---- rectification -----------------------------------------------------------------------------------------------

    async def rectify(self, client: Client, number: str, ask: RectificationRequest) -> Rectified:
        """Record a corrected ledger entry under the id of the wrong entry (GDPR 16).

        The corrected entry must pass the same checks as any new entry. The wrong entry stays in the history.
        The request stays open, for the answer to the person.
        """
        owner, e164 = self._registrar.access.person(client, ask.controller, number)
        subject = self._keys.subject(owner.id, e164)
        case = await self.deadlines.find_open(ask.request, "rectification", subject)
        of = self._registrar.ids.entry_seq(ask.of)
        entry = next((entry for entry in await self._store.history(subject) if entry.seq == of), None)
        wrong = self._registrar.views.show(entry) if entry is not None else None
        if wrong is None or wrong.kind not in bulk_import.KINDS:
            text = (
                "`of` must be the sequence of a consent, contract or call request for this number."
                " Withdrawals and ends cannot be corrected."
            )
            raise Refused("ledger.unknown", text, "of", 404)
        receipt = await self._registrar.consents.record(
            client, _corrected(wrong.kind, wrong.details, owner.id, e164, ask), rectifies=True
        )
        what = f"entry {self._registrar.ids.entry_id(of)} was rectified by entry {receipt.seq}"
        written = (self._registrar.ids.entry_seq(receipt.seq),)
        result = Executed(what=what, actor=client.actor(ask.actor), entries=written)
        await self.deadlines.add_step(case, result)
        return Rectified(request=ask.request, of=ask.of, receipt=receipt)

    async def exposure(self, span: breach.BreachPeriod, run: breach.Runner = run_apart) -> breach.Exposure:
        """Return the data that a stolen key or a compromised node exposed (GDPR 33).

        `run` reads the whole decision log for that in another process.
        """
        lookups = list(await self._file.lookups_between(span.start, span.end))
        client, streamed = breach.client_of(self.config, span), set[str]()
        if client is not None and "stream" in client.scopes:
            owners = [owner for owner in client.controllers if span.owns(owner)]
            streamed = await self._registrar.notices.numbers(tuple(owners))
        return await run(partial(breach.exposure, self.config, span, lookups, len(streamed)))

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def observe(self, now: Instant) -> None:
        """Copy legal holds, set the metrics for open requests and start the daily retention run. Call this at regular intervals.

        If the subject store is unavailable, decisions continue but look-ups are refused.
        """
        try:
            await self.deadlines.count(self._metrics, now)
            await self._file.maintain()
            if self.config.settings.storage.daily:
                await self._remove_daily(now)
            await self.holds.tick(now)
        except Unavailable as fault:
            if str(fault) != self._problem:  # log it once, not on every run
                _log.error("subject store unavailable", problem=str(fault))
            self._problem = str(fault)
        else:
            self._problem = ""

    async def _remove_daily(self, now: Instant) -> None:
        if self._removing is None and now - await self._file.last_run("retention") >= DAY:
            await self._file.note_job("retention", now)
            self._removing = asyncio.create_task(self._remove(now))
        removed = await self._file.last_run(_REMOVED)
        if not removed:  # the metric counts from the first start
            await self._file.note_job(_REMOVED, now)
        self._metrics.retention_age.set((now - removed) / SECOND if removed else 0)

    async def _remove(self, now: Instant) -> None:
        try:
            await self.retire(now, drop=True)
            await self._file.note_job(_REMOVED, now)
            self._metrics.retention_age.set(0)
        except (Unavailable, OSError) as fault:
            _log.error("retention failed; next attempt in an hour", problem=str(fault))
            with suppress(Unavailable):
                await self._file.note_job("retention", now + HOUR - DAY)
        finally:
            self._removing = None

    async def retire(self, now: Instant, *, drop: bool, actor: str = "") -> list[Removal]:
        """Count the data whose retention period is over. With `drop`, remove it before returning, and record what went.

        With `drop`, also finish erasures that a legal hold postponed.
        Raises `ClockJumped`, `OSError`, and the same errors as `SharedHolds.sync`.
        """
        if drop:
            await asyncio.to_thread(KeptInstants(self.config.data).refuse_jump, now)
        holds = await self.holds.sync()
        if drop:
            await self.erasing.finish_postponed(holds)
        run = RetentionRun(
            self.config, self._store, self._file, holds, self._registrar.dead_letters, self.proofs
        )
        removals = await run.run(now, drop=drop)
        if drop:
            for removal in removals:
                self._metrics.retired.labels(removal.kind).inc(removal.count)
            gone = [removal for removal in removals if removal.count]
            await asyncio.to_thread(
                self.removals.add, RemovalRecord(at=rfc3339(now), actor=actor, kinds=gone)
            )
        return removals


def _corrected(
    kind: str, details: dict[str, Any], controller: str, number: str, ask: RectificationRequest
) -> LedgerRequest:
    """Return a request that records the entry again, with the corrected fields. Raises `Refused`."""
    request_type = bulk_import.KINDS[kind]
    names = {name for name in request_type.__struct_fields__ if name not in _NOT_RECTIFIED}
    if not ask.fields or not ask.fields.keys() <= names:
        text = f"`fields` must contain one or more of: {', '.join(sorted(names))}."
        raise Refused("request.invalid", text, "fields")
    merged = {name: value for name, value in {**details, **ask.fields}.items() if name in {*names, "id"}}
    own = {
        "controller": controller,
        "number": number,
        "actor": ask.actor,
        "channel": "rectification",
        "proof": ask.proof or f"request:{ask.request}",
        "rectify": sorted(ask.fields),
    }
    try:
        return msgspec.convert(merged | own, request_type)
    except msgspec.ValidationError:
        text = "A value in `fields` has the wrong type. Write it as the history shows it."
        raise Refused("request.invalid", text, "fields") from None


_NOT_RECTIFIED = frozenset({"id", "number", "controller", "actor", "channel", "proof", "rectify"})


def _days(config: Config, country: str, now: Instant) -> dict[str, int]:
    decisions = decision_retention.days(config.settings.retention, config.laws, country, now)
    fields = structs.asdict(config.storage(now)) | {"decisions_days": decisions}
    return {name.removesuffix("_days"): days for name, days in fields.items() if name.endswith("_days")}
