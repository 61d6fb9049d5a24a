"""The pages for looking up a number, showing a decision and downloading its evidence."""

import asyncio
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from dialgate.audit import explanation
from dialgate.audit.evidence_files import EvidenceOrder
from dialgate.audit.explanation import Account
from dialgate.audit.number_history import Visibility
from dialgate.config.configuration import Config
from dialgate.core.responses import rule_outcome
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, shown
from dialgate.interfaces.http.decisions import client_account, find_decision, inquire
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of
from dialgate.interfaces.http.ledger import HistoryQuery
from dialgate.interfaces.http.proof_files import send_proof
from dialgate.interfaces.http.reports import make_bundles
from dialgate.interfaces.http.subjects import PurposeQuery
from dialgate.ledger.view_schemas import ConsentStanding, HistoryEntry

_MOST: Final = 25
_KINDS: Final = (
    "revoked", "lifted", "consent", "consent_confirmed", "consent_withdrawn", "consents_voided", "contract",
    "contract_ended", "call_request", "wrong_number", "number_confirmed",
)  # fmt: skip


class NumberHistory(Struct, frozen=True, kw_only=True):
    """All data shown for a number. `more` is true if older decisions were left out."""

    number: str
    controller: str
    decisions: list[Account]
    more: bool
    notices: list[str]
    ledger: list[HistoryEntry]
    consents: list[ConsentStanding]
    files: set[str]  # the SHA-256 of the files that prove the consents and are on this gate

    @property
    def is_wrong_number(self) -> bool:
        return self._is_in_force("wrong_number", lifted_by="number_confirmed")

    @property
    def is_opted_out(self) -> bool:
        return self._is_in_force("revoked", lifted_by="lifted")

    def _is_in_force(self, kind: str, *, lifted_by: str) -> bool:
        own = {consent.id for consent in self.consents}
        lifted = {
            entry.details.get("of")
            for entry in self.ledger
            # Another controller's consent lifts no stop for this one.
            if entry.kind == lifted_by
            and (entry.controller != "*" or entry.details.get("consent", "") in {"", *own})
        }
        return any(entry.kind == kind and entry.seq not in lifted for entry in self.ledger)


# ---- look-up ---------------------------------------------------------------------------------------------------------


async def show_form(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    return visit.show("lookup", fields=fields, **{"history": None, **context})


async def look_up(visit: Visit) -> web.StreamResponse:
    fields = await visit.form()
    try:
        history = await _history(visit, convert(fields, HistoryQuery))
    except FAILURES as error:
        return await show_form(visit, fields, **_shown(error))
    return await show_form(visit, fields, history=history)


def _shown(error: Exception) -> dict[str, Any]:
    """Return status and code like `shown`, with the codes that pages on a number explain in their own words."""
    problem = fault_of(error).problem
    codes = {"evidence.missing": "console.uncovered"}
    code = "console.purpose" if problem.field == "purpose" else codes.get(problem.code, problem.code)
    return {**shown(error), "error": code}


async def _history(visit: Visit, request: HistoryQuery) -> NumberHistory:
    app, client = visit.app, visit.client
    owner, number = await app.subjects.look_up(
        client, request.controller, request.number, "account", request.purpose
    )
    sees = Visibility.for_client(client.name, client.controllers, owner)
    found, retired = await inquire(
        visit.request.app,
        app,
        client.name,
        lambda inquiry: (inquiry.find(number, sees, most=_MOST + 1), inquiry.retired()),
    )
    ledger = await app.registrar.views.history(client, owner, number, _KINDS)
    digests = [entry.details.get("artefact_sha256", "") for entry in ledger]
    coverage, language = await app.shipped_logs.coverage(app.config), visit.words.language
    return NumberHistory(
        number=number,
        controller=owner,
        decisions=[client_account(app, decision, language) for decision in found[:_MOST]],
        more=len(found) > _MOST,
        notices=explanation.notices(language, retired, coverage.shipped, coverage.missing, nothing=False),
        ledger=ledger,
        consents=await app.registrar.views.consents(client, owner, number),
        files=await asyncio.to_thread(app.subjects.proofs.files.kept, owner, digests),
    )


async def download_proof(visit: Visit) -> web.StreamResponse:
    """Return a file that proves a consent. The download is recorded as a look-up."""
    fields = await visit.form()
    digest = fields.pop("sha256", "")
    return await send_proof(visit.app, visit.client, convert(fields, HistoryQuery), digest)


# ---- one decision ----------------------------------------------------------------------------------------------------


async def show_decision(visit: Visit, **context: Any) -> web.Response:
    found, _ = await find_decision(visit.request, visit.app, visit.client)
    account = client_account(visit.app, found, visit.words.language)
    record = found.record
    outcomes = [rule_outcome(rule, outcome) for rule, outcome in record.decision.outcomes.items()]
    return visit.show(
        "decision",
        here="",
        account=account,
        outcomes=visit.app.registrar.ids.worded(outcomes),
        facts=_facts(record, shared=visit.app.config.shared),
        node=record.node,
        provable=visit.may("officer") and visit.has_every_controller,
        **context,
    )


def _facts(record: Record, *, shared: bool) -> dict[str, Any]:
    """Return the facts to show.

    If several controllers share the gate, `seq` is empty, because the ledger sequence number would reveal how many entries
    other controllers have.
    """
    facts = record.facts
    return {
        "kind": facts.number.kind,
        "region": facts.number.region,
        "zones": ", ".join(place.zone for place in facts.places),
        "places": ", ".join(facts.number.places),
        "attempts": len(facts.known.attempts),
        "consents": len(facts.known.consents),
        "contracts": len(facts.known.contracts),
        "requests": len(facts.known.requests),
        "revocations": len(facts.known.revocations),
        "seq": "" if shared else facts.known.seq,
    }


# ---- evidence --------------------------------------------------------------------------------------------------------


async def download_evidence(visit: Visit) -> web.StreamResponse:
    """Return the evidence for a decision. Evidence contains the number, so the download is recorded as a look-up."""
    fields = await visit.form()
    if not visit.has_every_controller:  # evidence contains the whole configuration
        raise Fault(
            403,
            "console.evidence",
            "The evidence would reveal other controllers. Ask the gate's administrator for it.",
        )
    found, _ = await find_decision(visit.request, visit.app, visit.client)
    try:
        body = await _bundle(visit, found.record, fields.get("purpose", ""))
    except FAILURES as error:
        return await show_decision(visit, **_shown(error))
    name = f'attachment; filename="evidence-{visit.item}.json"'
    headers = {"Content-Disposition": name, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=body, content_type="application/json", headers=headers)


async def _bundle(visit: Visit, record: Record, purpose: str) -> bytes:
    app = visit.app
    number = await asyncio.to_thread(_number, app.config, record)
    owner = record.facts.controller.id or visit.client.controllers[0]
    convert({"purpose": purpose}, PurposeQuery)
    await app.subjects.record_lookup(visit.client, owner, number, "evidence", purpose)
    (bundle,), _ = await make_bundles(visit.request, app, visit.client, EvidenceOrder(decision=record.id))
    return bundle


def _number(config: Config, record: Record) -> str:
    return Chains(config.data, config.shipped).month_keys(record).called_number(record.sealed)
