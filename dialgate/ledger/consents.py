"""Consents, contracts and call requests: recording, bulk import and ending."""

from collections.abc import Mapping
from typing import IO, Any

from msgspec import structs

from dialgate.config.clients import Client
from dialgate.core import ineffective_entries, local_time
from dialgate.core.ledger_events import (
    ConsentConfirmed,
    ConsentGiven,
    ConsentsVoided,
    ContractEnded,
    ContractMade,
    Draft,
    Entry,
)
from dialgate.core.ledger_state import Ending, as_entry, find_ending, find_outranked, find_repeated
from dialgate.core.refusal import Refused
from dialgate.core.struct_copies import copy_fields
from dialgate.ledger import bulk_import, entry_limit, event_drafts, stop_requests
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.consent_voiding import EnrolmentRequest, VoidedConsents
from dialgate.ledger.event_drafts import event_of
from dialgate.ledger.file_import import FileOrder, NoteRow, import_file
from dialgate.ledger.import_reports import EntriesReport
from dialgate.ledger.schemas import EntriesRequest, LedgerRequest, Receipt, WithdrawalRequest
from dialgate.lists import lost_zeros, tabular


class ConsentWriter:
    def __init__(self, access: LedgerAccess) -> None:
        self._access = access

    async def withdraw(self, client: Client, fields: Mapping[str, Any], *, early: bool = False) -> Receipt:
        """Record a withdrawal from a request whose form may have faults (`stop_requests`). See `record`."""
        ask, unread = stop_requests.read(WithdrawalRequest, fields)
        receipt = await self.record(client, ask, early=early)
        return structs.replace(receipt, note=stop_requests.join(receipt.note, unread))

    async def void(self, client: Client, ask: EnrolmentRequest) -> VoidedConsents:
        """Void the consents of enrolled numbers. A repetition voids nothing more. Raises `Refused` and `StoreUnavailable`.

        If `listed_by` is in the future, the clock of the nightly job is wrong: the answer has been given, so it is `now`.
        """
        access, now = self._access, self._access.clock()
        owner = access.controller(client, ask.controller)
        before = min(event_drafts.instant(ask.listed_by, "listed_by"), now)
        event = ConsentsVoided(before=before, registry=ask.registry, receipt=ask.proof)
        # Not parsed: a number that has left the numbering plan since its consent was recorded would block all others.
        numbers = list(dict.fromkeys(ask.numbers))
        known = (await access.store.read([access.keys.subject(owner.id, number) for number in numbers])).known
        drafts = [
            access.draft(client, ask, owner.id, number, event, now)
            for number, state in zip(numbers, known, strict=True)
            if any(item.collected_at <= event.before and not item.voided_at for item in state.consents)
        ]
        if drafts:
            await access.append_all(drafts)
        return VoidedConsents(len(drafts))

    async def record(
        self, client: Client, ask: LedgerRequest, *, rectifies: bool = False, early: bool = False
    ) -> Receipt:
        """Record a consent, contract or call request, or the end of one.

        A repetition that changes nothing returns the earlier receipt. `rectifies` is true for a rectification that a
        person requested. With `early`, an end may arrive before what it ends. Raises `Refused` and `StoreUnavailable`.
        """
        drafts, ahead = self.drafts(client, ask)
        (draft,) = drafts
        history = await self._access.store.history(draft.subject)
        event = draft.event
        if isinstance(event, Ending):
            earlier = self._find_ending(history, event, early=early)
        else:
            earlier = find_repeated(history, draft)
        if earlier is not None:
            await self._access.store.append([])
            receipt = self._access.receipt(earlier.seq)
        else:
            if not (isinstance(event, Ending) or rectifies):
                entry_limit.refuse_if_full(history)
            receipt = await self._access.write(draft)
        history.append(as_entry(draft, history))
        return structs.replace(receipt, note=stop_requests.join(ahead, self._note(draft, history)))

    def drafts(self, client: Client, ask: LedgerRequest) -> tuple[list[Draft], str]:
        """Return the entry that a request makes, in a list, and a note about its time. Raises `Refused`."""
        controller, number = self._access.person(client, ask.controller, ask.number)
        now, ahead = self._access.clock(), ""
        if isinstance(ask, WithdrawalRequest):
            ask, ahead = stop_requests.no_later_than(ask, now)
            ask = structs.replace(ask, dated=ask.dated and ask.at is not None)
        ask = self._access.masker(controller.id).mask(ask, number)
        event = event_of(ask, now, self._access.sectors[controller.country])
        return [self._access.draft(client, ask, controller.id, number, event, now)], ahead

    def receipt(self, draft: Draft, history: list[Entry], ahead: str) -> Receipt:
        """Return the receipt of the newest entry in `history` that equals a draft. Raises `Refused` if there is none."""
        needs_proof = draft.proof and not isinstance(draft.event, ConsentGiven)
        equal = (
            entry for entry in history if entry.event == draft.event and (entry.proof or not needs_proof)
        )
        *_, entry = [None, *equal]
        if entry is None:
            raise entry_limit.refusal()
        if entry is not history[-1]:
            history.append(as_entry(draft, history))
        receipt = self._access.receipt(entry.seq)
        return structs.replace(receipt, note=stop_requests.join(ahead, self._note(draft, history)))

    def _note(self, draft: Draft, history: list[Entry]) -> str:
        """Return what a client should know about the newest entry of `history`, which a draft became."""
        event, controller = draft.event, self._access.config.controllers[draft.controller]
        law = self._access.config.laws[controller.country]
        idle = ineffective_entries.find_reason(event, controller.campaigns, draft.at, law)
        return stop_requests.join(
            ineffective_entries.sentence(idle, controller.campaigns),
            ineffective_entries.unproved_marketing(event, draft.proof, law, controller.contract_proofs),
            _about_outranked(find_outranked(history, event)),
        )

    async def record_all(
        self,
        client: Client,
        ask: EntriesRequest,
        file: IO[bytes],
        hints: tabular.Hints = tabular.NO_HINTS,
        note: NoteRow = lambda _: None,
    ) -> EntriesReport:
        """Record all consents, contracts or call requests in a file. For a large file, use `file_jobs`.

        Call `note` with each row that is skipped. Raises `Refused` and `StoreUnavailable`.
        """
        controller = self._access.controller(client, ask.controller)
        home, actor, now = controller.dial_regions(), client.actor(ask.actor), self._access.clock()
        order = copy_fields(ask, FileOrder, owner=controller.id, home=home, actor=actor, now=now, hints=hints)
        kind = bulk_import.EntryFile(bulk_import.KINDS[ask.kind], self._access.sectors[controller.country])
        imported = await import_file(self._access, file, kind, order, note)
        counts = imported.counts
        return EntriesReport(
            rows=imported.rows,
            recorded=imported.written,
            known=len(imported) - imported.written - counts["over_limit"],
            over_limit=counts["over_limit"],
            outranked=counts["outranked"],
            refused=imported.problems,
            at=local_time.rfc3339(self._access.clock()),
            layout=imported.layout,
            doubtful=counts["doubtful"],
            reasons=imported.reasons,
            note=lost_zeros.summary(counts["doubtful"]),
        )

    @staticmethod
    def _find_ending(history: list[Entry], event: Ending, *, early: bool) -> Entry | None:
        """Return the earlier entry with the same withdrawal, confirmation or contract end, or None.

        If there is an earlier entry, a repeated request returns its receipt and writes nothing. Raises `Refused` if the
        number has no consent or contract with this id and the end is not `early`, or if a confirmation is earlier than the
        consent.
        """
        wanted = ContractMade if isinstance(event, ContractEnded) else ConsentGiven
        starts = [
            entry.event
            for entry in history
            if isinstance(entry.event, ConsentGiven | ContractMade) and entry.event.id == event.id
        ]
        if not any(isinstance(start, wanted) for start in starts):
            if early:
                return next((entry for entry in history if entry.event == event), None)
            raise Refused(
                "ledger.unknown", "No entry with this id was found for the number. Check `id`.", "id", 404
            )
        if isinstance(event, ConsentConfirmed) and event.at < max(
            start.collected_at for start in starts if isinstance(start, ConsentGiven)
        ):
            text = "The consent was collected later than this. Send the time of its confirmation."
            raise Refused("request.invalid", text, "at")
        return find_ending(history, event)


def _about_outranked(names: tuple[str, ...]) -> str:
    """Return a note for the client that some values of its entry have no effect, or ""."""
    if not names:
        return ""
    return (
        f"Earlier entries with this id outrank this one, which must not permit more calls, in: {', '.join(names)}."
        " To correct these fields, record the consent, contract or request again and name them in `rectify`."
    )
