"""Whoever writes: revocations, consents, contracts, call requests, call lists, caller-ID proofs, and what became of a call.

Every write names its actor and is durable when it is acknowledged. A client sees and changes nothing of a controller it
is not bound to; that such a thing exists is not told either.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol, TypeVar

import msgspec
import structlog
from msgspec import structs
from prometheus_client import CollectorRegistry

from dialgate.config import archive
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.config.controllers import ControllerFile, Line
from dialgate.core import consent_state, entry_effect, local_time, phone
from dialgate.core.choices import choose
from dialgate.core.consent_state import ConsentState
from dialgate.core.decision_ids import owner_of
from dialgate.core.entry_ids import EntryIds, is_plain
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import (
    ConsentConfirmed,
    ConsentGiven,
    ContractEnded,
    ContractMade,
    Draft,
    Ending,
    Entry,
    Event,
    Exported,
    Lifted,
    NumberConfirmed,
    NumberWrong,
    Revoked,
    fold,
    merge,
    said,
)
from dialgate.core.model import RESULT_RANK, Consent, Controller, Instant, Origin, RegistryAnswer, Result
from dialgate.core.refusal import Refused
from dialgate.crypto import redaction
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.masking import Masker
from dialgate.ledger import bulk_import, bulk_revocation
from dialgate.ledger.event_drafts import Misstated, event_of, past
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    ConsentStanding,
    EntriesReport,
    EntriesRequest,
    HistoryEntry,
    LedgerRequest,
    LiftRequest,
    ListInfo,
    ListReport,
    ListRequest,
    NumberConfirmation,
    OutcomeReceipt,
    OutcomeRequest,
    ProofReceipt,
    Receipt,
    Request,
    RetiredList,
    RevocationRequest,
    RevocationsReport,
    RevocationsRequest,
)
from dialgate.ledger.scrub import Judge, numbers_of
from dialgate.ledger.suppression_feed import Notice, Notices
from dialgate.lists import call_list, list_builder, tabular
from dialgate.lists.call_list import RowProblem
from dialgate.observability.metrics import Metrics
from dialgate.runtime.atomic_write import publish_file
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store import CallerIdProof, CallList, Store, factory
from dialgate.store.watermark import Reached

N = TypeVar("N", HistoryEntry, Notice)
R = TypeVar("R")
_log = structlog.get_logger(__name__)


class NotInForce(Unavailable):
    """A list or a proof was written, but this gate does not use it yet."""

    component = "gate"


class Recorder(Protocol):
    """The decision log, as far as the registrar needs it."""

    async def result(self, decision: str, result: Result, client: str) -> None:
        """Record what became of a call; durable on return. Raises `LogUnavailable`."""

    async def about(self, decision: str) -> tuple[str, str] | None:
        """Whose call it was (the controller) and to whom (the number, in E.164); None where its record is not here."""


async def _nobody(_: str) -> None:
    return None


async def _no_gate() -> None:
    return None


async def _no_workers() -> bool:
    return True


class Registrar:
    def __init__(
        self,
        config: Config,
        keys: Keys,
        store: Store,
        clock: Callable[[], Instant],
        metrics: Metrics,
        recorder: Recorder | None = None,
    ) -> None:
        self.config = config
        self.changed = asyncio.Event()  # a list's file is new: upkeep looks again at once
        # Have the gate in this process, or those in other processes of this node, use the lists and proofs that the store
        # holds. The first raises `Unavailable`, the second returns whether every process confirmed.
        self.refresh: Callable[[], Awaitable[None]] = _no_gate
        self.refresh_workers: Callable[[], Awaitable[bool]] = _no_workers
        self._keys, self._store, self._clock, self._metrics = keys, store, clock, metrics
        self.notices = Notices(store, keys)
        self._recorder = recorder
        self.steady: Callable[[], float] = time.monotonic
        # As `Recorder.about`, of the other gates on the store.
        self.elsewhere: Callable[[str], Awaitable[tuple[str, str] | None]] = _nobody
        # The registries' answers about a number, by country, controller and number; none without a gate.
        self.registry_answers: Callable[[str, str, str], tuple[RegistryAnswer, ...]] = lambda *_: ()
        self._nonces = nonces()
        self._threads = ThreadPool("registrar", 2)

    @classmethod
    async def open(cls, config: Config, clock: Callable[[], Instant]) -> "Registrar":
        """For use without a gate, beside one or in its absence; both may write at the same time. Raises
        `KeysUnusable`, `StoreUnavailable`."""
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = Keys.open(config.data / "keys.json")
        store = await factory.opened(config, keys, patience=5.0)
        return cls(config, keys, store, clock, Metrics(CollectorRegistry()))

    async def close(self) -> None:
        with suppress(Unavailable, OSError):  # what was written is; a gate notes it as well
            await Reached(self.config.data).keep(self._store)
        await self._store.close()

    # ---- the ledger --------------------------------------------------------------------------------------------------

    async def revoke(self, client: Client, ask: RevocationRequest) -> Receipt:
        begun = self.steady()
        controller = self._controller(client, ask.controller)
        self._check_scope(client, ask, controller)
        now = self._clock()
        owner = "*" if ask.scope == "everyone" else controller.id
        number = self._number(ask.number, controller)
        ask = Masker(self._keys, owner).masked(ask, number)
        event = Revoked(at=self._past(ask.at, now, "at"), scope=ask.scope, campaign=_campaign(ask))
        receipt = await self._append(client, ask, owner, number, event, now)
        self._metrics.revocation_seconds.observe(self.steady() - begun)
        return receipt

    def _check_scope(
        self, client: Client, ask: RevocationRequest | RevocationsRequest, controller: ControllerFile
    ) -> None:
        if ask.scope == "everyone" and "admin" not in client.scopes:
            raise Refused("auth.scope", "The scope `everyone` needs the client scope `admin`.", "scope", 403)
        if ask.scope == "campaign" and ask.campaign not in {each.id for each in controller.campaigns}:
            known = (each.id for each in controller.campaigns)
            raise Refused(
                "campaign.unknown", choose("Name a campaign of this controller", known), "campaign", 404
            )

    async def revoke_all(
        self,
        client: Client,
        ask: RevocationsRequest,
        file: IO[bytes],
        hints: tabular.Hints = tabular.NO_HINTS,
        note: Callable[[RowProblem], None] = lambda _: None,
        plan: Callable[[int], Callable[[int], None]] = lambda _: lambda _: None,
    ) -> RevocationsReport:
        """`note` is told of rows that cannot be read; `plan` of how many will be written, and what it gives of so many that
        are."""
        controller = self._controller(client, ask.controller)
        self._check_scope(client, ask, controller)
        now = self._clock()
        try:
            table = tabular.read(file, controller.country, hints)
            stops = await asyncio.to_thread(bulk_revocation.read, table, controller.country, now, note)
        except tabular.Unreadable as error:
            raise Refused("list.unreadable", str(error), "file") from error
        if not len(stops.numbers) or (stops.problems and not ask.skip_bad):
            raise _unfit(len(stops.numbers), stops.rows, stops.problems, stops.first)
        order = bulk_revocation.Order(
            owner="*" if ask.scope == "everyone" else controller.id,
            scope=ask.scope,
            campaign=_campaign(ask),
            channel=ask.channel,
            proof=ask.proof,
            actor=ask.actor or client.name,
            now=now,
        )
        revoked = await bulk_revocation.write(self._store, self._keys, order, stops, plan(len(stops.numbers)))
        self._metrics.ledger.labels("revoked").inc(revoked)
        self.notices.wake()
        return RevocationsReport(
            rows=stops.rows,
            revoked=revoked,
            known=len(stops.numbers) - revoked,
            duplicates=stops.duplicates,
            refused=stops.problems,
            at=local_time.rfc3339(self._clock()),
            layout=table.layout,
        )

    async def lift(self, client: Client, given: int, ask: LiftRequest) -> Receipt:
        """Lift the revocation of ledger entry `given`, its id or its sequence."""
        seq = self.entry_seq(given)
        entry = next(iter(await self._store.since(seq - 1, 1)), None)
        if (
            entry is None
            or entry.seq != seq
            or not isinstance(entry.event, Revoked)
            or not self._may(client, entry)
        ):
            raise Refused("revocation.unknown", "No such revocation of yours; mend the sequence.", "seq", 404)
        if not ask.reason.strip():
            raise Refused("request.invalid", "Say why the revocation is lifted.", "reason")
        if entry.sealed:
            ask = Masker(self._keys, entry.controller).masked(ask, self._keys.ledger.unseal(entry.sealed))
        for earlier in await self._store.history(entry.subject):
            if isinstance(earlier.event, Lifted) and earlier.event.of == seq:
                await self._store.append([])
                return self._lifted_before(earlier, earlier.event, ask)
        if ask.ground == "new_consent":
            await self._check_new_consent(client, entry, entry.event, ask)
        draft = Draft(
            at=self._clock(),
            controller=entry.controller,
            subject=entry.subject,
            event=Lifted(of=seq, ground=ask.ground, reason=ask.reason, consent=ask.consent),
            actor=ask.actor or client.name,
            channel=ask.channel,
            proof=ask.proof,
            sealed=entry.sealed,
        )
        return await self._write(draft)

    def _lifted_before(self, earlier: Entry, event: Lifted, ask: LiftRequest) -> Receipt:
        if event.ground != ask.ground:
            raise Refused("revocation.lifted", "It was lifted on another ground; that stands.", "ground", 409)
        return self._receipt(earlier.seq)

    async def _check_new_consent(
        self, client: Client, entry: Entry, revoked: Revoked, ask: LiftRequest
    ) -> None:
        """A stop is not lifted on a word: the consent is recorded first, with its proof."""
        subject = entry.subject
        if entry.controller == "*":
            owner = self._controller(client, ask.controller)
            subject = self._keys.subject(owner.id, self._keys.ledger.unseal(entry.sealed))
        for given in fold(await self._store.history(subject)).consents:
            if given.id != ask.consent:
                continue
            ended = given.withdrawn_at or given.voided_at or (given.double_opt_in and not given.confirmed_at)
            if given.collected_at <= revoked.at or not given.proved or ended:
                raise Refused(
                    "request.invalid",
                    "Name a consent that was collected after the stop, is proved, and is in force.",
                    "consent",
                )
            return
        raise Refused("ledger.unknown", "Record the new consent first, and name its id.", "consent", 404)

    async def confirm_number(self, client: Client, given: int, ask: NumberConfirmation) -> Receipt:
        """Lift the wrong-number report of ledger entry `given`, its id or its sequence. Repeating it returns the first
        receipt."""
        seq = self.entry_seq(given)
        entry = next(iter(await self._store.since(seq - 1, 1)), None)
        if (
            entry is None
            or entry.seq != seq
            or not isinstance(entry.event, NumberWrong)
            or not self._may(client, entry)
        ):
            raise Refused("ledger.unknown", "Wrong-number report not found. Check `seq`.", "seq", 404)
        if not ask.reason.strip():
            raise Refused("request.invalid", "Say why the report is lifted.", "reason")
        if entry.sealed:
            ask = Masker(self._keys, entry.controller).masked(ask, self._keys.ledger.unseal(entry.sealed))
        for earlier in await self._store.history(entry.subject):
            if isinstance(earlier.event, NumberConfirmed) and earlier.event.of == seq:
                await self._store.append([])
                return self._receipt(earlier.seq)
        draft = Draft(
            at=self._clock(),
            controller=entry.controller,
            subject=entry.subject,
            event=NumberConfirmed(of=seq, ground=ask.ground, reason=ask.reason),
            actor=ask.actor or client.name,
            channel=ask.channel,
            proof=ask.proof,
            sealed=entry.sealed,
        )
        return await self._write(draft)

    async def record(self, client: Client, ask: LedgerRequest) -> Receipt:
        controller = self._controller(client, ask.controller)
        number = self._number(ask.number, controller)
        now = self._clock()
        ask = Masker(self._keys, controller.id).masked(ask, number)
        event = self._event(ask, controller, now)
        if isinstance(event, Ending):
            earlier = await self._said_before(controller, number, event)
            if earlier is not None:
                await self._store.append([])
                return self._receipt(earlier.seq)
        receipt = await self._append(client, ask, controller.id, number, event, now)
        campaigns = controller.campaigns
        return structs.replace(
            receipt, note=entry_effect.sentence(entry_effect.idle(event, campaigns, now), campaigns)
        )

    def _event(self, ask: LedgerRequest, controller: ControllerFile, now: Instant) -> Event:
        with _refusing():
            return event_of(ask, now, self.config.laws[controller.country].sectors)

    async def record_all(
        self,
        client: Client,
        ask: EntriesRequest,
        file: IO[bytes],
        hints: tabular.Hints = tabular.NO_HINTS,
        note: Callable[[RowProblem], None] = lambda _: None,
        plan: Callable[[int], Callable[[int], None]] = lambda _: lambda _: None,
    ) -> EntriesReport:
        """Every consent, contract or call request of a file; `note` and `plan` as for `revoke_all`. For a process of its
        own: it holds up the event loop."""
        controller = self._controller(client, ask.controller)
        order = bulk_import.Order(
            kind=bulk_import.KINDS[ask.kind],
            controller=controller.id,
            home=controller.country,
            sectors=self.config.laws[controller.country].sectors,
            channel=ask.channel,
            proof=ask.proof,
            actor=ask.actor or client.name,
            now=self._clock(),
        )
        with TemporaryFile(dir=self.config.data) as spool:
            taken = bulk_import.Taken(spool)
            try:
                table = tabular.read(file, controller.country, hints)
                bulk_import.take(table, self._keys, order, taken, note)
            except tabular.Unreadable as error:
                raise Refused("list.unreadable", str(error), "file") from error
            if not len(taken) or (taken.problems and not ask.skip_bad):
                raise _unfit(len(taken), taken.rows, taken.problems, taken.first)
            recorded = await bulk_import.write(self._store, taken, plan(len(taken)))
        self._metrics.ledger.labels(ask.kind).inc(recorded)
        self.notices.wake()
        return EntriesReport(
            rows=taken.rows,
            recorded=recorded,
            known=len(taken) - recorded,
            refused=taken.problems,
            at=local_time.rfc3339(self._clock()),
            layout=table.layout,
        )

    async def _said_before(self, controller: ControllerFile, number: str, event: Ending) -> Entry | None:
        """To withdraw twice is no error and no second entry. What was never there cannot be ended."""
        wanted = ContractMade if isinstance(event, ContractEnded) else ConsentGiven
        held = await self._store.history(self._keys.subject(controller.id, number))
        begun = [
            entry.event
            for entry in held
            if isinstance(entry.event, ConsentGiven | ContractMade) and entry.event.id == event.id
        ]
        if not any(isinstance(each, wanted) for each in begun):
            raise Refused("ledger.unknown", "Nothing of this id is recorded for it; mend the id.", "id", 404)
        if isinstance(event, ConsentConfirmed) and event.at < max(
            each.collected_at for each in begun if isinstance(each, ConsentGiven)
        ):
            raise Refused("request.invalid", "It was collected after that; send when it was confirmed.", "at")
        return said(held, event)

    async def history(
        self, client: Client, controller: str, number: str, kinds: tuple[str, ...] = ()
    ) -> list[HistoryEntry]:
        """Every ledger entry about a number, oldest first, or those of some kinds (`revoked`, `lifted`, `consent`, …)."""
        owner, e164 = self.person(client, controller, number)
        entries: list[Entry] = []
        for name in (owner.id, "*"):
            entries += await self._store.history(self._keys.subject(name, e164))
        entries.sort(key=lambda entry: entry.seq)
        confirmed = {entry.event.id for entry in entries if isinstance(entry.event, ConsentConfirmed)}
        told = []
        for entry in entries:
            why = entry_effect.idle(entry.event, owner.campaigns, self._clock())
            if why == "unconfirmed" and isinstance(entry.event, ConsentGiven) and entry.event.id in confirmed:
                why = ""
            told.append(structs.replace(self.with_entry_ids(self.told(entry)), opens_nothing=why))
        return [each for each in told if not kinds or each.kind in kinds]

    def told(self, entry: Entry) -> HistoryEntry:
        told: HistoryEntry = Masker(self._keys, entry.controller).shown(_told(entry))
        return self._with_ids(told) if self.config.shared else told

    def _with_ids(self, told: HistoryEntry) -> HistoryEntry:
        """With the ids of the decisions that the entry names."""
        kind, _, name = told.proof.partition(":")
        proof = f"{kind}:{self.outside(name, told.controller)}" if kind == "decision" else told.proof
        details = told.details
        if details.get("decision"):
            details = details | {"decision": self.outside(details["decision"], told.controller)}
        return structs.replace(told, proof=proof, details=details)

    # ---- the ids of decisions ----------------------------------------------------------------------------------------

    def outside(self, name: str, owner: str) -> str:
        """The id of a decision as clients know it. `owner`: see `decision_ids.owner_of`."""
        if not self.config.shared or not _NAME.fullmatch(name):
            return name
        return self._keys.ids.outside([(name, owner)])[0]

    def inside(self, client: Client, given: str) -> str:
        """The name of a decision, or "" where the id is none of the client's."""
        return self._keys.ids.inside(given, (*client.controllers, owner_of("", client.name)))

    # ---- the ids of ledger entries -----------------------------------------------------------------------------------

    @property
    def _entry_ids(self) -> EntryIds | None:
        """None where clients may see sequences. Commands, which have no recorder, are the operator's and show them always."""
        return self._keys.entries if self.config.shared and self._recorder is not None else None

    def entry_id(self, seq: int) -> int:
        """Return a ledger sequence as clients see it."""
        return self._entry_ids.outside(seq) if self._entry_ids else seq

    def entry_seq(self, given: int) -> int:
        """Return the sequence of an entry, given by its id or its sequence."""
        return self._keys.entries.inside(given)

    def with_entry_ids(self, told: N) -> N:
        """Return a history entry or a notice as clients see it."""
        if self._entry_ids is None:
            return told
        changes: dict[str, object] = {"seq": self.entry_id(told.seq)}
        if isinstance(told, Notice):
            changes["of"] = self.entry_id(told.of) if told.of else 0
        elif "of" in told.details:
            changes["details"] = told.details | {"of": self.entry_id(told.details["of"])}
        return structs.replace(told, **changes)

    def worded(self, reasons: Iterable[R]) -> list[R]:
        """Return reasons as clients see them, each a struct with a `code` and a `text`."""
        return self._entry_ids.worded(reasons) if self._entry_ids else list(reasons)

    def cursor(self, seq: int) -> int:
        """Return a position in the ledger as the clients of a stream see it."""
        return self._entry_ids.cursor(seq) if self._entry_ids else seq

    async def position(self, client: Client, given: int) -> int:
        """Return the sequence behind which a client resumes that saw `given` last. 0, the beginning, where that is unknown:
        a repeated stop does no harm, a missing one does. Raises `StoreUnavailable`."""
        if is_plain(given):
            # What follows a plain sequence would show a client how many entries of others lie before it.
            everything = set(client.controllers) >= self.config.controllers.keys()
            return given if self._entry_ids is None or everything else 0
        seq = self._keys.entries.position(given)
        return seq if seq <= await self.notices.head() else 0

    def person(self, client: Client, controller: str, number: str) -> tuple[ControllerFile, str]:
        """On whose behalf a client asks about a number, and the number in E.164. Raises `Refused`."""
        owner = self._controller(client, controller)
        return owner, self._number(number, owner)

    async def consents(self, client: Client, controller: str, number: str) -> list[ConsentStanding]:
        """Return each consent with its state by the rules."""
        owner, e164 = self.person(client, controller, number)
        subjects = [self._keys.subject(name, e164) for name in (owner.id, "*")]
        known = merge(*(await self._store.read(subjects)).known)
        used = {attempt.basis: attempt.at for attempt in known.attempts}
        lines = [line for line in self.config.lines.values() if line.controller.id == owner.id]
        situation = consent_state.Situation(
            at=self._clock(),
            law=self.config.laws[owner.country],
            controller=lines[0].controller if lines else Controller(id=owner.id),
            known=known,
            registries=self.registry_answers(owner.country, owner.id, e164),
        )
        campaigns = [line.campaign for line in lines]
        return [
            _standing(
                each,
                used.get(f"consent:{each.id}", 0),
                consent_state.state(each, situation, campaigns),
            )
            for each in known.consents
        ]

    # ---- outcomes ----------------------------------------------------------------------------------------------------

    async def result(self, client: Client, ask: OutcomeRequest) -> OutcomeReceipt:
        """Record the result of an allowed call. `opt_out` revokes for the controller, at once; `wrong_number` closes what was
        given for the number, at once."""
        given, ask = ask.decision_id, structs.replace(ask, decision_id=self.inside(client, ask.decision_id))
        found = await self._store.attempt(ask.decision_id) if ask.decision_id else None
        if found is None:
            if ask.decision_id:
                with suppress(
                    Unavailable
                ):  # the same work as for another's allow, which the time must not tell
                    await self._called_evenly(ask.decision_id)
            raise _unknown_decision()
        if self._recorder is None:
            raise Refused("request.invalid", "Send outcomes to a running gate.", "decision_id")
        subject, attempt = found
        line = self.config.lines.get(attempt.campaign)
        owner, number = await self._whose(client, ask, line)
        stricter = RESULT_RANK[ask.outcome] >= RESULT_RANK[attempt.result]
        if not stricter and ask.outcome not in _IN_LEDGER:
            raise Refused(
                "outcome.known", f"This call was reported as {attempt.result}; that stands.", "outcome", 409
            )
        stop = wrong = None
        if ask.outcome == "opt_out":
            stop = await self._stop(client, owner, number, subject, f"decision:{ask.decision_id}")
        elif ask.outcome == "wrong_number":
            wrong = await self._number_wrong(client, owner, number, subject, ask.decision_id)
        if stricter:
            await self._store.result(ask.decision_id, ask.outcome, self._clock())
        await self._recorder.result(ask.decision_id, ask.outcome, client.name)
        self._metrics.results.labels(line.campaign.id if line else "other", ask.outcome).inc()
        return OutcomeReceipt(given, ask.outcome, stop, wrong)

    async def _whose(self, client: Client, ask: OutcomeRequest, line: Line | None) -> tuple[str, str]:
        """The controller; and, for a stop, the number, empty where only a gate that is gone could tell it."""
        owner, number = line.controller.id if line else "", ""
        mine = owner in client.controllers
        if ask.outcome in _IN_LEDGER or not mine:
            # The campaign may be another controller's by now: the stop is for the one who called.
            try:
                ask_for = self._called if mine else self._called_evenly
                owner, number = await ask_for(ask.decision_id)
            except Unavailable:
                if line and not mine:
                    raise _unknown_decision() from None  # nor is a stranger told that there is one
                if line is None or await self._threads.run(self._moved, line.campaign.id):
                    raise  # the hash is of whoever had the campaign then
        if owner not in client.controllers:
            raise _unknown_decision()
        return owner, number

    async def _stop(
        self, client: Client, controller: str, number: str, subject: bytes, proof: str
    ) -> Receipt:
        """Without a number it is of the person whom the store knows by a keyed hash, which is what a stop binds by; nobody can be
        told then whom to drop from a queue."""
        if number:
            stop = RevocationRequest(controller=controller, number=number, channel="call", proof=proof)
            return await self.revoke(client, stop)
        now = self._clock()
        receipt = await self._write(self._of_call(client, controller, subject, Revoked(at=now), proof))
        _log.warning(
            "a stop binds, but nobody could tell the number: no subscriber is told",
            entry=self.entry_seq(receipt.seq),
        )
        return receipt

    async def _number_wrong(
        self, client: Client, controller: str, number: str, subject: bytes, decision: str
    ) -> Receipt:
        """One entry a decision, also where it was lifted: a report that is repeated tells nothing new."""
        if number:
            subject = self._keys.subject(controller, number)
        for entry in await self._store.history(subject):
            if isinstance(entry.event, NumberWrong) and entry.event.decision == decision:
                await self._store.append([])
                return self._receipt(entry.seq)
        event = NumberWrong(at=self._clock(), decision=decision)
        draft = self._of_call(client, controller, subject, event, f"decision:{decision}")
        sealed = self._keys.ledger.seal(number, next(self._nonces)) if number else b""
        return await self._write(structs.replace(draft, sealed=sealed))

    def _of_call(self, client: Client, controller: str, subject: bytes, event: Event, proof: str) -> Draft:
        return Draft(
            at=self._clock(),
            controller=controller,
            subject=subject,
            event=event,
            actor=client.name,
            channel="call",
            proof=proof,
        )

    def _moved(self, campaign: str) -> bool:
        """Whether, by all configurations that are kept, it ever was of more than one controller."""
        return len(archive.owners(self.config.data / "kept", campaign)) > 1

    async def _called(self, decision: str) -> tuple[str, str]:
        """Here, or at another gate on the store. Raises `Unavailable` where nobody can tell."""
        found = await self.called_here(decision) or await self.elsewhere(decision)
        if found is None:
            raise Unavailable(f"no gate that can be asked has the record of decision {decision}")
        return found

    async def _called_evenly(self, decision: str) -> tuple[str, str]:
        """The same with the same reads, wherever the record is and whether there is one. Raises as `_called`."""
        here, elsewhere = await asyncio.gather(self.called_here(decision), self.elsewhere(decision))
        if found := here or elsewhere:
            return found
        raise Unavailable(f"no gate that can be asked has the record of decision {decision}")

    async def called_here(self, decision: str) -> tuple[str, str] | None:
        """Whose call it was, and to which number."""
        return await self._recorder.about(decision) if self._recorder is not None else None

    # ---- call lists --------------------------------------------------------------------------------------------------

    async def load_list(
        self,
        client: Client,
        ask: ListRequest,
        file: IO[bytes],
        hints: tabular.Hints = tabular.NO_HINTS,
        note: Callable[[RowProblem], None] = lambda _: None,
    ) -> ListReport:
        """Load the list of a file, as `tabular` reads it; can be sought in. `note` is called with each row that is left
        out. Otherwise as `load_from`."""
        return await self.load_from(client, ask, list_builder.Here(file, hints, note))

    async def load_from(self, client: Client, ask: ListRequest, source: list_builder.Source) -> ListReport:
        """Load a list, whole or not at all; rows that are no numbers are counted and left out. On return the gates of this
        node use it. Raises `Refused`, `Unavailable`."""
        controller = self._controller(client, ask.controller)
        self._check_list(ask, controller)
        for known in await self._store.lists():
            if (known.controller, known.id) == (controller.id, ask.id):
                raise _exists()
        folder = self.config.data / "lists"
        folder.mkdir(mode=0o700, exist_ok=True)
        temporary = folder / f"{secrets.token_hex(8)}.new"
        try:
            kinds = self.config.laws[controller.country].stated_kinds
            order = list_builder.Order(str(temporary), controller.country, ask.basis, kinds)
            built = await source.build(order)
            record = await self._publish(client, ask, controller, temporary, built)
        except tabular.Unreadable as error:
            raise Refused("list.unreadable", str(error), "numbers") from error
        except list_builder.BuildEnded as error:
            raise Refused("upload.failed", str(error), status=503) from error
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        tally = built.tally
        return ListReport(
            info=_info(record),
            in_force=await self._put_in_force(),
            rows=tally.rows,
            accepted=tally.accepted,
            duplicates=tally.duplicates,
            refused=tally.refused,
            problems=tally.problems,
            layout=built.layout,
            unstated=tally.unstated,
        )

    def _check_list(self, ask: ListRequest, controller: ControllerFile) -> None:
        if not ask.id or len(ask.id) > _ID_LENGTH or not set(ask.id.lower()) <= _ID_LETTERS:
            raise Refused(
                "request.invalid", "Give 1 to 64 letters, digits, dots, dashes and underscores.", "id"
            )
        own = {campaign.id for campaign in controller.campaigns}
        if not ask.campaigns or not set(ask.campaigns) <= own:
            raise Refused(
                "campaign.unknown", choose("Name campaigns of this controller", own), "campaigns", 404
            )

    async def _publish(
        self,
        client: Client,
        ask: ListRequest,
        controller: ControllerFile,
        temporary: Path,
        built: list_builder.Built,
    ) -> CallList:
        await self._threads.run(_refuse_numbers, ask, temporary, controller.country)
        digest, tally = built.sha256, built.tally
        file = temporary.with_name(f"{controller.id}.{ask.id}.{digest[:16]}.numbers")
        await self._threads.run(publish_file, temporary, file)
        record = CallList(
            id=ask.id,
            controller=controller.id,
            campaigns=ask.campaigns,
            bases=tally.bases,
            stated=tally.stated,
            origin=Origin(
                collected_by=ask.collected_by,
                collected_on=ask.collected_on,
                source=ask.source,
                transfers=ask.transfers,
            ),
            file=file.name,
            sha256=digest,
            numbers=tally.accepted,
            loaded_at=self._clock(),
            actor=ask.actor or client.name,
        )
        if not await self._store.add_list(record):  # another load was quicker
            raise _exists()
        return record

    async def lists(self, client: Client) -> list[ListInfo]:
        return [_info(each) for each in await self._store.lists() if each.controller in client.controllers]

    async def retire_list(self, client: Client, name: str, controller: str = "") -> RetiredList:
        """Take a list out of use. On return no gate of this node opens a call from it. `controller` may be left out where
        only one of the client's has such a list. Raises `Refused`, `Unavailable`."""
        owners = [
            each.controller
            for each in await self._store.lists()
            if each.id == name
            and each.controller in client.controllers
            and controller in {"", each.controller}
        ]
        if len(owners) > 1:
            raise Refused(
                "controller.unknown",
                choose("More than one controller has such a list; name one", owners),
                "controller",
                404,
            )
        retired = await self._store.retire_list(owners[0], name, self._clock()) if owners else None
        if retired is None:
            raise Refused("list.unknown", "No list of yours has this id; look at the lists.", "id", 404)
        return RetiredList(**structs.asdict(_info(retired)), in_force=await self._put_in_force())

    # ---- exports -----------------------------------------------------------------------------------------------------

    async def judge(self, client: Client, campaign: str, at: Instant = 0) -> tuple[Judge, str]:
        """Opened, and to be closed; and the country in which the campaign's bare numbers are national."""
        line = self._line(client, campaign)
        judge = Judge(self.config, self._store, self._keys, campaign, at or self._clock())
        await judge.open()
        return judge, line.dial_region or line.home

    async def exported(self, client: Client, event: Exported, actor: str, proof: str) -> Receipt:
        owner = self._line(client, event.campaign).controller.id
        draft = Draft(
            at=self._clock(),
            controller=owner,
            subject=self._keys.subject(owner, _EXPORTS),
            event=event,
            actor=actor or client.name,
            channel="export",
            proof=proof,
        )
        return await self._write(draft)

    async def exports(self, client: Client) -> list[HistoryEntry]:
        """Every list that left with verdicts, of the client's controllers, oldest first."""
        entries: list[Entry] = []
        for name in client.controllers:
            entries += await self._store.history(self._keys.subject(name, _EXPORTS))
        return [_told(entry) for entry in sorted(entries, key=lambda entry: entry.seq)]

    async def numbers_of(self, client: Client, name: str, campaign: str) -> tuple[int, Iterator[list[str]]]:
        """How many numbers stand on a list of the campaign's controller, and all of them, some at a time."""
        owner = self._line(client, campaign).controller.id
        for each in await self._store.lists():
            if (each.id, each.controller) == (name, owner):
                return each.numbers, numbers_of(each, self.config.data / "lists")
        raise Refused("list.unknown", "No list of yours has this id; look at the lists.", "id", 404)

    async def campaigns_of(self, client: Client, name: str) -> list[str]:
        """That a list was loaded for, as far as there still are such campaigns."""
        lists = [each for each in await self.lists(client) if each.id == name]
        if not lists:
            raise Refused("list.unknown", "No list of yours has this id; look at the lists.", "id", 404)
        campaigns = (campaign for each in lists for campaign in each.campaigns)
        found = [campaign for campaign in campaigns if self.config.line_of(campaign, client)]
        if not found:
            raise Refused(
                "campaign.unknown",
                choose(
                    "None of the list's campaigns exists any more. Name one", self.config.campaigns_of(client)
                ),
                "campaign",
                404,
            )
        return found

    def _line(self, client: Client, campaign: str) -> Line:
        line = self.config.line_of(campaign, client)
        if line is None:
            known = self.config.campaigns_of(client)
            raise Refused("campaign.unknown", choose("Name one of your campaigns", known), "campaign", 404)
        return line

    # ---- caller IDs --------------------------------------------------------------------------------------------------

    async def prove_caller_id(self, client: Client, ask: CallerIdProofRequest) -> ProofReceipt:
        """Record a proof; on return the gates of this node use it."""
        controller = self._controller(client, ask.controller)
        shown = phone.parse_caller_id(ask.caller_id, controller.country)
        if shown.form != "number":
            raise Refused("caller_id.invalid", "Give it as presented, with + and country code.", "caller_id")
        now = self._clock()
        proof = CallerIdProof(
            controller=controller.id,
            caller_id=shown.number,
            at=self._past(ask.at, now, "at"),
            kind=ask.kind,
            answered=ask.answered,
            evidence=ask.evidence or ask.proof,
            actor=ask.actor or client.name,
        )
        await self._store.put_proof(proof)
        return ProofReceipt(await self._put_in_force(), self._note_on(proof))

    def _note_on(self, proof: CallerIdProof) -> str:
        lines = [line for line in self.config.lines.values() if line.controller.id == proof.controller]
        shown = {number for line in lines for number in line.caller_ids}
        return entry_effect.sentence(
            "caller_id" if proof.answered and proof.caller_id not in shown else "", (), shown
        )

    async def _put_in_force(self) -> str:
        """Have every gate of this node use what was just written. Return where it binds from when, in words. Raises
        `NotInForce`."""
        try:
            _, confirmed = await asyncio.gather(self.refresh(), self.refresh_workers())
        except (Unavailable, OSError) as error:
            raise NotInForce(
                f"It is recorded. This gate does not use it yet ({error}) and tries again every second."
            ) from error
        if not confirmed:
            return "recorded; a gate of this node has not confirmed it yet, and denies calls until it uses it"
        shared = self.config.settings.store is not None
        return "now on this node, on other nodes within 1 second" if shared else "now"

    # ---- common ground -----------------------------------------------------------------------------------------------

    def _controller(self, client: Client, name: str) -> ControllerFile:
        if not name and len(client.controllers) == 1:
            name = client.controllers[0]
        if name not in client.controllers or name not in self.config.controllers:
            known = set(client.controllers) & self.config.controllers.keys()
            raise Refused(
                "controller.unknown", choose("Name one of your controllers", known), "controller", 404
            )
        return self.config.controllers[name]

    @staticmethod
    def _number(raw: str, controller: ControllerFile) -> str:
        try:
            return phone.parse(raw, controller.country).e164
        except phone.NotANumber as problem:
            raise Refused("number.invalid", f"The number {problem}; send it in E.164.", "number") from problem

    def _may(self, client: Client, entry: Entry) -> bool:
        return entry.controller in client.controllers or (
            entry.controller == "*" and "admin" in client.scopes
        )

    @staticmethod
    def _past(at: datetime | None, now: Instant, name: str) -> Instant:
        with _refusing():
            return past(at, now, name)

    async def _append(
        self, client: Client, ask: Request, owner: str, number: str, event: Event, now: Instant
    ) -> Receipt:
        draft = Draft(
            at=now,
            controller=owner,
            subject=self._keys.subject(owner, number),
            event=event,
            actor=ask.actor or client.name,
            channel=ask.channel,
            proof=ask.proof,
            sealed=self._keys.ledger.seal(number, next(self._nonces)),
        )
        return await self._write(draft)

    async def _write(self, draft: Draft) -> Receipt:
        seq = (await self._store.append([draft]))[0]
        self._metrics.ledger.labels(_kind(draft.event)).inc()
        self.notices.wake()
        return self._receipt(seq)

    def _receipt(self, seq: int) -> Receipt:
        return Receipt(self.entry_id(seq), local_time.rfc3339(self._clock()))


def _refuse_numbers(ask: ListRequest, path: Path, home: str) -> None:
    """Raise `Refused` if a text about the list holds one of its numbers: every decision would record it in clear."""
    texts = {
        "id": ask.id,
        "collected_by": ask.collected_by,
        "source": ask.source,
        "actor": ask.actor,
        "transfers": " | ".join(word for each in ask.transfers for word in (each.by, each.to)),
    }
    for name, text in texts.items():
        if call_list.names_one_of(path, text, home):
            raise Refused(
                "request.invalid", "It contains a telephone number of the list. Leave that out.", name
            )


def _campaign(ask: RevocationRequest | RevocationsRequest) -> str:
    """The campaign's id. Where the scope is wider nothing has checked it, and it may hold any text."""
    return ask.campaign if ask.scope == "campaign" else redaction.blanked(ask.campaign)


def _unknown_decision() -> Refused:
    return Refused("decision.unknown", "Send the decision_id of an allow.", "decision_id", 404)


def _unfit(fit: int, rows: int, problems: int, first: RowProblem | None) -> Refused:
    which = f" Line {first.line:,}: {first.problem}." if first else ""
    text = (
        f"Of {rows:,} rows {problems:,} cannot be read, and nothing was written.{which} Correct them, or leave them out."
        if fit
        else f"No row of the file can be taken.{which}"
    )
    return Refused("list.unreadable", text, "file")


def _exists() -> Refused:
    text = "A list of this id was loaded before, and stays on record when it is retired; take another id."
    return Refused("list.exists", text, "id", 409)


_IN_LEDGER = frozenset({"opt_out", "wrong_number"})  # outcomes that bind later calls
_NAME = re.compile("[0-9a-f]{8}-[0-9]{1,18}")
_EXPORTS = "exports"  # in the place of a number, which it is not
_ID_LENGTH = 64
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Misstated as error:
        raise Refused("request.invalid", str(error), error.field) from error


def _kind(event: Event) -> str:
    return str(type(event).__struct_config__.tag)


def _told(entry: Entry) -> HistoryEntry:
    details = msgspec.to_builtins(entry.event)
    kind = details.pop("type")
    details = {
        name: local_time.rfc3339(value) if name in _INSTANTS else value for name, value in details.items()
    }
    return HistoryEntry(
        seq=entry.seq,
        at=local_time.rfc3339(entry.at),
        kind=kind,
        controller=entry.controller,
        actor=entry.actor,
        channel=entry.channel,
        proof=entry.proof,
        details=details,
    )


def _standing(held: Consent, used: Instant, state: ConsentState) -> ConsentStanding:
    instants = {
        name: local_time.rfc3339(at) if at else ""
        for name, at in structs.asdict(held).items()
        if name.endswith("_at")
    }
    return ConsentStanding(
        id=held.id,
        proved=held.proved,
        purposes=held.purposes,
        call_types=held.call_types,
        goods=held.goods,
        profiling=held.profiling,
        third_party=held.third_party,
        double_opt_in=held.double_opt_in,
        last_used_at=local_time.rfc3339(used) if used else "",
        reason=state.reason,
        refused_for=state.refused_for,
        **instants,
    )


_INSTANTS = frozenset({"at", "collected_at", "expires_at", "requested_at", "before"})


def _info(record: CallList) -> ListInfo:
    return ListInfo(
        id=record.id,
        controller=record.controller,
        campaigns=record.campaigns,
        numbers=record.numbers,
        origin=record.origin,
        loaded_at=local_time.rfc3339(record.loaded_at),
        actor=record.actor,
        retired_at=local_time.rfc3339(record.retired_at) if record.retired_at else "",
    )
