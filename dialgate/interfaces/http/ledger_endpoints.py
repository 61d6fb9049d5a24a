"""The endpoints for ledger entries and caller IDs."""

from typing import Any, Final

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client, Scope
from dialgate.interfaces.http import file_requests, ledger
from dialgate.interfaces.http.endpoint import (
    JSON_ERRORS,
    NDJSON,
    EndpointGroup,
    Media,
    Parameter,
    parameters_of,
)
from dialgate.interfaces.http.errors import Failed
from dialgate.interfaces.http.file_requests import HINTS, LIST_FILES, SKIPPED, UPLOAD_ERRORS, UPLOAD_FAULTS
from dialgate.interfaces.http.headers import IN_FORCE, NOTE
from dialgate.interfaces.http.ledger import CONSENT_KINDS, ConsentHistory, HistoryQuery
from dialgate.interfaces.http.ledger_export import export_ledger
from dialgate.interfaces.http.revocation_stream import Position, stream_revocations
from dialgate.ledger import ledger_file
from dialgate.ledger.consent_voiding import EnrolmentRequest, VoidedConsents
from dialgate.ledger.import_reports import EntriesReport, RevocationsReport
from dialgate.ledger.job_kinds import ImportEntries, ImportRevocations
from dialgate.ledger.request_fields import fields_of
from dialgate.ledger.request_lines import MOST_LINES, LineKind
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    EntriesRequest,
    LiftRequest,
    NumberConfirmation,
    Receipt,
    RevocationRequest,
    RevocationsRequest,
    WithdrawalRequest,
)
from dialgate.ledger.suppression_feed import Notice
from dialgate.lists.call_list import RowProblem

LEDGER: Final = EndpointGroup(
    "The ledger",
    "Record and look up revocations, consents, contracts, call requests, wrong numbers and caller-ID proofs.",
)
_WRITE: Final = (
    *JSON_ERRORS,
    "number.invalid",
    "controller.unknown",
    "store.unavailable",
    "gate.unavailable",
)
_LIFT: Final = (*JSON_ERRORS, "ledger.unknown", "store.unavailable", "gate.unavailable")
_READ: Final = ("number.invalid", "controller.unknown", "lookup.throttled", "store.unavailable")


_SEQ: Final = Parameter(
    name="seq",
    about="`seq` of the entry to lift.",
    required=True,
    schema={"type": "integer", "minimum": 0},
    place="path",
)


def _record(name: str, path: str, about: str, ask: Any, *errors: str, **more: Any) -> None:
    LEDGER.add(
        method="POST",
        path=path,
        name=name,
        about=about,
        ask=ask,
        status=201,
        errors=(*_WRITE, *errors),
        **{"serve": _RECORD, "scope": "ledger", "answer": Receipt, **more},
    )


def _record_each(
    kind: LineKind, name: str, path: str, about: str, ask: Any, *errors: str, **more: Any
) -> None:
    """Add an endpoint for one request in JSON, or for many in lines."""
    one = more.pop("serve", _RECORD)
    _record(
        name,
        path,
        f"{about} Sent as application/x-ndjson, a body has up to {MOST_LINES:,} such requests, one per line. The answers are in their "
        "order, a receipt or an error per line.",
        ask,
        *errors,
        *UPLOAD_FAULTS,
        serve=file_requests.one_or_lines(kind, ask, one),
        also_asks=(Media(name=NDJSON, kind=bytes, lines=(ask,)),),
        also_answers=(Media(name=NDJSON, kind=bytes, lines=(Receipt, Failed)),),
        **more,
    )


def _import(name: str, path: str, about: str, scope: Scope, query: Any, job: Any, **fixed: str) -> None:
    report = RevocationsReport if query is RevocationsRequest else EntriesReport
    LEDGER.add(
        method="POST",
        path=f"{path}/import",
        name=name,
        about=f"{about} The body is a text, CSV or XLSX file. The other fields are in the query.",
        serve=file_requests.import_file(query, job, **fixed),
        scope=scope,
        query=query,
        parameters=(
            *(
                Parameter(name=field.name, about=field.description, required=False)
                for field in fields_of(query)
                if field.name not in fixed
            ),
            *HINTS,
            SKIPPED,
        ),
        also_asks=LIST_FILES,
        answer=report,
        also_answers=(Media(name=NDJSON, kind=bytes, lines=(RowProblem, report, Failed)),),
        status=201,
        errors=UPLOAD_ERRORS,
    )


def _lifted(name: str, path: str, about: str, select: Any, ask: Any, **more: Any) -> None:
    """Add the endpoint that lifts a ledger entry, at `{path}/{seq}/lift`.

    `more` holds other fields of `Endpoint`: `scope` and `errors`.
    """
    LEDGER.add(
        method="POST",
        path=f"{path}/{{seq:[0-9]{{1,18}}}}/lift",
        name=name,
        about=about,
        serve=ledger.lift(select),
        parameters=(_SEQ,),
        ask=ask,
        answer=Receipt,
        status=201,
        **more,
    )


def _history(name: str, path: str, about: str, *kinds: str) -> None:
    LEDGER.add(
        method="GET",
        path=path,
        name=name,
        about=about,
        serve=ledger.history(*kinds),
        scope="read",
        query=HistoryQuery,
        parameters=parameters_of(HistoryQuery),
        answer=ledger.History,
        errors=_READ,
    )


_RECORD: Final = ledger.write(lambda registrar: registrar.consents.record)
_STREAMED: Final = ("streams.too_many", "store.unavailable", "gate.unavailable")

_record_each("revocation", "addRevocation", "/v1/revocations",
        "Record a revocation. It applies to every decision after the receipt's `at`. If the number can be read, the revocation is "
        "in force, whatever is wrong with other fields; `note` names the fields that were ignored. A time in the future means now.",
        RevocationRequest, serve=ledger.stop(lambda registrar: registrar.revocations.stop), scope="revoke")  # fmt: skip
_history("listRevocations", "/v1/revocations", "Return the revocations for a number, including lifted ones.", "revoked", "lifted")  # fmt: skip
LEDGER.endpoint(
    "GET",
    "/v1/revocations/stream",
    scope="stream",
    also_answers=(Media(name=NDJSON, kind=bytes, lines=(Notice, Position, Failed)),),
    errors=_STREAMED,
)(stream_revocations)
LEDGER.endpoint(
    "GET",
    "/v1/ledger/export",
    scope="admin",
    copies=True,
    also_answers=(
        Media(name=NDJSON, kind=bytes, lines=(ledger_file.ExportHeader, ledger_file.ExportLine, Failed)),
    ),
    errors=_STREAMED,
)(export_ledger)
_lifted("liftRevocation", "/v1/revocations", "Lift a revocation that was recorded by mistake, or that a later consent supersedes.",
        lambda registrar: registrar.revocations.lift, LiftRequest, scope="revoke",
        errors=(*_LIFT, "revocation.unknown", "revocation.lifted", "controller.unknown"))  # fmt: skip
_history("listWrongNumbers", "/v1/wrong-numbers", "Return the wrong-number reports about a number, including lifted ones.", "wrong_number",
         "number_confirmed")  # fmt: skip
_lifted("liftWrongNumber", "/v1/wrong-numbers", "Lift a wrong-number report. Consents and contracts for the number take effect again.",
        lambda registrar: registrar.wrong_numbers.confirm_number, NumberConfirmation, scope="subjects",
        errors=_LIFT)  # fmt: skip
_record_each("consent", "addConsent", "/v1/consents", "Record a consent. It has no effect without a proof that the law accepts, such as an `artefact` and its SHA-256.",
        ConsentRequest, "ledger.full")  # fmt: skip


@LEDGER.endpoint("GET", "/v1/consents", scope="read", errors=_READ)
async def list_consents(_: web.Request, app: App, client: Client, *, query: HistoryQuery) -> ConsentHistory:
    """Return the consents for a number, and their ledger entries.

    If a call that relies on a consent would be denied now, the response has the reason.
    """
    await app.subjects.look_up(client, query.controller, query.number, "consent", query.purpose)
    states = await app.registrar.views.consents(client, query.controller, query.number)
    entries = await app.registrar.views.history(client, query.controller, query.number, CONSENT_KINDS)
    return ConsentHistory(entries, states)


_record("confirmConsent", "/v1/consents/confirm", "Confirm a consent by double opt-in. Until then it has no effect.",
        ConfirmationRequest, "ledger.unknown")  # fmt: skip
_record("withdrawConsent", "/v1/consents/withdraw", "Record the withdrawal of a consent. It applies to every decision after the receipt's `at`.",
        WithdrawalRequest, "ledger.unknown", serve=ledger.stop(lambda registrar: registrar.consents.withdraw))  # fmt: skip
_record("voidConsents", "/v1/consents/void",
        "Void the consents of numbers that a registry reported as enrolled, with the receipt of the consultation as `proof`. The "
        "nightly job sends them; repetitions change nothing.",
        EnrolmentRequest, serve=ledger.write(lambda registrar: registrar.consents.void), answer=VoidedConsents)  # fmt: skip
_record_each("contract", "addContract", "/v1/contracts", "Record a contract.", ContractRequest, "ledger.full")
_history("listContracts", "/v1/contracts", "Return the contracts for a number.", "contract", "contract_ended")
_record("endContract", "/v1/contracts/end", "Record the end of a contract. `ends` is its last day.",
        ContractEndRequest, "ledger.unknown")  # fmt: skip
_record_each("call_request", "addCallRequest", "/v1/call-requests", "Record that the data subject requested a call.",
        CallRequestRequest, "ledger.full")  # fmt: skip
_history("listCallRequests", "/v1/call-requests", "Return the call requests for a number.", "call_request")
_import("importRevocations", "/v1/revocations", "Record a revocation for each number in a file. Every row with a number is revoked.",
        "revoke", RevocationsRequest, ImportRevocations)  # fmt: skip
_import("importConsents", "/v1/consents", "Record a consent for each row of a file.", "ledger", EntriesRequest,
        ImportEntries, kind="consent")  # fmt: skip
_import("importContracts", "/v1/contracts", "Record a contract for each row of a file.", "ledger", EntriesRequest,
        ImportEntries, kind="contract")  # fmt: skip
_import("importCallRequests", "/v1/call-requests", "Record a call request for each row of a file.", "ledger", EntriesRequest,
        ImportEntries, kind="call_request")  # fmt: skip


@LEDGER.endpoint(
    "POST",
    "/v1/caller-ids/proofs",
    scope="ledger",
    status=204,
    headers={
        IN_FORCE: "Where and from when the proof applies.",
        NOTE: "Why the proof has no effect yet. Absent if it has an effect.",
    },
    errors=("caller_id.invalid", "controller.unknown", "store.unavailable"),
)
async def add_caller_id_proof(
    _: web.Request, app: App, client: Client, *, ask: CallerIdProofRequest
) -> web.StreamResponse:
    """Record whether a call to a caller ID was answered.

    It applies on this node before the response is sent; the header `Dialgate-In-Force` says when it applies on other nodes.
    If no campaign uses the caller ID, the header `Dialgate-Note` says so.
    """
    receipt = await app.registrar.caller_ids.prove_caller_id(client, ask)
    headers = {"Cache-Control": "no-store", IN_FORCE: receipt.in_force}
    return web.Response(status=204, headers=headers | ({NOTE: receipt.note} if receipt.note else {}))
