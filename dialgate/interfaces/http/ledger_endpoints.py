"""The table of endpoints for the ledger, call lists and caller IDs."""

from typing import Any, Final

from dialgate.config.clients import Scope
from dialgate.interfaces.http import file_requests, ledger, ledger_export, revocation_stream
from dialgate.interfaces.http.call_list_endpoints import HINTS, LIST_FILES, SKIPPED, UPLOAD_ERRORS
from dialgate.interfaces.http.endpoint import (
    JSON_ERRORS,
    NDJSON,
    Endpoint,
    EndpointGroup,
    Media,
    Parameter,
)
from dialgate.interfaces.http.errors import Failed
from dialgate.interfaces.http.headers import IN_FORCE, NOTE
from dialgate.interfaces.http.subjects import PURPOSE
from dialgate.ledger import ledger_file
from dialgate.ledger.consent_voiding import EnrolmentRequest, VoidedConsents
from dialgate.ledger.import_reports import EntriesReport, RevocationsReport
from dialgate.ledger.request_fields import fields_of
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

_LEDGER: Final = EndpointGroup(
    "The ledger",
    "Record and look up revocations, consents, contracts, call requests, wrong numbers and caller-ID proofs.",
)
_AFTER: Final = Parameter(
    name="after",
    about="`seq` of the last line received, or 0 for the beginning. Default: the stream begins with the next entry.",
)
_ABOUT_WHOM: Final = (
    Parameter(name="number", about="The data subject's number, in E.164."),
    PURPOSE,
    Parameter(name="controller", about="Required only if the client has several controllers."),
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


def _declare(
    name: str, path: str, about: str, ask: Any, *errors: str, serve: ledger.Serve | None = None
) -> Endpoint:
    return Endpoint(
        method="POST",
        path=path,
        name=name,
        group=_LEDGER,
        about=about,
        serve=serve or ledger.write(ask, lambda registrar: registrar.consents.record),
        scope="ledger",
        ask=ask,
        answer=Receipt,
        status=201,
        errors=(*_WRITE, *errors),
    )


def _import(name: str, path: str, about: str, scope: Scope, query: Any, serve: ledger.Serve) -> Endpoint:
    report = RevocationsReport if query is RevocationsRequest else EntriesReport
    return Endpoint(
        method="POST",
        path=f"{path}/import",
        name=name,
        group=_LEDGER,
        about=f"{about} The body is a text, CSV or XLSX file. The other fields are in the query.",
        serve=serve,
        scope=scope,
        query=query,
        parameters=(
            *(
                Parameter(name=field.name, about=field.description, required=False)
                for field in fields_of(query)
                if field.name != "kind"
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


def _lifted(name: str, path: str, about: str, select: Any, ask: Any, **more: Any) -> Endpoint:
    """Return the endpoint that lifts a ledger entry, at `{path}/{seq}/lift`.

    `more` holds other fields of `Endpoint`: `scope` and `errors`.
    """
    return Endpoint(
        method="POST",
        path=f"{path}/{{seq:[0-9]{{1,18}}}}/lift",
        name=name,
        group=_LEDGER,
        about=about,
        serve=ledger.lift(ask, select),
        parameters=(_SEQ,),
        ask=ask,
        answer=Receipt,
        status=201,
        **more,
    )


def _history(name: str, path: str, about: str, *kinds: str) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        name=name,
        group=_LEDGER,
        about=about,
        serve=ledger.history(*kinds),
        scope="read",
        query=ledger.HistoryQuery,
        parameters=_ABOUT_WHOM,
        answer=ledger.History,
        errors=_READ,
    )


LEDGER_ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/revocations",
        name="addRevocation",
        group=_LEDGER,
        about=(
            "Record a revocation. It applies to every decision after the receipt's `at`. If the number can be read, the revocation is "
            "in force, whatever is wrong with other fields; `note` names the fields that were ignored. A time in the future means now."
        ),
        serve=ledger.stop(lambda registrar: registrar.revocations.stop),
        scope="revoke",
        ask=RevocationRequest,
        answer=Receipt,
        status=201,
        errors=_WRITE,
    ),
    _history("listRevocations", "/v1/revocations", "Return the revocations for a number, including lifted ones.", "revoked", "lifted"),
    Endpoint(
        method="GET",
        path="/v1/revocations/stream",
        name="streamRevocations",
        group=_LEDGER,
        about=(
            "Stream revocations with their numbers. The response is NDJSON with one revocation per line, and does not "
            "end. A line with `seq` alone keeps "
            "the connection open. `after` resumes after the last line received. `seq` is opaque: store the last one, and "
            "do not compare values."
        ),
        serve=revocation_stream.stream,
        scope="stream",
        query=revocation_stream.StreamQuery,
        parameters=(_AFTER,),
        also_answers=(
            Media(
                name=NDJSON,
                kind=bytes,
                lines=(Notice, revocation_stream.Position, Failed),
            ),
        ),
        errors=("streams.too_many", "store.unavailable", "gate.unavailable"),
    ),
    Endpoint(
        method="GET",
        path="/v1/ledger/export",
        name="exportLedger",
        group=_LEDGER,
        about=(
            "Export the ledger with call lists, caller-ID proofs and counted attempts, as NDJSON. The first line says to which "
            "entry the ledger reaches. The last has the kind `end` and the number of rows; if it is missing, the export is "
            "incomplete. Called numbers are keyed hashes and ciphertexts, which `dialgate ledger import` reads with the same "
            "`keys.json`. With `numbers=true`, each ledger entry also has the number in clear, and the ledger records the "
            "export. Only for clients with every controller."
        ),
        serve=ledger_export.export,
        scope="admin",
        query=ledger_export.Query,
        parameters=(
            Parameter(name="numbers", about="Whether ledger entries have the number in clear."),
        ),
        also_answers=(
            Media(name=NDJSON, kind=bytes, lines=(ledger_file.Header, ledger_file.Line, Failed)),
        ),
        errors=("streams.too_many", "store.unavailable", "gate.unavailable"),
    ),
    _lifted("liftRevocation", "/v1/revocations", "Lift a revocation that was recorded by mistake, or that a later consent supersedes.",
            lambda registrar: registrar.revocations.lift, LiftRequest, scope="revoke",
            errors=(*_LIFT, "revocation.unknown", "revocation.lifted", "controller.unknown")),
    _history("listWrongNumbers", "/v1/wrong-numbers", "Return the wrong-number reports about a number, including lifted ones.", "wrong_number",
             "number_confirmed"),
    _lifted("liftWrongNumber", "/v1/wrong-numbers", "Lift a wrong-number report. Consents and contracts for the number take effect again.",
            lambda registrar: registrar.wrong_numbers.confirm_number, NumberConfirmation, scope="subjects",
            errors=_LIFT),
    _declare("addConsent", "/v1/consents", "Record a consent. It has no effect without an `artefact` and its SHA-256.",
             ConsentRequest, "ledger.full"),
    Endpoint(
        method="GET",
        path="/v1/consents",
        name="listConsents",
        group=_LEDGER,
        about=(
            "Return the consents for a number, and their ledger entries. If a call that relies on a consent would be "
            "denied now, the response has the reason."
        ),
        serve=ledger.consents,
        scope="read",
        query=ledger.HistoryQuery,
        parameters=_ABOUT_WHOM,
        answer=ledger.ConsentHistory,
        errors=_READ,
    ),
    _declare("confirmConsent", "/v1/consents/confirm", "Confirm a consent by double opt-in. Until then it has no effect.",
             ConfirmationRequest, "ledger.unknown"),
    _declare("withdrawConsent", "/v1/consents/withdraw", "Record the withdrawal of a consent. It applies to every decision after the receipt's `at`.",
             WithdrawalRequest, "ledger.unknown", serve=ledger.stop(lambda registrar: registrar.consents.withdraw)),
    Endpoint(
        method="POST",
        path="/v1/consents/void",
        name="voidConsents",
        group=_LEDGER,
        about=(
            "Void the consents of numbers that a registry reported as enrolled, with the receipt of the consultation as `proof`. The "
            "nightly job sends them; repetitions change nothing."
        ),
        serve=ledger.write(EnrolmentRequest, lambda registrar: registrar.consents.void),
        scope="ledger",
        ask=EnrolmentRequest,
        answer=VoidedConsents,
        status=201,
        errors=_WRITE,
    ),
    _declare("addContract", "/v1/contracts", "Record a contract.",
             ContractRequest, "ledger.full"),
    _history("listContracts", "/v1/contracts", "Return the contracts for a number.", "contract", "contract_ended"),
    _declare("endContract", "/v1/contracts/end", "Record the end of a contract. `ends` is its last day.",
             ContractEndRequest, "ledger.unknown"),
    _declare("addCallRequest", "/v1/call-requests", "Record that the data subject requested a call.",
             CallRequestRequest, "ledger.full"),
    _history("listCallRequests", "/v1/call-requests", "Return the call requests for a number.", "call_request"),
    _import("importRevocations", "/v1/revocations", "Record a revocation for each number in a file. Every row with a number is revoked.",
            "revoke", RevocationsRequest, file_requests.import_revocations),
    _import("importConsents", "/v1/consents", "Record a consent for each row of a file.", "ledger", EntriesRequest,
            file_requests.import_entries("consent")),
    _import("importContracts", "/v1/contracts", "Record a contract for each row of a file.", "ledger", EntriesRequest,
            file_requests.import_entries("contract")),
    _import("importCallRequests", "/v1/call-requests", "Record a call request for each row of a file.", "ledger", EntriesRequest,
            file_requests.import_entries("call_request")),
    Endpoint(
        method="POST",
        path="/v1/caller-ids/proofs",
        name="addCallerIdProof",
        group=_LEDGER,
        about=(
            "Record whether a call to a caller ID was answered. It applies on this node before the response is sent; the header "
            f"`{IN_FORCE}` says when it applies on other nodes. If no campaign uses the caller ID, the header `{NOTE}` says so."
        ),
        serve=ledger.prove_caller_id,
        scope="ledger",
        ask=CallerIdProofRequest,
        status=204,
        headers={
            IN_FORCE: "Where and from when the proof applies.",
            NOTE: "Why the proof has no effect yet. Absent if it has an effect.",
        },
        errors=(*JSON_ERRORS, "caller_id.invalid", "controller.unknown", "store.unavailable"),
    ),
)  # fmt: skip
