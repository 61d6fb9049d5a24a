"""The rights of the person called: access, portability, rectification, erasure (GDPR 15 to 20), with a clock on each
request (GDPR 12(3)), and a record of whoever looked.

Every act is for one controller. What is shown is written down before it is shown.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import structlog
from msgspec import structs
from prometheus_client import CollectorRegistry

from dialgate.audit.legal_holds import Holds
from dialgate.audit.lookups import Lookups
from dialgate.cluster.peer_questions import FindPersonalData
from dialgate.cluster.peers import Peers
from dialgate.cluster.personal_data import CaseInfo, Share, merge_shares
from dialgate.cluster.shared_holds import SharedHolds
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import Entry
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, HOUR, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Answered
from dialgate.crypto.keys import Keys, nonces
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import CallRequestRequest, ConsentRequest, ContractRequest, LedgerRequest
from dialgate.observability.metrics import Metrics
from dialgate.runtime.instants import KeptInstants
from dialgate.store import Store, factory
from dialgate.store.sqlite_subjects import SubjectStore
from dialgate.subjects import breach, erasure, inventory
from dialgate.subjects.cluster_erasure import Erasing
from dialgate.subjects.deadlines import Deadlines
from dialgate.subjects.expiry import Removal, Retiring
from dialgate.subjects.inventory import Held
from dialgate.subjects.schemas import CaseRequest, Portable, RectificationRequest, Rectified, Report

_REQUESTS: dict[str, type[LedgerRequest]] = {
    "consent": ConsentRequest,
    "contract": ContractRequest,
    "call_request": CallRequestRequest,
}
_REMOVED = "retention done"
_log = structlog.get_logger(__name__)


class Subjects:
    def __init__(
        self,
        registrar: Registrar,
        keys: Keys,
        store: Store,
        clock: Callable[[], Instant],
        metrics: Metrics,
    ) -> None:
        self._registrar, self._keys, self._store = registrar, keys, store
        self._clock, self._metrics = clock, metrics
        self._file = SubjectStore.open(registrar.config.data / "subjects.db")
        self._nonces = nonces()
        self._removing: asyncio.Task[None] | None = None
        self._problem = ""
        self.peers = Peers(lambda: registrar.config, keys, store, clock)
        self.holds = SharedHolds(Holds(registrar.config.data, keys), keys, self.peers)
        self.lookups = Lookups(self._file, keys, clock, metrics)
        self.deadlines = Deadlines(self._file, keys, clock)
        self.erasing = Erasing(
            registrar=registrar,
            keys=keys,
            store=store,
            clock=clock,
            file=self._file,
            deadlines=self.deadlines,
            holds=self.holds,
            peers=self.peers,
            share=self.share,
        )

    @classmethod
    @asynccontextmanager
    async def beside(cls, config: Config, clock: Callable[[], Instant]) -> "AsyncIterator[Subjects]":
        """For use without a gate, beside one or in its absence. Raises `KeysUnusable`, `StoreUnavailable`."""
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = Keys.open(config.data / "keys.json")
        store = await factory.opened(config, keys, patience=5.0)
        metrics = Metrics(CollectorRegistry())
        try:
            registrar = Registrar(config, keys, store, clock, metrics)
            made = cls(registrar, keys, store, clock, metrics)
            try:
                yield made
            finally:
                await made.close()
                registrar.close_threads()
        finally:
            await store.close()

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
        """Whoever reads of a number comes by here. Returns the controller's id, and the number in E.164. Raises
        `Refused`, `TooManyLookups`, `StoreUnavailable`."""
        owner, e164 = self._registrar.access.person(client, controller, number)
        await self.lookups.note(client, self.config.settings, owner.id, e164, what, purpose)
        return owner.id, e164

    async def saw(self, client: Client, controller: str, e164: str, what: str, purpose: str) -> None:
        """Of each of the client's controllers, or of one, where no other checks have been made."""
        for owner in client.controllers:
            if controller in {"", owner}:
                await self.lookups.note(client, self.config.settings, owner, e164, what, purpose)

    async def disclosed(self, client: Client, numbers: Iterable[str], purpose: str) -> None:
        """Evidence about these numbers is to leave: an authority's list has as many as it has. Raises as `saw`."""
        asked = list(numbers)
        for owner in client.controllers:
            await self.lookups.disclosed(client, self.config.settings.node, owner, asked, purpose)

    def _held(self, controller: str, e164: str) -> Held:
        return Held(self.config, controller, e164, tuple(self._keys.hashes(e164).values()))

    async def simulated(self, client: Client, campaign: str, number: str) -> None:
        """A simulation tells what is known of a number and leaves no decision behind: it is a look-up. What is no number,
        or is asked for a campaign that is not the client's, tells nothing."""
        line = self.config.line_of(campaign, client)
        if line is not None:
            with suppress(phone.NotANumber):
                e164 = phone.parse(number, line.dial_region).e164
                settings, owner = self.config.settings, line.controller.id
                await self.lookups.note(client, settings, owner, e164, "simulation", f"campaign {campaign}")

    async def report(self, client: Client, controller: str, number: str, purpose: str) -> Report:
        """GDPR 15, by every gate on the store. The decision logs are read as far as they name the number."""
        owner, e164 = await self.look_up(client, controller, number, "everything", purpose)
        peers, own = await asyncio.gather(
            self.peers.ask(FindPersonalData(owner, e164)), self.share(owner, e164)
        )
        share = merge_shares([own, *peers.answers.values()])
        file = self.config.controllers[owner]
        return Report(
            number=e164,
            controller=owner,
            controller_name=file.name,
            made_at=rfc3339(self._clock()),
            ledger=await self._registrar.views.history(client, owner, e164),
            restricted=[self._registrar.ids.with_entry_ids(entry) for entry in share.restricted],
            lists=share.lists,
            registries=share.registries,
            decisions=[
                structs.replace(
                    each,
                    id=self._registrar.ids.outside(each.id, owner),
                    reasons=self._registrar.ids.worded(each.reasons),
                )
                for each in share.decisions
            ],
            lookups=share.lookups,
            requests=share.requests,
            days_of_storage=_days(self.config),
            missing=peers.missing,
            controller_contact=file.contact,
            officer=file.officer,
            zone=self.config.laws[file.country].zone,
        )

    async def share(self, controller: str, number: str) -> Share:
        """What this gate alone holds about it (E.164). Raises `StoreUnavailable`."""
        held = await asyncio.to_thread(self._held, controller, number)
        subject = self._keys.subject(controller, number)
        known = (await self._store.read([subject])).known[0]
        lists = await self._store.lists()
        records = await asyncio.to_thread(inventory.records, held)
        return Share(
            restricted=[self._registrar.views.show(entry) for entry in await self._restricted(subject)],
            lists=await asyncio.to_thread(inventory.on_lists, held, lists),
            registries=await asyncio.to_thread(inventory.from_registries, held),
            decisions=inventory.decisions(records, known.attempts),
            lookups=await self.lookups.seen(controller, number),
            requests=await self.deadlines.of(subject),
            used=erasure.last_used(records, known.attempts),
        )

    async def portable(self, client: Client, controller: str, number: str, purpose: str) -> Portable:
        """GDPR 20."""
        owner, e164 = await self.look_up(client, controller, number, "portability", purpose)
        entries = await self._registrar.views.history(client, owner, e164, tuple(_REQUESTS))
        given: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _REQUESTS}
        for entry in entries:
            given[entry.kind].append({"recorded_at": entry.at, **entry.details})
        return Portable(
            number=e164,
            controller=owner,
            controller_name=self.config.controllers[owner].name,
            made_at=rfc3339(self._clock()),
            consents=given["consent"],
            contracts=given["contract"],
            call_requests=given["call_request"],
        )

    async def _restricted(self, subject: bytes) -> list[Entry]:
        return [erasure.opened(each, self._keys.ledger) for each in await self._file.restricted(subject)]

    # ---- requests ----------------------------------------------------------------------------------------------------

    async def ask(self, client: Client, number: str, ask: CaseRequest) -> CaseInfo:
        owner, e164 = self._registrar.access.person(client, ask.controller, number)
        return await self.deadlines.ask(client, owner.id, e164, ask)

    # ---- rectification -----------------------------------------------------------------------------------------------

    async def rectify(self, client: Client, number: str, ask: RectificationRequest) -> Rectified:
        """GDPR 16: a later entry of the same id, by the same checks as any other; the wrong one stays in the history."""
        owner, e164 = self._registrar.access.person(client, ask.controller, number)
        subject = self._keys.subject(owner.id, e164)
        begun = await self.deadlines.opened(ask.request, "rectification", subject)
        of = self._registrar.ids.entry_seq(ask.of)
        entry = next((entry for entry in await self._store.history(subject) if entry.seq == of), None)
        told = self._registrar.views.show(entry) if entry is not None else None
        if told is None or told.kind not in _REQUESTS:
            text = "Name a consent, contract or call request of this number; what was withdrawn or ended stays so."
            raise Refused("ledger.unknown", text, "of", 404)
        receipt = await self._registrar.consents.record(
            client, _corrected(told.kind, told.details, owner.id, e164, ask)
        )
        what = f"entry {self._registrar.ids.entry_id(of)} was rectified by entry {receipt.seq}"
        written = (self._registrar.ids.entry_seq(receipt.seq),)
        await self.deadlines.take(begun, Answered(what=what, actor=ask.actor or client.name, entries=written))
        return Rectified(request=ask.request, of=ask.of, receipt=receipt)

    async def exposed(self, span: breach.Span) -> breach.Exposure:
        """What a key or a node was shown, and could have been (GDPR 33). Reads the whole decision log."""
        lookups = await self._file.lookups_between(span.start, span.end)
        return await asyncio.to_thread(breach.exposure, self.config, span, lookups, self._keys)

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def observe(self, now: Instant) -> None:
        """For a regular tick: the clock of open requests, and once a day the end of storage. A fault here closes no
        gate, but whoever reads is refused as long as it lasts."""
        try:
            await self.deadlines.count(self._metrics, now)
            await self._file.maintain()
            if self.config.settings.storage.daily:
                await self._remove_daily(now)
        except Unavailable as fault:
            if str(fault) != self._problem:  # it is asked every second
                _log.error("subjects not available", problem=str(fault))
            self._problem = str(fault)
        else:
            self._problem = ""

    async def _remove_daily(self, now: Instant) -> None:
        if self._removing is None and await self._file.due("retention", now, DAY):
            self._removing = asyncio.create_task(self._remove(now))
        removed = await self._file.last(_REMOVED)
        if not removed:  # from the first start on
            await self._file.note_job(_REMOVED, now)
        self._metrics.retention_age.set((now - removed) / SECOND if removed else 0)

    async def _remove(self, now: Instant) -> None:
        try:
            await self.retire(now, drop=True)
            await self._file.note_job(_REMOVED, now)
            self._metrics.retention_age.set(0)
        except (Unavailable, OSError) as fault:
            _log.error("what is past its time was not removed; in an hour again", problem=str(fault))
            with suppress(Unavailable):
                await self._file.note_job("retention", now + HOUR - DAY)
        finally:
            self._removing = None

    async def retire(self, now: Instant, *, drop: bool) -> list[Removal]:
        """What is past its time of storage; with `drop`, it is gone on return. Raises `ClockUnconfirmed`, `OSError`, and as
        `SharedHolds.everywhere`."""
        if drop:
            await asyncio.to_thread(KeptInstants(self.config.data).refuse_jump, now)
        retiring = Retiring(self.config, self._store, self._file, await self.holds.under_everywhere())
        removed = await retiring.run(now, drop=drop)
        for each in removed if drop else ():
            self._metrics.retired.labels(each.kind).inc(each.count)
        return removed


def _corrected(
    kind: str, details: dict[str, Any], controller: str, number: str, ask: RectificationRequest
) -> LedgerRequest:
    """As if it were recorded now. Raises `Refused`."""
    wanted = _REQUESTS[kind]
    names = {name for name in wanted.__struct_fields__ if name not in _NOT_RECTIFIED}
    if not ask.fields or not ask.fields.keys() <= names:
        raise Refused("request.invalid", f"Give some of these: {', '.join(sorted(names))}.", "fields")
    merged = {name: value for name, value in {**details, **ask.fields}.items() if name in {*names, "id"}}
    own = {
        "controller": controller,
        "number": number,
        "actor": ask.actor,
        "channel": "rectification",
        "proof": ask.proof or f"request:{ask.request}",
    }
    try:
        return msgspec.convert(merged | own, wanted)
    except msgspec.ValidationError:
        text = "One of the fields is not of its type; give it as the history shows it."
        raise Refused("request.invalid", text, "fields") from None


_NOT_RECTIFIED = frozenset({"id", "number", "controller", "actor", "channel", "proof"})


def _days(config: Config) -> dict[str, int]:
    fields = structs.asdict(config.settings.storage)
    return {name.removesuffix("_days"): days for name, days in fields.items() if name.endswith("_days")}
