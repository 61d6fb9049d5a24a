"""The work on one data subject's request, which fixes the controller and the number: nothing else has to be named."""

import asyncio
from typing import Final

from dialgate.audit import explanation
from dialgate.config.clients import Client
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Case, Kind
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.subjects import inventory
from dialgate.subjects.inventory import Person
from dialgate.subjects.letter import Letter
from dialgate.subjects.rights import Subjects
from dialgate.subjects.schemas import LetterKind, LetterRequest, Report
from dialgate.texts import Language

# Requests that something must be done for before a letter can say that it was done.
_EXECUTED: Final[frozenset[Kind]] = frozenset({"rectification", "erasure", "restriction", "objection"})
_PURPOSES: Final[dict[Language, str]] = {"it": "lettera per la richiesta {}", "en": "letter for request {}"}


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
            tuple(explanation.account(decision, ask.language, names).words)
            for decision in found
            if self._registrar.ids.outside(decision.record.id, case.controller) in shown
        )


def report_letter(report: Report, language: Language, made_at: Instant) -> Letter:
    """Return the access letter for a report that belongs to no request."""
    return Letter(
        kind="access",
        language=language,
        controller_name=report.controller_name,
        controller_contact=report.controller_contact,
        officer=report.officer,
        country=report.country,
        zone=report.zone,
        number=report.number,
        made_at=made_at,
        report=report,
    )


def _default_kind(case: Case) -> LetterKind:
    return "refusal" if case.refused else case.kind


def _require_content(case: Case, kind: LetterKind, reasons: str) -> None:
    if kind in _EXECUTED and not case.entries:
        text = f"The {kind} has not been carried out for this request. Carry it out, then write the letter."
        raise Refused("subject.premature", text, "kind", 409)
    known = case.extension_reason if kind == "extension" else case.outcome if case.refused else ""
    if kind in {"refusal", "extension"} and not (reasons or known):
        text = f"A letter of {kind} gives reasons (GDPR art. 12). Send `reasons`."
        raise Refused("request.invalid", text, "reasons")
