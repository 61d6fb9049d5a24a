"""The table of endpoints for the ledger, call lists and caller IDs."""

import json
from typing import Any, Final

from dialgate.interfaces.http import ledger, revocation_stream
from dialgate.interfaces.http.endpoint import JSON_ERRORS, NDJSON, Endpoint, Group, Media, Parameter
from dialgate.interfaces.http.errors import Failed
from dialgate.interfaces.http.examples import AT, NUMBER, OTHER_NUMBER, RECEIPT
from dialgate.interfaces.http.headers import IN_FORCE, NOTE
from dialgate.interfaces.http.subjects import PURPOSE
from dialgate.ledger.request_fields import fields_of
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    LiftRequest,
    ListInfo,
    ListReport,
    ListRequest,
    NumberConfirmation,
    Receipt,
    RetiredList,
    RevocationRequest,
    WithdrawalRequest,
)
from dialgate.ledger.suppression_feed import Notice

_LEDGER: Final = Group(
    "The ledger",
    "Record and look up revocations, consents, contracts, call requests, wrong numbers and caller-ID proofs.",
)
_LISTS: Final = Group("Call lists", "Load and retire call lists, with the origin of their numbers.")
_CONSENT: Final = {
    "number": NUMBER,
    "id": "web-2026-000123",
    "collected_at": AT,
    "purposes": ["sale"],
    "call_types": ["agent"],
    "artefact": "forms/2026/000123.pdf",
    "artefact_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
_ENTRY: Final = {
    "seq": 812,
    "at": "2026-11-24T09:00:00.412Z",
    "kind": "revoked",
    "controller": "acme",
    "actor": "agent-17",
    "channel": "call",
    "proof": "recording:2026/11/24/0001.wav",
    "details": {"at": "2026-11-24T09:00:00.000Z", "scope": "controller"},
}
_STANDING: Final = {
    "id": "web-2026-000123",
    "proved": True,
    "purposes": ["sale"],
    "call_types": ["agent"],
    "goods": [],
    "profiling": False,
    "third_party": False,
    "double_opt_in": True,
    "form": "written",
    "states": ["caller"],
    "collected_at": "2026-11-24T09:00:00.000Z",
    "confirmed_at": "2026-11-24T09:05:00.000Z",
    "renewed_at": "",
    "expires_at": "",
    "withdrawn_at": "",
    "voided_at": "",
    "last_used_at": "2026-11-25T09:00:00.000Z",
    "reason": "consent.withdrawn",
    "refused_for": [],
    "place": "",
}
_NOTICE: Final = {
    "seq": 812,
    "kind": "revoked",
    "at": "2026-11-24T09:00:00.412Z",
    "controller": "acme",
    "number": NUMBER,
    "scope": "controller",
    "channel": "call",
}
_AFTER: Final = Parameter(
    name="after",
    about="`seq` of the last line received, or 0 for the beginning. Default: the stream begins with the next entry.",
    example=811,
)
_LIST: Final = {
    "id": "rome-november",
    "controller": "acme",
    "campaigns": ["acme-fibre"],
    "numbers": 2,
    "origin": {"collected_by": "Acme", "collected_on": "2026-10-01", "source": "DBU extract"},
    "loaded_at": "2026-11-24T09:00:00.000Z",
    "actor": "ops",
    "retired_at": "",
}
_UPLOAD: Final[dict[str, Any]] = {
    "id": "rome-november",
    "campaigns": ["acme-fibre"],
    "basis": "directory",
    "collected_by": "Acme",
    "collected_on": "2026-10-01",
    "source": "DBU extract",
    "numbers": [NUMBER, OTHER_NUMBER, "12"],
}
_ABOUT_WHOM: Final = (
    Parameter(name="number", about="The data subject's number, in E.164.", example=NUMBER),
    PURPOSE,
    Parameter(
        name="controller", about="Required only if the client has several controllers.", example="acme"
    ),
)
_ID: Final = Parameter(name="id", about="List ID.", example="rome-november", required=True, place="path")
_WHOSE_LIST: Final = Parameter(
    name="controller",
    about="Required only if several of the client's controllers have a list with this ID.",
    example="acme",
)
_LAYOUT: Final = {
    "format": "text", "encoding": "utf-8", "separator": ",", "sheet": "", "header": [], "number": 1,
}  # fmt: skip
_LIST_FILES: Final = tuple(
    Media(name=name, kind=bytes, example=f"{NUMBER}\n{OTHER_NUMBER}\n" if name.startswith("text/") else None)
    for name in ledger.LIST_FILES
)
_TRANSFERS: Final = {"type": "string", "contentMediaType": "application/json"}
_UPLOADED: Final = tuple(
    Parameter(
        name=field.name,
        about=f"{field.description} Only for a list that is sent as a file.",
        example=_UPLOAD.get(field.name, "[]" if field.name == "transfers" else ""),
        required=False,
        schema=_TRANSFERS if field.name == "transfers" else None,
    )
    for field in fields_of(ListRequest)
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
    example=RECEIPT["seq"],
    required=True,
    schema={"type": "integer", "minimum": 0},
    place="path",
)


def _declare(
    name: str, path: str, about: str, ask: Any, example: Any, *errors: str, serve: ledger.Serve | None = None
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
        ask_example=example,
        answer=Receipt,
        answer_example=RECEIPT,
        status=201,
        errors=(*_WRITE, *errors),
    )


def _lifted(name: str, path: str, about: str, select: Any, ask: Any, **more: Any) -> Endpoint:
    """Return the endpoint that lifts a ledger entry, at `{path}/{seq}/lift`.

    `more` holds other fields of `Endpoint`: `scope`, `ask_example` and `errors`.
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
        answer_example=RECEIPT,
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
        answer_example={"entries": [{**_ENTRY, "kind": kinds[0]}]},
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
        ask_example={"number": NUMBER, "channel": "call", "proof": "recording:2026/11/24/0001.wav", "actor": "agent-17"},
        answer=Receipt,
        answer_example=RECEIPT,
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
        query=revocation_stream.Query,
        parameters=(_AFTER,),
        also_answers=(
            Media(
                name=NDJSON,
                kind=bytes,
                lines=(Notice, revocation_stream.Position, Failed),
                example=json.dumps(_NOTICE) + '\n{"seq": 812}\n',
            ),
        ),
        errors=("streams.too_many", "store.unavailable", "gate.unavailable"),
    ),
    _lifted("liftRevocation", "/v1/revocations", "Lift a revocation that was recorded by mistake, or that a later consent supersedes.",
            lambda registrar: registrar.revocations.lift, LiftRequest, scope="revoke",
            ask_example={"ground": "error", "reason": "the neighbour's number was entered", "actor": "dpo"},
            errors=(*_LIFT, "revocation.unknown", "revocation.lifted", "controller.unknown")),
    _history("listWrongNumbers", "/v1/wrong-numbers", "Return the wrong-number reports about a number, including lifted ones.", "wrong_number",
             "number_confirmed"),
    _lifted("liftWrongNumber", "/v1/wrong-numbers", "Lift a wrong-number report. Consents and contracts for the number take effect again.",
            lambda registrar: registrar.wrong_numbers.confirm_number, NumberConfirmation, scope="subjects",
            ask_example={"ground": "confirmed", "reason": "code sent to the number read back", "actor": "dpo"}, errors=_LIFT),
    _declare("addConsent", "/v1/consents", "Record a consent. It has no effect without an `artefact` and its SHA-256.",
             ConsentRequest, _CONSENT, "ledger.full"),
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
        answer_example={"entries": [{**_ENTRY, "kind": "consent"}], "consents": [_STANDING]},
        errors=_READ,
    ),
    _declare("confirmConsent", "/v1/consents/confirm", "Confirm a consent by double opt-in. Until then it has no effect.",
             ConfirmationRequest, {"number": NUMBER, "id": "web-2026-000123", "proof": "mail/2026-0418"}, "ledger.unknown"),
    _declare("withdrawConsent", "/v1/consents/withdraw", "Record the withdrawal of a consent. It applies to every decision after the receipt's `at`.",
             WithdrawalRequest, {"number": NUMBER, "id": "web-2026-000123"},
             "ledger.unknown", serve=ledger.stop(lambda registrar: registrar.consents.withdraw)),
    _declare("addContract", "/v1/contracts", "Record a contract.",
             ContractRequest, {"number": NUMBER, "id": "C-1001", "starts": "2025-03-01", "sector": "telecommunications", "marketing": True}, "ledger.full"),
    _history("listContracts", "/v1/contracts", "Return the contracts for a number.", "contract", "contract_ended"),
    _declare("endContract", "/v1/contracts/end", "Record the end of a contract. `ends` is its last day.",
             ContractEndRequest, {"number": NUMBER, "id": "C-1001", "ends": "2026-11-30"}, "ledger.unknown"),
    _declare("addCallRequest", "/v1/call-requests", "Record that the data subject requested a call.",
             CallRequestRequest, {"number": NUMBER, "id": "form-77", "requested_at": AT, "expires_at": "2026-12-01T10:00:00+01:00"}, "ledger.full"),
    _history("listCallRequests", "/v1/call-requests", "Return the call requests for a number.", "call_request"),
    Endpoint(
        method="GET",
        path="/v1/lists",
        name="listCallLists",
        group=_LISTS,
        about="Return the call lists of the client's controllers.",
        serve=ledger.lists,
        scope="lists",
        answer=ledger.Lists,
        answer_example={"lists": [_LIST]},
        errors=("store.unavailable",),
    ),
    Endpoint(
        method="POST",
        path="/v1/lists",
        name="loadCallList",
        group=_LISTS,
        about=(
            "Load a call list. Send JSON with `numbers`, or a text, CSV or XLSX file with the other fields in the query "
            "string. Repeat `campaigns` for each campaign, and send `transfers` as a JSON array. `in_force` in the response "
            "says when each node uses the list."
        ),
        serve=ledger.load_list,
        scope="lists",
        ask=ledger.ListUpload,
        ask_example=_UPLOAD,
        also_asks=_LIST_FILES,
        query=ListRequest,
        parameters=_UPLOADED,
        answer=ListReport,
        answer_example={"list": _LIST, "rows": 3, "accepted": 2, "duplicates": 0, "refused": 1,
                        "problems": [{"line": 3, "problem": "too few digits"}], "layout": _LAYOUT, "in_force": "now", "unstated": 0, "doubtful": 0, "note": ""},
        status=201,
        errors=(*JSON_ERRORS, "list.unreadable", "list.exists", "list.too_many", "controller.unknown", "campaign.unknown",
                "store.unavailable", "extra.missing", "upload.busy", "upload.full", "upload.failed", "upload.no_space"),
    ),
    Endpoint(
        method="GET",
        path="/v1/lists/{id}",
        name="getCallList",
        group=_LISTS,
        about="Return a call list.",
        serve=ledger.one_list,
        scope="lists",
        parameters=(_ID,),
        answer=ListInfo,
        answer_example=_LIST,
        errors=("list.unknown", "store.unavailable"),
    ),
    Endpoint(
        method="POST",
        path="/v1/lists/{id}/retire",
        name="retireCallList",
        group=_LISTS,
        about=(
            "Retire a call list. It stays on record, but no later check on this node uses it. Other nodes follow within a"
            " second; `in_force` says when."
        ),
        serve=ledger.retire_list,
        scope="lists",
        parameters=(_ID, _WHOSE_LIST),
        answer=RetiredList,
        answer_example={**_LIST, "retired_at": "2026-11-30T18:00:00.000Z", "in_force": "now"},
        errors=("controller.unknown", "list.unknown", "store.unavailable"),
    ),
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
        ask_example={"caller_id": "+390299000000", "kind": "probe", "answered": True, "evidence": "probe:2026-11-24"},
        status=204,
        headers={
            IN_FORCE: "Where and from when the proof applies.",
            NOTE: "Why the proof has no effect yet. Absent if it has an effect.",
        },
        errors=(*JSON_ERRORS, "caller_id.invalid", "controller.unknown", "store.unavailable"),
    ),
)  # fmt: skip
