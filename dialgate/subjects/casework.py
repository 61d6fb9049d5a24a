"""The work on one data subject's request, which fixes the controller and the number: nothing else has to be named."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from msgspec import structs

from dialgate.audit import explanation
from dialgate.cluster.personal_data import CaseInfo
from dialgate.config.clients import Client
from dialgate.core.local_time import rfc3339
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import EXECUTED, Case, Executed
from dialgate.core.struct_copies import copy_fields
from dialgate.ledger.bulk_import import KINDS
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import RevocationRequest
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.runtime import csv_text
from dialgate.subjects import inventory
from dialgate.subjects.inventory import Person
from dialgate.subjects.letter import Letter
from dialgate.subjects.letter_words import without_hashes
from dialgate.subjects.rights import Subjects
from dialgate.subjects.schemas import (
    Attachment,
    ErasurePreview,
    ErasureRequest,
    ExecutionRequest,
    LetterKind,
    LetterRequest,
    Portable,
    RectificationRequest,
    Report,
    SubjectCase,
)
from dialgate.texts import Language

_PURPOSES: Final[dict[Language, str]] = {"it": "lettera per la richiesta {}", "en": "letter for request {}"}


class CaseView(NamedTuple):
    """A request for a page: an erasure with what it would do, a rectification with the entries that it can correct."""

    file: SubjectCase
    preview: ErasurePreview | None = None
    entries: Sequence[HistoryEntry] = ()


class Casework:
    def __init__(self, subjects: Subjects, registrar: Registrar) -> None:
        self._subjects, self._registrar = subjects, registrar

    async def write_letter(self, client: Client, name: str, ask: LetterRequest) -> Letter:
        """Return a letter about a request. This is recorded as a look-up. Raises `Refused` if there is nothing to write yet."""
        case, number = await self._subjects.deadlines.find(client, name)
        kind = ask.kind or _default_kind(case)
        _require_content(case, kind, ask.reasons)
        purpose = ask.purpose or _PURPOSES[ask.language].format(name)
        report = await self._report(client, case, number, kind, purpose)
        owner = self._subjects.config.controllers[case.controller]
        campaigns = [campaign.stops or owner.stops for campaign in owner.campaigns]
        return Letter(
            kind=kind,
            language=ask.language,
            controller_name=owner.name,
            controller_contact=owner.contact,
            officer=owner.officer,
            country=owner.country,
            zone=self._subjects.config.laws[owner.country].zone,
            number=number,
            made_at=self._registrar.access.clock(),
            addressee=ask.addressee or case.addressee,
            place=ask.place,
            protocol=ask.protocol or case.id,
            request_kind=case.kind,
            received_at=case.received_at,
            reasons=ask.reasons or (case.extension_reason if kind == "extension" else case.outcome),
            report=report,
            items=case.items,
            entries=tuple(await self._written(client, case, number)),
            accounts=await self._accounts(case, number, report, ask) if report and kind == "why" else (),
            bars_all="marketing" not in campaigns,
        )

    async def show(self, client: Client, name: str, purpose: str = "") -> SubjectCase:
        """Return a request with its steps. With a purpose, also the number and the address, after the look-up is recorded."""
        file = await self._subjects.deadlines.show(client, name)
        if not purpose:
            return file
        return await self._with_personal_data(file, *await self._look_up(client, name, purpose))

    async def _with_personal_data(self, file: SubjectCase, case: Case, number: str) -> SubjectCase:
        attachments = await self._subjects.attachments.find(case)
        return structs.replace(
            file, number=number, addressee=case.addressee, items=list(case.items), attachments=attachments
        )

    async def read_attachment(
        self, client: Client, name: str, digest: str, purpose: str
    ) -> tuple[Attachment, bytes]:
        """Return an attachment and its content. This is recorded as a look-up. Raises `Refused`."""
        case, _ = await self._look_up(client, name, purpose)
        return await self._subjects.attachments.read(case, digest)

    async def view(self, client: Client, name: str) -> CaseView:
        """Return what a page about a request may show. Personal data needs a look-up by this client within the last hour."""
        file = await self._subjects.deadlines.show(client, name)
        case, number = await self._subjects.deadlines.find(client, name)
        if not await self.has_looked_up(client, case, number):
            return CaseView(file)
        is_undone = not case.closed_at and not case.entries
        preview, entries = None, list[HistoryEntry]()
        if case.kind == "erasure" and is_undone:
            preview = await self._subjects.erasing.preview(case.controller, number)
        if case.kind == "rectification" and is_undone:
            entries = await self._registrar.views.history(client, case.controller, number, tuple(KINDS))
        return CaseView(await self._with_personal_data(file, case, number), preview, entries)

    async def has_looked_up(self, client: Client, case: Case, number: str) -> bool:
        """Return whether this client looked up a request about the number within the last hour."""
        since = rfc3339(self._registrar.access.clock() - HOUR)
        seen = await self._subjects.lookups.find(case.controller, number)
        return any(
            look.client == client.name and look.what == "request" and look.at >= since for look in seen
        )

    async def preview_erasure(self, client: Client, name: str, purpose: str) -> ErasurePreview:
        """Return what the erasure of this request would do now. This is recorded as a look-up."""
        case, number = await self._look_up(client, name, purpose)
        return await self._subjects.erasing.preview(case.controller, number)

    async def portable(self, client: Client, name: str, purpose: str) -> Portable:
        case, number = await self._subjects.deadlines.find(client, name)
        return await self._subjects.export_portable(client, case.controller, number, purpose)

    async def _look_up(self, client: Client, name: str, purpose: str) -> tuple[Case, str]:
        case, number = await self._subjects.deadlines.find(client, name)
        await self._subjects.look_up(client, case.controller, number, "request", purpose)
        return case, number

    async def execute(self, client: Client, name: str, ask: ExecutionRequest) -> SubjectCase:
        """Do what a request asks for. The request stays open, for the answer to the person.

        It can be repeated if it was interrupted. Raises `Refused` if the request is closed, or needs nothing done.
        """
        case, number = await self._subjects.deadlines.find(client, name)
        common = {"controller": case.controller, "actor": ask.actor, "proof": f"request:{name}"}
        missing: dict[str, str] = {}
        match case.kind:
            case "erasure":
                erase = ErasureRequest(request=name, **common)
                erasure = await self._subjects.erasing.erase(client, number, erase)
                missing = erasure.missing
            case "rectification":
                rectify = RectificationRequest(request=name, of=ask.of, fields=ask.fields, **common)
                await self._subjects.rectify(client, number, rectify)
            case "objection" | "restriction":
                await self._stop_calls(client, case, number, ask.actor)
            case _:
                text = f"A request of the kind {case.kind} needs a letter, nothing else."
                raise Refused("request.invalid", text, "id")
        return structs.replace(await self.show(client, name), missing=missing)

    async def _stop_calls(self, client: Client, case: Case, number: str, actor: str) -> None:
        """Record the revocation that carries out an objection (GDPR 21(3)) or a restriction (GDPR 18(2)), once."""
        if case.closed_at:
            raise Refused("subject.closed", "This request is closed. Open a new one.", "id", 409)
        stop = RevocationRequest(
            number=number,
            controller=case.controller,
            actor=actor,
            channel=case.kind,
            proof=f"request:{case.id}",
            at=datetime.fromtimestamp(case.received_at / SECOND, UTC),
        )
        receipt = await self._registrar.revocations.revoke(client, stop, once=True)
        seq = self._registrar.ids.entry_seq(receipt.seq)
        executed = Executed(
            what=f"calls stopped, entry {receipt.seq}", actor=client.actor(actor), entries=(seq,)
        )
        await self._subjects.deadlines.execute(client, case.id, executed)

    async def register(self, client: Client) -> str:
        """Return the register of this client's requests as CSV, oldest first. It contains no number (GDPR 5(2))."""
        deadlines = self._subjects.deadlines
        cases = [*await deadlines.open_cases(client), *await deadlines.closed_cases(client, 0)]
        cases.sort(key=lambda case: case.received_at)
        return csv_text.table([_REGISTER, *map(_register_row, cases)])

    async def _report(
        self, client: Client, case: Case, number: str, kind: LetterKind, purpose: str
    ) -> Report | None:
        if kind in {"access", "why"}:
            return await self._subjects.report(client, case.controller, number, purpose)
        await self._subjects.look_up(client, case.controller, number, "request", purpose)
        return None

    async def _written(self, client: Client, case: Case, number: str) -> list[HistoryEntry]:
        """Return the ledger entries that carried out the request."""
        if not case.entries:
            return []
        ids = {self._registrar.ids.entry_id(seq) for seq in case.entries}
        history = await self._registrar.views.history(client, case.controller, number)
        return [entry for entry in history if entry.seq in ids]

    async def _accounts(
        self, case: Case, number: str, report: Report, ask: LetterRequest
    ) -> tuple[tuple[str, ...], ...]:
        """Return the sentences about each decision in the report that this gate can read, newest first."""
        config = self._subjects.config
        person = Person(config, case.controller, number, self._registrar.access.keys)
        found = await asyncio.to_thread(inventory.found, person)
        shown = {decision.id for decision in report.decisions}
        names = {owner.id: owner.name for owner in config.controllers.values()}
        return tuple(
            tuple(map(without_hashes, explanation.account(decision, ask.language, names).words))
            for decision in found
            if self._registrar.ids.outside(decision.record.id, case.controller) in shown
        )


def report_letter(report: Report, language: Language, made_at: Instant) -> Letter:
    """Return the access letter for a report that belongs to no request."""
    return copy_fields(report, Letter, kind="access", language=language, made_at=made_at, report=report)


_REGISTER: Final = (
    "id", "controller", "kind", "received_at", "due_at", "extended_at", "closed_at", "state", "late", "channel", "identified",
    "recorded_by", "assignee", "closed_by", "response",
)  # fmt: skip


def _register_row(case: CaseInfo) -> tuple[str, ...]:
    ends = {"withdrawn": case.withdrawn, "refused": case.refused, "answered": case.closed_at}
    state = next((name for name, is_so in ends.items() if is_so), "open")
    late = case.days_left < 0 or (bool(case.closed_at) and case.closed_at > case.due_at)
    return (
        case.id, case.controller, case.kind, case.received_at, case.due_at, case.extended_at, case.closed_at, state,
        "yes" if late else "no", case.channel, case.identified, case.actor, case.assignee, case.closed_by, case.outcome,
    )  # fmt: skip


def _default_kind(case: Case) -> LetterKind:
    return "refusal" if case.refused else case.kind


def _require_content(case: Case, kind: LetterKind, reasons: str) -> None:
    if kind in EXECUTED and not case.entries:
        text = f"The {kind} has not been carried out for this request. Carry it out, then write the letter."
        raise Refused("subject.premature", text, "kind", 409)
    known = case.extension_reason if kind == "extension" else case.outcome if case.refused else ""
    if kind in {"refusal", "extension"} and not (reasons or known):
        text = f"A letter of {kind} gives reasons (GDPR art. 12). Send `reasons`."
        raise Refused("request.invalid", text, "reasons")
    if kind == "complaint" and not (reasons or case.outcome):
        text = "The answer to a complaint says what you found and what you do about it. Send it as `reasons`."
        raise Refused("request.invalid", text, "reasons")
