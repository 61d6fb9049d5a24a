"""For the officer: a number and what is held about it, one decision, and its evidence."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from dialgate.audit import evidence, explanation
from dialgate.audit.explanation import Account
from dialgate.audit.lookups import Reason
from dialgate.audit.number_history import FoundDecision, Visibility
from dialgate.cluster.peer_questions import FindDecisions
from dialgate.core.model import Deny, Outcome
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import chains
from dialgate.decision_log.inclusion_proofs import NoEvidence
from dialgate.decision_log.records import Record
from dialgate.interfaces.console.page_request import Visit
from dialgate.interfaces.http.decisions import TURN, client_account, decision_search, require_found
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of
from dialgate.ledger.schemas import ConsentStanding, HistoryEntry
from dialgate.store import factory

_MOST: Final = 25
_KINDS: Final = (
    "revoked", "lifted", "consent", "consent_confirmed", "consent_withdrawn", "consents_voided", "contract",
    "contract_ended", "call_request", "wrong_number", "number_confirmed",
)  # fmt: skip


class _Asked(Struct, frozen=True, kw_only=True):
    number: str
    purpose: Reason
    controller: str = ""


class Held(Struct, frozen=True, kw_only=True):
    """What is shown of a number. `more`: there are older decisions."""

    number: str
    controller: str
    decisions: list[Account]
    more: bool
    notices: list[str]
    ledger: list[HistoryEntry]
    consents: list[ConsentStanding]

    @property
    def wrong_number(self) -> bool:
        lifted = {entry.details.get("of") for entry in self.ledger if entry.kind == "number_confirmed"}
        return any(entry.kind == "wrong_number" and entry.seq not in lifted for entry in self.ledger)

    @property
    def stopped(self) -> bool:
        lifted = {entry.details.get("of") for entry in self.ledger if entry.kind == "lifted"}
        return any(entry.kind == "revoked" and entry.seq not in lifted for entry in self.ledger)


# ---- look-up ---------------------------------------------------------------------------------------------------------


async def ask(visit: Visit) -> web.StreamResponse:
    return visit.show("lookup", "lookup", asked={}, held=None)


async def looked_up(visit: Visit) -> web.StreamResponse:
    asked = await visit.form()
    try:
        held = await _held(visit, convert(asked, _Asked))
    except FAILURES as error:
        fault = fault_of(error)
        field = fault.problem.field
        return visit.show("lookup", "lookup", fault.status, asked=asked, held=None, error=_code(fault, field))
    return visit.show("lookup", "lookup", asked=asked, held=held)


def _code(fault: Fault, field: str) -> str:
    return "console.purpose" if field == "purpose" else fault.problem.code


async def _held(visit: Visit, asked: _Asked) -> Held:
    """Recorded first, as every reading of a number is."""
    app, client = visit.app, visit.client
    owner, number = await app.subjects.look_up(
        client, asked.controller, asked.number, "account", asked.purpose
    )
    sees = Visibility.of(client.name, client.controllers, owner)
    question = FindDecisions(number=number, sees=sees, most=_MOST + 1)
    decisions, missing = await decision_search(visit.request.app, app, client.name).about(question)
    found, language = decisions.found, visit.words.language
    return Held(
        number=number,
        controller=owner,
        decisions=[client_account(app, each, language) for each in found[:_MOST]],
        more=len(found) > _MOST,
        notices=explanation.notices(language, decisions.retired, missing, nothing=False),
        ledger=await app.registrar.views.history(client, owner, number, _KINDS),
        consents=await app.registrar.views.consents(client, owner, number),
    )


# ---- one decision ----------------------------------------------------------------------------------------------------


async def decision(visit: Visit) -> web.StreamResponse:
    return await _decision(visit)


async def _decision(visit: Visit, status: int = 200, error: str = "") -> web.Response:
    found = await _found(visit)
    told = client_account(visit.app, found, visit.words.language)
    record = found.record
    return visit.show(
        "decision",
        "",
        status,
        told=told,
        outcomes=_worded(visit, record.decision.outcomes),
        facts=_facts(record, shared=visit.app.config.shared),
        node=record.node,
        provable=visit.may("subjects")
        and _sees_whole_gate(visit)
        and await asyncio.to_thread(_here, visit, record),
        error=error,
    )


async def _found(visit: Visit) -> FoundDecision:
    """What it shows holds no number. Raises `Fault` where it is not the client's, or not there."""
    sees = Visibility.of(visit.client.name, visit.client.controllers)
    name = visit.app.registrar.ids.inside(visit.client, visit.request.match_info["id"])
    logs = decision_search(visit.request.app, visit.app, visit.client.name)
    return require_found(*await logs.one(name, sees)) if name else require_found(None, {})


def _worded(visit: Visit, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return the outcomes of the rules, the denials as clients see them."""
    return {
        rule: visit.app.registrar.ids.worded([outcome])[0] if isinstance(outcome, Deny) else outcome
        for rule, outcome in outcomes.items()
    }


def _facts(record: Record, *, shared: bool) -> dict[str, Any]:
    """The ledger's sequence counts the entries of every controller: a gate that several share leaves it out."""
    facts = record.facts
    return {
        "kind": facts.number.kind,
        "region": facts.number.region,
        "zones": ", ".join(place.zone for place in facts.places),
        "attempts": len(facts.known.attempts),
        "consents": len(facts.known.consents),
        "contracts": len(facts.known.contracts),
        "requests": len(facts.known.requests),
        "revocations": len(facts.known.revocations),
        "seq": 0 if shared else facts.known.seq,
    }


def _here(visit: Visit, record: Record) -> bool:
    """Not in the log of another gate on the store, which alone can prove it."""
    data = visit.app.config.data
    return chains.worker_of(data, Keys.open(data / "keys.json").log, record.id.rpartition("-")[0]) is not None


# ---- evidence --------------------------------------------------------------------------------------------------------


def _sees_whole_gate(visit: Visit) -> bool:
    """A bundle holds the configuration that a decision rests on, and so names every controller of the gate."""
    return set(visit.app.config.controllers) <= set(visit.client.controllers)


async def evidence_of(visit: Visit) -> web.StreamResponse:
    """It shows the number, so it is a look-up and recorded as one."""
    asked = await visit.form()
    if not _sees_whole_gate(visit):
        raise Fault(403, "console.evidence", "It would name other controllers; the operator can make it.")
    found = await _found(visit)
    if not await asyncio.to_thread(_here, visit, found.record):
        return await _decision(visit, 409, "console.elsewhere")
    try:
        body = await _bundle(visit, found, asked.get("purpose", ""))
    except NoEvidence:
        return await _decision(visit, 409, "console.uncovered")
    except FAILURES as error:
        fault = fault_of(error)
        field = fault.problem.field
        return await _decision(visit, fault.status, _code(fault, field))
    name = f'attachment; filename="evidence-{visit.request.match_info["id"]}.json"'
    headers = {"Content-Disposition": name, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=body, content_type="application/json", headers=headers)


async def _bundle(visit: Visit, found: FoundDecision, purpose: str) -> bytes:
    app, record, data = visit.app, found.record, visit.app.config.data
    number = await asyncio.to_thread(_number, Keys.open(data / "keys.json"), record)
    owner = record.facts.controller.id or visit.client.controllers[0]
    convert({"number": number, "purpose": purpose}, _Asked)
    await app.subjects.record_lookup(visit.client, owner, number, "evidence", purpose)
    now = app.gate.now()

    async def made() -> bytes:
        path, signer = data / "keys.json", Signer.open(data / "signing.json", now)
        worker = chains.worker_of(data, Keys.open(path).log, record.id.rpartition("-")[0]) or 1
        store = await factory.open_store(app.config, patience=5)
        try:
            sources = evidence.Sources.of(
                data, keys=Keys.open(path, worker), signer=signer, store=store, worker=worker
            )
            return await evidence.of_decision(sources, record.id, now)
        finally:
            await store.close()

    async with visit.request.app[TURN].of(visit.client.name):
        return await asyncio.to_thread(lambda: asyncio.run(made()))


def _number(keys: Keys, record: Record) -> str:
    return keys.month(record.at).unseal(record.sealed).split(" ", 1)[0]
